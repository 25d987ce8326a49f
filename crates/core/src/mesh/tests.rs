//! Two nodes and a registry that always works, on a network without delay.
//! The simulated world of the lab tests the same cores under trouble.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]

mod bounds;
mod calls;
mod doubts;
mod first_links;
mod introductions;
mod mail;
mod members;
mod paths;
mod trials;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use waymesh_proto::api::{AgentRecord, SendState};
use waymesh_proto::class::{Class, Stream};
use waymesh_proto::envelope::{Envelope, Kind, Payload, Priority};
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::{MeshId, SessionId};
use waymesh_proto::link::{CandidateKind, CandidatePair, LinkEvent, LinkProtocol};
use waymesh_proto::signaling::{Signal, SignalBody};

use super::*;
use crate::app::{Command, Member, RegistryEvent, Storing};

const CLIENT: ClientId = ClientId(1);
const SECOND: Duration = Duration::from_secs(1);

struct Host {
    mesh: Mesh,
    record: AgentRecord,
    /// Links that are up, with the other host and its link.
    links: BTreeMap<LinkId, (usize, LinkId)>,
    offers: BTreeMap<String, LinkId>,
    events: VecDeque<Event>,
}

struct Lab {
    now: Instant,
    hosts: Vec<Host>,
    next_id: u64,
    mailbox: mail::Mailbox,
    /// Whether offers reach anybody.
    links_work: bool,
    /// Names that are looked up are answered with papers alone: records take their time.
    is_introduced: bool,
    /// What the ends of new links are.
    kind: CandidateKind,
    /// Whether new links come up only with [`Lab::come_up`].
    is_slow: bool,
    /// Links that are to come up, by their two ends.
    slow: Vec<[(usize, LinkId); 2]>,
}

/// A pair of addresses of one kind.
fn pair(kind: CandidateKind) -> CandidatePair {
    CandidatePair {
        local: kind,
        remote: kind,
        protocol: LinkProtocol::Udp,
        local_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        remote_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 2)),
    }
}

fn record(name: &str, incarnation: u64) -> AgentRecord {
    let mut id = [0; 32];
    id[..name.len()].copy_from_slice(name.as_bytes());
    AgentRecord {
        name: name.parse().expect("a name"),
        agent_id: AgentId::from_bytes(id),
        incarnation: Incarnation::new(incarnation),
        online: true,
        roles: Vec::new(),
        skills: Vec::new(),
    }
}

/// What a record's certificate proves; it lives longer than any test.
fn member(record: &AgentRecord) -> Member {
    Member {
        name: record.name.clone(),
        id: record.agent_id,
        roles: record.roles.clone(),
        expires: Instant::now() + 1_000_000 * SECOND,
    }
}

fn told(record: AgentRecord) -> RegistryEvent {
    let member = member(&record);
    RegistryEvent::Record { record, member }
}

fn introduced(record: &AgentRecord) -> RegistryEvent {
    let member = member(record);
    RegistryEvent::Introduced { member }
}

fn host(record: AgentRecord, seed: u64) -> Host {
    let config = MeshConfig {
        agent_id: record.agent_id,
        name: record.name.clone(),
        incarnation: record.incarnation,
        topology: Topology::OnDemand,
        pins: Vec::new(),
        policy: Policy::default(),
        marks: Vec::new(),
        revocations: Vec::new(),
    };
    let mut mesh = Mesh::new(config, seed);
    mesh.add_client(Instant::now(), CLIENT);
    Host {
        mesh,
        record,
        links: BTreeMap::new(),
        offers: BTreeMap::new(),
        events: VecDeque::new(),
    }
}

impl Lab {
    fn new(names: &[&str]) -> Self {
        let hosts = names
            .iter()
            .zip(1..)
            .map(|(name, seed)| host(record(name, 1), seed));
        let mut lab = Self {
            now: Instant::now(),
            hosts: hosts.collect(),
            next_id: 0,
            mailbox: mail::Mailbox::default(),
            links_work: true,
            is_introduced: false,
            kind: CandidateKind::Host,
            is_slow: false,
            slow: Vec::new(),
        };
        for host in &mut lab.hosts {
            host.mesh.handle_registry(lab.now, RegistryEvent::Connected);
        }
        lab
    }

    fn id(&mut self) -> MessageId {
        self.next_id += 1;
        MessageId::new(self.next_id, [0; 10])
    }

