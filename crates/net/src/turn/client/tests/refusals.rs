//! What a server may refuse, and what is told of it.

use super::*;

fn code_of(event: Option<ClientEvent>) -> Option<u16> {
    match event.expect("an event") {
        ClientEvent::Failed { error }
        | ClientEvent::CredentialsRefused { error }
        | ClientEvent::Lost { error } => error.code(),
        event => panic!("{event:?}"),
    }
}

#[test]
fn wrong_credentials_are_told_as_soon_as_nothing_better_can_come() {
    let mut rig = Rig::datagrams();
    let first = rig.take();
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    rig.answer(challenge(&second, code::UNAUTHENTICATED, "other"));
    assert_eq!(rig.event(), None);
    let start = rig.now;
    rig.step();
    assert!(rig.now - start <= Duration::from_millis(250));
    let event = rig.event();
    assert!(matches!(
        event,
        Some(ClientEvent::CredentialsRefused { .. })
    ));
    assert_eq!(code_of(event), Some(401));
}

/// What was asked for, as REQUESTED-ADDRESS-FAMILY says it (RFC 8656 §18.9).
fn family_asked(request: &[u8]) -> Option<u8> {
    let asked = parse(request).find(kind::REQUESTED_ADDRESS_FAMILY)?.first();
    asked.copied()
}

fn of_family(family: RelayFamily) -> Rig {
    Rig::new(ClientConfig {
        family,
        ..config(Via::Stream)
    })
}

/// Answers the first two requests of a client: 440 to IPv4.
fn refuse_ipv4(rig: &mut Rig) {
    let first = rig.take();
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    rig.answer(refusal(&second, code::ADDRESS_FAMILY_NOT_SUPPORTED));
}

#[test]
fn a_server_without_ipv4_is_asked_for_ipv6_where_either_will_do() {
    let mut rig = of_family(RelayFamily::Common);
    // Of which family they are to be is not known yet.
    rig.send(PEER, b"lost");
    rig.send("[2001:db8::2]:9", b"kept");
    refuse_ipv4(&mut rig);
    let third = rig.take();
    assert_eq!(family_asked(&third), Some(2));
    assert!(parse(&third).verify(&key("alice")));
    let relayed = "[2001:db8::1]:50000";
    rig.answer(success(&third, |writer| {
        writer
            .put_xor_address(kind::XOR_RELAYED_ADDRESS, address(relayed))
            .put_number(kind::LIFETIME, 600);
    }));
    assert!(matches!(rig.event(), Some(ClientEvent::Allocated { .. })));
    assert_eq!(rig.client.relayed(), Some(address(relayed)));
    // Peers of the other family cannot be reached by it.
    rig.send(PEER, b"x");
    assert_eq!(rig.client.counters().dropped_unsendable, 2);
    let fourth = rig.take();
    assert_eq!(parse(&fourth).method(), Some(Method::CreatePermission));
    let asked: Vec<_> = parse(&fourth)
        .xor_addresses(kind::XOR_PEER_ADDRESS)
        .collect();
    assert_eq!(asked, [Some(address("[2001:db8::2]:0"))]);
    rig.answer(success(&fourth, |_| {}));
    let sent = rig.take();
    assert_eq!(parse(&sent).find(kind::DATA), Some(&b"kept"[..]));
}

#[test]
fn where_either_family_will_do_ipv4_is_asked_for_and_taken() {
    let mut rig = of_family(RelayFamily::Common);
    rig.send(PEER, b"kept");
    rig.send("[2001:db8::2]:9", b"lost");
    let first = rig.take();
    assert_eq!(family_asked(&first), None);
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    assert_eq!(family_asked(&second), None);
    rig.answer(allocation(&second));
    assert_eq!(rig.event(), Some(allocated_event()));
    assert_eq!(rig.client.counters().dropped_unsendable, 1);
    assert_eq!(rig.client.waiting(), 1);
}

