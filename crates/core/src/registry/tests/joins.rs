//! Who may ask to join, and what becomes of it.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use waymesh_proto::InviteId;
use waymesh_proto::membership::Certificate;

use super::*;

fn join(name: &str, key: u8, introduction: Introduction) -> VerifiedJoin {
    VerifiedJoin {
        name: name.parse().expect("a name"),
        agent_id: id(key),
        join_request: format!("request-{name}").parse().expect("a token"),
        delegation: None,
        address: HERE,
        introduction,
    }
}

fn invitation(count: u32) -> Invitation {
    Invitation {
        id: InviteId::from_bytes([5; 16]),
        count: NonZeroU32::new(count),
        until: far(),
    }
}

fn invited(name: &str, key: u8) -> VerifiedJoin {
    join(name, key, Introduction::Invite(invitation(0)))
}

fn certificate() -> Certificate {
    "the-certificate".parse().expect("a token")
}

impl Bench {
    fn ask(&mut self, conn: u64, join: VerifiedJoin) -> Vec<Effect> {
        self.open(conn);
        let random = conn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.rules.handle_join(self.now, ConnId(conn), join, random);
        self.effects()
    }

    /// A fresh pairing code.
    fn code(&mut self) -> PairingCode {
        let life = Duration::from_secs(300);
        let effects = self.order(Order::PairingCode { life });
        match answer_of(&effects) {
            Some(Ok(Reply::PairingCode(code))) => *code,
            other => panic!("{other:?}"),
        }
    }

