//! How many connections there may be, how often agents log in, and who is
//! taken for gone.

use std::net::Ipv4Addr;

use super::*;

/// An address of its own for each number.
fn address(n: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(
        0x0a00_0000 + u32::try_from(n).expect("small"),
    ))
}

#[test]
fn nothing_but_a_login_is_heard_before_the_login() {
    let mut bench = Bench::new();
    bench.open(1);
    let effects = bench.say(1, ClientMessage::WatchAll);
    assert_eq!(error_of(&effects, 1), Some(Code::Unauthorized));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Refused));
}

#[test]
fn a_connection_that_does_not_log_in_is_closed() {
    let mut bench = Bench::new();
    bench.open(1);
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
fn while_the_process_stood_still_nobody_was_silent_and_nobody_is_pinged_at_once() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new();
    for n in 1..=3 {
        bench.connect(n, login(["a", "b", "c"][n as usize - 1], n as u8, 1));
        bench.pass(second);
    }
    // The pings go on as far apart as they were.
    let ping = |n| Effect::Ping { conn: ConnId(n) };
    assert_eq!(bench.stall(600 * second), [ping(1)]);
    assert_eq!(bench.pass(second), [ping(2)]);
    assert_eq!(bench.pass(second), [ping(3)]);
    let log = bench.pass(10 * second);
    for n in 1..=3 {
        assert_eq!(close_of(&log, n), Some(CloseReason::Silent));
    }
}

#[test]
fn whoever_was_heard_after_a_stall_and_is_silent_then_is_given_up_in_the_usual_time() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.now += 600 * second;
    bench.rules.handle_heard(bench.now, ConnId(1));
    bench.rules.handle_timeout(bench.now);
    bench.effects();
    assert_eq!(close_of(&bench.pass(9 * second), 1), None);
    let log = bench.pass(second);
    assert_eq!(close_of(&log, 1), Some(CloseReason::Silent));
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
fn as_many_connections_as_the_limit_are_taken_and_one_more_is_not() {
    let mut bench = Bench::new();
    let limit = u64::try_from(CONNECTIONS_MAX).expect("small");
    for n in 0..limit {
        let mut login = login(&format!("agent-{n}"), 1, 1);
        login.agent_id = AgentId::from_bytes(std::array::from_fn(|i| (n >> (8 * (i % 8))) as u8));
        login.keys = vec![login.agent_id];
        assert!(is_welcome(&bench.connect(n, login), n));
    }
    bench.open(limit);
    assert_eq!(error_of(&bench.effects(), limit), Some(Code::RateLimited));
    bench.close(0);
    bench.open(limit + 1);
    assert!(bench.effects().is_empty());
}

#[test]
fn as_many_strangers_as_the_limits_are_taken_and_one_more_is_not_until_one_logs_in() {
    let mut bench = Bench::new();
    let here = u64::try_from(STRANGERS_PER_ADDRESS_MAX).expect("small");
    let all = u64::try_from(STRANGERS_MAX).expect("small");
    for conn in 0..=here {
        assert!(bench.effects().is_empty());
        bench.open(conn);
    }
    assert_eq!(error_of(&bench.effects(), here), Some(Code::RateLimited));
    for n in here..=all {
        assert!(bench.effects().is_empty());
        bench
            .rules
            .handle_connected(bench.now, ConnId(n + 1), address(n));
    }
    assert_eq!(error_of(&bench.effects(), all + 1), Some(Code::RateLimited));
    bench
        .rules
        .handle_login(bench.now, ConnId(0), login("a", 1, 1));
    assert!(is_welcome(&bench.effects(), 0));
    bench.open(all + 2);
    assert!(bench.effects().is_empty());
}

#[test]
fn an_agent_may_log_in_as_often_as_the_burst_and_not_once_more_until_time_has_passed() {
    let mut bench = Bench::new();
    for n in 0..=u64::from(LOGINS_BURST) {
        assert!(is_welcome(&bench.connect(n, login("a", 1, 1)), n), "{n}");
    }
    let effects = bench.connect(1_000, login("a", 1, 1));
    assert_eq!(error_of(&effects, 1_000), Some(Code::RateLimited));
    assert!(is_welcome(&bench.connect(1_001, login("b", 2, 1)), 1_001));
    bench.now += LOGIN_EVERY;
    assert!(is_welcome(&bench.connect(1_002, login("a", 1, 1)), 1_002));
}

#[test]
fn this_machine_has_no_share_of_its_own() {
    let mut bench = Bench::new();
    let all = u64::try_from(STRANGERS_MAX).expect("small");
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for conn in 0..=all {
        assert!(bench.effects().is_empty(), "{conn}");
        bench.rules.handle_connected(bench.now, ConnId(conn), here);
    }
    assert_eq!(error_of(&bench.effects(), all), Some(Code::RateLimited));
}
