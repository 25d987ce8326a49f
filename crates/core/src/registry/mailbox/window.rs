//! What of a mailbox one connection is to be pushed, and what it has not answered yet.
//!
//! Invariant: what is unanswered is at most [`PUSH_WINDOW_ITEMS`] and
//! [`PUSH_WINDOW_BYTES`], or one item.

use std::collections::{BTreeMap, BTreeSet};

use waymesh_proto::AgentId;
use waymesh_proto::mailbox::Keep;

use super::super::{PUSH_WINDOW_BYTES, PUSH_WINDOW_ITEMS};
use super::ItemSeq;
use super::index::{Index, Key};

#[derive(Debug)]
struct Unanswered {
    seq: ItemSeq,
    bytes: usize,
    /// Its bytes have not come from the disk yet.
    is_loading: bool,
}

/// The pushes of one connection.
#[derive(Debug)]
pub(super) struct Window {
    agent: AgentId,
    /// Whatever comes before has been begun on this connection, except for the next three.
    cursor: ItemSeq,
    /// Replaceable items that have not been begun: they go first.
    urgent: BTreeSet<ItemSeq>,
    /// Items that the receiver had no room for and now may have.
    again: BTreeSet<ItemSeq>,
    /// Items that the receiver has no room for.
    put_off: BTreeSet<ItemSeq>,
    unanswered: BTreeMap<Key, Unanswered>,
    unanswered_bytes: usize,
    loading: usize,
}

impl Window {
    /// The whole mailbox of an agent is to be pushed.
    pub(super) fn new(agent: AgentId, index: &Index) -> Self {
        Self {
            agent,
            cursor: ItemSeq(0),
            urgent: index.replaceable_of(&agent).collect(),
            again: BTreeSet::new(),
            put_off: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            unanswered_bytes: 0,
            loading: 0,
        }
    }

    /// Whether items are on their way from the disk.
    pub(super) const fn is_loading(&self) -> bool {
        self.loading > 0
    }

    /// What is to be pushed next: replaceable items, then in the order of storing.
    pub(super) fn next(&self, index: &Index) -> Option<ItemSeq> {
        let urgent = self.urgent.first().copied();
        let fresh = index.next_of(&self.agent, self.cursor);
        let ordered = self.again.first().copied().into_iter().chain(fresh).min();
        urgent.or(ordered)
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.unanswered.is_empty()
            || self.unanswered.len() < PUSH_WINDOW_ITEMS
                && self.unanswered_bytes + bytes <= PUSH_WINDOW_BYTES
    }

    /// A replaceable item is to be pushed.
    pub(super) fn add_urgent(&mut self, seq: ItemSeq) {
        self.urgent.insert(seq);
    }

    /// An item is pushed, or loaded to be pushed.
    pub(super) fn begin(&mut self, seq: ItemSeq, key: Key, bytes: usize, is_loading: bool) {
        if !self.urgent.remove(&seq) && !self.again.remove(&seq) {
            self.cursor = ItemSeq(seq.0 + 1);
        }
        self.answer(&key);
        let unanswered = Unanswered {
            seq,
            bytes,
            is_loading,
        };
        self.unanswered_bytes += bytes;
        self.loading += usize::from(is_loading);
        self.unanswered.insert(key, unanswered);
    }

    /// The bytes of an item have come, or cannot come. Says whether they are still wanted.
    pub(super) fn finish_loading(&mut self, seq: ItemSeq) -> Option<Key> {
        let loading = |u: &Unanswered| u.is_loading && u.seq == seq;
        let (key, unanswered) = self.unanswered.iter_mut().find(|(_, u)| loading(u))?;
        unanswered.is_loading = false;
        self.loading -= 1;
        Some(*key)
    }

    /// The receiver has answered, or will never be asked.
    pub(super) fn answer(&mut self, key: &Key) {
        if let Some(old) = self.unanswered.remove(key) {
            self.unanswered_bytes -= old.bytes;
            self.loading -= usize::from(old.is_loading);
        }
    }

    /// The receiver has no room for an item; nor for others that it had none for before.
    pub(super) fn put_off(&mut self, seq: ItemSeq, keep: Keep) {
        if self.has_begun(seq, keep) {
            self.put_off.insert(seq);
            self.put_off.append(&mut self.again);
        }
    }

    /// The receiver has room again.
    pub(super) fn resume(&mut self) {
        self.again.append(&mut self.put_off);
    }

    /// An item is not to be pushed on this connection any more.
    pub(super) fn drop_item(&mut self, seq: ItemSeq) {
        self.urgent.remove(&seq);
        self.again.remove(&seq);
        self.put_off.remove(&seq);
    }

    /// Whether an item was handed to this connection, which has not put it off.
    pub(super) fn has_handed(&self, seq: ItemSeq, key: &Key, keep: Keep) -> bool {
        let is_loading = self.unanswered.get(key).is_some_and(|u| u.is_loading);
        self.has_begun(seq, keep) && !is_loading
    }

    fn has_begun(&self, seq: ItemSeq, keep: Keep) -> bool {
        let waits = [&self.urgent, &self.again, &self.put_off]
            .iter()
            .any(|set| set.contains(&seq));
        // Every replaceable item of the mailbox is in `urgent` until it is begun.
        !waits && (keep == Keep::Replace || seq < self.cursor)
    }
}
