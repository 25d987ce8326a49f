//! The HTTP server: one task a connection, none of which can last for ever
//! without becoming a control connection.
//!
//! A connection is accepted, makes its TLS handshake if there is TLS, and is
//! then the same for everybody: requests go to the router together with the
//! addresses of the connection ([`Ends`]). One that speaks TURN, outside of TLS
//! or inside, goes to the relay, which ends it; until then it counts against
//! the limits of the port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::handshake::handshake;
use crate::listener::{Held, Port};
use crate::metrics::Metrics;
use crate::tls;
use crate::turn::{RelayHandle, StreamEnds};

/// What one connection has in its buffer, bytes: a head of this size is read,
/// and one of twice the size is answered with 431 (the library looks after
/// each read only). Chosen: a certificate of the largest size, a proof and
/// what proxies add.
const HEAD_MAX_BYTES: usize = 32 * 1024;

/// How long a connection may take to send the head of its next request, idle
/// or not. Chosen: many round trips of a bad line.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection takes new requests that is not upgraded to a
/// WebSocket; the answer to the last one says `connection: close`. Chosen: a
/// node on long-poll makes a new connection once a minute.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the last answer may take, the wait of a long-poll and the reading
/// by the other side included. Chosen: a page over a bad line.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The two ends of the connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The other side's address.
    pub(crate) peer: SocketAddr,
    /// The address that it connected to.
    pub(crate) arrived: SocketAddr,
}

impl From<Ends> for StreamEnds {
    fn from(ends: Ends) -> Self {
        Self {
            local: ends.arrived,
            remote: ends.peer,
        }
    }
}

/// What is served, and how.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) router: Router,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Who serves the connections that speak TURN, if anybody does.
    pub(crate) relay: Option<RelayHandle>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves until `stop` changes; answers that have begun are finished.
pub(crate) async fn serve(port: Port, served: Served, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = port.accept() => match accepted {
                Ok(held) => {
                    connections.spawn(connection(held, served.clone(), stop.clone()));
                }
                Err(peer) => {
                    served.metrics.connections_refused.add();
                    tracing::debug!(%peer, "connection closed: its address has its share");
                }
            },
            Some(_) = connections.join_next() => {}
            // An error means that the registry was dropped.
            _ = stop.changed() => break,
        }
    }
    drop(port);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends, becomes a WebSocket, or is the relay's.
async fn connection(held: Held, served: Served, stop: watch::Receiver<bool>) {
    let ends = Ends {
        peer: held.peer(),
        arrived: held.arrived(),
    };
    if let Some(relay) = &served.relay {
        match timeout(HEAD_TIMEOUT, held.first_byte()).await {
            Ok(Ok(Some(first))) if is_stun(first) => {
                return relay.serve_stream(held, ends.into());
            }
            Ok(Ok(_)) => {}
            // Whoever is gone or says nothing is waited for no longer.
            Ok(Err(_)) | Err(_) => return,
        }
    }
    match &served.tls {
        None => http(held, ends, served.router, stop).await,
        Some(tls) => match handshake(held, tls).await {
            Ok(stream) => inside_tls(stream, ends, served, stop).await,
            Err(error) => {
                served.metrics.tls_failed.add();
                tracing::debug!(peer = %ends.peer, %error, "no TLS handshake");
            }
        },
    }
}

/// Serves what is spoken on top of TLS: what the client has agreed to, else
/// what its first byte shows.
async fn inside_tls(
    stream: TlsStream<Held>,
    ends: Ends,
    served: Served,
    stop: watch::Receiver<bool>,
) {
    let protocol = stream.get_ref().1.alpn_protocol();
    match (served.relay, protocol) {
        (Some(relay), Some(protocol)) if protocol == tls::TURN => {
            relay.serve_stream(stream, ends.into());
        }
        (Some(relay), None) => {
            let mut stream = BufReader::new(stream);
            match timeout(HEAD_TIMEOUT, stream.fill_buf()).await {
                Ok(Ok([first, ..])) if is_stun(*first) => {
                    relay.serve_stream(stream, ends.into());
                }
                Ok(Ok([_, ..])) => http(stream, ends, served.router, stop).await,
                _ => {}
            }
        }
        _ => http(stream, ends, served.router, stop).await,
    }
}

