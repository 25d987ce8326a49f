//! A stream's side of the mailbox: each message goes into it whole and once.
//!
//! The mailbox and the links do not know of each other: a message may be on
//! its way on both, and its sequence number makes one of the two a duplicate.

use std::time::Instant;

use waymesh_proto::class::Stream;
use waymesh_proto::frame::Header;
use waymesh_proto::ids::{Incarnation, ItemId, MessageId};

use super::{Ending, Entry, Outbound, Turn, Verdict, turn_of};

/// How far an entry is on its way through the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posting {
    /// Not there.
    No,
    /// Handed to the registry's connection; nobody has said what became of it.
    Asked(ItemId),
    /// Handed to the peer's connection, and not durable.
    Handed(ItemId),
    /// Durable there.
    Stored(ItemId),
    /// It was there, and came back: to go again under the same id.
    Back(ItemId),
}

impl Posting {
    pub(super) const fn item(self) -> Option<ItemId> {
        match self {
            Self::No => None,
            Self::Asked(item) | Self::Handed(item) | Self::Stored(item) | Self::Back(item) => {
                Some(item)
            }
        }
    }

    /// Whether the entry may be posted.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::No | Self::Back(_))
    }
}

/// A message on its way into the mailbox.
#[derive(Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its place in the stream.
    pub header: Header,
    /// Its bytes.
    pub envelope: Vec<u8>,
    /// The item that it had when it was posted before.
    pub item: Option<ItemId>,
}

/// Which messages go into the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that are not there: no link works.
    All,
    /// Those that were to be taken by now, and were not.
    Parked,
}

/// What is to become of the copy of a settled message in the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The receiver takes it, or has.
    Collected,
    /// Nobody needs it.
    Unneeded,
}

/// The mailbox takes messages whole: how far a link got with one does not count.
pub(super) fn mail_turn(stream: Stream, seq: u64, entry: &Entry) -> Turn {
    let (urgency, _, seq) = turn_of(stream, seq, entry);
    (urgency, 0, seq)
}

