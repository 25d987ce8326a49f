//! The TLS handshake of one connection, and a word to whoever speaks plain HTTP.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use waymesh_proto::{Code, Fault};

use crate::listener::Held;

/// How long a handshake may take. Chosen: many round trips of a bad line.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a plain request that are read before it is answered. Chosen: whoever
/// closes with unread bytes resets the connection, and the answer may be lost.
const PLAIN_MAX_BYTES: usize = 8 * 1024;

/// Makes the handshake. Whoever speaks plain HTTP instead is told to use TLS.
///
/// # Errors
/// The other side is gone, too slow, or does not speak TLS with us.
pub(crate) async fn handshake(held: Held, tls: &TlsAcceptor) -> io::Result<TlsStream<Held>> {
    let shake = async {
        match held.first_byte().await? {
            Some(letter) if letter.is_ascii_uppercase() => {
                refuse_plain(held).await?;
                Err(io::Error::other("it speaks plain HTTP"))
            }
            _ => tls.accept(held).await,
        }
    };
    timeout(HANDSHAKE_TIMEOUT, shake).await?
}

async fn refuse_plain(mut held: Held) -> io::Result<()> {
    let mut request = vec![0; PLAIN_MAX_BYTES];
    let _ = held.read(&mut request).await?;
    let fault = Fault::new(Code::BadRequest, "this port speaks TLS, not plain HTTP")
        .with_hint("use the https:// URL that the registry prints at its start");
    let body = serde_json::json!({ "error": fault }).to_string();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    held.write_all(answer.as_bytes()).await?;
    held.shutdown().await
}
