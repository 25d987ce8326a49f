//! The sending half of one stream: what waits, what is on its way, what is settled.
//!
//! Owns sequence numbers and retention. An entry stays until the receiving
//! application has consumed it, the receiver refused it or its life ended; a
//! new link makes it unsent again, so nothing is lost above a dead one. It
//! does not choose when and where to send: for a link the scheduler asks
//! [`Outbound::next_len`] and takes with [`Outbound::put_into`]; for the
//! mailbox it takes with [`Outbound::next_letter`], each entry once.

mod frames;
mod letters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_proto::class::Stream;
use waymesh_proto::envelope::Priority;
use waymesh_proto::error::Code;
use waymesh_proto::frame::{Ack, Header};
use waymesh_proto::ids::{Incarnation, ItemId, MessageId};
use waymesh_proto::seqset::SeqSet;

pub use letters::{Copy, Letter, Scope};
use letters::{Posting, mail_turn};

/// Messages that may be on their way before the receiver has said its window.
/// Chosen: enough for a burst of calls, little enough for a thousand peers.
pub const WINDOW_INITIAL_MESSAGES: u64 = 64;

/// Bytes that may be on their way before the receiver has said its window. Chosen as above.
pub const WINDOW_INITIAL_BYTES: u64 = 64 * 1024;

/// How long past its life a sent message waits for a verdict that may be under way. Chosen.
pub const VERDICT_GRACE: Duration = Duration::from_secs(2);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiving application has it.
    Consumed,
    /// The receiver will not deliver it.
    Refused(Code),
    /// Its life ended before all of it had been sent, or, as the registry says,
    /// before the receiver collected it.
    Expired,
    /// Its life ended after it had been sent and nobody said more.
    Unconfirmed,
}

#[derive(Debug)]
struct Entry {
    id: MessageId,
    envelope: Vec<u8>,
    priority: Priority,
    expires: Instant,
    /// The latest end of life among its predecessors, or later.
    wait_until: Instant,
    /// Bytes that the present link has taken.
    sent: usize,
    chunks: u32,
    /// The oldest life of the receiver that may have it whole.
    reached: Option<Incarnation>,
    /// Whether a link has taken all of it.
    linked: bool,
    /// Whether an earlier incarnation of the receiver may have it whole.
    redelivered: bool,
    in_flight: bool,
    received: bool,
    posting: Posting,
    /// Whether its sender knows it to be durable.
    told_stored: bool,
    /// From when on it is to be posted although a link works.
    park_at: Option<Instant>,
    /// An item with it went to the registry, and nobody said what became of it.
    uncertain: bool,
}

/// What became of a message, and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The message.
    pub id: MessageId,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether only the mailbox has carried it.
    pub by_mail: bool,
}

/// Order in which unsent entries go: urgency, then the least begun, then age.
type Turn = (u8, u32, u64);

/// The sending half of one stream.
#[derive(Debug)]
pub struct Outbound {
    stream: Stream,
    last_seq: u64,
    entries: BTreeMap<u64, Entry>,
    unsent: BTreeSet<Turn>,
    /// Entries that the mailbox has not taken and the peer has not got.
    unposted: BTreeSet<Turn>,
    /// Entries that are to be posted even if a link works, by the time from which.
    parked: BTreeSet<(Instant, u64)>,
    /// Items whose entries are gone, and whether their copies are of use to nobody.
    closed: Vec<(ItemId, Copy)>,
    /// The life of the peer that the present link is with.
    life: Option<Incarnation>,
    /// The message that the peer was last told again to wait for nothing before.
    nudged: Option<(Option<Incarnation>, u64)>,
    /// What the peer said last that it has.
    peer_has: SeqSet,
    deadlines: BTreeSet<(Instant, u64)>,
    bytes: usize,
    window_messages: u64,
    window_bytes: u64,
    in_flight_messages: u64,
    /// Of those on their way, the ones that the peer has not said to have.
    unreceived: u64,
    in_flight_bytes: u64,
    consumed: SeqSet,
}

