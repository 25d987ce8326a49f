use std::net::SocketAddr;
use std::time::Duration;

use super::super::translator::{Dependence, Hairpin};
use super::super::weather::{Cut, Mtu};
use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn cone() -> NatConfig {
    NatConfig::new(Dependence::Independent, Dependence::AddressAndPort)
}

fn home(internet: &mut Internet, outside: Ipv4Addr, behind: Option<GateId>) -> GateId {
    internet.add_gate(GateConfig::Nat(cone(), outside), behind)
}

/// Sends a datagram; gives who got it at once and what they saw.
fn send(
    internet: &mut Internet,
    now: Instant,
    host: HostId,
    from: &str,
    to: SocketAddr,
) -> Option<(HostId, SocketAddr)> {
    let packet = Packet::datagram(at(from), to, b"x");
    internet.handle_packet(now, host, packet.bytes().to_vec());
    let (to, packet) = internet.poll_arrival()?;
    assert!(packet.is_sound());
    Some((to, packet.flow().expect("it has a flow").source))
}

#[test]
fn a_packet_goes_through_two_gates_and_its_answer_comes_back() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let server = internet.add_host(&[ip("203.0.113.1")], None);
    let carrier = home(&mut internet, Ipv4Addr::new(198, 51, 100, 1), None);
    let gate = home(&mut internet, Ipv4Addr::new(100, 64, 0, 2), Some(carrier));
    let host = internet.add_host(&[ip("192.168.1.2")], Some(gate));
    assert_eq!(internet.public_address(host), Some(ip("198.51.100.1")));

    let (to, seen) = send(
        &mut internet,
        now,
        host,
        "192.168.1.2:9",
        at("203.0.113.1:53"),
    )
    .expect("it arrives");
    assert_eq!((to, seen.ip()), (server, ip("198.51.100.1")));
    let (to, seen) = send(&mut internet, now, server, "203.0.113.1:53", seen).expect("it arrives");
    assert_eq!((to, seen), (host, at("203.0.113.1:53")));
    let stranger = send(
        &mut internet,
        now,
        server,
        "203.0.113.1:54",
        at("198.51.100.1:9"),
    );
    assert_eq!(stranger, None);
    let dark = send(
        &mut internet,
        now,
        host,
        "192.168.1.2:9",
        at("203.0.113.200:1"),
    );
    assert_eq!(dark, None);
    assert_eq!(internet.dropped().values().sum::<u64>(), 2);
}

#[test]
fn neighbours_reach_each_other_inside_and_by_the_outside_address_where_that_turns_back() {
    let now = Instant::now();
    for hairpin in [Hairpin::Yes, Hairpin::No] {
        let mut internet = Internet::new(1);
        let mut config = NatConfig::new(Dependence::Independent, Dependence::Independent);
        config.hairpin = hairpin;
        let outside = Ipv4Addr::new(198, 51, 100, 1);
        let gate = internet.add_gate(GateConfig::Nat(config, outside), None);
        let anna = internet.add_host(&[ip("192.168.1.2")], Some(gate));
        let otto = internet.add_host(&[ip("192.168.1.3")], Some(gate));
        let direct = send(
            &mut internet,
            now,
            anna,
            "192.168.1.2:9",
            at("192.168.1.3:9"),
        );
        assert_eq!(direct, Some((otto, at("192.168.1.2:9"))));
        send(
            &mut internet,
            now,
            otto,
            "192.168.1.3:7000",
            at("203.0.113.1:1"),
        );
        let around = send(
            &mut internet,
            now,
            anna,
            "192.168.1.2:9000",
            at("198.51.100.1:7000"),
        );
        let wanted = (hairpin == Hairpin::Yes).then_some((otto, at("198.51.100.1:9000")));
        assert_eq!(around, wanted);
    }
}

#[test]
fn what_is_sent_to_any_address_of_a_watched_host_is_counted_also_where_a_firewall_stops_it() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let guard = internet.add_gate(GateConfig::Firewall(Rule::NoUdp), None);
    let anna = internet.add_host(&[ip("203.0.113.101")], Some(guard));
    let gate = home(&mut internet, Ipv4Addr::new(198, 51, 100, 1), None);
    let otto = internet.add_host(&[ip("192.168.1.3")], Some(gate));
    internet.watch(anna, otto);
    let mut tell = |to| {
        let arrived = send(&mut internet, now, anna, "203.0.113.101:9", at(to));
        assert_eq!(arrived, None);
        internet.watched()
    };
    let counts = ["203.0.113.1:9", "198.51.100.1:9", "192.168.1.3:9"].map(&mut tell);
    assert_eq!(counts, [0, 1, 2]);
}

#[test]
fn a_moved_host_is_found_at_its_new_place_only() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let server = internet.add_host(&[ip("203.0.113.1")], None);
    let host = internet.add_host(&[ip("203.0.113.2")], None);
    internet.move_host(host, &[ip("203.0.113.3")], None);
    let (old, new) = (at("203.0.113.2:1"), at("203.0.113.3:1"));
    assert_eq!(send(&mut internet, now, server, "203.0.113.1:1", old), None);
    let came = send(&mut internet, now, server, "203.0.113.1:1", new);
    assert_eq!(came.map(|(to, _)| to), Some(host));
    assert_eq!(
        send(
            &mut internet,
            now,
            host,
            "203.0.113.2:1",
            at("203.0.113.1:1")
        ),
        None
    );
    assert_eq!(internet.dropped().get(&Dropped::ForeignSource), Some(&1));
}

