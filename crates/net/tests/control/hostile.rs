//! Servers that are no registry at all: they end an attempt, nothing more.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use waymesh_net::control::{Carrier, CarrierChoice, ConnectError, ControlSocket, TlsTrust};

use crate::fake::{BRIEF, PATIENCE, connect, target};

/// Accepts connections and says the same on each, again and again.
async fn babble(listener: TcpListener, bytes: Vec<u8>, repeat: usize) {
    let mut tasks = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let bytes = bytes.clone();
        tasks.spawn(async move {
            let mut request = [0; 4096];
            // Nobody listens where the client has gone.
            let _ = stream.read(&mut request).await;
            for _ in 0..repeat {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn babbler(bytes: &[u8], repeat: usize) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut task = JoinSet::new();
    task.spawn(babble(listener, bytes.to_vec(), repeat));
    (address.to_string(), task)
}

/// More than any limit of a head or a body.
const FOR_LONG: usize = 1024 * 1024;

#[tokio::test]
async fn what_is_no_http_ends_the_attempt() {
    for (bytes, repeat) in [
        (&b""[..], 1),
        (b"\0", 1),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 1),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 1),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nx",
            1,
        ),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 10\r\n\r\n{", 1),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            1,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n", FOR_LONG),
        (b"HTTP/1.1 200 OK\r\n\r\nfor ever and ever", FOR_LONG),
        (b"\xff", FOR_LONG),
        (b"HTTP/1.1 200 OK", FOR_LONG),
    ] {
        let (address, _task) = babbler(bytes, repeat).await;
        let target = target(&format!("http://{address}"), &TlsTrust::default(), &[]);
        for first in [Carrier::WebSocket, Carrier::Poll] {
            let choice = CarrierChoice::Auto { first };
            let error = ControlSocket::connect(&target, choice, PATIENCE).await;
            let error = error.expect_err("no registry");
            let is_expected = matches!(error, ConnectError::Handshake(_));
            assert!(is_expected, "{}: {error:?}", bytes.escape_ascii());
        }
    }
}

#[tokio::test]
async fn what_is_no_tls_ends_the_attempt() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x16, 3, 3, 0xff, 0xff, 1],
    ] {
        let (address, _task) = babbler(bytes, 1).await;
        let target = target(&format!("https://{address}"), &TlsTrust::default(), &[]);
        let choice = CarrierChoice::Auto {
            first: Carrier::WebSocket,
        };
        let error = connect(&target, choice).await.expect_err("no TLS");
        assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    }
}

#[tokio::test]
async fn who_accepts_and_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    for scheme in ["http", "https"] {
        let target = target(&format!("{scheme}://{address}"), &TlsTrust::default(), &[]);
        for carrier in [Carrier::WebSocket, Carrier::Poll] {
            let choice = CarrierChoice::Only(carrier);
            let error = ControlSocket::connect(&target, choice, BRIEF).await;
            let error = error.expect_err("nobody");
            assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
        }
    }
}
