//! What is pushed on a receiver's connection, and when.

use std::sync::Arc;
use std::time::Instant;

use waymesh_proto::mailbox::{Item, Keep};
use waymesh_proto::{AgentId, Code};

use super::super::{ConnId, Effect, Gone, Registry, Write};
use super::window::Window;
use super::{ItemSeq, Mailboxes};

impl Registry {
    /// The connection of a receiver may be pushed all of its mailbox.
    pub(in crate::registry) fn open_window(&mut self, now: Instant, conn: ConnId, agent: AgentId) {
        let window = Window::new(agent, &self.mailboxes.index);
        self.mailboxes.windows.insert(conn, window);
        self.push_more(now, conn, None);
    }

    /// Pushes as much as the window lets through; `fresh` is an item whose bytes are at hand.
    pub(super) fn push_more(
        &mut self,
        now: Instant,
        conn: ConnId,
        mut fresh: Option<(ItemSeq, Arc<Item>)>,
    ) {
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
}
