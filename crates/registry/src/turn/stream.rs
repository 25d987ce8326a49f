//! One client over TCP or TLS.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::task::yield_now;
use waymesh_net::turn::framing::{Decoder, padding};
use waymesh_net::turn::server::{Ends, StreamId, Via};

use super::hub::{self, Hub};
use super::listener::READS_A_TURN;
use super::{ByteStream, NewStream};

/// Streams at once; one more is closed. Chosen: as many as allocations.
const STREAMS_MAX: usize = 4_096;

/// Bytes that wait for a client who reads slowly. Chosen: a quarter of a second
/// at 16 Mbit/s; what does not fit is dropped and counted, as on any network.
const RELAY_TO_STREAM_MAX_BYTES: usize = 512 * 1024;

/// How long a stream without allocation may say nothing. Chosen.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// What waits for a client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: RefCell<Vec<u8>>,
    ready: Notify,
    closed: Cell<bool>,
}

impl Outgoing {
    /// Adds a message of `length` bytes, padded; `false` when there is no room.
    pub(super) fn push(&self, length: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + length > RELAY_TO_STREAM_MAX_BYTES {
            return false;
        }
        write(&mut bytes);
        bytes.extend_from_slice(padding(length));
        self.ready.notify_one();
        true
    }

    /// Ends the stream.
    pub(super) fn hang_up(&self) {
        self.closed.set(true);
        self.ready.notify_one();
    }
}

thread_local! {
    /// One for all streams: a read is worked off before the next begins.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Starts to serve a stream.
pub(super) fn start(hub: &Rc<RefCell<Hub>>, id: StreamId, new: NewStream) {
    let mut this = hub.borrow_mut();
    if this.streams.len() >= STREAMS_MAX {
        this.counters.streams_refused += 1;
        return;
    }
    let ends = Ends {
        via: Via::Stream(id),
        local: canonical(new.ends.local),
        remote: canonical(new.ends.remote),
    };
    let outgoing = Rc::new(Outgoing::default());
    this.streams.insert(id, Rc::clone(&outgoing));
    let weak = Rc::downgrade(hub);
    this.tasks.spawn_local(async move {
        serve(&weak, &ends, new.stream, &outgoing).await;
        if let Some(hub) = weak.upgrade() {
            hub.borrow_mut().forget_stream(id, &ends);
        }
    });
}

fn canonical(address: std::net::SocketAddr) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Serves until the stream ends in any way.
async fn serve(
    hub: &Weak<RefCell<Hub>>,
    ends: &Ends,
    stream: Box<dyn ByteStream>,
    outgoing: &Outgoing,
) {
    let (reader, writer) = tokio::io::split(stream);
    let heard = Cell::new(true);
    let ended = tokio::select! {
        ended = read(hub, ends, reader, &heard) => ended,
        ended = write(writer, outgoing) => ended,
        () = silence(hub, ends, &heard) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a TURN stream ended");
    }
}

async fn read(
    hub: &Weak<RefCell<Hub>>,
    ends: &Ends,
    mut stream: impl AsyncRead + Unpin,
    heard: &Cell<bool>,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    loop {
        for _ in 0..READS_A_TURN {
            let count = std::future::poll_fn(|cx| fill(cx, &mut stream, &mut decoder)).await?;
            let Some(hub) = hub.upgrade().filter(|_| count > 0) else {
                return Ok(());
            };
            heard.set(true);
            let mut hub = hub.borrow_mut();
            let now = hub::now();
            loop {
                match decoder.poll() {
                    Ok(Some(message)) => hub.hear_client(now, ends, message),
                    Ok(None) => break,
                    Err(bad) => {
                        hub.counters.streams_bad += 1;
                        return Err(io::Error::new(io::ErrorKind::InvalidData, bad));
                    }
                }
            }
            hub.flush();
        }
        yield_now().await;
    }
}

/// Reads once into the decoder; 0 at the end of the stream.
fn fill(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncRead + Unpin),
    decoder: &mut Decoder,
) -> Poll<io::Result<usize>> {
    READ_BUFFER.with_borrow_mut(|bytes| {
        let mut buffer = ReadBuf::new(bytes);
        std::task::ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        decoder.extend(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

async fn write(mut stream: impl AsyncWrite + Unpin, outgoing: &Outgoing) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !outgoing.closed.get() {
        std::mem::swap(&mut bytes, &mut *outgoing.bytes.borrow_mut());
        if bytes.is_empty() {
            outgoing.ready.notified().await;
            continue;
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        bytes.clear();
        bytes.shrink_to(READ_BYTES);
    }
    stream.shutdown().await
}

/// Ends when a stream without allocation has said nothing for too long.
async fn silence(hub: &Weak<RefCell<Hub>>, ends: &Ends, heard: &Cell<bool>) {
    loop {
        heard.set(false);
        tokio::time::sleep(SILENCE_MAX).await;
        let Some(hub) = hub.upgrade() else { return };
        if !heard.get() && !hub.borrow().server.has_allocation(ends) {
            hub.borrow_mut().counters.streams_silent += 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_stream_takes_so_many_bytes_and_drops_what_does_not_fit() {
        let outgoing = Outgoing::default();
        let message = |length: usize| move |out: &mut Vec<u8>| out.extend(vec![1; length]);
        let half = RELAY_TO_STREAM_MAX_BYTES / 2;
        assert!(outgoing.push(half, message(half)));
        assert!(!outgoing.push(half + 1, message(half + 1)));
        assert!(outgoing.push(half, message(half)));
        assert!(!outgoing.push(1, message(1)));
        assert_eq!(outgoing.bytes.borrow().len(), RELAY_TO_STREAM_MAX_BYTES);
    }
}
