//! The receiving half of one stream: dedupe, reassembly, order, acknowledgement.
//!
//! Each message of a sender's incarnation is released once, in order on
//! ordered streams. Nothing waits for ever: a held message is released when
//! its predecessors are known to be settled or their longest life has passed.
//! It does not keep what it released: the inbox does, and says [`Inbound::consume`].

mod acks;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use waymesh_proto::class::Stream;
use waymesh_proto::error::Code;
use waymesh_proto::frame::{Header, Piece};
use waymesh_proto::limits::{ENVELOPE_OVERHEAD_MAX_BYTES, MESSAGE_MAX_BYTES, TTL_MAX_MS};
use waymesh_proto::seqset::SeqSet;

pub use acks::{ACK_BYTES, ACK_DELAY, ACK_MESSAGES};

/// Messages of one stream that may be unconsumed. As many as a sender's outbox holds.
pub const WINDOW_MAX_MESSAGES: u64 = 1_024;
/// Bytes of one stream that may be unconsumed, when the node's budget allows.
/// Chosen: above it loopback gains nothing.
pub const WINDOW_MAX_BYTES: u64 = 1024 * 1024;
/// Holes that a sender may leave before its link is closed for abuse. Chosen:
/// four times what a well-behaved one can have on its way.
const HOLES_MAX: usize = 4_096;
/// Bytes past the window that are still tolerated: one message sent into an
/// empty window, and one whose window shrank while it was under way.
const WINDOW_SLACK_BYTES: u64 = 2 * (MESSAGE_MAX_BYTES + ENVELOPE_OVERHEAD_MAX_BYTES) as u64;

/// A message that may go to the application now.
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    /// Its sequence number, for [`Inbound::consume`].
    pub seq: u64,
    /// Its bytes.
    pub envelope: Vec<u8>,
    /// The end of its life.
    pub expires: Instant,
    /// Whether an earlier incarnation of this node may have had it.
    pub redelivered: bool,
    /// Messages before it that were skipped.
    pub missing: u64,
}

/// The peer broke the rules; its link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Abuse {
    /// More was sent than the window allowed.
    #[error("the peer sent past its window")]
    Window,
    /// Pieces of one message disagree.
    #[error("the peer sent pieces that do not fit together")]
    Pieces,
    /// Too many sequence numbers were left out.
    #[error("the peer left too many messages out")]
    Holes,
}

#[derive(Debug)]
struct Held {
    previous: u64,
    wait_until: Instant,
    released: Released,
}

#[derive(Debug)]
struct Partial {
    buffer: Vec<u8>,
    have: SeqSet,
    /// When the sender gives it up, whole or not.
    expires: Instant,
}

/// The receiving half of one stream.
#[derive(Debug)]
pub struct Inbound {
    stream: Stream,
    started: bool,
    received: SeqSet,
    consumed: SeqSet,
    /// What the application of an earlier life of this node had.
    before: SeqSet,
    /// Ordered streams: the last one released.
    last_released: u64,
    held: BTreeMap<u64, Held>,
    /// Bytes of those.
    held_bytes: u64,
    partials: BTreeMap<u64, Partial>,
    ready: VecDeque<Released>,
    sizes: BTreeMap<u64, u64>,
    unconsumed_bytes: u64,
    /// Some of that went since it was last asked for.
    has_freed: bool,
    window_bytes: u64,
    /// Refused and not yet settled by the sender: told again on a new link.
    refused: BTreeMap<u64, Code>,
    untold: Vec<u64>,
    dirty: bool,
    unacked_messages: u32,
    unacked_bytes: usize,
    ack_due: Option<Instant>,
}