impl Outbound {
    /// An empty stream.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            last_seq: 0,
            entries: BTreeMap::new(),
            unsent: BTreeSet::new(),
            unposted: BTreeSet::new(),
            parked: BTreeSet::new(),
            closed: Vec::new(),
            life: None,
            nudged: None,
            peer_has: SeqSet::default(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            window_messages: WINDOW_INITIAL_MESSAGES,
            window_bytes: WINDOW_INITIAL_BYTES,
            in_flight_messages: 0,
            unreceived: 0,
            in_flight_bytes: 0,
            consumed: SeqSet::default(),
        }
    }

    /// An empty stream to a peer that was heard in this life.
    pub fn toward(stream: Stream, life: Option<Incarnation>) -> Self {
        Self {
            life,
            ..Self::new(stream)
        }
    }

    /// Messages that are not settled.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is settled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of envelopes that are not settled.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something is on its way that the peer has not said to have.
    pub const fn is_unanswered(&self) -> bool {
        self.unreceived > 0
    }

    /// Whether the message may have reached a life of the peer, one before
    /// `before` if that is given; `None` when it is settled.
    pub fn was_sent(&self, seq: u64, before: Option<Incarnation>) -> Option<bool> {
        let is_before = |life: Incarnation| before.is_none_or(|before| life < before);
        let begun = |e: &Entry| e.sent > 0 && self.life.is_some_and(is_before);
        let entry = self.entries.get(&seq)?;
        Some(entry.reached.is_some_and(is_before) || begun(entry))
    }

    /// Whether only the mailbox has carried the message so far; `None` when it is settled.
    pub fn is_by_mail(&self, seq: u64) -> Option<bool> {
        let entry = self.entries.get(&seq)?;
        Some(!entry.linked && entry.posting != Posting::No)
    }

    /// Adds an envelope and gives its sequence number.
    pub fn push(
        &mut self,
        id: MessageId,
        envelope: Vec<u8>,
        priority: Priority,
        now: Instant,
        expires: Instant,
    ) -> u64 {
        self.last_seq += 1;
        let seq = self.last_seq;
        let wait_until = self
            .entries
            .last_key_value()
            .map_or(now, |(_, last)| last.wait_until.max(last.expires));
        self.bytes += envelope.len();
        let entry = Entry {
            id,
            envelope,
            priority,
            expires,
            wait_until,
            sent: 0,
            chunks: 0,
            reached: None,
            linked: false,
            redelivered: false,
            in_flight: false,
            received: false,
            posting: Posting::No,
            told_stored: false,
            park_at: None,
            uncertain: false,
        };
        self.unsent.insert(self.turn(seq, &entry));
        self.unposted.insert(self.mail_turn(seq, &entry));
        self.deadlines.insert((expires, seq));
        self.entries.insert(seq, entry);
        seq
    }

    /// Takes a message back that nobody needs any more. False when it is settled already.
    pub fn withdraw(&mut self, seq: u64) -> bool {
        self.remove(seq, Copy::Unneeded).is_some()
    }

    /// Drops the oldest message. False when there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let oldest = self.entries.first_key_value().map(|(seq, _)| *seq);
        oldest.is_some_and(|seq| self.remove(seq, Copy::Unneeded).is_some())
    }

    /// Drops everything. Gives the messages that may have reached the peer, by
    /// whatever path.
    pub fn drop_all(&mut self) -> Vec<MessageId> {
        let begun = |e: &&Entry| e.reached.is_some() || e.sent > 0 || e.posting != Posting::No;
        let gone = self.entries.values().filter(begun).map(|e| e.id).collect();
        while self.drop_oldest() {}
        gone
    }

    /// A link to this life of the peer came up: everything that this life has
    /// not got whole is unsent again.
    pub fn handle_link_up(&mut self, life: Incarnation) {
        self.meet(life);
        self.in_flight_messages = 0;
        self.in_flight_bytes = 0;
        self.unreceived = 0;
        self.unsent.clear();
        let ordered = self.stream.class().is_ordered();
        for (seq, entry) in &mut self.entries {
            entry.in_flight = entry.received;
            if entry.received {
                self.in_flight_messages += 1;
                self.in_flight_bytes += entry.envelope.len() as u64;
            } else {
                entry.sent = 0;
                entry.chunks = 0;
                self.unsent.insert(turn_of(ordered, *seq, entry));
            }
        }
    }

    /// The peer was heard in this life. What only an earlier one has, is to go again.
    pub fn meet(&mut self, life: Incarnation) {
        if self.life.replace(life) == Some(life) {
            return;
        }
        self.peer_has = SeqSet::default();
        self.window_messages = WINDOW_INITIAL_MESSAGES;
        self.window_bytes = WINDOW_INITIAL_BYTES;
        let ordered = self.stream.class().is_ordered();
        for (seq, entry) in &mut self.entries {
            if std::mem::take(&mut entry.received) && entry.in_flight {
                self.unreceived += 1;
            }
            entry.redelivered |= entry.reached.is_some_and(|reached| reached < life);
            if entry.posting.is_open() {
                self.unposted.insert(mail_turn(ordered, *seq, entry));
            }
        }
    }

    /// The peer said what it has and what it allows. Gives what became settled by it.
    ///
    /// # Errors
    ///
    /// The peer acknowledged a sequence number that was never used.
    pub fn handle_ack(&mut self, now: Instant, ack: &Ack) -> Result<Vec<Ending>, AckOutOfRange> {
        let highest = |set: &SeqSet| set.ranges().last().map_or(set.cumulative(), |(_, end)| end);
        if highest(&ack.received).max(highest(&ack.consumed)) > self.last_seq {
            return Err(AckOutOfRange);
        }
        self.window_messages = ack.window_messages;
        self.window_bytes = ack.window_bytes;
        let mut settled = Vec::new();
        for (start, end) in spans(&ack.consumed, self.consumed.cumulative()) {
            let seqs: Vec<u64> = self
                .entries
                .range(start..=end)
                .map(|(seq, _)| *seq)
                .collect();
            for seq in seqs {
                // One that a link has carried may leave its copy behind.
                let linked = self.entries.get(&seq).is_some_and(|entry| entry.linked);
                let copy = if linked {
                    Copy::Unneeded
                } else {
                    Copy::Collected
                };
                let entry = self.remove(seq, copy);
                settled.extend(entry.map(|entry| entry.ending(Verdict::Consumed)));
            }
        }
        self.consumed.merge(&ack.consumed);
        for (start, end) in spans(&ack.received, self.consumed.cumulative()) {
            for (seq, entry) in self.entries.range_mut(start..=end) {
                if !entry.received {
                    entry.received = true;
                    entry.reached = entry.reached.or(self.life);
                    let ordered = self.stream.class().is_ordered();
                    self.unposted.remove(&mail_turn(ordered, *seq, entry));
                    self.unreceived -= u64::from(entry.in_flight);
                    // Received on an earlier link, told on this one: no need to send it again.
                    if entry.sent < entry.envelope.len() {
                        self.unsent
                            .remove(&turn_of(self.stream.class().is_ordered(), *seq, entry));
                        entry.sent = entry.envelope.len();
                        if !entry.in_flight {
                            entry.in_flight = true;
                            self.in_flight_messages += 1;
                            self.in_flight_bytes += entry.envelope.len() as u64;
                        }
                    }
                }
            }
        }
        self.peer_has.clone_from(&ack.received);
        self.nudge(now);
        Ok(settled)
    }

    /// The peer refused a message. Where an earlier incarnation of it may have
    /// had the message, that says nothing of what became of it there.
    pub fn handle_refused(&mut self, seq: u64, code: Code) -> Option<Ending> {
        self.remove(seq, Copy::Collected).map(|entry| {
            entry.ending(if entry.redelivered {
                Verdict::Unconfirmed
            } else {
                Verdict::Refused(code)
            })
        })
    }

    /// Settles what has outlived its life.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Ending> {
        let mut settled = Vec::new();
        while let Some((deadline, seq)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            let Some(entry) = self.entries.get_mut(&seq) else {
                continue;
            };
            let whole = entry.reached.is_some()
                || entry.sent == entry.envelope.len()
                || entry.posting != Posting::No;
            if whole && deadline < entry.expires + VERDICT_GRACE {
                self.deadlines.insert((entry.expires + VERDICT_GRACE, seq));
                let (turn, mail_turn) = self.turns_at(seq);
                self.unsent.remove(&turn);
                self.unposted.remove(&mail_turn);
                continue;
            }
            let verdict = if whole {
                Verdict::Unconfirmed
            } else {
                Verdict::Expired
            };
            let entry = self.remove(seq, Copy::Unneeded);
            settled.extend(entry.map(|entry| entry.ending(verdict)));
        }
        if !settled.is_empty() {
            self.nudge(now);
        }
        settled
    }

    /// When [`Outbound::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn header(&self, seq: u64, now: Instant) -> Header {
        // One whose life is over is not waited for, though its verdict may be under way.
        let previous = self
            .entries
            .range(..seq)
            .rev()
            .find(|(_, entry)| entry.expires > now)
            .map_or(0, |(seq, _)| *seq);
        let lowest = self.lowest(seq);
        let entry = self.entries.get(&seq);
        let left = |until: Instant| until.saturating_duration_since(now).as_millis() as u64;
        Header {
            stream: self.stream,
            redelivered: entry.is_some_and(|e| e.redelivered),
            seq,
            previous,
            lowest,
            life_ms: entry.map_or(0, |e| left(e.expires)),
            wait_ms: entry.map_or(0, |e| match previous {
                0 => 0,
                _ if self.stream.class().is_reliable() => left(e.wait_until),
                // Nobody tells what became of it, so it is not waited for for long.
                _ => left(e.wait_until).min(LOSSY_WAIT_MAX_MS),
            }),
        }
    }

    /// The lowest that is alive. What is unordered and not kept may still be
    /// overtaken on its way: the last few count as alive.
    fn lowest(&self, seq: u64) -> u64 {
        let class = self.stream.class();
        if !class.is_reliable() && !class.is_ordered() {
            return seq.saturating_sub(OVERTAKEN_MAX).max(1);
        }
        self.entries.first_key_value().map_or(seq, |(seq, _)| *seq)
    }

    fn remove(&mut self, seq: u64, copy: Copy) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        self.closed
            .extend(entry.posting.item().map(|item| (item, copy)));
        self.unsent.remove(&self.turn(seq, &entry));
        self.unposted.remove(&self.mail_turn(seq, &entry));
        if let Some(at) = entry.park_at {
            self.parked.remove(&(at, seq));
        }
        self.deadlines.remove(&(entry.expires, seq));
        self.deadlines.remove(&(entry.expires + VERDICT_GRACE, seq));
        self.bytes -= entry.envelope.len();
        if entry.in_flight {
            self.unreceived -= u64::from(!entry.received);
            self.in_flight_messages -= 1;
            self.in_flight_bytes -= entry.envelope.len() as u64;
        }
        Some(entry)
    }

    fn turn(&self, seq: u64, entry: &Entry) -> Turn {
        turn_of(self.stream.class().is_ordered(), seq, entry)
    }

    fn mail_turn(&self, seq: u64, entry: &Entry) -> Turn {
        mail_turn(self.stream.class().is_ordered(), seq, entry)
    }

    fn turns_at(&self, seq: u64) -> (Turn, Turn) {
        let entry = self.entries.get(&seq);
        entry.map_or(((0, 0, seq), (0, 0, seq)), |entry| {
            (self.turn(seq, entry), self.mail_turn(seq, entry))
        })
    }
}

