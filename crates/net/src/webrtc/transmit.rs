//! Queues datagrams on their way to the socket and joins those that one system
//! call can carry (GSO: same path, same size but the last).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::counters::Counters;
use super::demux;
use super::socket::{Burst, Socket};

/// Bytes that may wait behind a blocked socket; what comes then is dropped and
/// counted, as a router would do. Chosen: as much as the kernel was asked to hold.
pub(super) const TRANSMIT_QUEUE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes in one burst: the largest UDP payload (RFC 768), with which a
/// kernel counts a GSO send, less the IPv6 and UDP headers.
const BURST_MAX_BYTES: usize = 65_535 - 48;

/// Most datagrams in one burst (Linux `UDP_MAX_SEGMENTS` is 64 on older kernels).
const BURST_MAX_DATAGRAMS: usize = 64;

/// How many of the latest bursts are looked at for one to join. Chosen: some
/// peers send at a time; the search must stay cheaper than a system call.
const JOIN_DEPTH: usize = 8;

/// Largest datagram that a larger one of the same path may overtake, bytes: an SCTP
/// acknowledgement in DTLS. As the shorter last it shares a system call with data.
const OVERTAKEN_MAX_BYTES: usize = 96;

/// Errors of the socket that wait to be told; further ones are only counted. Chosen.
const UNSENT_MAX: usize = 32;

/// Buffers of sent bursts kept for reuse.
const SPARE_BUFFERS: usize = 8;

/// What `TransmitQueue::flush` achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is on the wire.
    All,
    /// The socket would block; the rest waits in a bounded queue. Flush again
    /// after [`Endpoint::readable`](super::Endpoint::readable) returns.
    Blocked,
}

/// Datagrams that wait for the socket.
#[derive(Debug, Default)]
pub(super) struct TransmitQueue {
    bursts: VecDeque<Pending>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    unsent: VecDeque<Unsent>,
}

/// The socket did not send to a peer.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) error: String,
}

#[derive(Debug)]
struct Pending {
    source: SocketAddr,
    destination: SocketAddr,
    segment_size: usize,
    datagrams: usize,
    contents: Vec<u8>,
    /// A datagram shorter than the rest went in: it must stay the last.
    closed: bool,
}

impl Pending {
    fn is_between(&self, source: SocketAddr, destination: SocketAddr) -> bool {
        self.destination == destination && self.source == source
    }

    fn takes(&self, len: usize, max_segments: usize) -> bool {
        !self.closed
            && len <= self.segment_size
            && self.datagrams < max_segments.min(BURST_MAX_DATAGRAMS)
            && self.contents.len() + len <= BURST_MAX_BYTES
    }
}

impl Pending {
    /// Whether all there is is so small that it may go behind a larger datagram.
    /// What is no data stays in front: without the end of the handshake the
    /// other side cannot read what comes after it, and drops it.
    fn yields_to(&self, len: usize) -> bool {
        self.datagrams == 1
            && demux::is_data(&self.contents)
            && self.segment_size <= OVERTAKEN_MAX_BYTES
            && len > self.segment_size
            && self.contents.len() + len <= BURST_MAX_BYTES
    }

    fn put_first(&mut self, datagram: &[u8]) {
        self.contents.splice(0..0, datagram.iter().copied());
        self.segment_size = datagram.len();
        self.datagrams += 1;
        self.closed = true;
    }
}

impl TransmitQueue {
    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a datagram; drops and counts it when the queue is full.
    pub(super) fn push(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        datagram: &[u8],
        max_segments: usize,
        counters: &mut Counters,
    ) {
        if datagram.is_empty() {
            return;
        }
        if self.bytes + datagram.len() > TRANSMIT_QUEUE_MAX_BYTES {
            counters.socket_full += 1;
            return;
        }
        self.bytes += datagram.len();
        // Only the latest burst of a path may grow, or its datagrams would overtake each other.
        let latest = self.bursts.iter_mut().rev().take(JOIN_DEPTH);
        let same_path = latest
            .into_iter()
            .find(|p| p.is_between(source, destination));
        if let Some(burst) = same_path {
            if burst.takes(datagram.len(), max_segments) {
                burst.contents.extend_from_slice(datagram);
                burst.datagrams += 1;
                burst.closed = datagram.len() < burst.segment_size;
                return;
            }
            if max_segments > 1 && burst.yields_to(datagram.len()) {
                burst.put_first(datagram);
                return;
            }
        }
        let mut contents = self.spare.pop().unwrap_or_default();
        contents.extend_from_slice(datagram);
        self.bursts.push_back(Pending {
            source,
            destination,
            segment_size: datagram.len(),
            datagrams: 1,
            contents,
            closed: false,
        });
    }

