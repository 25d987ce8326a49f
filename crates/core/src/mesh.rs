//! Everything that one node decides.
//!
//! What happened comes in through `handle_*` (a client's command, a link's
//! event, the registry's news, time); what must be done goes out through
//! `poll_*` (frames and commands for net, messages for the registry, events for
//! clients). One node calls it from one place; nothing in it waits.
//!
//! Invariant: after each `handle_*` every touched peer has been through
//! `Mesh::settle`, so that its timer, its turn to send, the node's budgets and
//! the clients' events are up to date.

mod arrivals;
mod commands;
mod directory;
mod faults;
mod frames;
mod links;
mod mail;
mod members;
mod opened;
mod outcomes;
mod paths;
mod skills;
mod waiters;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::ids::{AgentId, Incarnation, LinkId, MessageId, Name, SkillName};
use waymesh_proto::limits::{NODE_INBOX_MAX_BYTES, NODE_OUTBOX_MAX_BYTES};
use waymesh_proto::link::LinkCommand;
use waymesh_proto::membership::Revocation;

use crate::app::{ClientId, Event, InboundId, Mark, RegistryCommand};
use crate::calls::{OpenCalls, Works};
use crate::counters::Counters;
use crate::inbound::WINDOW_MAX_BYTES;
use crate::inbox::{Arrived, Inbox};
use crate::link::Signaling;
use crate::outbound::WINDOW_INITIAL_BYTES;
use crate::peer::{Peer, PeerKey};
use crate::policy::Policy;
use crate::session::{Manners, Sessions};

pub use commands::LOSSY_MESSAGE_MAX_BYTES;
pub use frames::Outgoing;
pub use mail::{POSTS_MAX, POSTS_MAX_BYTES};
pub use members::{EXPIRY_NOTICE, Heard};

/// Peers that a node knows at a time, misspelt names included; one more is
/// refused with `queue_full`. Chosen: ten times the largest mesh that is meant.
pub const PEERS_MAX: usize = 10_000;

/// When links are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Topology {
    /// On first use; closed when idle.
    #[default]
    OnDemand,
    /// To every agent of the registry, eagerly.
    FullMesh,
    /// Never: everything goes through the mailbox, and offers are refused.
    MailboxOnly,
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// Its identity.
    pub agent_id: AgentId,
    /// Its name.
    pub name: Name,
    /// This life of it.
    pub incarnation: Incarnation,
    /// When links are made.
    pub topology: Topology,
    /// Names whose identity was learnt in earlier lives.
    pub pins: Vec<(Name, AgentId)>,
    /// Who may reach it.
    pub policy: Policy,
    /// What earlier lives had consumed of what the mailbox may hand out again.
    pub marks: Vec<Mark>,
    /// The revocations that are known, verified.
    pub revocations: Vec<Revocation>,
}

#[derive(Debug)]
struct Skill {
    spec: SkillSpec,
    owner: ClientId,
    waiting: VecDeque<Arrived>,
}

/// A message that a client of this node sent and that is not settled.
#[derive(Debug)]
struct Sent {
    client: ClientId,
    peer: PeerKey,
}

/// Everything that one node decides.
#[derive(Debug)]
pub struct Mesh {
    config: MeshConfig,
    rng: SmallRng,
    registry_up: bool,
    /// When a peer's absence from the registry means something again.
    presence_trusted_at: Option<Instant>,
    /// When the own certificate ends.
    membership_ends: Option<Instant>,
    expiry_told: bool,
    is_over: bool,
    revocations: members::Revocations,
    heard_revocations: VecDeque<Heard>,
    posts: mail::Posts,
    /// The registry was told to push something again later.
    put_off: bool,
    clients: BTreeSet<ClientId>,
    peers: BTreeMap<PeerKey, Peer>,
    by_name: BTreeMap<Name, PeerKey>,
    by_id: BTreeMap<AgentId, PeerKey>,
    by_link: BTreeMap<LinkId, PeerKey>,
    /// Links that are over, of which net may still tell what was tried.
    past_links: VecDeque<(LinkId, PeerKey)>,
    pins: BTreeMap<Name, AgentId>,
    calls: OpenCalls,
    works: Works,
    inbox: Inbox,
    skills: BTreeMap<SkillName, Skill>,
    sent: BTreeMap<MessageId, Sent>,
    finds: BTreeMap<MessageId, ClientId>,
    outbox_bytes: usize,
    inbox_bytes: u64,
    next_peer: u32,
    next_link: u64,
    next_inbound: u64,
    timers: BTreeSet<(Instant, PeerKey)>,
    ready: VecDeque<PeerKey>,
    queued: BTreeSet<PeerKey>,
    link_commands: VecDeque<LinkCommand>,
    registry_commands: VecDeque<RegistryCommand>,
    events: VecDeque<(ClientId, Event)>,
    new_pins: VecDeque<(Name, AgentId)>,
    counters: Counters,
}

