//! Which items there are, whose, and how much room they take. Their bytes are elsewhere.
//!
//! Invariant: every entry is in `by_key`, in `expiries`, in the sums of its
//! sender, and in its receiver's box unless that cannot open it; nothing else is.
//! An item of [`Keep::Replace`] that cannot be opened stays in the box to be replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_proto::limits::{MAILBOX_MAX_BYTES, MAILBOX_MAX_ITEMS, MAILBOX_SENDER_PARTS};
use waymesh_proto::mailbox::{ItemHeader, Keep, Note};
use waymesh_proto::{AgentId, Code, Fault, ItemId};

use super::super::{
    ConnId, MAILBOXES_MAX_BYTES, MAILBOXES_MAX_ITEMS, UNWRITTEN_MAX_BYTES, UNWRITTEN_MAX_ITEMS,
};
use super::{ItemSeq, StoredItem};

/// What names an item: its sender, and the id that the sender chose.
pub(super) type Key = (AgentId, ItemId);

/// Whether and where an item was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pushed {
    Never,
    /// Before the registry was started.
    Before,
    /// Last on this connection; `again` if on another one before.
    On {
        conn: ConnId,
        again: bool,
    },
}

/// Who waits to hear what became of a posted item, and under which id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) conn: ConnId,
    pub(super) item: ItemId,
}

/// What is known of one item.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) to: AgentId,
    pub(super) keep: Keep,
    pub(super) bytes: usize,
    /// Whether the disk has it.
    pub(super) is_durable: bool,
    pub(super) waiters: Vec<Waiter>,
    since: Instant,
    /// How long the registry had it before `since`.
    dwelt: Duration,
    expires: Instant,
    pushed: Pushed,
}

impl Entry {
    /// An item that has just been posted.
    pub(super) fn new(now: Instant, header: &ItemHeader, bytes: usize) -> Self {
        Self {
            key: (header.from, header.item),
            to: header.to,
            keep: header.keep,
            bytes,
            is_durable: false,
            waiters: Vec::new(),
            since: now,
            dwelt: Duration::ZERO,
            expires: now + Duration::from_millis(header.life_ms),
            pushed: Pushed::Never,
        }
    }

    /// An item of an earlier run of the registry.
    fn stored(item: &StoredItem) -> Self {
        let life = Duration::from_millis(item.header.life_ms);
        Self {
            is_durable: true,
            since: item.since,
            dwelt: item.dwelt,
            expires: item.since + life.saturating_sub(item.dwelt),
            pushed: if item.pushed {
                Pushed::Before
            } else {
                Pushed::Never
            },
            ..Self::new(item.since, &item.header, item.bytes)
        }
    }

    /// Whether it was ever pushed.
    pub(super) fn was_pushed(&self) -> bool {
        self.pushed != Pushed::Never
    }

    /// It is pushed on this connection; gives the note to push it with.
    pub(super) fn push(&mut self, now: Instant, conn: ConnId) -> Note {
        let again = match self.pushed {
            Pushed::Never => false,
            Pushed::Before => true,
            Pushed::On { conn: last, again } => again || last != conn,
        };
        self.pushed = Pushed::On { conn, again };
        let dwell = self.dwelt + now.saturating_duration_since(self.since);
        Note {
            again,
            dwell_ms: u64::try_from(dwell.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A number of items and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

impl Sum {
    fn add(&mut self, bytes: usize) {
        self.items += 1;
        self.bytes += bytes;
    }

    fn sub(&mut self, bytes: usize) {
        self.items -= 1;
        self.bytes -= bytes;
    }

    /// Whether one more item fits into one of `parts` parts of these limits.
    fn has_room(self, bytes: usize, max: Self, parts: usize) -> bool {
        self.items < max.items / parts && self.bytes + bytes <= max.bytes / parts
    }
}

/// A sum for each sender that has any.
#[derive(Debug, Default)]
struct Shares(BTreeMap<AgentId, Sum>);

impl Shares {
    fn of(&self, sender: &AgentId) -> Sum {
        self.0.get(sender).copied().unwrap_or_default()
    }

    fn add(&mut self, sender: AgentId, bytes: usize) {
        self.0.entry(sender).or_default().add(bytes);
    }

    fn sub(&mut self, sender: AgentId, bytes: usize) {
        if let Some(sum) = self.0.get_mut(&sender) {
            sum.sub(bytes);
            if sum.items == 0 {
                self.0.remove(&sender);
            }
        }
    }
}

/// One agent's mailbox. Items of [`Keep::Replace`] are no part of its sums:
/// there is one a sender, and acknowledgements must pass where messages do not.
#[derive(Debug, Default)]
struct Mailbox {
    items: BTreeSet<ItemSeq>,
    sum: Sum,
    shares: Shares,
    /// The one item of [`Keep::Replace`] of each sender.
    replaceable: BTreeMap<AgentId, ItemSeq>,
}

impl Mailbox {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.replaceable.is_empty()
    }
}

/// Items that wait for room in a mailbox find none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The receiver's mailbox is full.
    Mailbox,
    /// The sender's share of it is.
    Share,
    /// All mailboxes together are full, or the sender's share of all.
    Registry,
    /// Too much waits for the disk.
    Disk,
}

impl NoRoom {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Mailbox => Fault::new(Code::MailboxFull, "the receiver's mailbox is full"),
            Self::Share => Fault::new(
                Code::MailboxFull,
                "the sender's share of the receiver's mailbox is full",
            ),
            Self::Registry => Fault::new(
                Code::MailboxFull,
                "the registry holds as many items as it can, or as many of this sender",
            ),
            Self::Disk => Fault::new(
                Code::QueueFull,
                "more items wait for the registry's disk than may",
            ),
        }
    }
}

