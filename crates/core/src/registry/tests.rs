//! Behaviour of the rules, sentence by sentence; `tests/model.rs` checks them
//! against random histories.

mod directory;
mod model;

use std::time::{Duration, Instant};

use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{ClientMessage, InstanceId, ServerMessage};
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Code, Fault, Incarnation, MeshId, MessageId, SessionId};

use super::*;

/// The rules with a clock, and a disk that works at once unless told otherwise.
pub(super) struct Bench {
    pub(super) rules: Registry,
    pub(super) now: Instant,
    pub(super) disk: Result<(), Fault>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Vec::new())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's time has to begin somewhere"
    )]
    pub(super) fn with(stored: Vec<StoredAgent>) -> Self {
        Self {
            rules: Registry::new(stored),
            now: Instant::now(),
            disk: Ok(()),
        }
    }

    pub(super) fn connect(&mut self, conn: u64, login: VerifiedLogin) -> Vec<Effect> {
        self.rules.handle_connected(self.now, ConnId(conn));
        self.rules.handle_login(self.now, ConnId(conn), login);
        self.effects()
    }

    pub(super) fn say(&mut self, conn: u64, message: ClientMessage) -> Vec<Effect> {
        self.rules.handle_message(self.now, ConnId(conn), message);
        self.effects()
    }

    pub(super) fn close(&mut self, conn: u64) -> Vec<Effect> {
        self.rules.handle_closed(ConnId(conn));
        self.effects()
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.rules.handle_timeout(self.now);
        self.effects()
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(effect) = self.rules.poll_effect() {
            if let Effect::Store {
                ticket: Some(ticket),
                ..
            } = &effect
            {
                let outcome = self.disk.clone();
                self.rules.handle_stored(self.now, ticket.clone(), outcome);
            }
            if let Effect::AwaitRoom { conn } = effect {
                self.rules.handle_room(conn);
            }
            effects.push(effect);
        }
        effects
    }

    /// All agents that the rules know.
    pub(super) fn found(&self) -> Vec<AgentRecord> {
        let limit = NonZeroUsize::new(PAGE_MAX_AGENTS).expect("not zero");
        self.rules.find(&Query::default(), limit).agents
    }
}

pub(super) fn id(seed: u8) -> AgentId {
    AgentId::from_bytes([seed; 32])
}

/// A login: name, key, incarnation, and the incarnation's own process.
pub(super) fn login(name: &str, key: u8, incarnation: u64) -> VerifiedLogin {
    VerifiedLogin {
        name: name.parse().expect("a name"),
        agent_id: id(key),
        incarnation: Incarnation::new(incarnation),
        instance: InstanceId::from_bytes([u8::try_from(incarnation).unwrap_or(0); 16]),
    }
}

fn skill(name: &str) -> SkillSpec {
    SkillSpec {
        name: name.parse().expect("a skill name"),
        description: None,
        schema: None,
        idempotent: false,
    }
}

fn signal(from: u8, to: u8) -> SignedSignal {
    let body = SignalBody {
        mesh: MeshId::from_bytes([0; 16]),
        from: id(from),
        from_incarnation: Incarnation::new(1),
        to: id(to),
        to_incarnation: Incarnation::new(1),
        session: SessionId::from_bytes([3; 16]),
        seq: 0,
        issued_ms: 0,
        signal: Signal::Offer { sdp: "v=0".into() },
    };
    SignedSignal {
        body: serde_json::to_string(&body).expect("JSON"),
        sig: "the rules do not look at it".into(),
    }
}

fn is_welcome(effects: &[Effect], conn: u64) -> bool {
    effects.contains(&Effect::Welcome { conn: ConnId(conn) })
}

fn close_of(effects: &[Effect], conn: u64) -> Option<CloseReason> {
    effects.iter().find_map(|effect| match effect {
        Effect::Close { conn: c, reason } if c.0 == conn => Some(*reason),
        _ => None,
    })
}

/// Every message that the effects send to a connection.
fn told(effects: &[Effect], conn: u64) -> Vec<&ServerMessage> {
    let messages = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } if to.contains(&ConnId(conn)) => Some(message),
        Effect::Relay { to, signal, .. } if to.0 == conn => Some(signal),
        _ => None,
    });
    messages.collect()
}

fn error_of(effects: &[Effect], conn: u64) -> Option<Code> {
    told(effects, conn)
        .into_iter()
        .find_map(|message| match message {
            ServerMessage::Error { error } => Some(error.code),
            _ => None,
        })
}

