//! What is accepted of senders, and what they are told at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use waymesh_proto::control::{Posted, PostedState, ServerMessage};
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, Note};
use waymesh_proto::{AgentId, Code, Fault, Name};

use super::super::connections::Session;
use super::super::{ConnId, Effect, Gone, REPLACEABLE_MAX_BYTES, Registry, Ticket, Waits, Write};
use super::index::{Entry, Waiter};
use super::{ItemSeq, StoredItem};
use crate::policy::may_reach;

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
}
