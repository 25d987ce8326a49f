//! A node's side of the mailbox: it seals what core posts, opens what is
//! pushed, and settles an item only when its mark is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use waymesh_core::app::{Kept, Mark, Member, Opened, Post, RegistryEvent};
use waymesh_core::mesh::{POSTS_MAX, POSTS_MAX_BYTES};
use waymesh_core::registry::UNWRITTEN_MAX_ITEMS;
use waymesh_proto::control::{ClientMessage, Outcome, Posted, PostedState, SETTLED_MAX, Settle};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, ItemId};
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, MAILBOX_SENDER_PARTS, MESSAGE_MAX_BYTES};
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, Note};

use super::host::{host_of, id_of, incarnation_of};
use super::model::Life;
use super::papers::sealing_key;
use super::registry::Up;
use super::report::{Checked, Invariant, Violation, hold};
use super::seals::{Seal, SealNumber};
use super::{Due, World};

/// How long marks wait for others, and take to be written.
const MARKS_TAKE: Duration = Duration::from_millis(6);

/// Items whose messages are settled before the registry has answered, at most:
/// more than that would wait for the disk in the registry than one sender may have.
const SETTLED_OPEN_MAX: usize = UNWRITTEN_MAX_ITEMS / MAILBOX_SENDER_PARTS;

/// What an item may have open beside its message: acknowledgements and headers.
const POSTS_SLACK_BYTES: usize = 8 * MESSAGE_MAX_BYTES;

/// What a node has under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Mailroom {
    /// Items that are posted and not answered, and their sizes.
    open: Vec<(ItemId, usize)>,
    waiting: VecDeque<(u64, Settle)>,
    ready: Vec<Settle>,
}

impl World {
    /// Core posts a frame.
    pub(super) fn post(&mut self, life: Life, post: Post) -> Checked {
        let (now, at, to) = (self.now, life.host, host_of(post.to));
        let Some(key) = self.hosts[at].known_keys.get(&to).copied() else {
            let fault = Fault::new(Code::NoSealingKey, "no key to seal with is known");
            let outcome = Err(fault);
            let item = post.item;
            self.tell_node(life, RegistryEvent::Posted { item, outcome });
            return Ok(());
        };
        let header = ItemHeader {
            item: post.item,
            from: id_of(at),
            to: post.to,
            class: post.class,
            keep: post.keep,
            life_ms: post.life_ms,
            key,
        };
        let seal = Seal {
            bytes: header.encode(),
            from: life,
            to_incarnation: post.to_incarnation,
            issued_ms: self.papers.clock_ms(now, at),
            certificate: self.hosts[at].certificate.clone(),
            key: sealing_key(at, self.hosts[at].key_generation),
            frame: post.frame,
            header,
        };
        self.model.mails.handle_posted(now, &seal);
        let room = &mut self.hosts[at].session.mailroom;
        room.open.push((post.item, seal.frame.len()));
        let bytes: usize = room.open.iter().map(|(_, bytes)| bytes).sum();
        hold!(
            room.open.len() <= POSTS_MAX + SETTLED_OPEN_MAX
                && bytes <= POSTS_MAX_BYTES + POSTS_SLACK_BYTES,
            Bounded,
            "host {at} has {} items of {bytes} bytes posted and not answered",
            room.open.len()
        );
        self.counts.posted += 1;
        let item = Arc::new(self.seals.add(seal));
        let session = &self.hosts[at].session;
        if let Some(conn) = session.conn.filter(|_| session.connected) {
            self.send_up(conn, Up::Post(item));
        }
        Ok(())
    }

    /// Core says what became of an item.
    pub(super) fn settle(&mut self, at: usize, settle: Settle, mark: Option<Mark>) {
        let host = &mut self.hosts[at];
        match mark {
            Some(mark) => {
                let ticket = host.marks.add(mark);
                host.session.mailroom.waiting.push_back((ticket, settle));
                self.write_marks(at);
            }
            None => host.session.mailroom.ready.push(settle),
        }
    }

    /// Writes down what was consumed without an item.
    pub(super) fn keep_mark(&mut self, at: usize, mark: Mark) {
        self.hosts[at].marks.add(mark);
        self.write_marks(at);
    }

    fn write_marks(&mut self, at: usize) {
        if self.hosts[at].marks.begin().is_some()
            && let Some(life) = self.model.lives.current(at)
        {
            self.later(self.now + MARKS_TAKE, Due::Marked { life });
        }
    }

    /// Marks of a life are written: what waits for them is told.
    pub(super) fn land_marks(&mut self, life: Life) {
        if !self.model.lives.is_alive(life) {
            return;
        }
        let host = &mut self.hosts[life.host];
        host.marks.finish();
        let room = &mut host.session.mailroom;
        while let Some((_, settle)) = room
            .waiting
            .pop_front_if(|(ticket, _)| host.marks.is_written(*ticket))
        {
            room.ready.push(settle);
        }
        self.write_marks(life.host);
    }

