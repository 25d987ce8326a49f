//! The port: accepts no more connections than the registry can hold.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waymesh_core::registry::CONNECTIONS_MAX;

/// TCP connections for HTTP requests beside those for the control WebSocket. Chosen.
const HTTP_CONNECTIONS_MAX: usize = 256;

/// Pause after an accept that failed: too many files may be open, and some may
/// be closed by then. Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening port; one connection too many waits in the kernel's queue.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Port {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with_room(listener, CONNECTIONS_MAX + HTTP_CONNECTIONS_MAX)
    }

    /// A port for so many connections at a time.
    pub(crate) fn with_room(listener: TcpListener, connections: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections));
        Self { listener, room }
    }

    /// The next connection, once there is room for it. Cancel safe.
    pub(crate) async fn accept(&self) -> Held {
        let room = Arc::clone(&self.room);
        let permit = room
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let stream = self.next_stream().await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
        Held {
            stream,
            _permit: permit,
        }
    }

    async fn next_stream(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that makes room for another when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
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
