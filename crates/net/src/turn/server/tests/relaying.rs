use super::*;

const PEER: &str = "203.0.113.5:700";

#[test]
fn nobody_is_relayed_to_or_heard_without_a_permission() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    assert_eq!(bed.send(&client, PEER, b"x"), None);
    assert_eq!(bed.hear_peer(0, PEER, b"x"), None);
    assert_eq!(bed.counters().dropped_unpermitted, 2);
    assert_eq!(
        bed.permit(&mut client, "203.0.113.5:1").class,
        Class::Success
    );
    // A permission is for the address, whatever the port.
    assert_eq!(bed.send(&client, PEER, b"x"), Some(at(PEER)));
    let indication = bed.hear_peer(0, PEER, b"back").expect("relayed");
    let message = Message::parse(&indication).expect("a message");
    assert_eq!(
        (message.class(), message.method()),
        (Class::Indication, Some(Method::Data))
    );
    assert_eq!(message.xor_address(kind::XOR_PEER_ADDRESS), Some(at(PEER)));
    assert_eq!(message.find(kind::DATA), Some(b"back".as_slice()));
    assert_eq!(bed.hear_peer(0, "203.0.113.6:700", b"x"), None);
    bed.pass(Duration::from_secs(299));
    assert!(bed.send(&client, PEER, b"x").is_some());
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.send(&client, PEER, b"x"), None);
    assert_eq!(bed.hear_peer(0, PEER, b"x"), None);
}

#[test]
fn strangers_relay_nothing() {
    let mut bed = Bed::new();
    let client = Client::new(1, 1);
    assert_eq!(bed.send(&client, PEER, b"x"), None);
    assert_eq!(bed.channel(&client, 0x4000, b"x"), None);
    assert_eq!(bed.counters().dropped_unpermitted, 2);
}

#[test]
fn a_channel_carries_both_ways_until_it_ends() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    assert_eq!(bed.bind(&mut client, 0x4000, PEER).class, Class::Success);
    assert_eq!(bed.channel(&client, 0x4000, b"there"), Some(at(PEER)));
    assert_eq!(bed.channel(&client, 0x4001, b"there"), None);
    let back = bed.hear_peer(0, PEER, b"back").expect("relayed");
    let read = ChannelData::parse(&back).expect("channel data");
    assert_eq!((read.channel, read.data), (0x4000, b"back".as_slice()));
    bed.pass(Duration::from_secs(599));
    assert!(bed.channel(&client, 0x4000, b"x").is_some());
    assert_eq!(bed.bind(&mut client, 0x4000, PEER).class, Class::Success);
    bed.refresh(&mut client, 3_600);
    bed.pass(Duration::from_secs(600));
    assert_eq!(bed.channel(&client, 0x4000, b"x"), None);
    // Both are free again.
    assert_eq!(
        bed.bind(&mut client, 0x4000, "203.0.113.6:1").class,
        Class::Success
    );
    assert_eq!(bed.bind(&mut client, 0x4001, PEER).class, Class::Success);
}

#[test]
fn a_channel_and_a_peer_belong_to_each_other_alone() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    assert_eq!(bed.bind(&mut client, 0x4000, PEER).class, Class::Success);
    assert_eq!(
        bed.bind(&mut client, 0x4000, "203.0.113.6:1").code,
        Some(code::BAD_REQUEST)
    );
    assert_eq!(
        bed.bind(&mut client, 0x4001, PEER).code,
        Some(code::BAD_REQUEST)
    );
    for number in [0, 0x3fff, 0x8000, 0xffff] {
        assert_eq!(
            bed.bind(&mut client, number, PEER).code,
            Some(code::BAD_REQUEST),
            "{number:#x}"
        );
    }
}

#[test]
fn peers_that_are_not_of_the_open_internet_are_forbidden() {
    let mut bed = Bed::with(|config| config.policy.allow = vec!["10.9.0.0/16".parse().unwrap()]);
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    for peer in [
        "127.0.0.1:1",
        "10.0.0.1:1",
        "169.254.169.254:80",
        "224.0.0.1:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "[fe80::1]:1",
    ] {
        assert_eq!(
            bed.permit(&mut client, peer).code,
            Some(code::FORBIDDEN),
            "{peer}"
        );
        assert_eq!(
            bed.bind(&mut client, 0x4000, peer).code,
            Some(code::FORBIDDEN),
            "{peer}"
        );
    }
    assert_eq!(bed.permit(&mut client, "10.9.1.1:1").class, Class::Success);
    assert_eq!(
        bed.permit(&mut client, "[2001:db8::2]:1").code,
        Some(code::PEER_ADDRESS_FAMILY_MISMATCH)
    );
    // One bad peer spoils a request.
    let told = bed.ask(&mut client, Method::CreatePermission, |w| {
        w.put_xor_address(kind::XOR_PEER_ADDRESS, at("203.0.113.1:1"))
            .put_xor_address(kind::XOR_PEER_ADDRESS, at("10.0.0.1:1"));
    });
    assert_eq!(told.code, Some(code::FORBIDDEN));
    assert_eq!(bed.send(&client, "203.0.113.1:1", b"x"), None);
    let told = bed.ask(&mut client, Method::CreatePermission, |_| {});
    assert_eq!(told.code, Some(code::BAD_REQUEST));
}