    fn pending(&mut self) -> Vec<StoredJoin> {
        let effects = self.order(Order::Pending);
        match answer_of(&effects) {
            Some(Ok(Reply::Pending(joins))) => joins.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn approve(&mut self, request: &RequestId, name: &str, key: u8) -> Vec<Effect> {
        self.order(Order::Approve {
            request: request.clone(),
            certificate: certificate(),
            name: name.parse().expect("a name"),
            agent_id: id(key),
        })
    }

    fn reject(&mut self, request: &RequestId) -> Vec<Effect> {
        self.order(Order::Reject {
            request: request.clone(),
            reason: Some("who are you?".into()),
        })
    }
}

/// The request that a connection was told to wait under.
fn request_of(effects: &[Effect], conn: u64) -> Option<RequestId> {
    told(effects, conn)
        .into_iter()
        .find_map(|message| match message {
            ServerMessage::Pending { request } => Some(request.clone()),
            _ => None,
        })
}

fn is_approved(effects: &[Effect], conn: u64) -> bool {
    let approved = ServerMessage::Approved {
        certificate: certificate(),
    };
    told(effects, conn).contains(&&approved)
}

fn is_done(effects: &[Effect]) -> bool {
    matches!(answer_of(effects), Some(Ok(Reply::Done)))
}

fn refusal(effects: &[Effect]) -> Option<Code> {
    match answer_of(effects) {
        Some(Err(fault)) => Some(fault.code),
        _ => None,
    }
}

#[test]
fn a_code_is_good_for_one_request_which_an_admin_approves_on_the_waiting_connection() {
    let mut bench = Bench::new();
    let code = bench.code();
    let effects = bench.ask(1, join("a", 1, Introduction::Code(code)));
    let request = request_of(&effects, 1).expect("it waits");
    let pending = bench.pending();
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (&pending[0].request, pending[0].agent_id),
        (&request, id(1))
    );
    let thief = bench.ask(2, join("b", 2, Introduction::Code(code)));
    assert_eq!(error_of(&thief, 2), Some(Code::BadPairingCode));
    let effects = bench.approve(&request, "a", 1);
    assert!(is_done(&effects) && is_approved(&effects, 1));
    // It may log in on the same connection.
    bench
        .rules
        .handle_login(bench.now, ConnId(1), login("a", 1, 1));
    assert!(is_welcome(&bench.effects(), 1));
    assert_eq!(bench.pending(), []);
    assert_eq!(bench.disk.stored().joins, []);
}

#[test]
fn a_request_is_told_of_when_it_is_durable_and_costs_nothing_when_it_cannot_be() {
    let mut bench = Bench::new();
    let code = bench.code();
    bench.outcome = None;
    let asked = bench.ask(1, join("a", 1, Introduction::Code(code)));
    assert_eq!(request_of(&asked, 1), None);
    let full = Fault::new(Code::Storage, "the disk is full");
    let effects = bench.answer_all(Err(full));
    assert_eq!(error_of(&effects, 1), Some(Code::Storage));
    assert_eq!(bench.pending(), []);
    bench.outcome = Some(Ok(()));
    let effects = bench.ask(2, join("a", 1, Introduction::Code(code)));
    assert!(request_of(&effects, 2).is_some());
}

#[test]
fn whoever_was_away_hears_the_decision_when_it_asks_again_also_after_a_restart() {
    let mut bench = Bench::new();
    for (conn, name, key) in [(1, "a", 1), (2, "b", 2)] {
        let code = bench.code();
        bench.ask(conn, join(name, key, Introduction::Code(code)));
        bench.close(conn);
        bench.now += Duration::from_secs(1);
    }
    let [a, b] = [0, 1].map(|n| bench.pending()[n].request.clone());
    bench.restart();
    assert!(is_done(&bench.approve(&a, "a", 1)));
    assert!(is_done(&bench.reject(&b)));
    bench.restart();
    let effects = bench.ask(3, join("a", 1, Introduction::Nobody));
    assert!(is_approved(&effects, 3));
    let effects = bench.ask(4, join("b", 2, Introduction::Nobody));
    assert_eq!(error_of(&effects, 4), Some(Code::Rejected));
    let told = told(&effects, 4);
    assert!(
        matches!(told[..], [ServerMessage::Error { error }] if error.message.contains("who are you?"))
    );
    // Now it is settled.
    let effects = bench.ask(5, join("b", 2, Introduction::Nobody));
    assert_eq!(error_of(&effects, 5), Some(Code::InviteRequired));
}

#[test]
fn a_request_that_waits_is_found_again_without_another_code_and_the_newest_connection_waits() {
    let mut bench = Bench::new();
    let code = bench.code();
    let first = bench.ask(1, join("a", 1, Introduction::Code(code)));
    let second = bench.ask(2, join("a", 1, Introduction::Nobody));
    assert_eq!(request_of(&first, 1), request_of(&second, 2));
    assert_eq!(close_of(&second, 1), Some(CloseReason::Replaced));
    let request = request_of(&second, 2).expect("it waits");
    assert!(is_approved(&bench.approve(&request, "a", 1), 2));
}

#[test]
fn a_request_for_another_name_takes_the_place_of_the_first() {
    let mut bench = Bench::new();
    let first = bench.ask(1, invited("a", 1));
    let first = request_of(&first, 1).expect("it waits");
    let second = bench.ask(2, invited("b", 1));
    let second = request_of(&second, 2).expect("it waits");
    assert_ne!(first, second);
    assert_eq!(bench.pending().len(), 1);
    assert_eq!(
        refusal(&bench.approve(&first, "a", 1)),
        Some(Code::UnknownId)
    );
    let wrong = bench.approve(&second, "a", 1);
    assert_eq!(refusal(&wrong), Some(Code::BadCertificate));
}

#[test]
fn nobody_may_ask_without_a_reason_or_for_a_name_that_is_taken() {
    let mut bench = Bench::new();
    let effects = bench.ask(1, join("a", 1, Introduction::Nobody));
    assert_eq!(error_of(&effects, 1), Some(Code::InviteRequired));
    bench.connect(2, login("a", 2, 1));
    let effects = bench.ask(3, invited("a", 1));
    assert_eq!(error_of(&effects, 3), Some(Code::NameTaken));
}

#[test]
fn an_invite_lets_as_many_ask_as_its_count_and_not_one_more() {
    let mut bench = Bench::new();
    let with_count = |name: &str, key| join(name, key, Introduction::Invite(invitation(2)));
    let first = bench.ask(1, with_count("a", 1));
    let first = request_of(&first, 1).expect("it waits");
    assert!(request_of(&bench.ask(2, with_count("b", 2)), 2).is_some());
    let third = bench.ask(3, with_count("c", 3));
    assert_eq!(error_of(&third, 3), Some(Code::InviteExhausted));
    // One that is approved is still counted, one that is rejected is not.
    bench.approve(&first, "a", 1);
    let third = bench.ask(4, with_count("c", 3));
    assert_eq!(error_of(&third, 4), Some(Code::InviteExhausted));
    let second = bench.pending();
    let second = second.iter().find(|join| join.agent_id == id(2));
    let second = second.expect("it waits").request.clone();
    bench.reject(&second);
    assert!(request_of(&bench.ask(5, with_count("c", 3)), 5).is_some());
}

#[test]
fn an_invite_lets_nobody_ask_after_its_time() {
    let mut bench = Bench::new();
    let invite = Invitation {
        until: bench.now + Duration::from_secs(1),
        ..invitation(0)
    };
    let ask = |name: &str, key| join(name, key, Introduction::Invite(invite.clone()));
    assert!(request_of(&bench.ask(1, ask("a", 1)), 1).is_some());
    bench.now += Duration::from_secs(1);
    let late = bench.ask(2, ask("b", 2));
    assert_eq!(error_of(&late, 2), Some(Code::InviteExpired));
}

#[test]
fn a_code_is_worth_nothing_after_its_time_also_over_a_restart() {
    let mut bench = Bench::new();
    let code = bench.code();
    bench.restart();
    bench.now += Duration::from_millis(299_999);
    let in_time = bench.ask(1, join("a", 1, Introduction::Code(code)));
    assert!(request_of(&in_time, 1).is_some());
    let code = bench.code();
    bench.now += Duration::from_secs(300);
    let late = bench.ask(2, join("b", 2, Introduction::Code(code)));
    assert_eq!(error_of(&late, 2), Some(Code::BadPairingCode));
    bench.pass(Duration::ZERO);
    assert!(bench.disk.stored().codes.is_empty());
}

#[test]
fn an_address_may_try_as_many_codes_as_the_limit_and_not_one_more_within_a_minute() {
    let mut bench = Bench::new();
    let code = bench.code();
    let wrong = PairingCode::from_number(code.number() + 1);
    let limit = u64::try_from(CODE_TRIES_MAX).expect("small");
    for n in 0..limit {
        let effects = bench.ask(n, join("a", 1, Introduction::Code(wrong)));
        assert_eq!(error_of(&effects, n), Some(Code::BadPairingCode));
        bench.now += Duration::from_secs(1);
    }
    let right = || join("a", 1, Introduction::Code(code));
    let effects = bench.ask(10, right());
    assert_eq!(error_of(&effects, 10), Some(Code::RateLimited));
    // From elsewhere it can be tried.
    let there = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    bench.rules.handle_connected(bench.now, ConnId(11), there);
    bench.rules.handle_join(
        bench.now,
        ConnId(11),
        join("b", 2, Introduction::Code(wrong)),
        0,
    );
    let effects = bench.effects();
    assert_eq!(error_of(&effects, 11), Some(Code::BadPairingCode));
    // A minute after the first try there is room for one.
    bench.now += Duration::from_secs(60 - limit);
    assert!(request_of(&bench.ask(12, right()), 12).is_some());
}

#[test]
fn as_many_codes_as_the_limit_are_in_use_and_one_more_is_refused() {
    let mut bench = Bench::new();
    let codes: Vec<_> = (0..PAIRING_CODES_MAX).map(|_| bench.code()).collect();
    let distinct: std::collections::BTreeSet<_> = codes.iter().collect();
    assert_eq!(distinct.len(), PAIRING_CODES_MAX);
    let life = Duration::from_secs(300);
    let effects = bench.order(Order::PairingCode { life });
    assert_eq!(refusal(&effects), Some(Code::QueueFull));
}

#[test]
fn as_many_requests_as_the_limits_wait_and_one_more_does_not() {
    let mut bench = Bench::new();
    let mut ask = |n: usize, address: u8| {
        let conn = u64::try_from(n).expect("small");
        let mut join = invited(&format!("n{n}"), 0);
        let number = u8::try_from(n % 256).expect("small");
        join.agent_id = AgentId::from_bytes([address, number].repeat(16).try_into().expect("32"));
        join.address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, address));
        bench
            .rules
            .handle_connected(bench.now, ConnId(conn), join.address);
        bench.rules.handle_join(bench.now, ConnId(conn), join, conn);
        let code = error_of(&bench.effects(), conn);
        bench.close(conn);
        code
    };
    for n in 0..PENDING_PER_ADDRESS_MAX {
        assert_eq!(ask(n, 1), None);
    }
    assert_eq!(ask(1_000, 1), Some(Code::RateLimited));
    let others = PENDING_JOINS_MAX - PENDING_PER_ADDRESS_MAX;
    for n in 0..others {
        let address = 2 + u8::try_from(n / PENDING_PER_ADDRESS_MAX).expect("small");
        assert_eq!(ask(2_000 + n, address), None);
    }
    assert_eq!(ask(3_000, 99), Some(Code::RateLimited));
}