    fn command(&mut self, at: usize, command: Command) {
        self.hosts[at]
            .mesh
            .handle_command(self.now, CLIENT, command);
        self.run();
        // The offer of a link waits for the first letter.
        self.pass(links::LETTER_FIRST);
    }

    /// Lets everything that is due happen, without time passing.
    fn run(&mut self) {
        for turn in 0.. {
            assert!(turn < 20_000, "the nodes do not come to rest");
            let mut quiet = true;
            for at in 0..self.hosts.len() {
                quiet &= !self.step(at);
            }
            if quiet {
                return;
            }
        }
    }

    fn step(&mut self, at: usize) -> bool {
        let mut busy = false;
        while let Some(command) = self.hosts[at].mesh.poll_link_command() {
            busy = true;
            self.link(at, command);
        }
        while let Some(command) = self.hosts[at].mesh.poll_registry_command() {
            busy = true;
            self.registry(at, command);
        }
        while let Some(frame) = self.hosts[at].mesh.poll_frame(self.now, |_| 1 << 20) {
            busy = true;
            let target = self.hosts[at].links.get(&frame.link).copied();
            if let Some((to, link)) = target {
                let event = LinkEvent::Frame {
                    link,
                    class: frame.class,
                    bytes: frame.bytes,
                };
                self.hosts[to].mesh.handle_link(self.now, event);
            }
        }
        while let Some((_, event)) = self.hosts[at].mesh.poll_event() {
            busy = true;
            self.hosts[at].events.push_back(event);
        }
        busy
    }

    fn registry(&mut self, at: usize, command: RegistryCommand) {
        match command {
            RegistryCommand::Resolve { name } => {
                let found = self.hosts.iter().find(|host| host.record.name == name);
                let event = match found {
                    Some(host) if self.is_introduced => introduced(&host.record),
                    Some(host) => told(host.record.clone()),
                    None => RegistryEvent::Unknown { name },
                };
                self.hosts[at].mesh.handle_registry(self.now, event);
            }
            RegistryCommand::Signal {
                to,
                to_incarnation,
                session,
                seq,
                signal,
            } => {
                let from = self.hosts[at].record.clone();
                let body = SignalBody {
                    mesh: MeshId::from_bytes([0; 16]),
                    from: from.agent_id,
                    from_incarnation: from.incarnation,
                    to,
                    to_incarnation,
                    session,
                    seq,
                    issued_ms: 0,
                    signal,
                };
                let event = RegistryEvent::Signal {
                    from: member(&from),
                    body,
                };
                let to = self
                    .hosts
                    .iter_mut()
                    .find(|host| host.record.agent_id == to);
                to.expect("a host").mesh.handle_registry(self.now, event);
            }
            RegistryCommand::Post(post) => self.post(at, post),
            RegistryCommand::Settle {
                item,
                outcome,
                mark,
                ..
            } => {
                self.settled(at, item, outcome, mark);
            }
            RegistryCommand::Mark(mark) => self.keep(mark),
            RegistryCommand::Resume => self.resume(at),
            RegistryCommand::Withdraw { item } => self.withdraw(item),
            RegistryCommand::Skills(_)
            | RegistryCommand::WatchAll
            | RegistryCommand::Find { .. } => {}
        }
    }

    fn link(&mut self, at: usize, command: LinkCommand) {
        let now = self.now;
        match command {
            LinkCommand::Offer { .. } if !self.links_work => {}
            LinkCommand::Offer { link } => {
                let sdp = format!("{at}/{}", link.number());
                self.hosts[at].offers.insert(sdp.clone(), link);
                self.hosts[at]
                    .mesh
                    .handle_link(now, LinkEvent::Offered { link, sdp });
            }
            LinkCommand::Accept { link, sdp } => {
                let answer = format!("{sdp}/{at}/{}", link.number());
                self.hosts[at]
                    .mesh
                    .handle_link(now, LinkEvent::Answered { link, sdp: answer });
            }
            LinkCommand::Answer { link, sdp } => {
                let parts: Vec<u64> = sdp
                    .split('/')
                    .map(|n| n.parse().expect("a number"))
                    .collect();
                let (other, theirs) = (parts[2] as usize, LinkId::new(parts[3]));
                self.hosts[at].links.insert(link, (other, theirs));
                self.hosts[other].links.insert(theirs, (at, link));
                self.slow.push([(at, link), (other, theirs)]);
                if !self.is_slow {
                    self.rise();
                }
            }
            LinkCommand::Candidate { .. } => {}
            LinkCommand::Close { link } => {
                self.hosts[at].links.remove(&link);
            }
        }
    }

