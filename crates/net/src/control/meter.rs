//! Tells whether bytes still arrive, and from which of this host's addresses they
//! are sent: a large message on a slow line is a sign of life too, and an address
//! that is gone one of death.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts the bytes that streams have read. A clone counts the same bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    local: OnceLock<IpAddr>,
}

impl Meter {
    /// Whether bytes have come since this was asked last.
    pub(super) fn take_moved(&self) -> bool {
        // Only counts; nothing else is ordered by it.
        self.0.bytes.swap(0, Ordering::Relaxed) > 0
    }

    /// Notes from where the first of the streams is sent.
    pub(super) fn note_local(&self, ip: IpAddr) {
        let _ = self.0.local.set(ip);
    }

    /// From where the first of the streams is sent.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.0.local.get().copied()
    }

    fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A stream whose read bytes are counted.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    io: T,
    meter: Meter,
}

impl<T> Metered<T> {
    pub(super) const fn new(io: T, meter: Meter) -> Self {
        Self { io, meter }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.meter.add(buf.filled().len() - before);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