/// `(name, incarnation, online)` of every record told to a connection.
fn records(effects: &[Effect], conn: u64) -> Vec<(String, u64, bool)> {
    let mut records = Vec::new();
    for message in told(effects, conn) {
        if let ServerMessage::Records { agents } = message {
            for a in agents {
                records.push((a.name.to_string(), a.incarnation.number(), a.online));
            }
        }
    }
    records
}

fn resolve(name: &str) -> ClientMessage {
    ClientMessage::Resolve {
        name: name.parse().expect("a name"),
    }
}

#[test]
fn the_first_welcome_waits_until_the_name_is_durable() {
    let mut bench = Bench::new();
    bench.rules.handle_connected(bench.now, ConnId(1));
    bench
        .rules
        .handle_login(bench.now, ConnId(1), login("a", 1, 1));
    let Some(Effect::Store {
        ticket: Some(ticket),
        ..
    }) = bench.rules.poll_effect()
    else {
        panic!("the name is not stored first");
    };
    assert_eq!(bench.rules.poll_effect(), None);
    bench.rules.handle_stored(bench.now, ticket, Ok(()));
    assert!(is_welcome(&bench.effects(), 1));
}

#[test]
fn a_name_that_could_not_be_stored_is_not_granted_and_is_free_again() {
    let mut bench = Bench::new();
    bench.disk = Err(Fault::new(Code::Storage, "the disk is full"));
    let effects = bench.connect(1, login("a", 1, 1));
    assert_eq!(error_of(&effects, 1), Some(Code::Storage));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Refused));
    bench.disk = Ok(());
    assert!(is_welcome(&bench.connect(2, login("a", 2, 1)), 2));
}

#[test]
fn a_name_belongs_to_the_key_that_first_took_it_also_after_a_restart() {
    let mut bench = Bench::new();
    let first = bench.connect(1, login("a", 1, 1));
    let stored = first.iter().find_map(|effect| match effect {
        Effect::Store { agent, .. } => Some(agent.clone()),
        _ => None,
    });
    let thief = bench.connect(2, login("a", 2, 9));
    assert_eq!(error_of(&thief, 2), Some(Code::NameTaken));
    let mut restarted = Bench::with(stored.into_iter().collect());
    let thief = restarted.connect(1, login("a", 2, 9));
    assert_eq!(error_of(&thief, 1), Some(Code::NameTaken));
    assert!(is_welcome(&restarted.connect(2, login("a", 1, 1)), 2));
}

#[test]
fn of_two_keys_that_take_a_name_at_once_one_gets_it() {
    let mut bench = Bench::new();
    for conn in [1, 2] {
        bench.rules.handle_connected(bench.now, ConnId(conn));
    }
    bench
        .rules
        .handle_login(bench.now, ConnId(1), login("a", 1, 1));
    bench
        .rules
        .handle_login(bench.now, ConnId(2), login("a", 2, 1));
    let effects = bench.effects();
    assert!(is_welcome(&effects, 1) && !is_welcome(&effects, 2));
    assert_eq!(error_of(&effects, 2), Some(Code::NameTaken));
}

#[test]
fn a_newer_life_replaces_the_older_one_without_being_seen_offline() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.say(2, resolve("a"));
    let effects = bench.connect(3, login("a", 1, 2));
    assert!(is_welcome(&effects, 3));
    assert_eq!(error_of(&effects, 1), Some(Code::IdentityInUse));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Replaced));
    assert_eq!(records(&effects, 2), [("a".into(), 2, true)]);
    assert!(bench.close(1).is_empty());
}

#[test]
fn an_older_life_and_a_copy_with_the_same_number_are_refused() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 5));
    let older = bench.connect(2, login("a", 1, 4));
    assert_eq!(error_of(&older, 2), Some(Code::IdentityInUse));
    let mut copy = login("a", 1, 5);
    copy.instance = InstanceId::from_bytes([99; 16]);
    let copy = bench.connect(3, copy);
    assert_eq!(error_of(&copy, 3), Some(Code::IdentityInUse));
    assert_eq!(close_of(&copy, 1), None);
}

#[test]
fn a_node_that_comes_back_before_its_old_connection_is_known_to_be_dead_is_welcome() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 5));
    let effects = bench.connect(2, login("a", 1, 5));
    assert!(is_welcome(&effects, 2));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Replaced));
    assert_eq!(error_of(&effects, 1), None);
}