const MAILBOX_MAX: Sum = Sum {
    items: MAILBOX_MAX_ITEMS,
    bytes: MAILBOX_MAX_BYTES,
};

const REGISTRY_MAX: Sum = Sum {
    items: MAILBOXES_MAX_ITEMS,
    bytes: MAILBOXES_MAX_BYTES,
};

const UNWRITTEN_MAX: Sum = Sum {
    items: UNWRITTEN_MAX_ITEMS,
    bytes: UNWRITTEN_MAX_BYTES,
};

/// All items in the order of their storing.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<ItemSeq, Entry>,
    by_key: BTreeMap<Key, ItemSeq>,
    boxes: BTreeMap<AgentId, Mailbox>,
    expiries: BTreeSet<(Instant, ItemSeq)>,
    /// Items that their receivers cannot open, by their senders.
    unreadable: BTreeSet<(AgentId, ItemSeq)>,
    sum: Sum,
    shares: Shares,
    /// What the disk does not have yet.
    unwritten: Sum,
    unwritten_shares: Shares,
}

impl Index {
    pub(super) fn new(stored: impl IntoIterator<Item = StoredItem>) -> Self {
        let mut index = Self::default();
        for item in stored {
            index.insert(item.seq, Entry::stored(&item));
        }
        index
    }

    /// The last position that was given out.
    pub(super) fn last(&self) -> Option<ItemSeq> {
        self.entries.keys().next_back().copied()
    }