/// Whether a connection that begins with this byte speaks STUN (RFC 8489 §5:
/// two zero bits, and no method uses the next four). ChannelData never comes
/// first, and would look like a letter of HTTP.
const fn is_stun(first: u8) -> bool {
    first < 4
}

async fn http<S>(stream: S, ends: Ends, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ends);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let taking = async {
        tokio::select! {
            served = &mut connection => Some(served),
            _ = stop.changed() => None,
            () = tokio::time::sleep(HTTP_TIMEOUT) => None,
        }
    };
    let served = match taking.await {
        Some(served) => Ok(served),
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER_TIMEOUT, connection).await
        }
    };
    match served {
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
    use crate::listener::Room;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// More than the kernel takes of an answer that nobody reads.
    const LARGE: usize = 64 * 1024 * 1024;

    /// A server that has room for one connection.
    async fn narrow(tls: Option<TlsAcceptor>) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/large", get(async || "x".repeat(LARGE)));
        let room = Room {
            total: 1,
            ..Room::default()
        };
        let served = Served {
            router,
            tls,
            relay: None,
            metrics: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let stop = watch::Sender::new(false);
            serve(Port::new(listener, room), served, stop.subscribe()).await;
        });
        (addr, tasks)
    }

    /// Whether the server finds room for one more connection, and answers it.
    async fn is_served(addr: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        stream.write_all(REQUEST).await.expect("a connection");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        answer == *b"HTTP/1.1 200"
    }

    // The clock stands still unless everybody waits; so no test takes long.

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_or_half_a_head_makes_room_for_another() {
        let (addr, _server) = narrow(None).await;
        for said in [&b""[..], &REQUEST[..9], REQUEST] {
            let mut idle = TcpStream::connect(addr).await.expect("a connection");
            idle.write_all(said).await.expect("a connection");
            assert!(is_served(addr).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_read_its_answer_makes_room_for_another() {
        let (addr, _server) = narrow(None).await;
        let mut deaf = TcpStream::connect(addr).await.expect("a connection");
        let request = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
        deaf.write_all(request).await.expect("a connection");
        assert!(is_served(addr).await);
    }

    #[tokio::test]
    async fn a_head_of_the_largest_size_is_read_and_one_of_twice_the_size_is_refused() {
        let (addr, _server) = narrow(None).await;
        for (bytes, status) in [(HEAD_MAX_BYTES, "200"), (2 * HEAD_MAX_BYTES, "431")] {
            let (begin, end) = ("GET / HTTP/1.1\r\nhost: x\r\nx: ", "\r\n\r\n");
            let filler = "x".repeat(bytes - begin.len() - end.len());
            let mut stream = TcpStream::connect(addr).await.expect("a connection");
            let head = format!("{begin}{filler}{end}");
            stream
                .write_all(head.as_bytes())
                .await
                .expect("a connection");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            let answer = String::from_utf8_lossy(&answer);
            assert_eq!(answer.strip_prefix("HTTP/1.1 "), Some(status), "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_makes_no_handshake_makes_room_for_another() {
        let key = tls::fresh_key().expect("a key");
        let made = tls::Credentials::self_signed(key, Vec::new()).expect("credentials");
        let acceptor = made.acceptor(tls::OnTop::Http);
        let (addr, _server) = narrow(Some(acceptor)).await;
        for said in [&b""[..], b"\x16\x03\x01"] {
            let mut idle = TcpStream::connect(addr).await.expect("a connection");
            idle.write_all(said).await.expect("a connection");
            // Whoever speaks plain HTTP is told so, once there is room.
            assert!(!is_served(addr).await);
        }
    }
}
