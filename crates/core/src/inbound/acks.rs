//! What the peer is told of what arrived, and when.

use std::time::{Duration, Instant};

use waymesh_proto::frame::{Ack, Section};

use super::{Inbound, WINDOW_MAX_MESSAGES};

/// Messages after which an acknowledgement does not wait any longer. Chosen.
pub const ACK_MESSAGES: u32 = 64;
/// Bytes after which an acknowledgement does not wait any longer.
pub const ACK_BYTES: usize = 128 * 1024;
/// How long an acknowledgement waits for a frame to ride on.
pub const ACK_DELAY: Duration = Duration::from_millis(5);
/// Refusals of a stream that one frame tells. Chosen: with the acknowledgements
/// of all streams they take less than half a frame.
const REFUSALS_PER_FRAME: usize = 64;

impl Inbound {
    /// The peer is to be told soon, and at once when there is much to tell.
    pub(super) fn want_ack(&mut self, now: Instant) {
        let full = self.unacked_messages >= ACK_MESSAGES || self.unacked_bytes >= ACK_BYTES;
        self.want_ack_by(if full { now } else { now + ACK_DELAY });
    }

    /// The peer is to be told by then.
    pub(super) fn want_ack_by(&mut self, due: Instant) {
        if self.stream.class().is_reliable() {
            self.dirty = true;
            self.ack_due = Some(self.ack_due.map_or(due, |old| old.min(due)));
        }
    }

    /// A link came up: the peer needs to know at once what this side has.
    pub fn handle_link_up(&mut self, now: Instant) {
        if self.started {
            self.untold = self.refused.keys().copied().collect();
            self.want_ack_by(now);
        }
    }

    /// Whether there is something to acknowledge when a frame goes out anyway.
    pub const fn has_ack(&self) -> bool {
        self.dirty
    }

    /// When an acknowledgement may wait no longer.
    pub const fn ack_due(&self) -> Option<Instant> {
        self.ack_due
    }

    /// Takes the sections that tell the peer what arrived and what was refused.
    pub fn take_ack(&mut self) -> impl Iterator<Item = Section<'static>> {
        self.take_acks(REFUSALS_PER_FRAME)
    }

    /// Takes the same, with everything that was ever refused and is not settled.
    pub fn take_all_acks(&mut self) -> impl Iterator<Item = Section<'static>> {
        self.untold = self.refused.keys().copied().collect();
        self.take_acks(usize::MAX)
    }

    fn take_acks(&mut self, refusals_max: usize) -> impl Iterator<Item = Section<'static>> {
        self.unacked_messages = 0;
        self.unacked_bytes = 0;
        let told = self.untold.len().min(refusals_max);
        let refusals: Vec<_> = self
            .untold
            .drain(..told)
            .filter_map(|seq| Some((seq, *self.refused.get(&seq)?)))
            .collect();
        // What does not fit this frame is due with the next.
        self.dirty = !self.untold.is_empty();
        if !self.dirty {
            self.ack_due = None;
        }
        let stream = self.stream;
        let ack = Ack {
            stream,
            window_messages: WINDOW_MAX_MESSAGES,
            window_bytes: self.window_bytes,
            received: self.received.clone(),
            consumed: self.consumed.clone(),
        };
        std::iter::once(Section::Ack(ack)).chain(
            refusals
                .into_iter()
                .map(move |(seq, code)| Section::Refused { stream, seq, code }),
        )
    }
}
