//! The port: accepts no more connections than the registry can hold, and of no
//! address more than its share.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waymesh_core::registry::CONNECTIONS_MAX;

use crate::source::Source;

/// TCP connections for HTTP requests beside those for the control WebSocket. Chosen.
const HTTP_CONNECTIONS_MAX: usize = 256;

/// TCP connections that carry TURN beside. Chosen: as many as the relay takes,
/// so that they take no place of the others.
const TURN_STREAMS_MAX: usize = 4_096;

/// Connections of one address that is not this machine's; one more is closed
/// at once. Chosen: a thousand nodes of one site, behind one NAT or proxy; a
/// quarter of all, so that several addresses are needed to fill the registry.
const ADDRESS_CONNECTIONS_MAX: usize = 1_024;

/// Pause after an accept that failed: too many files may be open, and some may
/// be closed by then. Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Altogether; one more waits in the kernel's queue.
    pub(crate) total: usize,
    /// Of one address.
    pub(crate) per_source: usize,
    /// Whether that holds for this machine too.
    pub(crate) this_machine: ThisMachine,
}

/// Whether limits by address hold for this machine too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThisMachine {
    /// They do not; see [`Source::is_this_machine`].
    Exempt,
    /// They do, for tests.
    #[cfg(test)]
    Limited,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            total: CONNECTIONS_MAX + HTTP_CONNECTIONS_MAX + TURN_STREAMS_MAX,
            per_source: ADDRESS_CONNECTIONS_MAX,
            this_machine: ThisMachine::Exempt,
        }
    }
}

/// A listening port.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    room: Room,
    free: Arc<Semaphore>,
    open: Open,
}

impl Port {
    /// A port for so many connections at a time.
    pub(crate) fn new(listener: TcpListener, room: Room) -> Self {
        Self {
            listener,
            room,
            free: Arc::new(Semaphore::new(room.total)),
            open: Open::default(),
        }
    }

    /// The next connection, once there is room for it, or the address of one
    /// that was closed because it has its share already. Cancel safe.
    pub(crate) async fn accept(&self) -> Result<Held, SocketAddr> {
        let free = Arc::clone(&self.free);
        let permit = free
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer, arrived) = self.next_stream().await;
        let share = self.share(Source::of(peer.ip())).ok_or(peer)?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
        Ok(Held {
            stream,
            peer,
            arrived,
            _share: share,
            _permit: permit,
        })
    }

    async fn next_stream(&self) -> (TcpStream, SocketAddr, SocketAddr) {
        loop {
            let accepted = self.listener.accept().await;
            match accepted.and_then(|(stream, peer)| Ok((stream.local_addr()?, stream, peer))) {
                Ok((arrived, stream, peer)) => return (stream, peer, arrived),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn share(&self, source: Source) -> Option<Share> {
        let exempt = self.room.this_machine == ThisMachine::Exempt && source.is_this_machine();
        let mut open = self.open.lock();
        let count = open.entry(source).or_default();
        if *count >= self.room.per_source && !exempt {
            return None;
        }
        *count += 1;
        drop(open);
        let open = self.open.clone();
        Some(Share { open, source })
    }
}

/// How many connections each source has. Has only sources with one at least,
/// so that there are never more than connections.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<BTreeMap<Source, usize>>>);

impl Open {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Source, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's part of what its source may have.
#[derive(Debug)]
struct Share {
    open: Open,
    source: Source,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

/// A connection that makes room for another when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    stream: TcpStream,
    peer: SocketAddr,
    arrived: SocketAddr,
    _share: Share,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    /// The other end.
    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This end: the address that the other end connected to.
    pub(crate) const fn arrived(&self) -> SocketAddr {
        self.arrived
    }

    /// The first byte that the other end sends, which stays unread; `None` when
    /// it sends none. Cancel safe.
    pub(crate) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let len = self.stream.peek(&mut first).await?;
        Ok((len > 0).then_some(first[0]))
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn port(room: Room) -> (Port, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        (Port::new(listener, room), addr)
    }

    const NARROW: Room = Room {
        total: 8,
        per_source: 2,
        this_machine: ThisMachine::Limited,
    };

    #[tokio::test]
    async fn an_address_has_its_share_and_one_connection_more_is_closed() {
        let (port, addr) = port(NARROW).await;
        let connect = || TcpStream::connect(addr);
        let _clients = [connect().await, connect().await, connect().await];
        let first = port.accept().await.expect("a connection");
        let _second = port.accept().await.expect("a connection");
        assert!(port.accept().await.is_err());
        drop(first);
        let _again = connect().await;
        assert!(port.accept().await.is_ok());
    }

    #[tokio::test]
    async fn an_address_that_takes_its_share_leaves_room_for_another() {
        let (port, addr) = port(NARROW).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            let flood = TcpStream::connect(addr).await;
            held.extend(port.accept().await.map(|held| (held, flood)));
        }
        assert_eq!(held.len(), NARROW.per_source);
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.2:0".parse().expect("an address"))
            .expect("another loopback address");
        let _other = socket.connect(addr).await.expect("a connection");
        assert!(port.accept().await.is_ok());
    }

    #[tokio::test]
    async fn a_source_without_connections_is_forgotten() {
        let (port, addr) = port(NARROW).await;
        let _client = TcpStream::connect(addr).await;
        drop(port.accept().await.expect("a connection"));
        assert!(port.open.lock().is_empty());
    }

    #[tokio::test]
    async fn this_machine_may_fill_the_registry() {
        let room = Room {
            this_machine: ThisMachine::Exempt,
            ..NARROW
        };
        let (port, addr) = port(room).await;
        let mut held = Vec::new();
        for _ in 0..NARROW.total {
            let client = TcpStream::connect(addr).await;
            held.push((port.accept().await.expect("a connection"), client));
        }
    }
}