/// What a timer is for, so that one that fires too often names itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake<'a> {
    /// Something about this peer.
    Peer(&'a Name),
    /// A call's deadline, this node's or a caller's.
    Deadline,
    /// The end of the life of a message in the inbox.
    Expiry,
    /// The end of the own certificate, or its announcement.
    Membership,
}

impl Mesh {
    /// A node that knows nobody. `seed` drives session ids and jitter.
    pub fn new(config: MeshConfig, seed: u64) -> Self {
        Self {
            pins: config.pins.iter().cloned().collect(),
            revocations: members::Revocations::new(&config.revocations),
            config,
            rng: SmallRng::seed_from_u64(seed),
            registry_up: false,
            presence_trusted_at: None,
            membership_ends: None,
            expiry_told: false,
            is_over: false,
            heard_revocations: VecDeque::new(),
            posts: mail::Posts::default(),
            put_off: false,
            clients: BTreeSet::new(),
            peers: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_link: BTreeMap::new(),
            past_links: VecDeque::new(),
            calls: OpenCalls::default(),
            works: Works::default(),
            inbox: Inbox::default(),
            skills: BTreeMap::new(),
            sent: BTreeMap::new(),
            finds: BTreeMap::new(),
            outbox_bytes: 0,
            inbox_bytes: 0,
            next_peer: 0,
            next_link: 0,
            next_inbound: 0,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            link_commands: VecDeque::new(),
            registry_commands: VecDeque::new(),
            events: VecDeque::new(),
            new_pins: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// What was dropped or refused since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that wait for peers, and bytes of peers that wait for applications.
    pub const fn backlog(&self) -> (usize, u64) {
        (self.outbox_bytes, self.inbox_bytes)
    }

    /// What net must do.
    pub fn poll_link_command(&mut self) -> Option<LinkCommand> {
        self.link_commands.pop_front()
    }

    /// What the registry must be told.
    pub fn poll_registry_command(&mut self) -> Option<RegistryCommand> {
        self.registry_commands.pop_front()
    }

    /// What a client must be told.
    pub fn poll_event(&mut self) -> Option<(ClientId, Event)> {
        self.events.pop_front()
    }

    /// A name whose identity was learnt just now, to be kept for later lives.
    pub fn poll_pin(&mut self) -> Option<(Name, AgentId)> {
        self.new_pins.pop_front()
    }

    /// When [`Mesh::handle_timeout`] has something to do, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, Wake<'_>)> {
        let peer = self.timers.first().and_then(|(at, key)| {
            let name = &self.peers.get(key)?.name;
            Some((*at, Wake::Peer(name)))
        });
        let deadline = self
            .calls
            .poll_timeout()
            .into_iter()
            .chain(self.works.poll_timeout())
            .min();
        let deadline = deadline.map(|at| (at, Wake::Deadline));
        let waiting = self
            .skills
            .values()
            .flat_map(|s| s.waiting.iter().map(|a| a.expires))
            .min();
        let expiry = self.inbox.poll_timeout().into_iter().chain(waiting).min();
        let expiry = expiry.map(|at| (at, Wake::Expiry));
        let membership = self.membership_due().map(|at| (at, Wake::Membership));
        [peer, deadline, expiry, membership]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Does what time demands.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_jump(now);
        // Each peer once: what must wait for a frame to be sent stays due.
        let due: Vec<_> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .copied()
            .collect();
        for timer in due {
            let key = timer.1;
            self.timers.remove(&timer);
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.timer = None;
            }
            self.handle_peer_timeout(now, key);
            self.settle(now, key);
        }
        while let Some((id, call)) = self.calls.take_overdue(now) {
            self.end_overdue_call(now, id, &call);
        }
        while let Some((inbound, work)) = self.works.take_overdue(now) {
            self.end_overdue_work(inbound, &work);
        }
        self.expire_arrivals(now);
        self.dispatch_waiting(now);
        self.check_membership(now);
    }

    fn handle_peer_timeout(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.streams.handle_timeout(now);
        let shelved = peer.sessions.poll_shelved(now);
        peer.sessions.handle_timeout(now, &mut self.rng);
        if let Some((session, sdp)) = shelved {
            self.accept(now, key, session, sdp);
        }
        self.check_life(now, key);
        self.tend_dormant(now, key);
        self.check_certificate(now, key);
        self.check_lost(now, key);
        self.end_overdue_waiters(now, key);
    }

