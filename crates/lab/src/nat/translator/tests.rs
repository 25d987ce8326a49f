use super::*;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
    Nat::new(NatConfig::new(mapping, filtering), OUTSIDE, 1)
}

/// Sends a datagram out; gives the end that the outside sees.
fn out(nat: &mut Nat, now: Instant, from: SocketAddr, to: SocketAddr) -> SocketAddr {
    let mut packet = Packet::datagram(from, to, b"out");
    nat.handle_outbound(now, &mut packet).expect("it goes out");
    assert!(packet.is_sound());
    packet.flow().expect("it has a flow").source
}

fn back(
    nat: &mut Nat,
    now: Instant,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<SocketAddr, Dropped> {
    let mut packet = Packet::datagram(from, to, b"in");
    nat.handle_inbound(now, &mut packet)?;
    assert!(packet.is_sound());
    Ok(packet.flow().expect("it has a flow").target)
}

#[test]
fn a_mapping_depends_on_what_it_should() {
    let now = Instant::now();
    let inside = at("192.168.1.2:5000");
    let (a, a2, b) = (
        at("203.0.113.1:1"),
        at("203.0.113.1:2"),
        at("203.0.113.2:1"),
    );
    for mapping in Dependence::ALL {
        let mut nat = nat(mapping, Dependence::Independent);
        let first = out(&mut nat, now, inside, a);
        assert_eq!(out(&mut nat, now, inside, a), first, "a mapping stays");
        let same_ip = out(&mut nat, now, inside, a2) == first;
        let other_ip = out(&mut nat, now, inside, b) == first;
        assert_eq!(same_ip, mapping != Dependence::AddressAndPort);
        assert_eq!(other_ip, mapping == Dependence::Independent);
    }
}

#[test]
fn a_filter_lets_in_whom_it_should() {
    let now = Instant::now();
    let inside = at("192.168.1.2:5000");
    let (a, a2, b) = (
        at("203.0.113.1:1"),
        at("203.0.113.1:2"),
        at("203.0.113.2:1"),
    );
    for filtering in Dependence::ALL {
        let mut nat = nat(Dependence::Independent, filtering);
        let outside = out(&mut nat, now, inside, a);
        assert_eq!(back(&mut nat, now, a, outside), Ok(inside));
        let same_ip = back(&mut nat, now, a2, outside).is_ok();
        let other_ip = back(&mut nat, now, b, outside).is_ok();
        assert_eq!(same_ip, filtering != Dependence::AddressAndPort);
        assert_eq!(other_ip, filtering == Dependence::Independent);
        let nobody = SocketAddr::new(OUTSIDE.into(), outside.port() + 1);
        assert_eq!(back(&mut nat, now, a, nobody), Err(Dropped::NoMapping));
    }
}

#[test]
fn a_mapping_ends_when_nothing_went_out_for_its_time() {
    let begin = Instant::now();
    let (inside, other) = (at("192.168.1.2:5000"), at("203.0.113.1:1"));
    let mut nat = nat(Dependence::AddressAndPort, Dependence::AddressAndPort);
    let outside = out(&mut nat, begin, inside, other);
    let late = begin + UDP_TIMEOUT - Duration::from_millis(1);
    assert_eq!(back(&mut nat, late, other, outside), Ok(inside));
    let over = begin + UDP_TIMEOUT;
    assert_eq!(
        back(&mut nat, over, other, outside),
        Err(Dropped::NoMapping)
    );
    out(&mut nat, late, inside, other);
    assert_eq!(back(&mut nat, over, other, outside), Ok(inside));
}

#[test]
fn after_a_flush_nobody_gets_in_and_ports_are_others() {
    let now = Instant::now();
    let (inside, other) = (at("192.168.1.2:5000"), at("203.0.113.1:1"));
    for mapping in Dependence::ALL {
        let mut nat = nat(mapping, Dependence::Independent);
        let before = out(&mut nat, now, inside, other);
        nat.flush(Forget::Everything);
        assert_eq!(back(&mut nat, now, other, before), Err(Dropped::NoMapping));
        assert_ne!(out(&mut nat, now, inside, other), before);
    }
}

#[test]
fn ports_are_preserved_taken_in_turn_or_drawn() {
    let now = Instant::now();
    let other = at("203.0.113.1:1");
    let ports = |choice| {
        let mut config = NatConfig::new(Dependence::Independent, Dependence::Independent);
        config.ports = choice;
        let mut nat = Nat::new(config, OUTSIDE, 3);
        ["192.168.1.2:5000", "192.168.1.3:5000", "192.168.1.4:7000"]
            .map(|inside| out(&mut nat, now, at(inside), other).port())
    };
    assert_eq!(ports(PortChoice::Preserving), [5000, 5001, 7000]);
    assert_eq!(ports(PortChoice::Sequential), [1025, 1026, 1027]);
    let random = ports(PortChoice::Random);
    assert!(random[0] != 5000 && random[0] != random[1], "{random:?}");
}

#[test]
fn an_error_finds_its_way_in_both_directions() {
    let now = Instant::now();
    let (inside, other) = (at("192.168.1.2:5000"), at("203.0.113.1:1"));
    let mut nat = nat(Dependence::AddressAndPort, Dependence::AddressAndPort);
    let mut sent = Packet::datagram(inside, other, &[0; 1400]);
    nat.handle_outbound(now, &mut sent).expect("it goes out");
    let outside = sent.flow().expect("it has a flow").source;

    let mut error = sent.too_big(1280);
    nat.handle_inbound(now, &mut error)
        .expect("it is about a mapping");
    assert!(error.is_sound());
    assert_eq!(error.ip(End::Target), inside.ip());
    assert_eq!(error.quoted().map(|quoted| quoted.source), Some(inside));

    let came = Packet::datagram(other, inside, &[0; 1400]);
    let mut error = came.too_big(1280);
    nat.handle_outbound(now, &mut error)
        .expect("it is about a mapping");
    assert!(error.is_sound());
    assert_eq!(error.ip(End::Source), outside.ip());
    assert_eq!(error.quoted().map(|quoted| quoted.target), Some(outside));
}

#[test]
fn echo_and_tcp_pass_and_tcp_is_filtered_by_port() {
    let now = Instant::now();
    let mut nat = nat(Dependence::Independent, Dependence::AddressAndPort);
    let (inside, other) = (at("192.168.1.2:5000"), at("203.0.113.1:443"));
    let mut ping = Packet::echo(inside.ip(), other.ip(), 9);
    nat.handle_outbound(now, &mut ping).expect("it goes out");
    let id = ping.flow().expect("it has a flow").source.port();
    let mut pong = Packet::echo(other.ip(), OUTSIDE.into(), id);
    nat.handle_inbound(now, &mut pong)
        .expect("it was asked for");
    assert_eq!(pong.ip(End::Target), inside.ip());

    let mut syn = Packet::tcp(inside, other, (1, super::super::packet::SYN), b"");
    nat.handle_outbound(now, &mut syn).expect("it goes out");
    let outside = syn.flow().expect("it has a flow").source;
    let mut answer = Packet::tcp(other, outside, (1, 0x12), b"");
    nat.handle_inbound(now, &mut answer)
        .expect("it was asked for");
    let mut stranger = Packet::tcp(at("203.0.113.1:80"), outside, (1, 0x12), b"");
    assert_eq!(
        nat.handle_inbound(now, &mut stranger),
        Err(Dropped::Filtered)
    );
}

#[test]
fn the_sixth_version_is_not_translated_but_filtered() {
    let now = Instant::now();
    let (inside, other) = (at("[2001:db8:1::2]:5000"), at("[2001:db8::1]:1"));
    let mut nat = nat(Dependence::Independent, Dependence::AddressAndPort);
    assert_eq!(back(&mut nat, now, other, inside), Err(Dropped::Filtered));
    assert_eq!(out(&mut nat, now, inside, other), inside);
    assert_eq!(back(&mut nat, now, other, inside), Ok(inside));
    let stranger = at("[2001:db8::1]:2");
    assert_eq!(
        back(&mut nat, now, stranger, inside),
        Err(Dropped::Filtered)
    );
}

#[test]
fn a_packet_for_the_own_outside_address_turns_back_where_that_is_allowed() {
    let packet = Packet::datagram(at("192.168.1.2:1"), SocketAddr::new(OUTSIDE.into(), 2), b"");
    let mut config = NatConfig::new(Dependence::Independent, Dependence::Independent);
    assert_eq!(Nat::new(config, OUTSIDE, 1).turns_back(&packet), Ok(true));
    config.hairpin = Hairpin::No;
    let refused = Nat::new(config, OUTSIDE, 1).turns_back(&packet);
    assert_eq!(refused, Err(Dropped::NoHairpin));
}