#[test]
fn lines_delay_and_cuts_have_a_direction() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let (a, b) = (ip("203.0.113.1"), ip("203.0.113.2"));
    let (anna, otto) = (internet.add_host(&[a], None), internet.add_host(&[b], None));
    let delay = Duration::from_millis(5);
    let weather = Weather {
        delay,
        ..Weather::default()
    };
    for direction in [Direction::Up, Direction::Down] {
        internet.set_weather(anna, direction, weather);
    }
    assert_eq!(
        send(
            &mut internet,
            now,
            anna,
            "203.0.113.1:1",
            at("203.0.113.2:1")
        ),
        None
    );
    assert_eq!(internet.poll_timeout(), Some(now + delay));
    internet.handle_timeout(now + delay);
    assert_eq!(internet.poll_arrival().map(|(to, _)| to), Some(otto));

    internet.cut(b, a);
    assert_eq!(
        send(
            &mut internet,
            now,
            otto,
            "203.0.113.2:1",
            at("203.0.113.1:1")
        ),
        None
    );
    assert_eq!(internet.poll_timeout(), None);
    internet.heal();
    internet.set_weather(
        anna,
        Direction::Down,
        Weather {
            cut: Cut::Yes,
            ..weather
        },
    );
    send(
        &mut internet,
        now,
        otto,
        "203.0.113.2:1",
        at("203.0.113.1:1"),
    );
    assert_eq!(internet.dropped().get(&Dropped::Cut), Some(&2));
}

#[test]
fn who_sends_too_much_at_once_is_told_at_either_end() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let server = internet.add_host(&[ip("203.0.113.1")], None);
    let gate = home(&mut internet, Ipv4Addr::new(198, 51, 100, 1), None);
    let host = internet.add_host(&[ip("192.168.1.2")], Some(gate));
    let narrow = Weather {
        mtu: Mtu::Told(1280),
        ..Weather::default()
    };
    internet.set_weather(host, Direction::Up, narrow);
    internet.set_weather(host, Direction::Down, narrow);
    let (inside, outside) = (at("192.168.1.2:9"), at("203.0.113.1:1"));
    let big = Packet::datagram(inside, outside, &[0; 1400]);
    internet.handle_packet(now, host, big.bytes().to_vec());
    let (to, error) = internet.poll_arrival().expect("it is told");
    assert_eq!((to, error.quoted()), (host, big.flow()));

    let (_, seen) = send(&mut internet, now, host, "192.168.1.2:9", outside).expect("it arrives");
    let big = Packet::datagram(outside, seen, &[0; 1400]);
    internet.handle_packet(now, server, big.bytes().to_vec());
    let (to, error) = internet.poll_arrival().expect("it is told");
    assert!(error.is_sound());
    assert_eq!((to, error.quoted()), (server, big.flow()));
}

#[test]
fn a_firewall_resets_both_ends_of_what_it_cuts() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let registry = at("203.0.113.1:443");
    let server = internet.add_host(&[registry.ip()], None);
    let gate = home(&mut internet, Ipv4Addr::new(198, 51, 100, 1), None);
    let wall = internet.add_gate(GateConfig::Firewall(Rule::HttpsTo(registry)), Some(gate));
    let host = internet.add_host(&[ip("192.168.1.2")], Some(wall));
    let inside = at("192.168.1.2:9");
    for (sequence, flags, text) in [(1, 2, &b""[..]), (2, 0x10, &b"GET "[..])] {
        let packet = Packet::tcp(inside, registry, (sequence, flags), text);
        internet.handle_packet(now, host, packet.bytes().to_vec());
    }
    let arrivals: Vec<_> = std::iter::from_fn(|| internet.poll_arrival()).collect();
    let to: Vec<_> = arrivals.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [server, host, server]);
    assert!(arrivals.iter().all(|(_, packet)| packet.is_sound()));
}

#[test]
fn the_sixth_version_passes_a_nat_untranslated_when_asked_for() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let server = internet.add_host(&[ip("2001:db8::1")], None);
    let gate = home(&mut internet, Ipv4Addr::new(198, 51, 100, 1), None);
    let host = internet.add_host(&[ip("192.168.1.2"), ip("2001:db8:1::2")], Some(gate));
    let (inside, outside) = ("[2001:db8:1::2]:9", "[2001:db8::1]:1");
    assert_eq!(send(&mut internet, now, server, outside, at(inside)), None);
    let out = send(&mut internet, now, host, inside, at(outside));
    assert_eq!(out, Some((server, at(inside))));
    let back = send(&mut internet, now, server, outside, at(inside));
    assert_eq!(back, Some((host, at(outside))));
}

#[test]
fn a_forbidden_protocol_passes_in_neither_direction_until_it_may_again() {
    let now = Instant::now();
    let mut internet = Internet::new(1);
    let (a, b) = (at("203.0.113.1:1"), at("203.0.113.2:1"));
    let (anna, otto) = (
        internet.add_host(&[a.ip()], None),
        internet.add_host(&[b.ip()], None),
    );
    internet.forbid(anna, Some(Protocol::Udp));
    assert_eq!(send(&mut internet, now, anna, "203.0.113.1:1", b), None);
    assert_eq!(send(&mut internet, now, otto, "203.0.113.2:1", a), None);
    assert_eq!(internet.dropped().get(&Dropped::Forbidden), Some(&2));
    let segment = Packet::tcp(a, b, (1, 2), b"");
    internet.handle_packet(now, anna, segment.bytes().to_vec());
    assert_eq!(internet.poll_arrival().map(|(to, _)| to), Some(otto));
    internet.forbid(anna, None);
    let came = send(&mut internet, now, anna, "203.0.113.1:1", b);
    assert_eq!(came, Some((otto, a)));
}
