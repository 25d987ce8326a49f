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
//!   replaced, expired, or still in the index.
//! - On one connection an item is pushed again only after it was put off.
//! - Ordinary items are pushed in the order of their storing.

mod index;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waymesh_proto::control::{
    Outcome, Posted, PostedState, Returned, SETTLED_MAX, ServerMessage, Settle,
};
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, Note};
use waymesh_proto::{AgentId, Code, Fault, ItemId, Name};

use super::connections::Session;
use super::{ConnId, Effect, Gone, REPLACEABLE_MAX_BYTES, Registry, Ticket, Waits, Write};
use crate::policy::may_reach;
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

/// Bytes that an item counts as everywhere: header and content.
fn size_of(item: &Item) -> usize {
    item.header.len() + item.sealed.len()
}

impl Registry {
    /// A whole item arrived to be delivered.
    pub fn handle_post(&mut self, now: Instant, conn: ConnId, item: Arc<Item>) {
        self.connections.heard(now, conn);
        let Some(session) = self.session_or_refuse(conn) else {
            return;
        };
        let header = match ItemHeader::decode(&item.header) {
            Ok(header) if header.from == session.agent_id => header,
            Ok(_) => {
                let fault = Fault::new(Code::Unauthorized, "the item names another sender");
                return self.complain(conn, fault);
            }
            Err(error) => {
                return self.complain(conn, Fault::new(error.code(), error.to_string()));
            }
        };
        let id = header.item;
        match self.accept(now, conn, &session, header, item) {
            Ok(None) => {}
            Ok(Some(state)) => self.answers.posted(conn, id, state),
            Err(error) => self
                .answers
                .posted(conn, id, PostedState::Refused { error }),
        }
    }

    /// What the sender is told at once; `None` when that comes later.
    fn accept(
        &mut self,
        now: Instant,
        conn: ConnId,
        session: &Session,
        header: ItemHeader,
        item: Arc<Item>,
    ) -> Result<Option<PostedState>, Fault> {
        if !self.connections.pay_post(now, conn, size_of(&item)) {
            return Err(Fault::new(
                Code::RateLimited,
                "this connection posts too many items",
            ));
        }
        if header.life_ms == 0 {
            return Err(Fault::new(Code::Expired, "the item's life is over"));
        }
        self.check_receiver(&session.name, &header.to)?;
        match header.keep {
            Keep::Forward => self.forward(conn, &header, item).map(|()| None),
            Keep::Store | Keep::Replace => self.keep(now, conn, &header, item),
        }
    }

    fn check_receiver(&self, from: &Name, to: &AgentId) -> Result<(), Fault> {
        let rules = self.agents.rules(to).ok_or_else(|| {
            Fault::new(Code::UnknownPeer, "the receiver is no member of this mesh")
        })?;
        if may_reach(rules, from, self.agents.roles(from)) {
            return Ok(());
        }
        let fault = Fault::new(
            Code::Unauthorized,
            "the receiver does not want to hear of the sender",
        );
        Err(fault.with_hint("ask whoever runs the receiver to allow it"))
    }

    /// Hands an item to a receiver that is there and reads; else it is lost.
    fn forward(&mut self, conn: ConnId, header: &ItemHeader, item: Arc<Item>) -> Result<(), Fault> {
        let to = self.agents.connection_of(&header.to).ok_or_else(|| {
            Fault::new(
                Code::PeerOffline,
                "the receiver is not connected and the item is not to be stored",
            )
        })?;
        let too_slow = Fault::new(Code::QueueFull, "the receiver is far behind with reading");
        let refused = PostedState::Refused { error: too_slow };
        let answer = |state| {
            let item = header.item;
            let items = vec![Posted { item, state }];
            ServerMessage::Posted { items }
        };
        let note = Note {
            again: false,
            dwell_ms: 0,
        };
        self.effects.push_back(Effect::Forward {
            to,
            note,
            item,
            from: conn,
            forwarded: answer(PostedState::Forwarded),
            otherwise: answer(refused),
        });
        Ok(())
    }

    fn keep(
        &mut self,
        now: Instant,
        conn: ConnId,
        header: &ItemHeader,
        item: Arc<Item>,
    ) -> Result<Option<PostedState>, Fault> {
        let waiter = Waiter {
            conn,
            item: header.item,
        };
        if let Some(seq) = self.mailboxes.index.seq_of(&(header.from, header.item)) {
            return Ok(self.keep_already(seq, waiter));
        }
        let bytes = size_of(&item);
        if header.keep == Keep::Replace && bytes > REPLACEABLE_MAX_BYTES {
            let text = format!(
                "a replaceable item of {bytes} bytes is larger than {REPLACEABLE_MAX_BYTES}"
            );
            return Err(Fault::new(Code::TooLarge, text));
        }
        let room = self.mailboxes.index.check_room(header, bytes);
        room.map_err(|no_room| no_room.fault())?;
        let mut entry = Entry::new(now, header, bytes);
        if let Some(old) = self.mailboxes.index.replaced_by(header)
            && let Some(old) = self.forget_item(old, Gone::Replaced)
        {
            // Whoever posted the old one hears what became of the one in its place.
            entry.waiters = old.waiters;
        }
        entry.waiters.push(waiter);
        self.store_and_push(now, entry, header.clone(), item);
        Ok(None)
    }