    /// Tells the registry what is ready to be told.
    pub(super) fn tell_settled(&mut self, life: Life) {
        loop {
            let session = &mut self.hosts[life.host].session;
            let count = session.mailroom.ready.len().min(SETTLED_MAX);
            let (Some(conn), true) = (session.conn, count > 0) else {
                session.mailroom.ready.clear();
                return;
            };
            let items: Vec<Settle> = session.mailroom.ready.drain(..count).collect();
            for settle in &items {
                let key = (host_of(settle.from), settle.item);
                self.model.mails.handle_said(key, settle.outcome);
                match settle.outcome {
                    Outcome::Taken => self.counts.taken += 1,
                    Outcome::Kept => self.counts.kept += 1,
                    Outcome::Later => self.counts.put_off += 1,
                    Outcome::Unreadable => self.counts.unreadable += 1,
                    Outcome::Denied => self.counts.mail_denied += 1,
                }
            }
            self.send_up(conn, Up::Message(ClientMessage::Settled { items }));
        }
    }

    /// The registry says what became of posts.
    pub(super) fn hear_posted(&mut self, life: Life, posted: Posted) -> Checked {
        let item = posted.item;
        let room = &mut self.hosts[life.host].session.mailroom;
        room.open.retain(|(open, _)| *open != item);
        let outcome = match posted.state {
            PostedState::Stored => {
                self.counts.stored += 1;
                let durable = self.model.mails.was_durable((life.host, item));
                hold!(
                    durable || self.office.is_hostile(),
                    StoredIsTrue,
                    "host {} is told that {item:?} is stored, and no disk has had it",
                    life.host
                );
                Ok(Kept::Stored)
            }
            PostedState::Forwarded => {
                self.counts.forwarded += 1;
                Ok(Kept::Forwarded)
            }
            PostedState::Refused { error } => {
                self.counts.posts_refused += 1;
                Err(error)
            }
        };
        self.tell_node(life, RegistryEvent::Posted { item, outcome });
        Ok(())
    }

    /// An item is pushed to a node.
    pub(super) fn hear_push(&mut self, life: Life, note: Note, item: &Item) {
        let at = life.host;
        self.counts.pushed += 1;
        self.counts.pushed_again += u64::from(note.again);
        let number = self.seals.number_of(item);
        match number.and_then(|number| Some((number, self.open(life, number)?))) {
            Some((number, from)) => self.take_item(life, note, number, from),
            None => {
                let Ok(header) = ItemHeader::decode(&item.header) else {
                    return;
                };
                let seal = number.map(|number| self.seals.get(number));
                let denied =
                    seal.is_some_and(|seal| self.hosts[at].known_revoked.contains(&seal.from.host));
                let outcome = if denied {
                    Outcome::Denied
                } else {
                    Outcome::Unreadable
                };
                let settle = Settle {
                    item: header.item,
                    from: header.from,
                    outcome,
                };
                self.settle(at, settle, None);
            }
        }
    }

    /// What trust proves of an item: who sealed it, for whom, and when.
    fn open(&self, life: Life, number: SealNumber) -> Option<Member> {
        let (now, host) = (self.now, &self.hosts[life.host]);
        let seal = self.seals.get(number);
        let clock_ms = self.papers.clock_ms(now, life.host);
        let for_me = seal.header.to == id_of(life.host) && host.keys.contains(&seal.header.key);
        let claims = self.papers.verify(&seal.certificate, seal.issued_ms).ok()?;
        let ahead_ms = seal.issued_ms.saturating_sub(clock_ms);
        let over_ms = clock_ms.saturating_sub(seal.issued_ms + seal.header.life_ms);
        let in_time = ahead_ms <= CLOCK_LEEWAY_MS && over_ms <= CLOCK_LEEWAY_MS;
        let sound = for_me
            && in_time
            && claims.host == seal.from.host
            && !host.known_revoked.contains(&claims.host);
        sound.then(|| self.papers.member(now, &claims, clock_ms))
    }

    fn take_item(&mut self, life: Life, note: Note, number: SealNumber, from: Member) {
        let now = self.now;
        let seal = self.seals.get(number);
        let host = &mut self.hosts[life.host];
        host.known_keys.insert(seal.from.host, seal.key);
        let known = host.known_lives.entry(seal.from.host).or_default();
        *known = (*known).max(seal.from.number);
        let meant = seal.to_incarnation == Some(incarnation_of(life.number));
        self.windows
            .handle_mail(life, seal.from, meant.then_some(&seal.frame));
        let opened = Opened {
            item: seal.header.item,
            from,
            from_incarnation: incarnation_of(seal.from.number),
            to_incarnation: seal.to_incarnation,
            dwell: Duration::from_millis(note.dwell_ms),
            again: note.again,
            frame: seal.frame.clone(),
        };
        if seal.header.keep == Keep::Replace {
            self.counts.mailed_acks += 1;
        }
        self.trace.note(now - self.start, || {
            format!(
                "{} opens {:?} of life {} of {} (again {}, dwell {} ms): {}",
                life.host,
                opened.item,
                seal.from.number,
                seal.from.host,
                note.again,
                note.dwell_ms,
                super::telling::frame(&opened.frame)
            )
        });
        if let Some(mesh) = &mut self.hosts[life.host].mesh {
            mesh.handle_registry(now, RegistryEvent::Item(opened));
        }
    }

    /// What core wants withdrawn.
    pub(super) fn withdraw(&mut self, at: usize, item: ItemId) -> ClientMessage {
        self.counts.withdrawn += 1;
        self.model.mails.handle_withdrawn((at, item));
        ClientMessage::Withdraw { item }
    }
}

/// A settlement of core's.
pub(super) const fn settlement(item: ItemId, from: AgentId, outcome: Outcome) -> Settle {
    Settle {
        item,
        from,
        outcome,
    }
}