#[test]
fn as_many_connections_as_the_limit_of_an_address_wait_and_one_more_does_not() {
    let mut bench = Bench::new();
    // Requests can be many more than connections that wait for them.
    for n in 0..=JOINING_PER_ADDRESS_MAX {
        let conn = u64::try_from(n).expect("small");
        let mut join = invited(&format!("n{n}"), u8::try_from(n).expect("small"));
        join.address = IpAddr::V4(Ipv4Addr::from(
            0x0a00_0000 + u32::try_from(n).expect("small"),
        ));
        let effects = bench.ask(conn, join);
        let expected = (n == JOINING_PER_ADDRESS_MAX).then_some(Code::RateLimited);
        assert_eq!(error_of(&effects, conn), expected, "{n}");
    }
}

#[test]
fn a_connection_waits_for_an_admin_as_long_as_it_answers_pings_but_not_for_ever() {
    let mut bench = Bench::new();
    bench.ask(1, invited("a", 1));
    bench.ask(2, invited("b", 2));
    let almost = JOIN_WAIT - Duration::from_secs(4);
    let effects = bench.pass_alive(almost, &[1]);
    assert_eq!(close_of(&effects, 1), None);
    assert_eq!(close_of(&effects, 2), Some(CloseReason::Silent));
    let effects = bench.pass_alive(Duration::from_secs(4), &[1]);
    assert_eq!(close_of(&effects, 1), Some(CloseReason::JoinTimeout));
    assert_eq!(bench.pending().len(), 2, "the requests are remembered");
}