impl Outbound {
    /// Has a message posted from then on although a link works, unless it is settled before.
    pub fn park(&mut self, seq: u64, at: Instant) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.park_at = Some(at);
            self.parked.insert((at, seq));
        }
    }

    /// What comes by mailbox says what was alive when it was posted. Where the peer holds
    /// the first message for others that are settled by now, it is told so once, with the
    /// same message under a new item.
    pub(super) fn nudge(&mut self, now: Instant) {
        let Some((seq, entry)) = self.entries.first_key_value() else {
            return;
        };
        let (seq, ordered) = (*seq, self.stream.class().is_ordered());
        let is_held = self.peer_has.contains(seq) && self.peer_has.cumulative() + 1 < seq;
        let known = Some((self.life, seq));
        if !ordered || !is_held || self.nudged == known || entry.posting == Posting::No {
            return;
        }
        self.nudged = known;
        if let Some(entry) = self.entries.get_mut(&seq) {
            let item = std::mem::replace(&mut entry.posting, Posting::No).item();
            self.closed.extend(item.map(|item| (item, Copy::Collected)));
            self.unposted.insert(mail_turn(self.stream, seq, entry));
            if let Some(at) = entry.park_at.replace(now) {
                self.parked.remove(&(at, seq));
            }
            self.parked.insert((now, seq));
        }
    }

    /// When a message is to be posted although a link works.
    pub fn park_due(&self) -> Option<Instant> {
        self.parked.first().map(|(at, _)| *at)
    }

    /// Takes the next message for the mailbox: each once, unless it comes back.
    pub fn next_letter(&mut self, now: Instant, scope: Scope) -> Option<Letter> {
        while let Some(seq) = self.next_letter_seq(now, scope) {
            let (_, turn) = self.turns_at(seq);
            self.unposted.remove(&turn);
            let header = self.header(seq, now);
            let entry = self.entries.get_mut(&seq)?;
            if let Some(at) = entry.park_at {
                self.parked.remove(&(at, seq));
            }
            if entry.expires > now {
                return Some(Letter {
                    header,
                    envelope: entry.envelope.clone(),
                    item: entry.posting.item(),
                });
            }
        }
        None
    }

    /// Whether a message waits for the mailbox.
    pub fn has_letter(&self, now: Instant, scope: Scope) -> bool {
        self.next_letter_seq(now, scope).is_some()
    }

    fn next_letter_seq(&self, now: Instant, scope: Scope) -> Option<u64> {
        match scope {
            Scope::All => self.unposted.first().map(|(_, _, seq)| *seq),
            Scope::Parked => {
                let first = self.parked.first().filter(|(at, _)| *at <= now);
                first.map(|(_, seq)| *seq)
            }
        }
    }

    /// A letter was handed on as an item. `life` is the peer's when it is connected,
    /// so that it may have the message soon.
    pub fn handle_posting(&mut self, seq: u64, item: ItemId, life: Option<Incarnation>) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.posting = Posting::Asked(item);
            entry.reached = entry.reached.or(life);
        }
    }

    /// The peer is connected in this life: it may get everything that was posted.
    pub fn handle_reachable(&mut self, life: Incarnation) {
        for entry in self.entries.values_mut() {
            if !entry.posting.is_open() {
                entry.reached.get_or_insert(life);
            }
        }
    }

    /// The item is durable. Gives the message when that is news.
    pub fn handle_stored(&mut self, seq: u64) -> Option<MessageId> {
        let entry = self.entries.get_mut(&seq)?;
        let Posting::Asked(item) = entry.posting else {
            return None;
        };
        entry.posting = Posting::Stored(item);
        let is_news = !std::mem::replace(&mut entry.told_stored, true);
        let id = entry.id;
        if !self.stream.class().is_reliable() {
            // Nobody acknowledges it: the mailbox is as far as it is followed.
            self.remove(seq, Copy::Collected);
        }
        is_news.then_some(id)
    }

    /// The item was handed to the peer's connection and is not stored.
    pub fn handle_handed(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&seq)
            && let Posting::Asked(item) = entry.posting
        {
            entry.posting = Posting::Handed(item);
        }
    }

    /// The peer's connection may be another by now: what was handed to the last
    /// one may be lost with it.
    pub fn handle_unhanded(&mut self) {
        let handed =
            |(seq, e): (&u64, &Entry)| matches!(e.posting, Posting::Handed(_)).then_some(*seq);
        for seq in self.entries.iter().filter_map(handed).collect::<Vec<_>>() {
            self.handle_lost(seq);
        }
    }

    /// Nobody knows what became of the item: the message may be posted again.
    pub fn handle_lost(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.uncertain = true;
        }
        self.handle_back(seq);
    }

    /// The item is not on its way any more: the message may be posted again.
    pub fn handle_back(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&seq)
            && let Some(item) = entry.posting.item()
        {
            entry.posting = Posting::Back(item);
            self.parked.extend(entry.park_at.map(|at| (at, seq)));
            if !entry.received {
                self.unposted.insert(mail_turn(self.stream, seq, entry));
            }
        }
    }

    /// The peer cannot open the item: the message may be posted again, as another
    /// one, since that stays in the mailbox until it is withdrawn.
    pub fn handle_unreadable(&mut self, seq: u64) {
        self.handle_back(seq);
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.posting = Posting::No;
        }
    }

    /// The peer cannot open an item that nobody followed any more when the registry
    /// said so: a message that was to go again under its id goes as another one.
    pub fn forget_item(&mut self, item: ItemId) {
        let back = Posting::Back(item);
        if let Some(entry) = self.entries.values_mut().find(|e| e.posting == back) {
            entry.posting = Posting::No;
        }
    }

    /// The registry says that the mailbox will not deliver the message. That
    /// settles it unless a link may have delivered it.
    pub fn handle_undelivered(&mut self, seq: u64, verdict: Verdict) -> Option<Ending> {
        let entry = self.entries.get(&seq)?;
        if entry.linked || entry.received || entry.sent > 0 {
            return None;
        }
        let verdict = match verdict {
            // An earlier copy may have been delivered.
            Verdict::Expired if entry.uncertain => Verdict::Unconfirmed,
            verdict => verdict,
        };
        self.remove(seq, Copy::Collected)
            .map(|entry| entry.ending(verdict))
    }

    /// Items whose entries are gone since the last call.
    pub fn take_closed(&mut self) -> Vec<(ItemId, Copy)> {
        std::mem::take(&mut self.closed)
    }
}
