//! Two nodes and a registry that always works, on a network without delay.
//! The simulated world of the lab tests the same cores under trouble.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]

mod bounds;
mod doubts;
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

#[test]
fn a_call_is_answered_over_a_link_that_is_made_for_it() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let call = lab.called(1).expect("the call arrives");
    assert_eq!(lab.answer(0, id), None);
    lab.reply(1, call);
    assert_eq!(lab.answer(0, id), Some(Ok(Payload::json("43"))));
}

#[test]
fn a_skill_that_nobody_offers_is_told_at_once() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "subtract", false);
    let fault = lab
        .answer(0, id)
        .expect("an answer")
        .expect_err("no such skill");
    assert_eq!(fault.code, Code::UnknownSkill);
    assert_eq!(fault.executed, Some(Executed::No));
}

#[test]
fn an_unknown_peer_is_waited_for_and_then_named() {
    let mut lab = Lab::new(&["a"]);
    let id = lab.call(0, "nobody", "add", false);
    assert_eq!(lab.answer(0, id), None);
    lab.pass(31 * SECOND);
    let fault = lab.answer(0, id).expect("an answer").expect_err("nobody");
    assert_eq!(fault.code, Code::UnknownPeer);
}

#[test]
fn both_sides_offering_at_the_same_moment_end_with_one_link() {
    let mut lab = Lab::new(&["a", "b"]);
    for (at, to) in [(0, "b"), (1, "a")] {
        let id = lab.id();
        let to = to.parse().expect("a name");
        let now = lab.now;
        let command = Command::Connect {
            id,
            to,
            timeout: SECOND,
        };
        lab.hosts[at].mesh.handle_command(now, CLIENT, command);
        // Both learn of each other before either hears the other's offer.
        while let Some(command) = lab.hosts[at].mesh.poll_registry_command() {
            lab.registry(at, command);
        }
        while let Some(command) = lab.hosts[at].mesh.poll_link_command() {
            lab.link(at, command);
        }
    }
    lab.run();
    for host in &lab.hosts {
        assert_eq!(host.links.len(), 1);
        assert!(host.events.iter().any(|e| matches!(
            e,
            Event::Done {
                outcome: Ok(()),
                ..
            }
        )));
    }
}

#[test]
fn an_offer_that_comes_again_is_counted_and_leaves_nothing() {
    let mut lab = Lab::new(&["a", "b"]);
    let (a, b) = (lab.hosts[0].record.clone(), lab.hosts[1].record.clone());
    let body = SignalBody {
        mesh: MeshId::from_bytes([0; 16]),
        from: b.agent_id,
        from_incarnation: b.incarnation,
        to: a.agent_id,
        to_incarnation: a.incarnation,
        session: SessionId::from_bytes([7; 16]),
        seq: 0,
        issued_ms: 0,
        signal: Signal::Offer { sdp: "x".into() },
    };
    for _ in 0..3 {
        let event = RegistryEvent::Signal {
            from: member(&b),
            body: body.clone(),
        };
        let now = lab.now;
        lab.hosts[0].mesh.handle_registry(now, event);
    }
    assert_eq!(lab.hosts[0].mesh.counters().replayed_offers, 2);
    assert_eq!(lab.hosts[0].mesh.by_link.len(), 1);
}

#[test]
fn a_message_is_delivered_when_the_application_has_acknowledged_it() {
    let mut lab = Lab::new(&["a", "b"]);
    let id = lab.send(0, "b", Class::Control, 300_000);
    lab.pass(SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    let claim = lab.id();
    lab.command(1, Command::ClaimInbox { id: claim });
    let message = lab.hosts[1].events.iter().find_map(|event| match event {
        Event::Message {
            inbound, payload, ..
        } => Some(((*inbound)?, payload.bytes.len())),
        _ => None,
    });
    let (message, bytes) = message.expect("the message");
    assert_eq!(bytes, 300_000);
    lab.pass(SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    lab.command(1, Command::Consumed { message });
    lab.pass(SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued, SendState::Delivered]);
}

#[test]
fn nothing_is_lost_when_a_link_dies_with_messages_on_it() {
    let mut lab = Lab::new(&["a", "b"]);
    let claim = lab.id();
    lab.command(1, Command::ClaimInbox { id: claim });
    lab.send(0, "b", Class::Control, 10);
    for host in &mut lab.hosts {
        host.links.clear();
    }
    for _ in 0..20 {
        lab.send(0, "b", Class::Control, 30_000);
    }
    lab.pass(10 * SECOND);
    let arrived = lab.hosts[1]
        .events
        .iter()
        .filter(|e| matches!(e, Event::Message { .. }));
    assert_eq!(arrived.count(), 21);
    assert!(
        lab.hosts[0]
            .events
            .iter()
            .any(|e| matches!(e, Event::PathChanged { .. }))
    );
}

#[test]
fn a_call_fails_as_lost_when_the_peer_restarts_and_an_idempotent_one_is_repeated() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let once = lab.call(0, "b", "add", false);
    let again = lab.call(0, "b", "add", true);
    assert!(lab.called(1).is_some() && lab.called(1).is_some());
    lab.restart(1);
    lab.offer_skill(1, "add");
    lab.pass(2 * SECOND);
    let fault = lab.answer(0, once).expect("an answer").expect_err("lost");
    assert_eq!(
        (fault.code, fault.executed),
        (Code::PeerLost, Some(Executed::Unknown))
    );
    let call = lab.called(1).expect("the idempotent call comes again");
    lab.reply(1, call);
    assert_eq!(lab.answer(0, again), Some(Ok(Payload::json("43"))));
}