impl Inbound {
    /// The stream of a sender's incarnation that nothing has come of yet.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            started: false,
            received: SeqSet::default(),
            consumed: SeqSet::default(),
            before: SeqSet::default(),
            last_released: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            partials: BTreeMap::new(),
            ready: VecDeque::new(),
            sizes: BTreeMap::new(),
            unconsumed_bytes: 0,
            has_freed: false,
            window_bytes: WINDOW_MAX_BYTES,
            refused: BTreeMap::new(),
            untold: Vec::new(),
            dirty: false,
            unacked_messages: 0,
            unacked_bytes: 0,
            ack_due: None,
        }
    }

    /// The stream as an earlier life of this node left it: what its application
    /// had acknowledged does not come again.
    pub fn resumed(stream: Stream, consumed: &SeqSet) -> Self {
        Self {
            received: consumed.clone(),
            consumed: consumed.clone(),
            before: consumed.clone(),
            last_released: consumed.cumulative(),
            ..Self::new(stream)
        }
    }

    /// The life that sends is over: what has come of it in pieces stays in pieces.
    pub fn end(&mut self) {
        for seq in self.partials.keys().copied().collect::<Vec<_>>() {
            self.forget_partial(seq);
        }
    }

    /// Whether a message of so many bytes may come in although no window was
    /// granted for it, as the mailbox hands it out. Answers have always room. What others
    /// wait for is not kept out by them: else all would wait for ever.
    pub fn has_room(&self, header: &Header, bytes: usize) -> bool {
        let most = match self.stream {
            Stream::Replies => WINDOW_MAX_BYTES + WINDOW_SLACK_BYTES / 2,
            _ => self.window_bytes,
        };
        let (held, held_bytes) = if self.is_next(header) {
            (self.held.len(), self.held_bytes)
        } else {
            (0, 0)
        };
        // The pieces of it that came over a link make way for the whole.
        let pieces = self.partials.get(&header.seq);
        let own = pieces.map_or(0, |partial| partial.buffer.len() as u64);
        let messages = self.sizes.len() - held - usize::from(pieces.is_some());
        let taken = self.unconsumed_bytes - held_bytes - own;
        messages == 0 || ((messages as u64) < WINDOW_MAX_MESSAGES && taken + bytes as u64 <= most)
    }

    /// Whether nothing that is alive comes before the message but what is here.
    fn is_next(&self, header: &Header) -> bool {
        let known = self.last_released.max(header.lowest - 1);
        (known + 1..=header.previous).all(|seq| self.consumed.contains(seq))
    }

    /// Whether the application has the message, or will not get it.
    pub fn is_done_with(&self, seq: u64) -> bool {
        self.consumed.contains(seq) || self.refused.contains_key(&seq)
    }

    /// Whether the application of an earlier life of this node had the message.
    pub fn was_done_before(&self, seq: u64) -> bool {
        self.before.contains(seq)
    }

    /// Whether the message is here or was.
    pub fn has(&self, seq: u64) -> bool {
        self.received.contains(seq)
    }

    /// What the application has. What was refused is not in it: a later life of
    /// this node would tell of that as if it were delivered.
    pub fn done(&self) -> SeqSet {
        self.consumed.clone()
    }

    /// Bytes that the application has not consumed, pieces included.
    pub const fn unconsumed_bytes(&self) -> u64 {
        self.unconsumed_bytes
    }

    /// Whether there is room since the last call that was not there before,
    /// whatever has taken it meanwhile.
    pub const fn take_freed(&mut self) -> bool {
        std::mem::replace(&mut self.has_freed, false)
    }

    /// A whole message arrived.
    ///
    /// # Errors
    ///
    /// [`Abuse`]: the link must be closed.
    pub fn handle_message(
        &mut self,
        now: Instant,
        header: &Header,
        envelope: &[u8],
    ) -> Result<(), Abuse> {
        if !self.admit(now, header)? {
            return Ok(());
        }
        self.forget_partial(header.seq);
        self.charge(header.seq, envelope.len() as u64)?;
        self.take(now, header, envelope.to_vec());
        Ok(())
    }

    /// A piece of a message arrived, in any order.
    ///
    /// # Errors
    ///
    /// [`Abuse`]: the link must be closed.
    pub fn handle_chunk(
        &mut self,
        now: Instant,
        header: &Header,
        piece: &Piece<'_>,
    ) -> Result<(), Abuse> {
        if !self.admit(now, header)? {
            return Ok(());
        }
        let total = usize::try_from(piece.total).map_err(|_| Abuse::Pieces)?;
        if !self.partials.contains_key(&header.seq) {
            self.charge(header.seq, piece.total)?;
            let buffer = vec![0; total];
            let partial = Partial {
                buffer,
                have: SeqSet::default(),
                expires: now + life(header.life_ms),
            };
            self.partials.insert(header.seq, partial);
        }
        let Some(partial) = self.partials.get_mut(&header.seq) else {
            return Ok(());
        };
        let start = usize::try_from(piece.offset).map_err(|_| Abuse::Pieces)?;
        let end = start + piece.bytes.len();
        if partial.buffer.len() != total || end > total {
            return Err(Abuse::Pieces);
        }
        partial.buffer[start..end].copy_from_slice(piece.bytes);
        partial.have.insert_range(start as u64 + 1, end as u64);
        if partial.have.cumulative() == piece.total
            && let Some(whole) = self.partials.remove(&header.seq)
        {
            self.take(now, header, whole.buffer);
        }
        Ok(())
    }

    /// Whether the message is new and may come in; settles what the header says is settled.
    fn admit(&mut self, now: Instant, header: &Header) -> Result<bool, Abuse> {
        if !self.started {
            self.started = true;
            self.last_released = self.last_released.max(header.lowest - 1);
        }
        self.settle_below(now, header.lowest);
        if self.received.contains(header.seq) {
            self.want_ack_by(now);
            return Ok(false);
        }
        if self.received.holes() > HOLES_MAX || self.refused.len() > HOLES_MAX {
            return Err(Abuse::Holes);
        }
        if self.stream.class().is_ordered() && header.seq <= self.last_released {
            self.received.insert(header.seq);
            self.forget_partial(header.seq);
            self.refuse(now, header.seq, Code::Expired);
            return Ok(false);
        }
        Ok(true)
    }

    /// Everything below `lowest` that has not arrived never will.
    fn settle_below(&mut self, now: Instant, lowest: u64) {
        let before = self.received.cumulative();
        self.refused = self.refused.split_off(&lowest);
        self.received.insert_up_to(lowest - 1);
        self.consumed.insert_up_to(lowest - 1);
        if self.received.cumulative() != before {
            let dead: Vec<u64> = self.partials.range(..lowest).map(|(seq, _)| *seq).collect();
            for seq in dead {
                self.forget_partial(seq);
            }
        }
        if self.stream.class().is_ordered() && lowest > 0 {
            self.release_in_order(now, lowest - 1);
        }
    }

    fn charge(&mut self, seq: u64, bytes: u64) -> Result<(), Abuse> {
        if self.unconsumed_bytes + bytes > WINDOW_MAX_BYTES + WINDOW_SLACK_BYTES
            || self.sizes.len() as u64 > 2 * WINDOW_MAX_MESSAGES
        {
            return Err(Abuse::Window);
        }
        self.sizes.insert(seq, bytes);
        self.unconsumed_bytes += bytes;
        Ok(())
    }

    fn discharge(&mut self, seq: u64) {
        if let Some(bytes) = self.sizes.remove(&seq) {
            self.unconsumed_bytes -= bytes;
            self.has_freed = true;
        }
    }

    fn forget_partial(&mut self, seq: u64) {
        if self.partials.remove(&seq).is_some() {
            self.discharge(seq);
        }
    }

    fn take(&mut self, now: Instant, header: &Header, envelope: Vec<u8>) {
        self.received.insert(header.seq);
        self.unacked_messages += 1;
        self.unacked_bytes += envelope.len();
        let released = Released {
            seq: header.seq,
            envelope,
            expires: now + life(header.life_ms),
            redelivered: header.redelivered,
            missing: 0,
        };
        if !self.stream.class().is_ordered() {
            self.ready.push_back(released);
        } else {
            let gap = header.previous > self.last_released;
            let held = Held {
                previous: header.previous,
                wait_until: now + life(header.wait_ms),
                released,
            };
            self.held_bytes += held.released.envelope.len() as u64;
            self.held.insert(header.seq, held);
            self.release_in_order(now, 0);
            if gap {
                self.want_ack_by(now);
            }
        }
        self.want_ack(now);
    }

    /// Releases from the front of what is held: successors of the last one
    /// released, everything at or below `settled`, and what has waited long enough.
    fn release_in_order(&mut self, now: Instant, settled: u64) {
        // A later one whose predecessors' lives are over proves the same for all before it.
        let overdue = self
            .held
            .iter()
            .rev()
            .find(|(_, held)| held.wait_until <= now);
        let settled = overdue.map_or(settled, |(seq, _)| settled.max(*seq));
        while let Some((seq, held)) = self.held.first_key_value() {
            let known = self.last_released.max(settled);
            // Whatever an earlier life has consumed is not waited for.
            let waits = |previous: u64| !(known + 1..=previous).all(|s| self.consumed.contains(s));
            if *seq > settled && held.previous > known && waits(held.previous) {
                break;
            }
            if let Some((seq, held)) = self.held.pop_first() {
                let mut released = held.released;
                self.held_bytes -= released.envelope.len() as u64;
                released.missing = (seq - 1).saturating_sub(self.last_released);
                self.last_released = seq;
                self.ready.push_back(released);
            }
        }
    }

    /// The next message for the application.
    pub fn poll_ready(&mut self) -> Option<Released> {
        self.ready.pop_front()
    }

    /// The application has the message.
    pub fn consume(&mut self, now: Instant, seq: u64) {
        self.discharge(seq);
        if self.consumed.insert(seq) {
            self.want_ack(now);
        }
    }

    /// The message will not be delivered.
    pub fn refuse(&mut self, now: Instant, seq: u64, code: Code) {
        self.discharge(seq);
        if !self.stream.class().is_reliable() {
            return;
        }
        // Not consumed, whatever order the frames arrive in: `delivered` must be true.
        if !self.consumed.contains(seq) && self.refused.insert(seq, code).is_none() {
            self.untold.push(seq);
            self.want_ack_by(now);
        }
    }

    /// What the node can spare for this stream now, bytes.
    pub fn set_window(&mut self, bytes: u64) {
        self.window_bytes = bytes.min(WINDOW_MAX_BYTES);
    }

    /// Releases what has waited long enough for its predecessors, and forgets
    /// pieces of what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        let dead: Vec<u64> = self
            .partials
            .iter()
            .filter(|(_, partial)| partial.expires <= now)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in dead {
            self.forget_partial(seq);
        }
        self.release_in_order(now, 0);
    }

    /// When [`Inbound::handle_timeout`] has something to do, acknowledgements apart.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.held.values().map(|held| held.wait_until);
        let lives = self.partials.values().map(|partial| partial.expires);
        waits.chain(lives).min()
    }
}

/// A life as a peer gave it, within the limits.
fn life(ms: u64) -> Duration {
    Duration::from_millis(ms.min(TTL_MAX_MS))
}

#[cfg(test)]
mod tests;
