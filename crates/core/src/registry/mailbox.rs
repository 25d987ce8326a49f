//! The mailboxes: what is accepted, how long it is kept, and what is pushed to
//! whom and when.
//!
//! The rules keep an index; the bytes of an item travel in the effects once,
//! to the disk and to a connected receiver, and come back from the disk when
//! they are needed again. An item is pushed without waiting for the disk, and
//! its sender is told `stored` when the disk has it.
//!
//! ```text
//! sender ── handle_post ──▶ index ── Effect::Store ──▶ disk ── handle_stored ──▶ posted to the sender
//!                             │                         │
//!                             └─ Effect::Push ◀─ handle_loaded ◀─ Effect::Load
//!                                      │
//!                                 receiver ── settled ──▶ forgotten, kept or put off
//! ```
//!
//! Invariants:
//! - Every accepted item is taken, refused by its receiver, withdrawn,
//!   replaced, expired, or still in the index. One that its receiver cannot open
//!   stays until its sender has heard of it.
//! - On one connection an item is pushed again only after it was put off.
//! - Ordinary items are pushed in the order of their storing.

mod index;
mod posts;
mod pushes;
mod window;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use waymesh_proto::control::{Outcome, PostedState, Returned, SETTLED_MAX, Settle};
use waymesh_proto::mailbox::ItemHeader;
use waymesh_proto::{AgentId, Code, Fault, ItemId};

use super::{ConnId, Gone, Registry, Write};
use index::{Entry, Index, Key, Waiter};
use window::Window;

/// The position of an item in the order of storing; no two items have it at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemSeq(pub u64);

/// What is remembered of an item beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// Its position.
    pub seq: ItemSeq,
    /// What its sender said of it.
    pub header: ItemHeader,
    /// Its size with the header, bytes.
    pub bytes: usize,
    /// Since when this run of the registry has had it.
    pub since: Instant,
    /// How long it was there before that.
    pub dwelt: Duration,
    /// Whether it was, or may have been, pushed.
    pub pushed: bool,
}

/// What all mailboxes hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailboxLevel {
    /// Items.
    pub items: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Items that the disk does not have yet.
    pub unwritten: usize,
}

/// The mailboxes and what each connection is to be pushed of them.
#[derive(Debug)]
pub(super) struct Mailboxes {
    index: Index,
    windows: BTreeMap<ConnId, Window>,
    next: ItemSeq,
}