#[test]
fn requests_are_forgotten_after_a_week() {
    let mut bench = Bench::new();
    bench.ask(1, invited("a", 1));
    bench.close(1);
    bench.restart();
    bench.pass(PENDING_JOIN_LIFE - Duration::from_millis(1));
    assert_eq!(bench.pending().len(), 1);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.pending(), []);
    assert_eq!(bench.disk.stored().joins, []);
}

#[test]
fn somebody_who_waits_can_do_nothing_else_and_a_member_cannot_ask() {
    let mut bench = Bench::new();
    bench.ask(1, invited("a", 1));
    let effects = bench.say(1, ClientMessage::WatchAll);
    assert_eq!(error_of(&effects, 1), Some(Code::Unauthorized));
    bench.connect(2, login("b", 2, 1));
    bench
        .rules
        .handle_join(bench.now, ConnId(2), invited("c", 3), 0);
    let effects = bench.effects();
    assert_eq!(error_of(&effects, 2), Some(Code::BadRequest));
    assert_eq!(close_of(&effects, 2), None);
}

#[test]
fn a_decision_that_could_not_be_stored_is_none() {
    let mut bench = Bench::new();
    let asked = bench.ask(1, invited("a", 1));
    let request = request_of(&asked, 1).expect("it waits");
    bench.outcome = Some(Err(Fault::new(Code::Storage, "the disk is full")));
    let effects = bench.approve(&request, "a", 1);
    assert_eq!(refusal(&effects), Some(Code::Storage));
    assert!(!is_approved(&effects, 1));
    bench.outcome = Some(Ok(()));
    assert!(is_approved(&bench.approve(&request, "a", 1), 1));
}