    /// What was to come up comes up.
    fn rise(&mut self) {
        let (now, pair) = (self.now, pair(self.kind));
        for (at, link) in std::mem::take(&mut self.slow).into_iter().flatten() {
            let event = LinkEvent::Up { link, pair };
            self.hosts[at].mesh.handle_link(now, event);
        }
    }

    /// What was slow to come up comes up now.
    fn come_up(&mut self) {
        self.is_slow = false;
        self.rise();
        self.run();
    }

    /// Lets time pass, waking each node when it asks for it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for turn in 0.. {
            let timeouts = self
                .hosts
                .iter()
                .filter_map(|host| host.mesh.poll_timeout());
            let Some(next) = timeouts.map(|(at, _)| at).min().filter(|at| *at <= end) else {
                break;
            };
            let wakes = self
                .hosts
                .iter()
                .filter_map(|host| host.mesh.poll_timeout());
            assert!(turn < 20_000, "spinning: {:?}", wakes.collect::<Vec<_>>());
            self.now = self.now.max(next);
            for host in &mut self.hosts {
                host.mesh.handle_timeout(self.now);
            }
            self.run();
        }
        self.now = end;
    }

    fn offer_skill(&mut self, at: usize, name: &str) {
        let id = self.id();
        let spec = SkillSpec {
            name: name.parse().expect("a name"),
            description: None,
            schema: None,
            idempotent: false,
        };
        self.command(at, Command::OfferSkill { id, spec });
    }

    fn call(&mut self, at: usize, to: &str, skill: &str, idempotent: bool) -> MessageId {
        let id = self.id();
        let command = Command::Call {
            id,
            to: to.parse().expect("a name"),
            skill: skill.parse().expect("a name"),
            priority: Priority::Normal,
            timeout: 30 * SECOND,
            idempotent,
            payload: Payload::json("42"),
        };
        self.command(at, command);
        id
    }

    fn send(&mut self, at: usize, to: &str, class: Class, bytes: usize) -> MessageId {
        let id = self.id();
        let command = Command::Send {
            id,
            to: to.parse().expect("a name"),
            class,
            priority: Priority::Normal,
            ttl: 60 * SECOND,
            storing: Storing::WithoutLink,
            payload: Payload::json(vec![b'1'; bytes]),
        };
        self.command(at, command);
        id
    }

    /// The handle of the next call that reached a host.
    fn called(&mut self, at: usize) -> Option<InboundId> {
        let position = self.hosts[at]
            .events
            .iter()
            .position(|e| matches!(e, Event::Call { .. }))?;
        match self.hosts[at].events.remove(position) {
            Some(Event::Call { call, .. }) => Some(call),
            _ => None,
        }
    }

    fn reply(&mut self, at: usize, call: InboundId) {
        let outcome = Ok(Payload::json("43"));
        self.command(at, Command::Reply { call, outcome });
    }

    fn answer(&self, at: usize, id: MessageId) -> Option<Result<Payload, Fault>> {
        self.hosts[at].events.iter().find_map(|event| match event {
            Event::Answer {
                id: of, outcome, ..
            } if *of == id => Some(outcome.clone()),
            _ => None,
        })
    }

    fn states(&self, at: usize, id: MessageId) -> Vec<SendState> {
        let events = self.hosts[at].events.iter();
        events
            .filter_map(|event| match event {
                Event::State { id: of, state, .. } if *of == id => Some(*state),
                _ => None,
            })
            .collect()
    }

    /// Kills a host and starts it again; the registry tells everybody.
    fn restart(&mut self, at: usize) {
        let mut new = self.hosts[at].record.clone();
        new.incarnation = Incarnation::new(new.incarnation.number() + 1);
        self.hosts[at] = host(new.clone(), 99);
        self.hosts[at]
            .mesh
            .handle_registry(self.now, RegistryEvent::Connected);
        for host in &mut self.hosts {
            host.links.retain(|_, (other, _)| *other != at);
            host.mesh.handle_registry(self.now, told(new.clone()));
        }
        self.run();
    }
}
