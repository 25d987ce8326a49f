//! Datagrams for one destination, gathered for one system call (UDP GSO).

use std::net::SocketAddr;
use std::rc::Rc;

use waymesh_net::udp::{Burst, Socket};

use super::hub::SocketCounters;

/// Most bytes of one burst: what one UDP datagram can hold, less its headers.
const BURST_MAX_BYTES: usize = 65_000;

/// A burst while it grows. All its datagrams are of one size, but the last may be shorter.
#[derive(Debug, Default)]
pub(super) struct Batch {
    to: Option<Target>,
    bytes: Vec<u8>,
    segment: usize,
    segments: usize,
}

/// From which socket and address, to whom.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) socket: Rc<Socket>,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl Batch {
    /// Adds a datagram of `length` bytes, which `write` appends. What was
    /// gathered and does not go with it is sent first.
    pub(super) fn push(
        &mut self,
        to: &Target,
        length: usize,
        counters: &mut SocketCounters,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if !self.takes(to, length) {
            self.flush(counters);
            self.segment = length;
            self.to = Some(to.clone());
        }
        write(&mut self.bytes);
        self.segments += 1;
    }

    fn takes(&self, to: &Target, length: usize) -> bool {
        let Some(own) = &self.to else {
            return false;
        };
        Rc::ptr_eq(&own.socket, &to.socket)
            && own.destination == to.destination
            && own.source == to.source
            && length > 0
            && length <= self.segment
            // Nothing may follow a shorter one.
            && self.bytes.len() == self.segment * self.segments
            && self.segments < own.socket.max_segments()
            && self.bytes.len() + length <= BURST_MAX_BYTES
    }

    /// Sends what was gathered; what the kernel does not take is dropped.
    pub(super) fn flush(&mut self, counters: &mut SocketCounters) {
        let Some(to) = self.to.take() else {
            return;
        };
        let burst = Burst {
            source: to.source,
            destination: to.destination,
            segment_size: self.segment,
            contents: &self.bytes,
        };
        match to.socket.send_now(&burst) {
            Ok(()) => counters.bursts_sent += 1,
            Err(error) if super::would_block(&error) => {
                counters.dropped_kernel_full += self.segments as u64;
            }
            Err(error) => {
                tracing::trace!(%error, "a burst was not sent");
                counters.dropped_send_error += self.segments as u64;
            }
        }
        self.bytes.clear();
        self.segments = 0;
    }
}