    /// Puts bursts on the wire until all are sent or the socket would block.
    pub(super) fn flush(&mut self, socket: &Socket, counters: &mut Counters) -> Flushed {
        while let Some(burst) = self.bursts.front() {
            let result = socket.send(&Burst {
                source: burst.source,
                destination: burst.destination,
                segment_size: burst.segment_size,
                contents: &burst.contents,
            });
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) => {
                    counters.unsendable += burst.datagrams as u64;
                    tracing::trace!(%error, to = %burst.destination, "datagrams not sent");
                    if self.unsent.len() < UNSENT_MAX {
                        self.unsent.push_back(Unsent {
                            source: burst.source,
                            destination: burst.destination,
                            error: error.to_string(),
                        });
                    }
                }
            }
            self.drop_front();
        }
        Flushed::All
    }

    /// Takes what the socket did not send, and why.
    pub(super) fn poll_unsent(&mut self) -> Option<Unsent> {
        self.unsent.pop_front()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bursts.is_empty()
    }

    fn drop_front(&mut self) {
        let Some(burst) = self.bursts.pop_front() else {
            return;
        };
        self.bytes -= burst.contents.len();
        if self.spare.len() < SPARE_BUFFERS {
            let mut contents = burst.contents;
            contents.clear();
            self.spare.push(contents);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn sizes(queue: &TransmitQueue) -> Vec<(u16, usize, usize)> {
        let bursts = queue.bursts.iter();
        bursts
            .map(|b| (b.destination.port(), b.datagrams, b.contents.len()))
            .collect()
    }

    #[test]
    fn equal_datagrams_of_a_path_join_and_a_short_one_ends_the_burst() {
        let (mut queue, mut counters) = (TransmitQueue::default(), Counters::default());
        for (port, len) in [(1, 100), (2, 100), (1, 100), (1, 40), (1, 40), (2, 200)] {
            queue.push(address(9), address(port), &vec![0; len], 64, &mut counters);
        }
        assert_eq!(
            sizes(&queue),
            [(1, 3, 240), (2, 1, 100), (1, 1, 40), (2, 1, 200)]
        );
    }

    #[test]
    fn a_larger_datagram_overtakes_a_small_one_of_data_and_never_one_of_the_handshake() {
        let firsts = |content_type: u8| {
            let (mut queue, mut counters) = (TransmitQueue::default(), Counters::default());
            for len in [90, 150] {
                let record = [&[content_type][..], &vec![0; len - 1]].concat();
                queue.push(address(9), address(1), &record, 64, &mut counters);
            }
            queue
                .bursts
                .iter()
                .map(|b| b.segment_size)
                .collect::<Vec<_>>()
        };
        let (alert, data) = (21, 23);
        assert_eq!(firsts(data), [150]);
        for other in [20, alert, 22, 0] {
            assert_eq!(firsts(other), [90, 150], "{other}");
        }
    }

    #[test]
    fn without_gso_nothing_joins() {
        let (mut queue, mut counters) = (TransmitQueue::default(), Counters::default());
        for _ in 0..3 {
            queue.push(address(9), address(1), &[0; 100], 1, &mut counters);
        }
        assert_eq!(queue.bursts.len(), 3);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (mut queue, mut counters) = (TransmitQueue::default(), Counters::default());
        let datagram = [0; 1024];
        for _ in 0..TRANSMIT_QUEUE_MAX_BYTES / datagram.len() {
            queue.push(address(9), address(1), &datagram, 64, &mut counters);
        }
        assert_eq!(counters.socket_full, 0);
        queue.push(address(9), address(1), &datagram, 64, &mut counters);
        assert_eq!(counters.socket_full, 1);
    }
}