    pub(super) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) const fn unwritten(&self) -> Sum {
        self.unwritten
    }

    /// Whether one more item may be stored.
    pub(super) fn check_room(&self, header: &ItemHeader, bytes: usize) -> Result<(), NoRoom> {
        let all = MAILBOX_SENDER_PARTS;
        if header.keep == Keep::Store {
            let mailbox = self.boxes.get(&header.to);
            let sum = mailbox.map(|m| m.sum).unwrap_or_default();
            let share = mailbox.map(|m| m.shares.of(&header.from));
            if !sum.has_room(bytes, MAILBOX_MAX, 1) {
                return Err(NoRoom::Mailbox);
            }
            if !share.unwrap_or_default().has_room(bytes, MAILBOX_MAX, all) {
                return Err(NoRoom::Share);
            }
        }
        let share = self.shares.of(&header.from);
        if !self.sum.has_room(bytes, REGISTRY_MAX, 1) || !share.has_room(bytes, REGISTRY_MAX, all) {
            return Err(NoRoom::Registry);
        }
        let share = self.unwritten_shares.of(&header.from);
        if !self.unwritten.has_room(bytes, UNWRITTEN_MAX, 1)
            || !share.has_room(bytes, UNWRITTEN_MAX, all)
        {
            return Err(NoRoom::Disk);
        }
        Ok(())
    }

    pub(super) fn seq_of(&self, key: &Key) -> Option<ItemSeq> {
        self.by_key.get(key).copied()
    }

    pub(super) fn entry(&self, seq: ItemSeq) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    pub(super) fn entry_mut(&mut self, seq: ItemSeq) -> Option<&mut Entry> {
        self.entries.get_mut(&seq)
    }

    pub(super) fn insert(&mut self, seq: ItemSeq, entry: Entry) {
        let (from, bytes) = (entry.key.0, entry.bytes);
        self.by_key.insert(entry.key, seq);
        self.expiries.insert((entry.expires, seq));
        self.sum.add(bytes);
        self.shares.add(from, bytes);
        if !entry.is_durable {
            self.unwritten.add(bytes);
            self.unwritten_shares.add(from, bytes);
        }
        let mailbox = self.boxes.entry(entry.to).or_default();
        if entry.keep == Keep::Replace {
            mailbox.replaceable.insert(from, seq);
        } else {
            mailbox.items.insert(seq);
            mailbox.sum.add(bytes);
            mailbox.shares.add(from, bytes);
        }
        self.entries.insert(seq, entry);
    }

    pub(super) fn remove(&mut self, seq: ItemSeq) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        let (from, bytes) = (entry.key.0, entry.bytes);
        self.by_key.remove(&entry.key);
        self.expiries.remove(&(entry.expires, seq));
        let was_unreadable = self.unreadable.remove(&(from, seq));
        self.sum.sub(bytes);
        self.shares.sub(from, bytes);
        if !entry.is_durable {
            self.unwritten.sub(bytes);
            self.unwritten_shares.sub(from, bytes);
        }
        if !was_unreadable || entry.keep == Keep::Replace {
            self.take_from_box(seq, &entry);
        }
        Some(entry)
    }

    /// An item takes no room of its receiver's any more.
    fn take_from_box(&mut self, seq: ItemSeq, entry: &Entry) {
        let (from, bytes) = (entry.key.0, entry.bytes);
        let Some(mailbox) = self.boxes.get_mut(&entry.to) else {
            return;
        };
        if entry.keep == Keep::Replace {
            mailbox.replaceable.remove(&from);
        } else {
            mailbox.items.remove(&seq);
            mailbox.sum.sub(bytes);
            mailbox.shares.sub(from, bytes);
        }
        if mailbox.is_empty() {
            self.boxes.remove(&entry.to);
        }
    }

    /// The disk has the item; gives who waited for that.
    pub(super) fn confirm(&mut self, seq: ItemSeq) -> Vec<Waiter> {
        let Some(entry) = self.entries.get_mut(&seq).filter(|e| !e.is_durable) else {
            return Vec::new();
        };
        entry.is_durable = true;
        let waiters = std::mem::take(&mut entry.waiters);
        let (from, bytes) = (entry.key.0, entry.bytes);
        self.unwritten.sub(bytes);
        self.unwritten_shares.sub(from, bytes);
        waiters
    }

    /// The receiver cannot open the item, which leaves its box; a replaceable one
    /// does so when it is replaced. Gives whose it is.
    pub(super) fn note_unreadable(&mut self, seq: ItemSeq) -> Option<Key> {
        let entry = self.entries.remove(&seq)?;
        let key = entry.key;
        if self.unreadable.insert((key.0, seq)) && entry.keep != Keep::Replace {
            self.take_from_box(seq, &entry);
        }
        self.entries.insert(seq, entry);
        Some(key)
    }

    /// The items of a sender that their receivers cannot open.
    pub(super) fn unreadable_of(&self, sender: &AgentId) -> impl Iterator<Item = ItemId> {
        let all = (*sender, ItemSeq(0))..=(*sender, ItemSeq(u64::MAX));
        let seqs = self.unreadable.range(all).map(|(_, seq)| seq);
        seqs.filter_map(|seq| Some(self.entries.get(seq)?.key.1))
    }

    /// The first item of an agent's mailbox at this position or later, without replaceable ones.
    pub(super) fn next_of(&self, agent: &AgentId, from: ItemSeq) -> Option<ItemSeq> {
        self.boxes.get(agent)?.items.range(from..).next().copied()
    }

    /// The replaceable items in an agent's mailbox that it may be able to open.
    pub(super) fn replaceable_of(&self, agent: &AgentId) -> impl Iterator<Item = ItemSeq> {
        let mailbox = self.boxes.get(agent).into_iter();
        let all = mailbox.flat_map(|mailbox| &mailbox.replaceable);
        let to_open = all.filter(|(from, seq)| !self.unreadable.contains(&(**from, **seq)));
        to_open.map(|(_, seq)| *seq)
    }

    /// The item that a replaceable one takes the place of.
    pub(super) fn replaced_by(&self, header: &ItemHeader) -> Option<ItemSeq> {
        let mailbox = self.boxes.get(&header.to)?;
        let replaceable = mailbox.replaceable.get(&header.from)?;
        (header.keep == Keep::Replace).then_some(*replaceable)
    }

    /// Every item that an agent has sent or that waits for it.
    pub(super) fn all_of(&self, agent: &AgentId) -> Vec<ItemSeq> {
        let is_its = |entry: &Entry| entry.key.0 == *agent || entry.to == *agent;
        let its = self.entries.iter().filter(|(_, entry)| is_its(entry));
        its.map(|(seq, _)| *seq).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// An item whose life is over by now.
    pub(super) fn expired(&self, now: Instant) -> Option<ItemSeq> {
        let (at, seq) = self.expiries.first()?;
        (*at <= now).then_some(*seq)
    }
}
