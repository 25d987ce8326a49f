use super::*;

/// What is asked for, in words and in attributes, and the code that refuses it.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Writer), u16);

#[test]
fn an_allocation_tells_both_addresses_and_its_lifetime() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 77);
    let told = bed.ask(&mut client, Method::Allocate, udp);
    assert_eq!(told.class, Class::Success);
    assert_eq!(
        told.address(kind::XOR_RELAYED_ADDRESS),
        at("192.0.2.1:50000")
    );
    assert_eq!(told.address(kind::XOR_MAPPED_ADDRESS), client.ends.remote);
    assert_eq!(told.lifetime(), 600);
    assert!(told.message().verify(&client.key()));
}

#[test]
fn a_lifetime_is_asked_for_within_the_limits_and_0_ends_it() {
    let long = Duration::from_secs(100_000);
    let mut bed = Bed::with(|config| config.limits.credential_lifetime = long);
    let mut client = Client::until(1, 1, START + long);
    bed.allocate(&mut client);
    for (asked, given) in [(700, 700), (1, 600), (3_600, 3_600), (3_601, 3_600)] {
        assert_eq!(bed.refresh(&mut client, asked).lifetime(), given, "{asked}");
    }
    bed.pass(Duration::from_secs(3_599));
    assert_eq!(bed.refresh(&mut client, 600).class, Class::Success);
    bed.pass(Duration::from_secs(599));
    assert_eq!(bed.counters().allocations, 1);
    assert_eq!(bed.refresh(&mut client, 0).lifetime(), 0);
    assert_eq!(bed.closed.len(), 1);
    let told = bed.refresh(&mut client, 0);
    assert_eq!(told.code, Some(code::ALLOCATION_MISMATCH));
    assert_eq!(bed.counters().allocations_expired, 0);
}

#[test]
fn an_allocation_that_nobody_prolongs_ends() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    assert_eq!(
        bed.server.poll_timeout(),
        Some(bed.start + Duration::from_secs(600))
    );
    bed.pass(Duration::from_secs(600));
    assert_eq!(
        (bed.closed.len(), bed.counters().allocations_expired),
        (1, 1)
    );
    assert_eq!(bed.server.poll_timeout(), None);
    bed.allocate(&mut client);
}

#[test]
fn what_cannot_be_given_is_refused_with_its_code() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    let cases: [Case<'_>; 7] = [
        ("no transport", &|_| {}, code::BAD_REQUEST),
        (
            "TCP",
            &|w| {
                w.put(kind::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
            },
            code::UNSUPPORTED_TRANSPORT,
        ),
        (
            "an unknown family",
            &|w| {
                udp(w);
                w.put(kind::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0]);
            },
            code::ADDRESS_FAMILY_NOT_SUPPORTED,
        ),
        (
            "the next port",
            &|w| {
                udp(w);
                w.put(kind::EVEN_PORT, &[0x80]);
            },
            code::INSUFFICIENT_CAPACITY,
        ),
        (
            "a reserved port",
            &|w| {
                udp(w);
                w.put(kind::RESERVATION_TOKEN, &[0; 8]);
            },
            code::INSUFFICIENT_CAPACITY,
        ),
        (
            "both",
            &|w| {
                udp(w);
                w.put(kind::RESERVATION_TOKEN, &[0; 8])
                    .put(kind::EVEN_PORT, &[0]);
            },
            code::BAD_REQUEST,
        ),
        (
            "an unknown attribute",
            &|w| {
                udp(w);
                w.put(0x7ffe, &[]);
            },
            code::UNKNOWN_ATTRIBUTE,
        ),
    ];
    for (what, put, code) in cases {
        let told = bed.ask(&mut client, Method::Allocate, put);
        assert_eq!(told.code, Some(code), "{what}");
        assert!(told.message().verify(&client.key()), "{what}");
        if code == code::UNKNOWN_ATTRIBUTE {
            let unknown = told.message().find(kind::UNKNOWN_ATTRIBUTES).expect("them");
            assert_eq!(unknown, [0x7f, 0xfe]);
        }
    }
    assert!(bed.opened.is_empty());
}

#[test]
fn what_need_not_be_understood_is_passed_over() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    let told = bed.ask(&mut client, Method::Allocate, |w| {
        udp(w);
        w.put(kind::DONT_FRAGMENT, &[])
            .put(kind::EVEN_PORT, &[0])
            .put(kind::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])
            .put(kind::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
            .put(kind::SOFTWARE, b"test");
    });
    assert_eq!(told.class, Class::Success);
    assert_eq!(bed.opened[0].1, Family::V6);
}

#[test]
fn a_relay_that_cannot_be_opened_is_refused_and_may_be_asked_for_again() {
    for (why, code) in [
        (NoRelay::Family, code::ADDRESS_FAMILY_NOT_SUPPORTED),
        (NoRelay::Capacity, code::INSUFFICIENT_CAPACITY),
    ] {
        let mut bed = Bed::new();
        let mut client = Client::new(1, 1);
        bed.allocate(&mut client);
        bed.refresh(&mut client, 0);
        let id = bed.id();
        let bytes = client.request(id, Method::Allocate, &udp);
        let now = bed.now();
        bed.server.handle_client(now, &client.ends, &bytes);
        let Some(ServerEvent::Open { allocation, .. }) = bed.server.poll_event() else {
            panic!("a socket is wanted");
        };
        bed.server.relay_opened(now, allocation, Err(why));
        let answer = bed.server.poll_transmit().expect("an answer");
        let message = Message::parse(&answer.bytes).expect("a message");
        assert_eq!(message.error().map(|(code, _)| code), Some(code));
        assert!(message.verify(&client.key()));
        bed.work();
        bed.allocate(&mut client);
    }
}

#[test]
fn nat_behaviour_is_told_where_there_are_two_addresses() {
    let (primary, other) = (at("192.0.2.1:3478"), at("192.0.2.2:3479"));
    let mut bed = Bed::with(|config| config.alternate = Alternate::new(primary, other));
    let ends = Client::new(1, 1).ends;
    for (change, from) in [
        (0, primary),
        (2, at("192.0.2.1:3479")),
        (4, at("192.0.2.2:3478")),
        (6, other),
    ] {
        let mut request = Writer::new(Class::Request, Method::Binding, bed.id());
        request
            .put_number(kind::CHANGE_REQUEST, change)
            .put(kind::PADDING, &[0; 500]);
        let now = bed.now();
        bed.server.handle_client(now, &ends, &request.finish());
        let answer = bed.server.poll_transmit().expect("an answer");
        assert_eq!(answer.to.local, from, "{change}");
        let message = Message::parse(&answer.bytes).expect("a message");
        assert_eq!(message.address(kind::RESPONSE_ORIGIN), Some(from));
        assert_eq!(message.address(kind::OTHER_ADDRESS), Some(other));
    }
    // Without a second address nobody can be answered from there.
    let mut bed = Bed::new();
    let mut request = Writer::new(Class::Request, Method::Binding, bed.id());
    request.put_number(kind::CHANGE_REQUEST, 6);
    let told = bed.hear(&ends, &request.finish()).expect("an answer");
    assert_eq!(told.code, Some(code::UNKNOWN_ATTRIBUTE));
}

#[test]
fn a_lifetime_of_zero_in_an_allocate_is_none() {
    let mut bed = Bed::new();
    let told = bed.ask(&mut Client::new(1, 1), Method::Allocate, |w| {
        udp(w);
        w.put_number(kind::LIFETIME, 0);
    });
    assert_eq!(told.lifetime(), 600);
}