impl Entry {
    fn ending(&self, verdict: Verdict) -> Ending {
        Ending {
            id: self.id,
            verdict,
            by_mail: !self.linked && self.posting != Posting::No,
        }
    }
}

/// The peer acknowledged what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an acknowledgement of a message that was never sent")]
pub struct AckOutOfRange;

/// How long a receiver waits for a lost predecessor of a lossy message that went into the
/// mailbox, milliseconds. Chosen: one that is only late is there by then.
const LOSSY_WAIT_MAX_MS: u64 = 2_000;

/// How many later messages of an unordered lossy stream may overtake one. Chosen:
/// more than a link holds at a time.
const OVERTAKEN_MAX: u64 = 256;

fn turn_of(ordered: bool, seq: u64, entry: &Entry) -> Turn {
    if ordered {
        (0, 0, seq)
    } else {
        (
            Priority::Critical as u8 - entry.priority as u8,
            entry.chunks,
            seq,
        )
    }
}

/// The ranges of a set without what lies at or below a mark that is known already.
fn spans(set: &SeqSet, known: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = (set.cumulative() > known).then_some((known + 1, set.cumulative()));
    first.into_iter().chain(set.ranges())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]
mod tests {
    use super::*;
    use waymesh_proto::frame::FrameWriter;
    use waymesh_proto::limits::FRAME_MAX_BYTES;

    #[test]
    fn messages_that_are_begun_go_on_when_the_window_is_full_for_the_next() {
        let now = Instant::now();
        let mut outbound = Outbound::new(Stream::Tasks);
        let large = WINDOW_INITIAL_BYTES as usize * 2 / 3;
        for number in 1..=3 {
            let id = MessageId::from_bytes([number; 16]);
            let expires = now + Duration::from_secs(1);
            outbound.push(id, vec![0; large], Priority::Normal, now, expires);
        }
        let mut frames = 0;
        while outbound.next_len().is_some() {
            let mut writer = FrameWriter::default();
            assert!(outbound.put_into(&mut writer, FRAME_MAX_BYTES, now));
            frames += 1;
        }
        assert_eq!(outbound.in_flight_messages, 1);
        assert_eq!(frames, large.div_ceil(FRAME_MAX_BYTES - 64));
    }
}