#[test]
fn a_server_that_has_neither_family_or_not_the_one_that_is_wanted_is_given_up() {
    let mut rig = of_family(RelayFamily::Common);
    refuse_ipv4(&mut rig);
    let third = rig.take();
    rig.answer(refusal(&third, code::ADDRESS_FAMILY_NOT_SUPPORTED));
    assert_eq!(code_of(rig.event()), Some(440));
    for family in [RelayFamily::V4, RelayFamily::V6] {
        let mut rig = of_family(family);
        refuse_ipv4(&mut rig);
        rig.nothing();
        assert_eq!(code_of(rig.event()), Some(440));
    }
}

#[test]
fn by_a_stream_they_are_told_at_once() {
    let mut rig = Rig::new(config(Via::Stream));
    let first = rig.take();
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    rig.answer(challenge(&second, code::UNAUTHENTICATED, "other"));
    assert_eq!(code_of(rig.event()), Some(401));
}

#[test]
fn who_has_no_credentials_is_told_that_they_are_wanted() {
    let mut config = config(Via::Stream);
    config.credentials = None;
    let mut rig = Rig::new(config);
    let first = rig.take();
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let error = TurnError::CredentialsMissing;
    assert_eq!(rig.event(), Some(ClientEvent::CredentialsRefused { error }));
}

#[test]
fn a_signed_answer_goes_before_a_refusal_that_nobody_signed() {
    let mut rig = Rig::datagrams();
    let first = rig.take();
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    rig.answer(Writer::error(&parse(&second), code::ALLOCATION_QUOTA_REACHED).finish());
    rig.answer(allocation(&second));
    assert_eq!(rig.event(), Some(allocated_event()));
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.event(), None);
}

#[test]
fn a_used_up_quota_is_told_and_may_pass() {
    for code in [code::ALLOCATION_QUOTA_REACHED, code::INSUFFICIENT_CAPACITY] {
        let mut rig = Rig::datagrams();
        let first = rig.take();
        rig.answer(challenge(&first, 401, "nonce"));
        let second = rig.take();
        rig.answer(refusal(&second, code));
        let Some(ClientEvent::Failed { error }) = rig.event() else {
            panic!("a failure");
        };
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.retry(), waymesh_proto::error::Retry::After);
    }
}

#[test]
fn a_server_that_wants_new_nonces_for_ever_is_given_up() {
    let mut rig = Rig::datagrams();
    let mut requests = 0;
    let event = loop {
        let request = rig.take();
        requests += 1;
        rig.answer(challenge(&request, code::STALE_NONCE, "nonce"));
        if let Some(event) = rig.event() {
            break event;
        }
    };
    assert_eq!(requests, 5);
    assert!(matches!(
        event,
        ClientEvent::Failed {
            error: TurnError::Protocol(_)
        }
    ));
}

fn alternate(request: &[u8], to: &str) -> Vec<u8> {
    let mut writer = Writer::error(&parse(request), code::TRY_ALTERNATE);
    writer.put_address(kind::ALTERNATE_SERVER, address(to));
    writer.finish()
}

#[test]
fn another_server_is_gone_to_once() {
    let mut rig = Rig::datagrams();
    let first = rig.take();
    rig.answer(alternate(&first, "192.0.2.2:1"));
    assert_eq!(rig.client.server(), Some(address("192.0.2.2:1")));
    let second = rig.take();
    assert_eq!(parse(&second).integrity(), None);
    rig.answer(alternate(&second, "192.0.2.3:1"));
    let error = TurnError::Alternate(address("192.0.2.3:1"));
    assert_eq!(rig.event(), Some(ClientEvent::Failed { error }));
}

#[test]
fn by_a_stream_the_other_server_is_named() {
    let mut rig = Rig::new(config(Via::Stream));
    let first = rig.take();
    rig.answer(alternate(&first, "192.0.2.2:1"));
    let error = TurnError::Alternate(address("192.0.2.2:1"));
    assert_eq!(rig.event(), Some(ClientEvent::Failed { error }));
}