#[test]
fn an_older_life_is_refused_even_while_the_newer_one_is_away() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 5));
    bench.close(1);
    let older = bench.connect(2, login("a", 1, 4));
    assert_eq!(error_of(&older, 2), Some(Code::IdentityInUse));
    assert!(is_welcome(&bench.connect(3, login("a", 1, 5)), 3));
}

#[test]
fn whoever_asks_for_a_name_is_told_of_every_change_of_it() {
    let mut bench = Bench::new();
    bench.connect(1, login("watcher", 1, 1));
    let unknown = bench.say(1, resolve("a"));
    assert!(matches!(
        told(&unknown, 1)[..],
        [ServerMessage::Unknown { .. }]
    ));
    assert_eq!(
        records(&bench.connect(2, login("a", 2, 1)), 1),
        [("a".into(), 1, true)]
    );
    let skills = vec![skill("echo")];
    let published = bench.say(
        2,
        ClientMessage::Skills {
            skills: skills.clone(),
        },
    );
    assert_eq!(records(&published, 1).len(), 1);
    let again = bench.say(2, ClientMessage::Skills { skills });
    assert_eq!(records(&again, 1), []);
    assert_eq!(records(&bench.close(2), 1), [("a".into(), 1, false)]);
    assert_eq!(records(&bench.connect(3, login("other", 3, 1)), 1), []);
}

#[test]
fn whoever_watches_all_is_told_of_everybody_once() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.close(2);
    let effects = bench.say(1, ClientMessage::WatchAll);
    assert_eq!(
        records(&effects, 1),
        [("a".into(), 1, true), ("b".into(), 1, false)]
    );
    bench.say(1, resolve("b"));
    assert_eq!(
        records(&bench.connect(3, login("b", 2, 2)), 1),
        [("b".into(), 2, true)]
    );
}

#[test]
fn a_new_life_has_no_skills_until_it_publishes_them() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.say(
        1,
        ClientMessage::Skills {
            skills: vec![skill("echo")],
        },
    );
    bench.close(1);
    assert_eq!(bench.found()[0].skills.len(), 1);
    bench.connect(2, login("a", 1, 1));
    assert_eq!(bench.found()[0].skills.len(), 1);
    bench.connect(3, login("a", 1, 2));
    assert_eq!(bench.found()[0].skills, []);
}

#[test]
fn a_signal_goes_to_the_newest_connection_with_the_name_of_its_sender() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.connect(3, login("b", 2, 2));
    let effects = bench.say(
        1,
        ClientMessage::Signal {
            signal: signal(1, 2),
        },
    );
    assert!(matches!(
        told(&effects, 3)[..],
        [ServerMessage::Signal { from_name, .. }] if from_name.as_str() == "a"
    ));
}

#[test]
fn a_signal_to_nobody_is_reported_to_its_sender() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    let effects = bench.say(
        1,
        ClientMessage::Signal {
            signal: signal(1, 2),
        },
    );
    let expected = ServerMessage::Undeliverable {
        to: id(2),
        session: SessionId::from_bytes([3; 16]),
    };
    assert_eq!(told(&effects, 1), [&expected]);
}

#[test]
fn a_signal_in_the_name_of_another_agent_is_not_passed_on() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    let effects = bench.say(
        1,
        ClientMessage::Signal {
            signal: signal(3, 2),
        },
    );
    assert_eq!(error_of(&effects, 1), Some(Code::Unauthorized));
    assert!(told(&effects, 2).is_empty());
}

#[test]
fn as_many_signals_as_the_burst_are_passed_on_and_one_more_is_not_until_time_has_passed() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    let say = |bench: &mut Bench| {
        let signal = signal(1, 2);
        let effects = bench.say(1, ClientMessage::Signal { signal });
        assert_eq!(close_of(&effects, 1), None);
        (told(&effects, 2).len(), error_of(&effects, 1))
    };
    for _ in 0..SIGNALS_BURST {
        assert_eq!(say(&mut bench), (1, None));
    }
    for _ in 0..2 * REFUSED_MESSAGES_MAX {
        assert_eq!(say(&mut bench), (0, Some(Code::RateLimited)));
    }
    bench.now += Duration::from_secs(1);
    for _ in 0..SIGNALS_PER_SECOND {
        assert_eq!(say(&mut bench), (1, None));
    }
    assert_eq!(say(&mut bench), (0, Some(Code::RateLimited)));
}

