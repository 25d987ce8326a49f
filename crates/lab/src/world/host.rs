//! A host: one agent's node, life after life, and what is around it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_core::app::{ClientId, InboundId};
use waymesh_core::mesh::EXPIRY_NOTICE;
use waymesh_core::{Mesh, MeshConfig};
use waymesh_net::webrtc::SendError;
use waymesh_proto::api::PeerStatus;
use waymesh_proto::class::Class;
use waymesh_proto::frame::FrameReader;
use waymesh_proto::ids::{AgentId, Incarnation, KeyId, LinkId, MessageId, Name};
use waymesh_proto::limits::{
    FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES, NODE_INBOX_MAX_BYTES, NODE_OUTBOX_MAX_BYTES,
};
use waymesh_proto::link::{LinkCommand, LinkEvent};
use waymesh_proto::membership::Certificate;

use super::marks::Marks;
use super::model::{KnownMarks, Life};
use super::papers;
use super::registry::Way;
use super::report::{Checked, Invariant, Violation, hold};
use super::schedule::{HostPlan, Reading};
use super::session::Session;
use super::ties::Tie;
use super::{Due, World, telling};

/// Most hosts of a world; nodes of the fake network are numbered by it.
pub(super) const HOSTS_MAX: usize = 8;

/// The first port of a fake pair; see the fake network.
const FIRST_PORT: u16 = 1_024;

/// Before the incarnations of all lives.
const FIRST_INCARNATION: u64 = 1_800_000_000_000;

/// Rounds that a node may take at one moment. Chosen: a burst through the
/// largest window takes some hundred.
const ROUNDS_MAX: u32 = 2_000;

/// Times that a node may wake while time stands still.
const WAKES_MAX: u32 = 100;

/// What limits may be passed by: envelopes around payloads, replies and cancels.
const BACKLOG_SLACK: usize = 1024 * 1024;

/// What a client was told when it asked who is there.
#[derive(Debug, Default)]
pub struct AgentsAndPeers {
    /// The peers as the node sees them.
    pub peers: Vec<PeerStatus>,
}

/// One agent's node, life after life.
#[derive(Debug)]
pub struct Host {
    pub(super) plan: HostPlan,
    pub(super) mesh: Option<Mesh>,
    pub(super) life: u32,
    pub(super) pins: Vec<(Name, AgentId)>,
    pub(super) worker: ClientId,
    pub(super) reader: Option<ClientId>,
    pub(super) server: Option<ClientId>,
    pub(super) reading: Reading,
    /// What the reader has and did not acknowledge.
    pub(super) in_hand: BTreeMap<InboundId, MessageId>,
    /// Links that are up: the node at the other end, and since when.
    pub(super) links: BTreeMap<LinkId, (usize, Instant)>,
    /// What is known of the links that are up, beside the above.
    pub(super) ties: BTreeMap<LinkId, Tie>,
    /// When something other than silence last cast doubt on its links.
    pub(super) shaken: Option<Instant>,
    /// How long the link lived that ended last.
    pub(super) last_link_lived: Duration,
    /// Bytes that any link takes at most, when the network is choked.
    pub(super) choke: Option<usize>,
    pub(super) session: Session,
    pub(super) way: Way,
    pub(super) skills_came_and_went: bool,
    /// Garbage that this life was sent.
    pub(super) garbage: u64,
    /// It does not come back.
    pub(super) gone: bool,
    pub(super) told: AgentsAndPeers,
    /// When its certificate ends, as far as its node was told.
    pub(super) ends: Option<Instant>,
    /// Clients that must hear that it ends soon.
    pub(super) owed_notices: BTreeSet<ClientId>,
    /// Its own papers, as they were extended last.
    pub(super) certificate: Certificate,
    /// Which of its sealing keys is the newest, and those that it can still open with.
    pub(super) key_generation: u32,
    pub(super) keys: Vec<KeyId>,
    /// Who it knows to be revoked, over all its lives.
    pub(super) known_revoked: BTreeSet<usize>,
    /// What it has marked, over all its lives, and what of it this life began with.
    pub(super) marks: Marks,
    pub(super) resumed: KnownMarks,
    /// What this life has learnt of others: their sealing keys and newest lives.
    pub(super) known_keys: BTreeMap<usize, KeyId>,
    pub(super) known_lives: BTreeMap<usize, u32>,
    /// Peers that traffic reaches by mailbox.
    pub(super) on_mail: BTreeSet<Name>,
    woken: (Option<Instant>, u32),
}

/// No client has this number.
const NOBODY: ClientId = ClientId(0);

