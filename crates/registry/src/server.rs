//! The HTTP server: one task a connection, none of which can last for ever
//! without becoming a control connection.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::listener::{Held, Port};

/// How long a connection may take to send the head of its next request, idle
/// or not. Chosen: many round trips of a bad line.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may last that is not upgraded to a WebSocket, answers
/// that it does not read included. Chosen: a page over a bad line.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves until `stop` changes; answers that have begun are finished.
pub(crate) async fn serve(port: Port, router: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            held = port.accept() => {
                connections.spawn(connection(held, router.clone(), stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            // An error means that the registry was dropped.
            _ = stop.changed() => break,
        }
    }
    drop(port);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn connection(held: Held, router: Router, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(held), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let served = async {
        tokio::select! {
            served = &mut connection => served,
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match timeout(HTTP_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection failed"),
        Err(_) => tracing::debug!("an HTTP connection lasted too long"),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// More than the kernel takes of an answer that nobody reads.
    const LARGE: usize = 64 * 1024 * 1024;

    /// A server that has room for one connection.
    async fn narrow() -> (std::net::SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/large", get(async || "x".repeat(LARGE)));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let stop = watch::Sender::new(false);
            serve(Port::with_room(listener, 1), router, stop.subscribe()).await;
        });
        (addr, tasks)
    }

    /// Whether the server finds room for one more connection, and answers it.
    async fn is_served(addr: std::net::SocketAddr) -> bool {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        stream.write_all(REQUEST).await.expect("a connection");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        answer == *b"HTTP/1.1 200"
    }

    // The clock stands still unless everybody waits; so no test takes long.

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_or_half_a_head_makes_room_for_another() {
        let (addr, _server) = narrow().await;
        for said in [&b""[..], &REQUEST[..9], REQUEST] {
            let mut idle = TcpStream::connect(addr).await.expect("a connection");
            idle.write_all(said).await.expect("a connection");
            assert!(is_served(addr).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_read_its_answer_makes_room_for_another() {
        let (addr, _server) = narrow().await;
        let mut deaf = TcpStream::connect(addr).await.expect("a connection");
        let request = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
        deaf.write_all(request).await.expect("a connection");
        assert!(is_served(addr).await);
    }
}