#[test]
fn an_address_that_this_host_gets_or_loses_later_is_its_own_from_then_on_or_no_more() {
    let mut bed = Bed::new();
    let (mut one, mut two) = (Client::new(1, 1), Client::new(2, 2));
    bed.allocate(&mut one);
    let of_two = bed.allocate(&mut two);
    bed.bind(&mut one, 0x4000, PEER);
    bed.bind(&mut one, 0x4001, &of_two.to_string());
    assert_eq!(bed.channel(&one, 0x4000, b"x"), Some(at(PEER)));
    bed.server.set_own_addresses([at(PEER).ip()]);
    assert_eq!(bed.channel(&one, 0x4000, b"x"), None);
    assert_eq!(bed.counters().dropped_own, 1);
    // What relays have stays this host's although it was not named.
    assert_eq!(bed.channel(&one, 0x4001, b"x"), Some(of_two));
    bed.permit(&mut one, "192.0.2.1:22");
    assert_eq!(bed.send(&one, "192.0.2.1:22", b"x"), None);
    assert_eq!(bed.counters().dropped_own, 2);
    bed.server.set_own_addresses([]);
    assert_eq!(bed.channel(&one, 0x4000, b"x"), Some(at(PEER)));
}

#[test]
fn of_this_host_only_relays_are_reached_and_those_without_the_network() {
    let mut bed = Bed::new();
    let (mut one, mut two) = (Client::new(1, 1), Client::new(2, 2));
    let (of_one, of_two) = (bed.allocate(&mut one), bed.allocate(&mut two));
    bed.bind(&mut one, 0x4000, &of_two.to_string());
    bed.permit(&mut two, &of_one.to_string());
    let bytes = [ChannelData::header(0x4000, 2).unwrap().as_slice(), b"hi"].concat();
    let now = bed.now();
    let to = bed
        .server
        .handle_client(now, &one.ends, &bytes)
        .expect("relayed");
    let second = bed.opened[1].0;
    assert_eq!(
        (to.to_relay, to.relayed, to.peer),
        (Some(second), of_one, of_two)
    );
    assert!(bed.hear_peer(1, &of_one.to_string(), b"hi").is_some());
    // Any other port of the host.
    assert_eq!(bed.send(&one, "192.0.2.1:22", b"x"), None);
    assert_eq!(bed.counters().dropped_own, 1);
    // No relay is there any more.
    bed.refresh(&mut two, 0);
    assert_eq!(bed.channel(&one, 0x4000, b"x"), None);
    assert_eq!(bed.counters().dropped_own, 2);
}

#[test]
fn data_before_the_relay_is_open_or_after_it_is_gone_is_dropped() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    bed.bind(&mut client, 0x4000, PEER);
    bed.refresh(&mut client, 0);
    assert_eq!(bed.channel(&client, 0x4000, b"x"), None);
    assert_eq!(bed.hear_peer(0, PEER, b"x"), None);
}

#[test]
fn an_indication_with_an_attribute_that_must_be_understood_and_is_not_is_dropped() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    bed.permit(&mut client, "203.0.113.1:1");
    for (attribute, passes) in [(kind::DONT_FRAGMENT, true), (0x7ffe, false), (0x8ffe, true)] {
        let mut writer = Writer::new(Class::Indication, Method::Send, bed.id());
        writer
            .put_xor_address(kind::XOR_PEER_ADDRESS, at("203.0.113.1:1"))
            .put(attribute, &[])
            .put(kind::DATA, b"data");
        let (bytes, now) = (writer.finish(), bed.now());
        let to = bed.server.handle_client(now, &client.ends, &bytes);
        assert_eq!(to.is_some(), passes, "{attribute:#x}");
    }
    assert_eq!(bed.counters().malformed, 1);
}