impl Mailboxes {
    pub(super) fn new(stored: impl IntoIterator<Item = StoredItem>) -> Self {
        let index = Index::new(stored);
        let next = index.last().map_or(ItemSeq(1), |last| ItemSeq(last.0 + 1));
        Self {
            index,
            windows: BTreeMap::new(),
            next,
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.index.next_expiry()
    }

    pub(super) fn level(&self) -> MailboxLevel {
        let sum = self.index.sum();
        MailboxLevel {
            items: sum.items,
            bytes: sum.bytes,
            unwritten: self.index.unwritten().items,
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.windows.remove(&conn);
    }
}

impl Registry {
    /// The disk has an item, or cannot have it.
    pub(super) fn handle_item_stored(&mut self, seq: ItemSeq, outcome: Result<(), Fault>) {
        if outcome.is_ok() {
            for waiter in self.mailboxes.index.confirm(seq) {
                let Waiter { conn, item } = waiter;
                self.answers.posted(conn, item, PostedState::Stored);
            }
            return;
        }
        let Some(entry) = self.mailboxes.index.entry(seq) else {
            return;
        };
        if entry.is_durable {
            return;
        }
        self.lose(seq, outcome.err());
    }

    /// An item goes. Who waits for its storing hears that it was handed on,
    /// where that is so; else why it was not accepted.
    fn lose(&mut self, seq: ItemSeq, fault: Option<Fault>) {
        let is_handed = self.is_handed(seq);
        let Some(entry) = self.take_out(seq) else {
            return;
        };
        let state = match fault {
            Some(error) if !is_handed => PostedState::Refused { error },
            _ => PostedState::Forwarded,
        };
        for Waiter { conn, item } in entry.waiters {
            self.answers.posted(conn, item, state.clone());
        }
    }

    /// Whether the receiver's connection has the item now.
    fn is_handed(&self, seq: ItemSeq) -> bool {
        let Mailboxes { index, windows, .. } = &self.mailboxes;
        let Some(entry) = index.entry(seq) else {
            return false;
        };
        let conn = self.agents.connection_of(&entry.to);
        conn.and_then(|conn| windows.get(&conn))
            .is_some_and(|window| window.has_handed(seq, &entry.key, entry.keep))
    }

    /// The receiver says what became of what it was pushed.
    pub(super) fn settle(&mut self, now: Instant, conn: ConnId, agent: AgentId, items: &[Settle]) {
        if items.len() > SETTLED_MAX {
            let text = format!("{} settled items are more than {SETTLED_MAX}", items.len());
            return self.complain(conn, Fault::new(Code::TooLarge, text));
        }
        for settle in items {
            self.settle_one(conn, agent, settle);
        }
        self.push_more(now, conn, None);
    }

    fn settle_one(&mut self, conn: ConnId, agent: AgentId, settle: &Settle) {
        let key: Key = (settle.from, settle.item);
        let Some(window) = self.mailboxes.windows.get_mut(&conn) else {
            return;
        };
        window.answer(&key);
        let index = &self.mailboxes.index;
        let found = index.seq_of(&key).and_then(|seq| {
            let entry = index.entry(seq).filter(|entry| entry.to == agent)?;
            Some((seq, entry.keep))
        });
        // It may have expired or been withdrawn in the meantime.
        let Some((seq, keep)) = found else { return };
        match settle.outcome {
            Outcome::Taken => self.forget_and_tell(seq, Gone::Taken, None),
            Outcome::Kept => window.drop_item(seq),
            Outcome::Later => window.put_off(seq, keep),
            Outcome::Unreadable => {
                window.drop_item(seq);
                self.hand_back(seq);
            }
            Outcome::Denied => self.give_back(seq, Gone::Refused, Code::Unauthorized),
        }
    }

    /// The receiver has room again for what it had put off.
    pub(super) fn resume(&mut self, now: Instant, conn: ConnId) {
        if let Some(window) = self.mailboxes.windows.get_mut(&conn) {
            window.resume();
        }
        self.push_more(now, conn, None);
    }

    /// The sender does not need an item delivered any more.
    pub(super) fn withdraw(&mut self, agent: AgentId, item: ItemId) {
        if let Some(seq) = self.mailboxes.index.seq_of(&(agent, item)) {
            let fault = Fault::new(Code::Cancelled, "the sender has withdrawn the item");
            self.forget_and_tell(seq, Gone::Withdrawn, Some(fault));
        }
    }

    /// Ends the lives that are over.
    pub(super) fn expire_items(&mut self, now: Instant) {
        while let Some(seq) = self.mailboxes.index.expired(now) {
            let entry = self.mailboxes.index.entry(seq);
            if entry.is_some_and(|entry| entry.is_durable && !entry.was_pushed()) {
                self.give_back(seq, Gone::Expired, Code::Expired);
            } else {
                let fault = Fault::new(Code::Expired, "the item's life ended before it was stored");
                self.forget_and_tell(seq, Gone::Expired, Some(fault));
            }
        }
    }

    /// An agent is a member no more: nothing of it is delivered, and nothing to it.
    pub(super) fn forget_items_of(&mut self, agent: &AgentId) {
        for seq in self.mailboxes.index.all_of(agent) {
            let entry = self.mailboxes.index.entry(seq);
            if entry.is_some_and(|entry| entry.key.0 == *agent) {
                self.forget_and_tell(seq, Gone::Revoked, None);
            } else {
                self.give_back(seq, Gone::Revoked, Code::Revoked);
            }
        }
    }

    /// The receiver cannot open an item: its sender is to seal it again, and may
    /// be away, or on a connection that is dead. So the item stays until its
    /// sender withdraws it, and is pushed once more only when the registry was
    /// started again: that it cannot be opened is not on the disk.
    fn hand_back(&mut self, seq: ItemSeq) {
        let Some((from, item)) = self.mailboxes.index.note_unreadable(seq) else {
            return;
        };
        let code = Code::Unreadable;
        if let Some(conn) = self.agents.connection_of(&from) {
            self.answers.returned(conn, Returned { item, code });
        }
    }

    /// A sender that comes back hears which of its items nobody could open.
    pub(super) fn tell_unreadable(&mut self, conn: ConnId, sender: &AgentId) {
        let code = Code::Unreadable;
        for item in self.mailboxes.index.unreadable_of(sender) {
            self.answers.returned(conn, Returned { item, code });
        }
    }

    /// An item goes, and its sender, if it is there, hears why.
    fn give_back(&mut self, seq: ItemSeq, why: Gone, code: Code) {
        let Some(entry) = self.mailboxes.index.entry(seq) else {
            return;
        };
        let (from, item) = entry.key;
        let is_known = entry.is_durable || self.is_handed(seq);
        let fault = Fault::new(code, "the item cannot be delivered any more");
        self.forget_and_tell(seq, why, Some(fault));
        if let Some(conn) = self.agents.connection_of(&from).filter(|_| is_known) {
            self.answers.returned(conn, Returned { item, code });
        }
    }

    fn forget_and_tell(&mut self, seq: ItemSeq, why: Gone, fault: Option<Fault>) {
        if self.mailboxes.index.entry(seq).is_some() {
            self.write(Write::ForgetItem { seq, why });
            self.lose(seq, fault);
        }
    }

    fn forget_item(&mut self, seq: ItemSeq, why: Gone) -> Option<Entry> {
        self.write(Write::ForgetItem { seq, why });
        self.take_out(seq)
    }

    /// Takes an item out of the index and of what is still to be pushed.
    fn take_out(&mut self, seq: ItemSeq) -> Option<Entry> {
        let entry = self.mailboxes.index.remove(seq)?;
        let conn = self.agents.connection_of(&entry.to);
        if let Some(window) = conn.and_then(|conn| self.mailboxes.windows.get_mut(&conn)) {
            window.drop_item(seq);
        }
        Some(entry)
    }
}
