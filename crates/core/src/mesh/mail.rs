//! The mailbox path, outgoing: what is posted for whom, and what became of it.
//!
//! Messages go into a peer's mailbox whenever no link to it works; each whole
//! and once. The registry's word is believed only where it costs nothing but
//! service: that something is stored, or will not be delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::RngExt;
use waymesh_proto::api::SendState;
use waymesh_proto::class::{Class, Stream};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::frame::{FrameWriter, Section};
use waymesh_proto::ids::ItemId;
use waymesh_proto::limits::{MESSAGE_MAX_BYTES, TTL_MAX_MS};
use waymesh_proto::link::Path;
use waymesh_proto::mailbox::Keep;

use super::{Mesh, faults};
use crate::app::{Event, Kept, Post, RegistryCommand};
use crate::outbound::{Copy, Letter, Scope, Verdict};
use crate::peer::{PeerKey, Presence, Wanted};

/// Items that may be posted and not answered; more wait in their streams. Chosen:
/// a registry that makes a batch durable in some milliseconds is kept busy.
pub const POSTS_MAX: usize = 128;
/// Bytes that may be posted and not answered, one message apart. Chosen: four of the largest.
pub const POSTS_MAX_BYTES: usize = 4 * MESSAGE_MAX_BYTES;

/// How long the answer to a probe may be under way. Chosen: nobody waits longer.
const ECHO_LIFE: Duration = Duration::from_secs(60);

/// What is in an item that this node posted.
#[derive(Debug, Clone, Copy)]
enum Cargo {
    Message(Stream, u64),
    Acks,
    /// A probe with this token.
    Probe(u64),
    Echo,
}

#[derive(Debug)]
struct Posted {
    peer: PeerKey,
    cargo: Cargo,
    /// Its size while the registry has not answered.
    open_bytes: Option<usize>,
}

/// The items that this node has posted and that matter still.
#[derive(Debug, Default)]
pub(super) struct Posts {
    items: BTreeMap<ItemId, Posted>,
    open: usize,
    open_bytes: usize,
    ready: VecDeque<PeerKey>,
    queued: BTreeSet<PeerKey>,
}

impl Posts {
    const fn has_room(&self) -> bool {
        self.open < POSTS_MAX && self.open_bytes < POSTS_MAX_BYTES
    }

    fn insert(&mut self, item: ItemId, peer: PeerKey, cargo: Cargo, bytes: usize) {
        self.open += 1;
        self.open_bytes += bytes;
        let open_bytes = Some(bytes);
        let posted = Posted {
            peer,
            cargo,
            open_bytes,
        };
        if let Some(old) = self.items.insert(item, posted) {
            self.close(old.open_bytes);
        }
    }

    fn close(&mut self, open_bytes: Option<usize>) {
        if let Some(bytes) = open_bytes {
            self.open -= 1;
            self.open_bytes -= bytes;
        }
    }

    /// The registry has answered.
    fn answer(&mut self, item: ItemId) -> Option<(PeerKey, Cargo)> {
        let posted = self.items.get_mut(&item)?;
        let (peer, cargo, bytes) = (posted.peer, posted.cargo, posted.open_bytes.take());
        self.close(bytes);
        Some((peer, cargo))
    }

    /// The item matters no more.
    fn forget(&mut self, item: ItemId) -> Option<(PeerKey, Cargo)> {
        let posted = self.items.remove(&item)?;
        self.close(posted.open_bytes);
        Some((posted.peer, posted.cargo))
    }

    /// Takes the items that were not answered: the connection is gone.
    fn take_unanswered(&mut self) -> Vec<(PeerKey, Cargo)> {
        (self.open, self.open_bytes) = (0, 0);
        let open = self.items.extract_if(.., |_, p| p.open_bytes.is_some());
        open.map(|(_, posted)| (posted.peer, posted.cargo))
            .collect()
    }
}