#[test]
fn an_allocation_that_an_earlier_client_left_is_removed_first() {
    let mut rig = Rig::datagrams();
    let first = rig.take();
    rig.answer(challenge(&first, 401, "nonce"));
    let second = rig.take();
    rig.answer(refusal(&second, code::ALLOCATION_MISMATCH));
    let release = rig.take();
    assert_eq!(parse(&release).number(kind::LIFETIME), Some(0));
    rig.answer(refreshed(&release));
    let third = rig.take();
    // It lingers.
    rig.answer(refusal(&third, code::ALLOCATION_MISMATCH));
    rig.nothing();
    rig.step();
    let fourth = rig.take();
    assert_eq!(parse(&fourth).method(), Some(Method::Allocate));
    rig.answer(allocation(&fourth));
    assert_eq!(rig.event(), Some(allocated_event()));
}

/// A client with newer credentials than alice's, and the answer of a server that
/// holds to alice to each request of anybody else.
fn held_to_alice() -> Rig {
    let mut config = config(Via::Datagrams {
        server: address(SERVER),
    });
    config.credentials = Some(user("bob"));
    config.earlier = Some(user("alice"));
    let mut rig = Rig::new(config);
    let first = rig.take();
    rig.answer(challenge(&first, 401, "nonce"));
    for method in [Method::Allocate, Method::Refresh] {
        let request = rig.take();
        assert_eq!(parse(&request).method(), Some(method));
        rig.answer(Writer::error(&parse(&request), code::ALLOCATION_MISMATCH).finish());
        // Nobody has signed it.
        rig.step();
    }
    rig
}

#[test]
fn a_server_that_holds_to_an_earlier_name_is_given_it() {
    let mut rig = held_to_alice();
    let request = rig.take();
    assert_eq!(parse(&request).text(kind::USERNAME), Some("alice"));
    rig.answer(allocation(&request));
    assert_eq!(rig.event(), Some(allocated_event()));
}

#[test]
fn where_the_earlier_name_is_refused_too_the_newer_credentials_are_not_blamed() {
    let mut rig = held_to_alice();
    let request = rig.take();
    rig.answer(refusal(&request, code::UNAUTHENTICATED));
    let Some(ClientEvent::Failed { error }) = rig.event() else {
        panic!("a failure");
    };
    assert_eq!(error.code(), Some(401));
}

#[test]
fn an_allocation_that_somebody_else_holds_is_told_in_less_than_5_s() {
    let mut rig = Rig::datagrams();
    let start = rig.now;
    let first = rig.take();
    rig.answer(challenge(&first, 401, "nonce"));
    let event = loop {
        while let Some(request) = rig.client.poll_transmit() {
            rig.answer(refusal(&request, code::ALLOCATION_MISMATCH));
        }
        if let Some(event) = rig.event() {
            break event;
        }
        rig.step();
    };
    assert_eq!(code_of(Some(event)), Some(437));
    assert!(rig.now - start < Duration::from_secs(5));
}

#[test]
fn an_allocation_that_the_server_does_not_know_any_more_is_lost() {
    let mut rig = Rig::allocated();
    rig.client.probe(rig.now);
    let request = rig.take();
    rig.answer(refusal(&request, code::ALLOCATION_MISMATCH));
    let Some(ClientEvent::Lost { error }) = rig.event() else {
        panic!("a loss");
    };
    assert_eq!(error.code(), Some(437));
    assert_eq!(error.retry(), waymesh_proto::error::Retry::Now);
}

#[test]
fn a_server_without_room_is_asked_again_while_the_allocation_lasts() {
    let mut rig = Rig::allocated();
    rig.wait(REFRESH_EVERY);
    let request = rig.take();
    rig.answer(refusal(&request, code::INSUFFICIENT_CAPACITY));
    assert_eq!(rig.event(), None);
    rig.wait(REFRESH_AGAIN);
    let request = rig.take();
    rig.answer(refreshed(&request));
    assert_eq!(rig.event(), None);
}

#[test]
fn the_words_of_a_server_are_one_line_of_bounded_length() {
    let said = format!("a\u{1b}[2J\r\nb{}", "x".repeat(10_000));
    let error = TurnError::of_answer(500, Reason::new(&said));
    let shown = error.to_string();
    assert!(shown.chars().all(|c| !c.is_control()), "{shown}");
    assert!(shown.len() < 200, "{}", shown.len());
}
