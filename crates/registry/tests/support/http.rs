//! HTTP requests, byte for byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::member::{Member, proof_of_key};
use waymesh_trust::Keypair;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The nonce that the next proof needs.
    pub(crate) fn nonce(&self) -> &str {
        self.header("dpop-nonce").expect("every answer has a nonce")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The code of the error in the body.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        body["error"]["code"].as_str().expect("a code").to_owned()
    }

    /// The answer in these bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).expect("a head");
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Self {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: bytes[end + 4..].to_vec(),
        }
    }
}

/// Sends one request and reads the answer.
pub(crate) async fn ask(
    addr: SocketAddr,
    request_line: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let head = format!("{request_line} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    let request = [head.as_bytes(), body].concat();
    // Whoever refuses a request may not read all of it.
    let _ = stream.write_all(&request).await;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an answer")
        .expect("a connection");
    Answer::parse(&answer)
}

/// Sends one request and gives the status line's code and the body.
pub(crate) async fn http(addr: SocketAddr, request_line: &str) -> (u16, String) {
    http_with(addr, request_line, &format!("host: {addr}\r\n")).await
}

/// The same with these headers.
pub(crate) async fn http_with(
    addr: SocketAddr,
    request_line: &str,
    headers: &str,
) -> (u16, String) {
    let answer = ask(addr, request_line, headers, &[]).await;
    (answer.status, answer.text().to_owned())
}

/// A nonce that is good now.
pub(crate) async fn nonce(addr: SocketAddr) -> String {
    let host = format!("host: {addr}\r\n");
    let answer = ask(addr, "GET /v1/health", &host, &[]).await;
    answer.nonce().to_owned()
}

/// A `GET` of a member that proves everything. The path may have a query.
pub(crate) async fn get_as(addr: SocketAddr, member: &Member, path: &str) -> Answer {
    let nonce = nonce(addr).await;
    let bare = path.split('?').next().expect("a path");
    let proof = member.proof("GET", &format!("http://{addr}{bare}"), Some(&nonce));
    let headers = format!(
        "host: {addr}\r\nauthorization: DPoP {}\r\ndpop: {proof}\r\n",
        member.certificate
    );
    ask(addr, &format!("GET {path}"), &headers, &[]).await
}

/// A request that proves the possession of a key, with these further headers.
pub(crate) async fn ask_with_key(
    addr: SocketAddr,
    keypair: &Keypair,
    (method, path): (&str, &str),
    headers: &str,
    body: &[u8],
) -> Answer {
    let nonce = nonce(addr).await;
    let proof = proof_of_key(
        keypair,
        method,
        &format!("http://{addr}{path}"),
        Some(&nonce),
    );
    let headers = format!(
        "host: {addr}\r\ndpop: {proof}\r\ncontent-length: {}\r\n{headers}",
        body.len()
    );
    ask(addr, &format!("{method} {path}"), &headers, body).await
}