pub(super) fn name_of(host: usize) -> Name {
    format!("n{host}")
        .parse()
        .expect("a letter and a digit are a name")
}

pub(super) fn id_of(host: usize) -> AgentId {
    // Scattered, so that the polite side is not always the one with the lower number.
    let mut bytes = [0; 32];
    bytes[0] = (host as u8).wrapping_mul(0x9d);
    bytes[31] = host as u8;
    AgentId::from_bytes(bytes)
}

pub(super) fn host_of(id: AgentId) -> usize {
    usize::from(id.as_bytes()[31])
}

/// The incarnation of a life.
pub(super) fn incarnation_of(life: u32) -> Incarnation {
    Incarnation::new(FIRST_INCARNATION + u64::from(life))
}

/// The number of a life that has this incarnation.
pub(super) const fn life_number(incarnation: Incarnation) -> u32 {
    (incarnation.number() - FIRST_INCARNATION) as u32
}

/// Each life is a node of its own to the network: what was on its way to an
/// earlier one does not reach a later one.
pub(super) fn node_of(life: Life) -> usize {
    life.number as usize * HOSTS_MAX + life.host
}

pub(super) fn life_of(node: usize) -> Life {
    Life {
        host: node % HOSTS_MAX,
        number: (node / HOSTS_MAX) as u32,
    }
}

impl Host {
    pub(super) fn new(plan: HostPlan, certificate: Certificate, now: Instant) -> Self {
        Self {
            reading: plan.reading,
            skills_came_and_went: !plan.server_after.is_zero(),
            plan,
            mesh: None,
            life: 0,
            pins: Vec::new(),
            worker: NOBODY,
            reader: None,
            server: None,
            in_hand: BTreeMap::new(),
            links: BTreeMap::new(),
            ties: BTreeMap::new(),
            shaken: None,
            last_link_lived: Duration::ZERO,
            choke: None,
            session: Session::new(now),
            way: Way::Open,
            garbage: 0,
            gone: false,
            told: AgentsAndPeers::default(),
            certificate,
            ends: None,
            owed_notices: BTreeSet::new(),
            key_generation: 0,
            keys: Vec::new(),
            known_revoked: BTreeSet::new(),
            marks: Marks::default(),
            resumed: KnownMarks::default(),
            known_keys: BTreeMap::new(),
            known_lives: BTreeMap::new(),
            on_mail: BTreeSet::new(),
            woken: (None, 0),
        }
    }
}

impl World {
    /// Starts a host's node, if it does not run.
    pub(super) fn start_node(&mut self, at: usize) {
        if self.hosts[at].mesh.is_some() || self.hosts[at].gone {
            return;
        }
        let life = self.model.lives.begin(self.now, at);
        self.trace.note(self.now - self.start, || {
            format!("{at} starts its life {}", life.number)
        });
        let host = &mut self.hosts[at];
        host.life = life.number;
        host.begin_keys(at);
        let marks = host.marks.known();
        self.counts.marks_kept += marks.len() as u64;
        host.resumed = KnownMarks::new(&marks);
        let revoked = host.known_revoked.iter();
        let config = MeshConfig {
            agent_id: id_of(at),
            name: name_of(at),
            incarnation: incarnation_of(life.number),
            topology: host.plan.topology,
            pins: host.pins.clone(),
            policy: host.plan.policy.clone(),
            marks,
            revocations: revoked.map(|host| papers::revocation(*host)).collect(),
        };
        host.mesh = Some(Mesh::new(config, self.dice.roll()));
        host.garbage = 0;
        host.session = Session::new(self.now);
        self.apply_cuts();
        self.tell_membership(life);
        self.worker_comes(at);
        let (reader, server) = (
            self.hosts[at].plan.reader_after,
            self.hosts[at].plan.server_after,
        );
        if let Some(after) = reader {
            self.later(
                self.now + after,
                Due::Job(super::workload::Job::ReaderComes { at }),
            );
        }
        if server.is_zero() {
            self.server_comes(at);
        } else {
            self.later(
                self.now + server,
                Due::Job(super::workload::Job::ServerComes { at }),
            );
        }
        self.later(self.now, Due::Dial { life });
    }

    /// Ends a host's node without a word: everything in its memory is gone.
    pub(super) fn kill_node(&mut self, at: usize) {
        let Some(life) = self.forget_node(at) else {
            return;
        };
        self.hosts[at].marks.kill();
        self.net.crash(self.now, node_of(life));
    }

