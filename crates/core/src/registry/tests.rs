//! Behaviour of the rules, sentence by sentence; `tests/model.rs` checks them
//! against random histories.

mod bench;
mod connections;
mod conservation;
mod directory;
mod introductions;
mod joins;
mod mailbox;
mod membership;
mod model;
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{ClientMessage, InstanceId, PeerRules, ServerMessage};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{AgentId, Code, Fault, Incarnation, MessageId, SessionId};

use super::*;
use bench::*;

#[test]
fn the_first_welcome_waits_until_the_name_is_durable() {
    let mut bench = Bench::new();
    bench.open(1);
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
    bench.outcome = Some(Err(Fault::new(Code::Storage, "the disk is full")));
    let effects = bench.connect(1, login("a", 1, 1));
    assert_eq!(error_of(&effects, 1), Some(Code::Storage));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Refused));
    bench.outcome = Some(Ok(()));
    assert!(is_welcome(&bench.connect(2, login("a", 2, 1)), 2));
}

#[test]
fn a_name_belongs_to_the_key_that_first_took_it_also_after_a_restart() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    let thief = bench.connect(2, login("a", 2, 9));
    assert_eq!(error_of(&thief, 2), Some(Code::NameTaken));
    bench.restart();
    let thief = bench.connect(1, login("a", 2, 9));
    assert_eq!(error_of(&thief, 1), Some(Code::NameTaken));
    assert!(is_welcome(&bench.connect(2, login("a", 1, 1)), 2));
}

#[test]
fn of_two_keys_that_take_a_name_at_once_one_gets_it() {
    let mut bench = Bench::new();
    for conn in [1, 2] {
        bench.open(conn);
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
fn a_signal_goes_to_the_newest_connection_of_its_receiver() {
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
        [ServerMessage::Signal { .. }]
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
        code: Code::PeerOffline,
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
        ..signal(1, 2)
    };
    let effects = bench.say(1, ClientMessage::Signal { signal });
    assert_eq!(error_of(&effects, 1), Some(Code::BadRequest));
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
fn a_signal_of_a_peer_that_the_receiver_denies_is_not_passed_on() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    let rules = PeerRules {
        deny_names: vec!["a".parse().expect("a name")],
        ..PeerRules::default()
    };
    bench.say(2, ClientMessage::Rules(rules));
    let signal = signal(1, 2);
    let effects = bench.say(1, ClientMessage::Signal { signal });
    let code = Code::Unauthorized;
    assert!(
        matches!(told(&effects, 1)[..], [ServerMessage::Undeliverable { code: c, .. }] if *c == code)
    );
    assert!(told(&effects, 2).is_empty());
}

#[test]
fn as_many_rules_as_the_limit_are_obeyed_and_one_more_is_too_large() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    let rules = |count: usize| {
        let names = (0..count).map(|n| format!("n{n}").parse().expect("a name"));
        ClientMessage::Rules(PeerRules {
            deny_names: names.collect(),
            ..PeerRules::default()
        })
    };
    let limit = waymesh_proto::control::RULES_MAX;
    assert_eq!(error_of(&bench.say(1, rules(limit)), 1), None);
    let effects = bench.say(1, rules(limit + 1));
    assert_eq!(error_of(&effects, 1), Some(Code::TooLarge));
}
