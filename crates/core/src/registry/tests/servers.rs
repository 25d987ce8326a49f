//! Who is told which servers, when, and for how long.

use super::*;

/// A registry that tells servers to its members.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.rules.offer_servers(SERVERS_LIFE);
    bench
}

/// Until when what this connection was told is good, in the order told.
fn told_until(effects: &[Effect], conn: u64) -> Vec<Instant> {
    let ends = effects.iter().filter_map(|effect| match effect {
        Effect::Servers { conn: c, until, .. } if c.0 == conn => Some(*until),
        _ => None,
    });
    ends.collect()
}

fn ask(bench: &mut Bench) -> Vec<Effect> {
    bench.say(1, ClientMessage::IceServers)
}

#[test]
fn a_member_is_told_its_servers_after_the_welcome_and_again_at_half_of_their_life() {
    let mut bench = bench();
    let effects = bench.connect(1, login("a", 1, 1));
    let welcome = effects
        .iter()
        .position(|e| matches!(e, Effect::Welcome { .. }));
    let servers = effects
        .iter()
        .position(|e| matches!(e, Effect::Servers { .. }));
    assert!(welcome.is_some() && welcome < servers, "{effects:?}");
    assert_eq!(told_until(&effects, 1), [bench.now + SERVERS_LIFE]);
    let early = bench.pass_alive(SERVERS_LIFE / 2 - Duration::from_secs(1), &[1]);
    assert_eq!(told_until(&early, 1), []);
    let again = bench.pass_alive(Duration::from_secs(1), &[1]);
    assert_eq!(told_until(&again, 1), [bench.now + SERVERS_LIFE]);
}

#[test]
fn credentials_end_with_the_membership_and_live_longer_when_that_does() {
    let mut bench = bench();
    let ends = bench.now + Duration::from_secs(600);
    let member = VerifiedLogin {
        expires: ends,
        renewable_until: Some(far()),
        ..login("a", 1, 1)
    };
    let effects = bench.connect(1, member);
    assert_eq!(told_until(&effects, 1), [ends]);
    let effects = bench.pass_alive(Duration::from_secs(500), &[1]);
    assert_eq!(told_until(&effects, 1), [], "they could not live longer");
    let extended = Extended {
        extension: "the-extension".parse().expect("a token"),
        certificate: "longer".parse().expect("a token"),
        expires: far(),
    };
    bench.rules.handle_extended(bench.now, ConnId(1), extended);
    let effects = bench.effects();
    assert_eq!(told_until(&effects, 1), [bench.now + SERVERS_LIFE]);
}

#[test]
fn a_member_whose_certificate_is_over_is_told_no_servers_until_it_is_extended() {
    let mut bench = bench();
    let member = VerifiedLogin {
        expires: bench.now,
        renewable_until: Some(far()),
        ..login("a", 1, 1)
    };
    assert_eq!(told_until(&bench.connect(1, member), 1), []);
}

#[test]
fn whoever_asks_too_often_is_refused_and_may_ask_again_later() {
    let mut bench = bench();
    bench.connect(1, login("a", 1, 1));
    for _ in 0..SERVERS_ASKED_BURST {
        assert_eq!(told_until(&ask(&mut bench), 1).len(), 1);
    }
    for _ in 0..2 * REFUSED_MESSAGES_MAX {
        let effects = ask(&mut bench);
        assert_eq!(error_of(&effects, 1), Some(Code::RateLimited));
        assert_eq!(close_of(&effects, 1), None);
    }
    bench.pass_alive(SERVERS_ASKED_EVERY, &[1]);
    assert_eq!(told_until(&ask(&mut bench), 1).len(), 1);
}

#[test]
fn a_stranger_is_told_no_servers() {
    let mut bench = bench();
    bench.open(1);
    let effects = ask(&mut bench);
    assert_eq!(error_of(&effects, 1), Some(Code::Unauthorized));
    assert_eq!(told_until(&effects, 1), []);
}

#[test]
fn a_registry_without_servers_says_so_to_whoever_asks_and_nothing_to_others() {
    let mut bench = Bench::new();
    let effects = bench.connect(1, login("a", 1, 1));
    assert_eq!(told_until(&effects, 1), []);
    let effects = ask(&mut bench);
    let none = matches!(told(&effects, 1)[..], [ServerMessage::IceServers(list)] if list.servers.is_empty());
    assert!(none, "{effects:?}");
}