    /// Takes the node's memory away; the network still has its links.
    pub(super) fn forget_node(&mut self, at: usize) -> Option<Life> {
        let life = self.model.lives.current(at)?;
        self.trace.note(self.now - self.start, || {
            format!("{at} ends its life {}", life.number)
        });
        self.model.lives.end(self.now, at);
        let host = &mut self.hosts[at];
        host.mesh = None;
        host.links.clear();
        host.ties.clear();
        host.in_hand.clear();
        (host.reader, host.server) = (None, None);
        host.worker = NOBODY;
        host.ends = None;
        host.owed_notices.clear();
        Some(life)
    }

    /// Carries out what a node decided, until nothing follows from it any more.
    pub(super) fn pump(&mut self, at: usize) -> Checked {
        for round in 0.. {
            let Some(life) = self.model.lives.current(at) else {
                return Ok(());
            };
            hold!(
                round < ROUNDS_MAX,
                NoSpin,
                "host {at} does not come to rest: {:?}",
                self.hosts[at].mesh.as_ref().and_then(Mesh::poll_timeout)
            );
            let mut quiet = true;
            while let Some(event) = self.net.poll_event(node_of(life)) {
                quiet = false;
                self.hear_link(at, event);
            }
            quiet &= !self.carry_commands(life)?;
            self.tell_settled(life);
            quiet &= !self.carry_frames(life)?;
            while let Some((client, event)) =
                self.hosts[at].mesh.as_mut().and_then(Mesh::poll_event)
            {
                quiet = false;
                self.hear(life, client, event)?;
            }
            if quiet {
                break;
            }
        }
        self.check_bounds(at)
    }

    fn hear_link(&mut self, at: usize, event: LinkEvent) {
        let now = self.now;
        self.trace.note(now - self.start, || {
            format!("{at} link {}", telling::link_event(&event))
        });
        let host = &mut self.hosts[at];
        match &event {
            LinkEvent::Up { link, pair } => {
                let other = usize::from(pair.remote_addr.port() - FIRST_PORT);
                host.links.insert(*link, (other, now));
                host.ties.insert(*link, Tie::new(now, pair.path()));
                let me = Life {
                    host: at,
                    number: host.life,
                };
                self.windows.handle_up(me, life_of(other));
                self.counts.links += 1;
            }
            LinkEvent::Down { link, .. } => host.note_link_ended(now, *link),
            LinkEvent::PairChanged { link, pair } => {
                if let Some(tie) = host.ties.get_mut(link) {
                    tie.path = pair.path();
                }
            }
            LinkEvent::Frame { link, bytes, .. } => {
                if let Some(tie) = host.ties.get_mut(link) {
                    tie.handle_heard(now, bytes);
                }
                if let Some((other, _)) = host.links.get(link) {
                    let me = Life {
                        host: at,
                        number: host.life,
                    };
                    self.windows.handle_got(me, life_of(*other), bytes);
                }
            }
            _ => {}
        }
        if let Some(mesh) = &mut host.mesh {
            mesh.handle_link(now, event);
        }
    }

    fn carry_commands(&mut self, life: Life) -> Result<bool, Violation> {
        let (now, at) = (self.now, life.host);
        let mut any = false;
        let mut closed = Vec::new();
        loop {
            let host = &mut self.hosts[at];
            let Some(mesh) = &mut host.mesh else {
                return Ok(any);
            };
            while let Some(pin) = mesh.poll_pin() {
                host.pins.push(pin);
            }
            if let Some(command) = mesh.poll_link_command() {
                if let LinkCommand::Close { link } = &command {
                    let tie = host.ties.get(link).copied();
                    let other = host.links.get(link).map(|(other, _)| *other);
                    closed.extend(tie.zip(other));
                    host.note_link_ended(now, *link);
                }
                self.trace.note(now - self.start, || {
                    format!("{at} wants {}", telling::link_command(&command))
                });
                self.net.handle_command(now, node_of(life), command);
            } else if let Some(command) = mesh.poll_registry_command() {
                self.trace.note(now - self.start, || {
                    format!("{at} asks {}", telling::registry_command(&command))
                });
                self.tell_registry(life, command)?;
            } else if let Some(heard) = mesh.poll_heard_revocation() {
                self.counts.gossip += 1;
                self.hear_revocation(life, &heard.revocation);
            } else {
                for (tie, other) in closed {
                    host.check_replaced(now, at, tie, other)?;
                }
                return Ok(any);
            }
            any = true;
        }
    }

