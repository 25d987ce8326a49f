//! One client over TCP or TLS.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::task::yield_now;
use waymesh_net::turn::framing::{Decoder, MESSAGE_MAX_BYTES, padding};
use waymesh_net::turn::server::{Ends, REQUEST_MAX_BYTES, StreamId, Via};

use super::hub::{self, Hub};
use super::listener::READS_A_TURN;
use super::{ByteStream, NewStream};

/// Streams at once; one more is closed. Chosen: as many as allocations.
const STREAMS_MAX: usize = 4_096;

/// Bytes that wait for a client who reads slowly. Chosen: a quarter of a second
/// at 16 Mbit/s; what does not fit is dropped and counted, as on any network.
const RELAY_TO_STREAM_MAX_BYTES: usize = 512 * 1024;

/// How long a stream may be open without an allocation, whatever it says. Chosen:
/// a slow handshake several times over.
const WITHOUT_ALLOCATION_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether a stream has one. Chosen.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the other end may take to hear that a stream ends. Chosen.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// What waits for a client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: RefCell<Vec<u8>>,
    ready: Notify,
    hung_up: Notify,
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

    /// Ends the stream, whether or not its client reads.
    pub(super) fn hang_up(&self) {
        self.hung_up.notify_one();
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
    let (reader, mut writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = read(hub, ends, reader) => ended,
        ended = write(&mut writer, outgoing) => ended,
        () = outgoing.hung_up.notified() => Ok(()),
        () = no_allocation(hub, ends) => Ok(()),
    };
    // Who does not read has no claim to a farewell.
    let _ = tokio::time::timeout(SHUTDOWN_MAX, writer.shutdown()).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a TURN stream ended");
    }
}

async fn read(
    hub: &Weak<RefCell<Hub>>,
    ends: &Ends,
    mut stream: impl AsyncRead + Unpin,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    loop {
        for _ in 0..READS_A_TURN {
            let count = std::future::poll_fn(|cx| fill(cx, &mut stream, &mut decoder)).await?;
            let Some(hub) = hub.upgrade().filter(|_| count > 0) else {
                return Ok(());
            };
            let mut hub = hub.borrow_mut();
            let now = hub::now();
            loop {
                let longest = match hub.server.has_allocation(ends) {
                    true => MESSAGE_MAX_BYTES,
                    false => REQUEST_MAX_BYTES,
                };
                match decoder.poll_within(longest) {
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

/// Ends when the stream cannot be written.
async fn write(stream: &mut (impl AsyncWrite + Unpin), outgoing: &Outgoing) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
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
}

/// Ends when a stream has had no allocation for too long.
async fn no_allocation(hub: &Weak<RefCell<Hub>>, ends: &Ends) {
    let mut without = Duration::ZERO;
    while without < WITHOUT_ALLOCATION_MAX {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        without = match hub.borrow().server.has_allocation(ends) {
            true => Duration::ZERO,
            false => without + LOOK_EVERY,
        };
    }
    if let Some(hub) = hub.upgrade() {
        hub.borrow_mut().counters.streams_idle += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::Instant;
    use waymesh_net::turn::server::{Limits, PeerPolicy, RelaySecret, Server, ServerConfig};

    use super::super::relay_ports::RelayPorts;
    use super::*;

    /// A test that waits longer has failed.
    const PATIENCE: Duration = Duration::from_secs(600);

    fn hub() -> Rc<RefCell<Hub>> {
        let config = ServerConfig {
            realm: "waymesh".into(),
            secret: RelaySecret::new(b"north"),
            policy: PeerPolicy::default(),
            limits: Limits::default(),
            alternate: None,
            seed: [1; 32],
        };
        let ports = RelayPorts {
            ips: Vec::new(),
            own: Vec::new(),
            range: None,
            used: HashSet::new(),
        };
        let server = Server::new(config, std::time::Instant::now());
        Hub::new(server, Vec::new(), ports)
    }

    /// Serves a stranger until the stream ends; how long that took.
    async fn serve_stranger(
        hub: &Rc<RefCell<Hub>>,
        stream: DuplexStream,
        outgoing: &Outgoing,
    ) -> Duration {
        let ends = Ends {
            via: Via::Stream(StreamId(1)),
            local: "192.0.2.1:443".parse().expect("an address"),
            remote: "198.51.100.7:9".parse().expect("an address"),
        };
        let start = Instant::now();
        let weak = Rc::downgrade(hub);
        let served = serve(&weak, &ends, Box::new(stream), outgoing);
        tokio::time::timeout(PATIENCE, served)
            .await
            .expect("it ends");
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_allocation_ends_in_time_whatever_it_says() {
        let hub = hub();
        let (mut ours, theirs) = tokio::io::duplex(64);
        let talk = async move {
            while ours.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let outgoing = Outgoing::default();
        let lasted = tokio::select! {
            lasted = serve_stranger(&hub, theirs, &outgoing) => lasted,
            () = talk => unreachable!("it never ends"),
        };
        assert_eq!(lasted.as_secs(), WITHOUT_ALLOCATION_MAX.as_secs());
        assert_eq!(hub.borrow().counters.streams_idle, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_who_announces_more_than_a_request_is_cut_off_at_the_header() {
        let hub = hub();
        let (mut ours, theirs) = tokio::io::duplex(64);
        ours.write_all(&[0x40, 0, 0xff, 0xff])
            .await
            .expect("written");
        let lasted = serve_stranger(&hub, theirs, &Outgoing::default()).await;
        assert_eq!(lasted, Duration::ZERO);
        assert_eq!(hub.borrow().counters.streams_bad, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_up_ends_a_stream_whose_client_does_not_read() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let outgoing = Outgoing::default();
        assert!(outgoing.push(1_000, |out| out.extend([7; 1_000])));
        let reads_no_more = async {
            ours.read_exact(&mut [0; 10]).await.expect("data");
            outgoing.hang_up();
            std::future::pending::<()>().await;
        };
        let hub = hub();
        let lasted = tokio::select! {
            lasted = serve_stranger(&hub, theirs, &outgoing) => lasted,
            () = reads_no_more => unreachable!("it never ends"),
        };
        assert!(lasted <= SHUTDOWN_MAX, "{lasted:?}");
    }

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