    /// Brings everything that follows from a peer's state up to date.
    fn settle(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.awaited = self.calls.await_peer(key);
        }
        self.tend_trial(now, key);
        self.connect_if_wanted(now, key);
        self.carry_out_steps(now, key);
        self.report_settled(now, key);
        self.take_arrivals(now, key);
        self.dispatch_waiting(now);
        self.close_posts(key);
        self.account(key);
        self.enqueue(key);
        self.ask_by_mail(now, key);
        self.enqueue_mail(now, key);
        self.set_timer(now, key);
    }

    /// Whether new links could be made now, as far as this node is concerned.
    fn signaling(&self, now: Instant) -> Signaling {
        if self.may_use_registry(now) && self.makes_links() {
            Signaling::Possible
        } else {
            Signaling::Away
        }
    }

    fn makes_links(&self) -> bool {
        self.config.topology != Topology::MailboxOnly
    }

    fn account(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (out, inn) = (peer.streams.bytes(), peer.streams.unconsumed_bytes());
        self.outbox_bytes = self.outbox_bytes + out - peer.counted_out;
        self.inbox_bytes = self.inbox_bytes + inn - peer.counted_in;
        // What came in the same event may have taken more than went.
        let has_room = peer.streams.take_freed() || inn < peer.counted_in;
        peer.counted_out = out;
        peer.counted_in = inn;
        let budget = NODE_INBOX_MAX_BYTES as u64;
        let window = if self.inbox_bytes < budget / 2 {
            WINDOW_MAX_BYTES
        } else {
            (budget.saturating_sub(self.inbox_bytes) / 16).max(WINDOW_INITIAL_BYTES)
        };
        peer.streams.set_window(window);
        if has_room || self.takes_answers_again(key) {
            self.resume_mail();
        }
    }

    fn enqueue(&mut self, key: PeerKey) {
        let linked = self.peers.get(&key).is_some_and(Peer::has_links);
        if linked && self.queued.insert(key) {
            self.ready.push_back(key);
        }
    }

    fn set_timer(&mut self, now: Instant, key: PeerKey) {
        let signaling = self.signaling(now);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let next = peer.poll_timeout(now, signaling);
        // One that is set too early finds nothing to do and sets the right one:
        // cheaper than to move it with every frame.
        let early_enough = |old: Instant| next.is_none_or(|next| old <= next);
        if peer.timer.map_or(next.is_none(), early_enough) {
            return;
        }
        if let Some(old) = std::mem::replace(&mut peer.timer, next) {
            self.timers.remove(&(old, key));
        }
        if let Some(next) = next {
            self.timers.insert((next, key));
        }
    }

    fn is_outbox_full(&self, key: PeerKey, bytes: usize) -> bool {
        use waymesh_proto::limits::{OUTBOX_MAX_BYTES, OUTBOX_MAX_MESSAGES};
        let streams = self.peers.get(&key).map(|peer| &peer.streams);
        streams.is_some_and(|s| {
            s.waiting() >= OUTBOX_MAX_MESSAGES || s.bytes() + bytes > OUTBOX_MAX_BYTES
        }) || self.outbox_bytes + self.calls.kept_bytes() + bytes > NODE_OUTBOX_MAX_BYTES
    }

    /// The peer of a name, asked about if it is new.
    fn peer_named(&mut self, name: &Name) -> PeerKey {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        if self.registry_up {
            let name = name.clone();
            self.registry_commands
                .push_back(RegistryCommand::Resolve { name });
        }
        self.add_peer(name)
    }

    /// Whether a peer of this name is known or may be added; makes room if it can.
    fn has_place(&mut self, name: &Name) -> bool {
        if self.peers.len() < PEERS_MAX || self.by_name.contains_key(name) {
            return true;
        }
        let blank = self.peers.iter().find(|(_, peer)| peer.is_blank());
        let Some(key) = blank.map(|(key, _)| *key) else {
            return false;
        };
        self.counters.peers_forgotten += 1;
        if self.peers.remove(&key).is_some() {
            self.by_name.retain(|_, of| *of != key);
            self.by_id.retain(|_, of| *of != key);
            self.timers.retain(|(_, of)| *of != key);
        }
        true
    }

    fn add_peer(&mut self, name: &Name) -> PeerKey {
        let key = PeerKey(self.next_peer);
        self.next_peer += 1;
        self.peers.insert(key, Peer::new(name.clone()));
        self.by_name.insert(name.clone(), key);
        if let Some(id) = self.pins.get(name).copied() {
            self.identify(key, id);
        }
        key
    }

    /// Fixes who a peer is.
    fn identify(&mut self, key: PeerKey, id: AgentId) {
        let manners = Manners::of(self.config.agent_id, id);
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.id.is_none()) {
            peer.id = Some(id);
            peer.sessions = Sessions::new(manners);
            self.by_id.insert(id, key);
            for mark in self.config.marks.iter().filter(|mark| mark.from == id) {
                let consumed = mark.consumed.clone();
                peer.streams
                    .add_mark(mark.incarnation, mark.stream, consumed);
            }
            if self.pins.insert(peer.name.clone(), id).is_none() {
                self.new_pins.push_back((peer.name.clone(), id));
            }
        }
    }

    fn tell(&mut self, client: ClientId, event: Event) {
        self.events.push_back((client, event));
    }

    fn tell_all(&mut self, event: &Event) {
        for client in &self.clients {
            self.events.push_back((*client, event.clone()));
        }
    }

    fn new_inbound(&mut self) -> InboundId {
        self.next_inbound += 1;
        InboundId(self.next_inbound)
    }
}

/// A lifetime or timeout that fits the limits.
fn clamped(life: Duration) -> Duration {
    life.min(Duration::from_millis(waymesh_proto::limits::TTL_MAX_MS))
}

#[cfg(test)]
mod tests;