    /// The same item once more: its sender has not heard what became of it.
    fn keep_already(&mut self, seq: ItemSeq, waiter: Waiter) -> Option<PostedState> {
        let entry = self.mailboxes.index.entry_mut(seq)?;
        if entry.is_durable {
            return Some(PostedState::Stored);
        }
        if !entry.waiters.contains(&waiter) {
            entry.waiters.retain(|other| other.item != waiter.item);
            entry.waiters.push(waiter);
        }
        None
    }

    fn store_and_push(&mut self, now: Instant, entry: Entry, header: ItemHeader, item: Arc<Item>) {
        let seq = self.mailboxes.next;
        self.mailboxes.next = ItemSeq(seq.0 + 1);
        let stored = StoredItem {
            seq,
            header,
            bytes: entry.bytes,
            since: now,
            dwelt: Duration::ZERO,
            pushed: false,
        };
        let (to, keep) = (entry.to, entry.keep);
        self.mailboxes.index.insert(seq, entry);
        self.effects.push_back(Effect::Store {
            writes: vec![Write::Item {
                stored,
                item: Arc::clone(&item),
            }],
            ticket: Some(Ticket(Waits::Item(seq))),
        });
        let Some(conn) = self.agents.connection_of(&to) else {
            return;
        };
        if let Some(window) = self.mailboxes.windows.get_mut(&conn)
            && keep == Keep::Replace
        {
            window.add_urgent(seq);
        }
        self.push_more(now, conn, Some((seq, item)));
    }

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

    /// The connection of a receiver may be pushed all of its mailbox.
    pub(super) fn open_window(&mut self, now: Instant, conn: ConnId, agent: AgentId) {
        let window = Window::new(agent, &self.mailboxes.index);
        self.mailboxes.windows.insert(conn, window);
        self.push_more(now, conn, None);
    }

    /// Pushes as much as the window lets through; `fresh` is an item whose bytes are at hand.
    fn push_more(&mut self, now: Instant, conn: ConnId, mut fresh: Option<(ItemSeq, Arc<Item>)>) {
        loop {
            let Mailboxes { index, windows, .. } = &mut self.mailboxes;
            let Some(window) = windows.get_mut(&conn) else {
                return;
            };
            let Some(seq) = window.next(index) else {
                return;
            };
            let Some(entry) = index.entry(seq).filter(|e| window.has_room(e.bytes)) else {
                return;
            };
            let may_overtake = !window.is_loading() || entry.keep == Keep::Replace;
            let at_hand = fresh.take_if(|(fresh, _)| *fresh == seq && may_overtake);
            window.begin(seq, entry.key, entry.bytes, at_hand.is_none());
            match at_hand {
                Some((seq, item)) => self.push(now, conn, seq, item),
                None => self.effects.push_back(Effect::Load { conn, seq }),
            }
        }
    }

    fn push(&mut self, now: Instant, conn: ConnId, seq: ItemSeq, item: Arc<Item>) {
        let Some(entry) = self.mailboxes.index.entry_mut(seq) else {
            return;
        };
        let is_first = !entry.was_pushed();
        let note = entry.push(now, conn);
        self.effects.push_back(Effect::Push { conn, note, item });
        if is_first {
            self.write(Write::Pushed(seq));
        }
    }

    /// The bytes that [`Effect::Load`] asked for; `None` when the disk does not have them.
    pub fn handle_loaded(
        &mut self,
        now: Instant,
        conn: ConnId,
        seq: ItemSeq,
        item: Option<Arc<Item>>,
    ) {
        let window = self.mailboxes.windows.get_mut(&conn);
        let Some(key) = window.and_then(|window| window.finish_loading(seq)) else {
            return;
        };
        let is_there = self.mailboxes.index.entry(seq).is_some();
        match item.filter(|_| is_there) {
            Some(item) => self.push(now, conn, seq, item),
            None => {
                if let Some(window) = self.mailboxes.windows.get_mut(&conn) {
                    window.answer(&key);
                }
                if is_there {
                    self.give_back(seq, Gone::Damaged, Code::Storage);
                }
                self.push_more(now, conn, None);
            }
        }
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
            Outcome::Unreadable => self.give_back(seq, Gone::Refused, Code::Unreadable),
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