#[test]
fn a_signal_whose_body_is_garbage_is_refused() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    let signal = SignedSignal {
        body: "{".into(),
        sig: String::new(),
    };
    let effects = bench.say(1, ClientMessage::Signal { signal });
    assert_eq!(error_of(&effects, 1), Some(Code::BadRequest));
}

#[test]
fn nothing_but_a_login_is_heard_before_the_login() {
    let mut bench = Bench::new();
    bench.rules.handle_connected(bench.now, ConnId(1));
    let effects = bench.say(1, ClientMessage::WatchAll);
    assert_eq!(error_of(&effects, 1), Some(Code::Unauthorized));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Refused));
}

#[test]
fn a_connection_that_does_not_log_in_is_closed() {
    let mut bench = Bench::new();
    bench.rules.handle_connected(bench.now, ConnId(1));
    let due = (bench.now + LOGIN_TIMEOUT, Due::Login);
    assert_eq!(bench.rules.poll_timeout(), Some(due));
    assert!(
        bench
            .pass(LOGIN_TIMEOUT - Duration::from_millis(1))
            .is_empty()
    );
    let effects = bench.pass(Duration::from_millis(1));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::LoginTimeout));
    assert_eq!(bench.rules.poll_timeout(), None);
}

#[test]
fn a_connection_that_answers_its_pings_lives_and_a_silent_one_is_seen_to_be_gone() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.say(1, resolve("b"));
    let mut log = Vec::new();
    for _ in 0..20 {
        log.extend(bench.pass(Duration::from_secs(1)));
        bench.rules.handle_heard(bench.now, ConnId(1));
    }
    let pings = |conn| {
        let ping = Effect::Ping { conn: ConnId(conn) };
        log.iter().filter(|e| **e == ping).count()
    };
    assert_eq!((pings(1), pings(2)), (4, 1));
    assert_eq!(close_of(&log, 1), None);
    assert_eq!(close_of(&log, 2), Some(CloseReason::Silent));
    assert_eq!(records(&log, 1), [("b".into(), 1, false)]);
}

#[test]
fn as_many_refused_messages_as_the_limit_are_forgiven_and_one_more_is_not() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    let fault = Fault::new(Code::UnknownVerb, "no such type");
    for _ in 0..REFUSED_MESSAGES_MAX {
        bench
            .rules
            .handle_malformed(bench.now, ConnId(1), fault.clone());
        assert_eq!(close_of(&bench.effects(), 1), None);
    }
    bench.rules.handle_malformed(bench.now, ConnId(1), fault);
    assert_eq!(close_of(&bench.effects(), 1), Some(CloseReason::Abuse));
}

#[test]
fn a_connection_watches_as_many_names_as_the_limit_and_not_one_more() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    for n in 0..WATCHED_NAMES_MAX {
        assert_eq!(error_of(&bench.say(1, resolve(&format!("n{n}"))), 1), None);
    }
    assert_eq!(error_of(&bench.say(1, resolve("n0")), 1), None);
    assert_eq!(
        error_of(&bench.say(1, resolve("more")), 1),
        Some(Code::QueueFull)
    );
}

#[test]
fn whoever_asks_for_more_names_than_the_limit_is_refused_but_never_closed_for_it() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    for n in 0..WATCHED_NAMES_MAX {
        bench.say(1, resolve(&format!("n{n}")));
    }
    for n in 0..=2 * REFUSED_MESSAGES_MAX {
        let effects = bench.say(1, resolve(&format!("more{n}")));
        assert_eq!(error_of(&effects, 1), Some(Code::QueueFull));
        assert_eq!(close_of(&effects, 1), None);
    }
}

#[test]
fn as_many_connections_as_the_limit_are_taken_and_one_more_is_not() {
    let mut bench = Bench::new();
    let limit = u64::try_from(CONNECTIONS_MAX).expect("small");
    for conn in 0..=limit {
        assert!(bench.effects().is_empty());
        bench.rules.handle_connected(bench.now, ConnId(conn));
    }
    assert_eq!(error_of(&bench.effects(), limit), Some(Code::RateLimited));
    bench.close(0);
    bench.rules.handle_connected(bench.now, ConnId(limit + 1));
    assert!(bench.effects().is_empty());
}