impl Mesh {
    /// Queues the peer if something waits for its mailbox.
    pub(super) fn enqueue_mail(&mut self, now: Instant, key: PeerKey) {
        let waits = |peer: &crate::peer::Peer| peer.due_mail(now).is_some();
        if self.may_use_registry(now)
            && self.peers.get(&key).is_some_and(waits)
            && self.posts.queued.insert(key)
        {
            self.posts.ready.push_back(key);
        }
        self.post_mail(now);
    }

    /// Posts as much as may be on its way, peers in turn.
    fn post_mail(&mut self, now: Instant) {
        while self.posts.has_room() {
            let Some(key) = self.posts.ready.pop_front() else {
                return;
            };
            if self.post_next(now, key) {
                self.posts.ready.push_back(key);
            } else {
                self.posts.queued.remove(&key);
            }
        }
    }

    /// Posts the next item for a peer. False when there is none.
    fn post_next(&mut self, now: Instant, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let Some(scope) = peer.due_mail(now).filter(|_| self.registry_up) else {
            return false;
        };
        let mut writer = FrameWriter::default();
        let online = peer.presence == Presence::Online;
        let acks_due = peer.streams.ack_due().is_some_and(|due| due <= now);
        let letter = peer.streams.next_letter(now, scope);
        // What a letter takes along dies with it, so only a receiver that reads at once gets both in one.
        if scope == Scope::All && (online || letter.is_none()) {
            peer.streams.put_all_acks(&mut writer);
            peer.mail.has_told_acks = true;
        }
        match letter {
            Some((stream, letter)) => self.post_letter(key, stream, letter, writer),
            None if acks_due => self.post_acks(key, writer),
            None => return false,
        }
        self.note_mail(key);
        true
    }

    fn post_letter(
        &mut self,
        key: PeerKey,
        stream: Stream,
        mut letter: Letter,
        mut writer: FrameWriter,
    ) {
        let seq = letter.header.seq;
        let item = letter.item.unwrap_or_else(|| self.new_item());
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        // A life that the registry tells of may be one after that which has it.
        let newest = peer.incarnation;
        let before = newest.and_then(|life| peer.streams.was_sent(stream, seq, Some(life)));
        letter.header.redelivered |= before == Some(true);
        let class = stream.class();
        let keep = match class {
            Class::Telemetry | Class::Live => Keep::Forward,
            Class::Control | Class::Tasks | Class::Bulk | Class::Events => Keep::Store,
        };
        writer.put(&Section::Message(letter.header, &letter.envelope));
        let life = peer
            .incarnation
            .filter(|_| peer.presence == Presence::Online);
        if keep == Keep::Forward {
            peer.streams.withdraw(stream, seq);
            // Of one that nobody has asked about yet, the registry knows.
            if life.is_none() && peer.presence != Presence::Unasked {
                self.counters.lossy_dropped_out += 1;
                return;
            }
        } else {
            peer.streams.handle_posting(stream, seq, item, life);
        }
        let cargo = Cargo::Message(stream, seq);
        let kind = (class, keep, letter.header.life_ms);
        self.post_frame(key, (item, cargo), kind, writer);
    }

    fn post_acks(&mut self, key: PeerKey, writer: FrameWriter) {
        let item = self.new_item();
        let kind = (Class::Control, Keep::Replace, TTL_MAX_MS);
        self.post_frame(key, (item, Cargo::Acks), kind, writer);
    }

    /// Posts the probes that clients wait for.
    pub(super) fn ask_by_mail(&mut self, now: Instant, key: PeerKey) {
        let ready = self.may_use_registry(now) && self.posts.has_room();
        let token = self.rng.random();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !ready || !peer.mail.can_seal || peer.id.is_none() {
            return;
        }
        let mut life = None;
        for waiter in &mut peer.waiters {
            let left = waiter.deadline().saturating_duration_since(now);
            if let Wanted::MailEcho { asked, .. } = &mut waiter.wants
                && asked.is_none()
            {
                *asked = Some((token, now));
                life = life.max(Some(left));
            }
        }
        if let Some(life) = life {
            let mut writer = FrameWriter::default();
            writer.put(&Section::Probe(token));
            self.post_question(key, Cargo::Probe(token), life, writer);
        }
    }

