//! The sending half of one stream: what waits, what is on its way, what is settled.
//!
//! Owns sequence numbers and retention. An entry stays until the receiving
//! application has consumed it, the receiver refused it or its life ended; a
//! new link makes it unsent again, so nothing is lost above a dead one. It
//! does not choose when and where to send: for a link the scheduler asks
//! [`Outbound::next_len`] and takes with [`Outbound::put_into`]; for the
//! mailbox it takes with [`Outbound::next_letter`], each entry once.

mod acks;
mod frames;
mod headers;
mod letters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_proto::class::Stream;
use waymesh_proto::envelope::Priority;
use waymesh_proto::error::Code;
use waymesh_proto::ids::{Incarnation, ItemId, MessageId};
use waymesh_proto::seqset::SeqSet;

pub use acks::AckOutOfRange;
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
        let stream = self.stream;
        for (seq, entry) in &mut self.entries {
            entry.in_flight = entry.received;
            if entry.received {
                self.in_flight_messages += 1;
                self.in_flight_bytes += entry.envelope.len() as u64;
            } else {
                entry.sent = 0;
                entry.chunks = 0;
                self.unsent.insert(turn_of(stream, *seq, entry));
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
        let stream = self.stream;
        for (seq, entry) in &mut self.entries {
            if std::mem::take(&mut entry.received) && entry.in_flight {
                self.unreceived += 1;
            }
            entry.redelivered |= entry.reached.is_some_and(|reached| reached < life);
            if entry.posting.is_open() {
                self.unposted.insert(mail_turn(stream, *seq, entry));
            }
        }
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
        turn_of(self.stream, seq, entry)
    }

    fn mail_turn(&self, seq: u64, entry: &Entry) -> Turn {
        mail_turn(self.stream, seq, entry)
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

fn turn_of(stream: Stream, seq: u64, entry: &Entry) -> Turn {
    if stream.class().is_ordered() {
        (0, 0, seq)
    } else {
        (
            Priority::Critical as u8 - entry.priority as u8,
            entry.chunks,
            seq,
        )
    }
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