#[test]
fn a_message_that_the_peer_had_not_acknowledged_comes_again_marked_after_its_restart() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.send(0, "b", Class::Control, 10);
    lab.pass(SECOND);
    lab.restart(1);
    let claim = lab.id();
    lab.command(1, Command::ClaimInbox { id: claim });
    lab.pass(5 * SECOND);
    let marks: Vec<bool> = lab.hosts[1]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Message { redelivered, .. } => Some(*redelivered),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [true]);
}

#[test]
fn a_name_that_answers_with_another_key_is_refused() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.call(0, "b", "add", false);
    let mut other = record("b", 9);
    other.agent_id = AgentId::from_bytes([9; 32]);
    let now = lab.now;
    lab.restart(1);
    lab.hosts[0].mesh.handle_registry(now, told(other));
    lab.hosts[1].record.online = false;
    lab.pass(5 * SECOND);
    assert!(lab.hosts[0].mesh.counters().stale_signals > 0);
}

#[test]
fn a_skill_and_the_inbox_have_one_owner() {
    let mut lab = Lab::new(&["a"]);
    let other = ClientId(2);
    lab.hosts[0].mesh.add_client(lab.now, other);
    lab.offer_skill(0, "add");
    let claim = lab.id();
    lab.command(0, Command::ClaimInbox { id: claim });
    let spec = SkillSpec {
        name: "add".parse().expect("a name"),
        description: None,
        schema: None,
        idempotent: false,
    };
    let now = lab.now;
    for command in [
        Command::OfferSkill { id: claim, spec },
        Command::ClaimInbox { id: claim },
    ] {
        lab.hosts[0].mesh.handle_command(now, other, command);
        let (to, event) = lab.hosts[0].mesh.poll_event().expect("an answer");
        let Event::Done { outcome, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(
            (to, outcome.expect_err("owned").code),
            (other, Code::AlreadyOwned)
        );
    }
}

#[test]
fn a_call_that_was_withdrawn_does_not_come_again_when_the_peer_restarts() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let first = lab.call(0, "b", "add", false);
    assert!(lab.called(1).is_some());
    // What is sent now is lost, and so is its withdrawal.
    for host in &mut lab.hosts {
        host.links.clear();
    }
    let id = lab.call(0, "b", "add", false);
    for id in [first, id] {
        lab.command(0, Command::Cancel { id });
        assert!(matches!(lab.answer(0, id), Some(Err(_))));
    }
    lab.restart(1);
    lab.offer_skill(1, "add");
    lab.pass(5 * SECOND);
    assert_eq!(lab.called(1), None);
}

#[test]
fn a_full_mesh_becomes_whole_although_the_first_offer_is_lost() {
    let mut lab = Lab::new(&["a", "b"]);
    let now = lab.now;
    for at in 0..2 {
        let other = lab.hosts[1 - at].record.clone();
        let host = &mut lab.hosts[at];
        host.mesh.config.topology = Topology::FullMesh;
        host.mesh.handle_registry(now, told(other));
    }
    while let Some(command) = lab.hosts[1].mesh.poll_link_command() {
        lab.link(1, command);
    }
    while lab.hosts[1].mesh.poll_registry_command().is_some() {}
    // The other side's turn is lost as well.
    lab.now += SECOND;
    lab.hosts[0].mesh.handle_timeout(lab.now);
    while let Some(command) = lab.hosts[0].mesh.poll_link_command() {
        lab.link(0, command);
    }
    while lab.hosts[0].mesh.poll_registry_command().is_some() {}
    lab.pass(10 * SECOND);
    assert!(lab.hosts.iter().all(|host| host.links.len() == 1));
}

#[test]
fn a_call_that_arrives_after_its_deadline_enters_no_handler() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    lab.call(0, "b", "add", false);
    assert!(lab.called(1).is_some());
    let now = lab.now;
    let key = *lab.hosts[1].mesh.by_name.values().next().expect("a peer");
    let mut envelope = Envelope::new(Kind::CapabilityCall, lab.id(), Payload::json("42"));
    envelope.skill = Some("add".parse().expect("a name"));
    let late = Arrived {
        peer: key,
        incarnation: Incarnation::new(1),
        stream: Stream::Tasks,
        seq: 2,
        envelope,
        expires: now,
        redelivered: false,
        path: waymesh_proto::link::Path::Direct,
    };
    lab.hosts[1].mesh.dispatch(now, late);
    lab.run();
    assert_eq!(lab.called(1), None);
    assert_eq!(lab.hosts[1].mesh.counters().expired_in, 1);
}

#[test]
fn a_repeated_call_that_fails_may_have_run_before_the_peer_restarted() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", true);
    assert!(lab.called(1).is_some());
    lab.restart(1);
    lab.pass(5 * SECOND);
    // The new life does not offer the skill.
    let fault = lab.answer(0, id).expect("an answer").expect_err("no skill");
    assert_eq!(fault.code, Code::UnknownSkill);
    assert_eq!(fault.executed, Some(Executed::Unknown));
}

#[test]
fn a_call_that_a_handler_had_when_its_peer_restarted_fails_before_its_deadline() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    // The call is taken and acknowledged: nothing waits to be sent any more.
    lab.pass(SECOND);
    lab.restart(1);
    lab.pass(5 * SECOND);
    let fault = lab.answer(0, id).expect("an answer").expect_err("lost");
    assert_eq!(fault.code, Code::PeerLost);
}