    /// Answers a probe that came by mailbox.
    pub(super) fn echo_by_mail(&mut self, now: Instant, key: PeerKey, token: u64) {
        let ready = self.may_use_registry(now) && self.posts.has_room();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !ready || !peer.mail.may_echo(now) {
            self.counters.mail_probes_dropped += 1;
            return;
        }
        let mut writer = FrameWriter::default();
        writer.put(&Section::Echo(token));
        self.post_question(key, Cargo::Echo, ECHO_LIFE, writer);
    }

    /// Nobody stores what is only of use at once.
    fn post_question(&mut self, key: PeerKey, cargo: Cargo, life: Duration, writer: FrameWriter) {
        let item = self.new_item();
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(TTL_MAX_MS);
        let kind = (Class::Control, Keep::Forward, life_ms.clamp(1, TTL_MAX_MS));
        self.post_frame(key, (item, cargo), kind, writer);
    }

    fn post_frame(
        &mut self,
        key: PeerKey,
        (item, cargo): (ItemId, Cargo),
        (class, keep, life_ms): (Class, Keep, u64),
        writer: FrameWriter,
    ) {
        let Some((to, to_incarnation)) = self
            .peers
            .get(&key)
            .and_then(|peer| Some((peer.id?, peer.streams.peer())))
        else {
            return;
        };
        let frame = writer.into_bytes();
        self.posts.insert(item, key, cargo, frame.len());
        self.registry_commands
            .push_back(RegistryCommand::Post(Post {
                item,
                to,
                to_incarnation,
                class,
                keep,
                life_ms,
                frame,
            }));
    }

    fn new_item(&mut self) -> ItemId {
        ItemId::from_bytes(self.rng.random())
    }

    /// Traffic goes by mailbox: who was told of another path is told of this one.
    pub(super) fn note_mail(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.link.is_none() && !std::mem::replace(&mut peer.mail.in_use, true) {
            let peer = peer.status();
            self.tell_all(&Event::PathChanged { peer });
        }
    }

    pub(super) fn handle_posted(
        &mut self,
        now: Instant,
        item: ItemId,
        outcome: Result<Kept, Fault>,
    ) {
        let Some((key, cargo)) = self.posts.answer(item) else {
            return self.post_mail(now);
        };
        match outcome {
            Ok(kept) => self.handle_kept(key, item, cargo, kept),
            Err(fault) => self.handle_not_posted(now, key, item, cargo, &fault),
        }
        self.settle(now, key);
    }