    fn carry_frames(&mut self, life: Life) -> Result<bool, Violation> {
        let (now, at, node) = (self.now, life.host, node_of(life));
        let mut any = false;
        loop {
            let Self { hosts, net, .. } = self;
            let host = &mut hosts[at];
            let most = host.choke.unwrap_or(usize::MAX);
            let Some(mesh) = &mut host.mesh else {
                return Ok(any);
            };
            let Some(frame) = mesh.poll_frame(now, |link| net.room(node, link).min(most)) else {
                return Ok(any);
            };
            any = true;
            self.counts.frames += 1;
            check_frame(frame.class, &frame.bytes)?;
            host.check_trial(now, at, frame.link, &frame.bytes)?;
            if let Some((other, _)) = host.links.get(&frame.link) {
                self.windows
                    .handle_sent(now, life, life_of(*other), &frame.bytes)?;
            }
            self.trace.note(now - self.start, || {
                format!(
                    "{at} sends {} on {}: {}",
                    frame.class.label(),
                    frame.link,
                    telling::frame(&frame.bytes)
                )
            });
            match self
                .net
                .send(now, node, frame.link, frame.class, &frame.bytes)
            {
                // The link is ending, and core hears of it next.
                Ok(()) | Err(SendError::Closed) => {}
                Err(error) => {
                    return Err(Violation::new(
                        Invariant::Frames,
                        format!(
                            "host {at} sent {} bytes on {}: {error}",
                            frame.bytes.len(),
                            frame.class.label()
                        ),
                    ));
                }
            }
        }
    }

    fn check_bounds(&self, at: usize) -> Checked {
        let Some(mesh) = &self.hosts[at].mesh else {
            return Ok(());
        };
        let (out, inn) = mesh.backlog();
        hold!(
            out <= NODE_OUTBOX_MAX_BYTES + BACKLOG_SLACK,
            Bounded,
            "host {at} keeps {out} bytes for its peers"
        );
        hold!(
            inn <= (NODE_INBOX_MAX_BYTES + BACKLOG_SLACK) as u64,
            Bounded,
            "host {at} keeps {inn} bytes for its applications"
        );
        let counters = mesh.counters();
        let surprises = counters.abuses
            + counters.bad_envelopes
            + counters.bad_frames.saturating_sub(self.hosts[at].garbage);
        hold!(
            surprises == 0,
            NoSurprise,
            "host {at} is surprised by honest peers: {counters:?}"
        );
        Ok(())
    }

    /// Wakes the nodes whose time has come.
    pub(super) fn wake_nodes(&mut self) -> Checked {
        let now = self.now;
        for (at, host) in self.hosts.iter_mut().enumerate() {
            let Some(mesh) = &mut host.mesh else {
                continue;
            };
            let Some((due, wake)) = mesh.poll_timeout().filter(|(due, _)| *due <= now) else {
                continue;
            };
            if host.woken.0 == Some(now) {
                host.woken.1 += 1;
            } else {
                host.woken = (Some(now), 0);
            }
            let late = now - due;
            hold!(
                host.woken.1 < WAKES_MAX,
                NoSpin,
                "host {at} wakes again and again for {wake:?}, due for {late:?}"
            );
            mesh.handle_timeout(now);
        }
        Ok(())
    }
}

impl Host {
    /// A life opens with its own sealing key, and with that of its last life
    /// unless that was destroyed.
    fn begin_keys(&mut self, at: usize) {
        if self.plan.forgets_keys {
            self.key_generation += 1;
            self.keys.clear();
        }
        self.keys = vec![papers::sealing_key(at, self.key_generation)];
        self.known_keys.clear();
        self.known_lives.clear();
        self.on_mail.clear();
    }

    /// Whether its certificate ends within the time in which that is announced.
    pub(super) fn ends_soon(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now + EXPIRY_NOTICE)
    }

    /// Who is attached to its node.
    pub(super) fn clients(&self) -> impl Iterator<Item = ClientId> {
        let others = self.reader.into_iter().chain(self.server);
        std::iter::once(self.worker)
            .filter(|worker| *worker != NOBODY)
            .chain(others)
    }

    fn note_link_ended(&mut self, now: Instant, link: LinkId) {
        self.ties.remove(&link);
        if let Some((_, since)) = self.links.remove(&link) {
            self.last_link_lived = now - since;
        }
    }
}

fn check_frame(class: Class, bytes: &[u8]) -> Checked {
    let limit = if class.is_reliable() {
        FRAME_MAX_BYTES
    } else {
        LOSSY_FRAME_MAX_BYTES
    };
    hold!(
        bytes.len() <= limit,
        Frames,
        "a frame of {} has {} bytes",
        class.label(),
        bytes.len()
    );
    let sections = FrameReader::new(bytes)
        .and_then(|mut reader| reader.try_for_each(|section| section.map(drop)));
    hold!(
        sections.is_ok(),
        Frames,
        "a frame of {} does not parse: {sections:?}",
        class.label()
    );
    Ok(())
}