    fn handle_kept(&mut self, key: PeerKey, item: ItemId, cargo: Cargo, kept: Kept) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.mail.forgive();
        let Cargo::Message(stream, seq) = cargo else {
            self.posts.forget(item);
            return;
        };
        if kept == Kept::Forwarded {
            if stream.class().is_reliable() {
                peer.streams.handle_handed(stream, seq);
                return;
            }
            self.posts.forget(item);
        }
        let stored = peer.streams.handle_stored(stream, seq);
        if let Some((id, sent)) = stored.and_then(|id| Some((id, self.sent.get(&id)?))) {
            let event = Event::State {
                id,
                state: SendState::Stored,
                path: Some(Path::Mailbox),
                fault: None,
            };
            self.tell(sent.client, event);
        }
    }

    /// The registry would not take an item, or the program could not seal it.
    fn handle_not_posted(
        &mut self,
        now: Instant,
        key: PeerKey,
        item: ItemId,
        cargo: Cargo,
        fault: &Fault,
    ) {
        self.posts.forget(item);
        match cargo {
            Cargo::Probe(token) => return self.fail_mail_pings(key, token, fault),
            Cargo::Echo => return,
            Cargo::Message(..) | Cargo::Acks => {}
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.mail.handle_failure(now, &mut self.rng);
        if peer.link.is_none() {
            peer.reason = format!("the mailbox did not take a message: {}", fault.message);
        }
        // What was to ride along has not been told.
        peer.streams.repeat_acks(now);
        if let Cargo::Message(stream, seq) = cargo {
            match fault.code {
                Code::Unauthorized | Code::MessageTooLarge | Code::TooLarge => {
                    let verdict = Verdict::Refused(fault.code);
                    peer.streams.handle_undelivered(stream, seq, verdict);
                }
                Code::Expired => {
                    peer.streams
                        .handle_undelivered(stream, seq, Verdict::Expired);
                }
                _ => peer.streams.handle_back(stream, seq),
            }
        }
        if matches!(fault.code, Code::NoSealingKey | Code::UnknownPeer) {
            peer.mail.can_seal = false;
            self.ask_again(key);
        }
    }

    /// The registry gives a stored item back.
    pub(super) fn handle_returned(&mut self, now: Instant, item: ItemId, code: Code) {
        if code == Code::Unreadable && self.registry_up {
            // It is told again and again until somebody has heard of it.
            self.registry_commands
                .push_back(RegistryCommand::Withdraw { item });
        }
        let Some((key, cargo)) = self.posts.forget(item) else {
            if code == Code::Unreadable {
                // It was posted on a connection that is gone. Under its id it would be
                // withdrawn.
                for peer in self.peers.values_mut() {
                    peer.streams.forget_item(item);
                }
            }
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Cargo::Message(stream, seq) = cargo {
            match code {
                Code::Expired => {
                    peer.streams
                        .handle_undelivered(stream, seq, Verdict::Expired);
                }
                Code::Unreadable => {
                    // Its key has changed: to be sealed again when the new one is known.
                    peer.streams.handle_unreadable(stream, seq);
                    peer.mail.handle_unreadable(now, &mut self.rng);
                    self.ask_again(key);
                }
                code => {
                    let verdict = Verdict::Refused(code);
                    peer.streams.handle_undelivered(stream, seq, verdict);
                }
            }
        }
        self.settle(now, key);
    }

    pub(super) fn ask_again(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get(&key)
            && self.registry_up
        {
            let name = peer.name.clone();
            self.registry_commands
                .push_back(RegistryCommand::Resolve { name });
        }
    }

    /// Whatever was not answered is to be posted again, under the same ids.
    pub(super) fn handle_posts_lost(&mut self) {
        for (key, cargo) in self.posts.take_unanswered() {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            match cargo {
                Cargo::Message(stream, seq) => peer.streams.handle_lost(stream, seq),
                // To be asked again when the registry is back.
                Cargo::Probe(token) => peer.forget_mail_probe(token),
                Cargo::Acks | Cargo::Echo => {}
            }
        }
        self.registry_commands.retain(|command| {
            !matches!(
                command,
                RegistryCommand::Post(_)
                    | RegistryCommand::Settle { mark: None, .. }
                    | RegistryCommand::Resume
                    | RegistryCommand::Withdraw { .. }
            )
        });
    }

    /// Forgets items whose messages are settled; copies that nobody needs are taken back.
    pub(super) fn close_posts(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        for (item, copy) in peer.streams.take_closed() {
            let was_posted = self.posts.forget(item).is_some();
            if was_posted && copy == Copy::Unneeded && self.registry_up {
                self.registry_commands
                    .push_back(RegistryCommand::Withdraw { item });
            }
        }
    }

    /// Whether the registry is there and this node still a member.
    pub(super) fn may_use_registry(&self, now: Instant) -> bool {
        self.registry_up && self.is_member(now)
    }

    pub(super) fn refuse_revoked(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let fault = faults::revoked(&peer.name);
        peer.distrust = Some(fault.clone());
        peer.sessions.bar();
        self.drop_link(now, key, "the peer was revoked");
        self.fail_all(now, key, &fault);
        self.settle(now, key);
    }
}
