use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::super::internet::{HostId, Internet};
use super::super::kind::{Kind, Place};
use super::super::packet::Packet;
use super::super::translator::NatConfig;
use super::*;

use Path::{Direct, Mailbox, Relay};

fn reach(kind: Kind) -> Reach {
    let registry = "203.0.113.1:443".parse().expect("an address");
    Reach::through(&kind.gates(&Place::new(1, registry)))
}

#[test]
fn the_kinds_reach_each_other_as_is_known_of_them() {
    let path = |a, b| reach(a).best_path(reach(b), Sixth::Without);
    assert_eq!(path(Kind::PortRestricted, Kind::PortRestricted), Direct);
    assert_eq!(path(Kind::Symmetric, Kind::AddressRestricted), Direct);
    assert_eq!(path(Kind::Symmetric, Kind::PortRestricted), Relay);
    assert_eq!(path(Kind::Symmetric, Kind::Cgnat), Relay);
    assert_eq!(path(Kind::Symmetric, Kind::Symmetric), Relay);
    assert_eq!(path(Kind::Symmetric, Kind::None), Direct);
    assert_eq!(path(Kind::Cgnat, Kind::PortRestricted), Direct);
    assert_eq!(path(Kind::UdpBlocked, Kind::None), Relay);
    assert_eq!(path(Kind::OnlyTcp443, Kind::UdpBlocked), Relay);
    assert_eq!(path(Kind::OnlyRegistry, Kind::None), Mailbox);
}

#[test]
fn with_ipv6_every_two_networks_that_let_udp_out_meet() {
    let is_open = |kind| reach(kind).udp.is_some();
    for own in crate::nat::proof::all().iter().copied() {
        for their in crate::nat::proof::all().iter().copied() {
            let with = reach(own).best_path(reach(their), Sixth::With);
            let without = reach(own).best_path(reach(their), Sixth::Without);
            let wanted = if is_open(own) && is_open(their) {
                Direct
            } else {
                without
            };
            assert_eq!(with, wanted, "{own:?} and {their:?}");
        }
    }
}

/// Two hosts that check each other as ICE does, over the lab's models.
struct Punching {
    internet: Internet,
    hosts: [HostId; 2],
    own: [SocketAddr; 2],
    server: (HostId, SocketAddr),
    /// Where each host knows the other to be.
    known: [Vec<SocketAddr>; 2],
    /// Checks sent and not answered: by whom, where to.
    is_through: bool,
}

/// What a packet is.
const CHECK: u8 = 1;
const ANSWER: u8 = 2;

impl Punching {
    fn new(sides: [Udp; 2], sixth: Sixth) -> Self {
        let mut internet = Internet::new(5);
        let server = match sixth {
            Sixth::Without => "203.0.113.1:3478",
            Sixth::With => "[2001:db8::1]:3478",
        };
        let server: SocketAddr = server.parse().expect("an address");
        let host = internet.add_host(&[server.ip()], None);
        let mut hosts = Vec::new();
        let mut own = Vec::new();
        for (number, side) in sides.into_iter().enumerate() {
            let number = u8::try_from(number).expect("there are two");
            let nat = NatConfig::new(side.mapping, side.filtering);
            let outside = Ipv4Addr::new(198, 51, 100, 1 + number);
            let gate = internet.add_gate(GateConfig::Nat(nat, outside), None);
            let address = match sixth {
                Sixth::Without => IpAddr::from([192, 168, 1, 2 + number]),
                Sixth::With => IpAddr::from([0x2001, 0xdb8, 1 + u16::from(number), 0, 0, 0, 0, 2]),
            };
            hosts.push(internet.add_host(&[address], Some(gate)));
            own.push(SocketAddr::new(address, 5_000));
        }
        Self {
            internet,
            hosts: [hosts[0], hosts[1]],
            own: [own[0], own[1]],
            server: (host, server),
            known: [Vec::new(), Vec::new()],
            is_through: false,
        }
    }

    fn send(&mut self, now: Instant, from: usize, to: SocketAddr, what: u8) {
        let packet = Packet::datagram(self.own[from], to, &[what]);
        let bytes = packet.bytes().to_vec();
        self.internet.handle_packet(now, self.hosts[from], bytes);
    }

    /// Both ask the server where they are, and are told where the other is.
    fn gather(&mut self, now: Instant) {
        for side in [0, 1] {
            self.send(now, side, self.server.1, CHECK);
            let (host, packet) = self.internet.poll_arrival().expect("the server hears");
            assert_eq!(host, self.server.0);
            let seen = packet.flow().expect("it has a flow").source;
            self.known[1 - side].push(seen);
        }
    }

    /// Each checks all it knows; what arrives is answered, and its source checked too.
    fn round(&mut self, now: Instant) {
        for side in [0, 1] {
            for at in 0..self.known[side].len() {
                self.send(now, side, self.known[side][at], CHECK);
            }
        }
        while let Some((host, packet)) = self.internet.poll_arrival() {
            let Some(side) = self.hosts.iter().position(|id| *id == host) else {
                continue;
            };
            let from = packet.flow().expect("it has a flow").source;
            let is_known = self.known[side].contains(&from);
            if packet.bytes().last() == Some(&ANSWER) {
                // An answer counts from where the check went (RFC 8445 §7.2.5.2.1).
                self.is_through |= is_known;
                continue;
            }
            if !is_known {
                self.known[side].push(from);
            }
            self.send(now, side, from, ANSWER);
        }
    }
}

#[test]
fn the_rule_agrees_with_the_models() {
    let all = || {
        Dependence::ALL
            .into_iter()
            .flat_map(|mapping| Dependence::ALL.map(|filtering| Udp { mapping, filtering }))
    };
    let is_through = |own, their, sixth| {
        let now = Instant::now();
        let mut punching = Punching::new([own, their], sixth);
        punching.gather(now);
        for _ in 0..6 {
            punching.round(now);
        }
        punching.is_through
    };
    let mut wrong = Vec::new();
    for (own, their) in all().flat_map(|own| all().map(move |their| (own, their))) {
        if is_through(own, their, Sixth::Without) != own.meets(their) {
            wrong.push((own, their, Sixth::Without));
        }
        let by_sixth = own.untranslated().meets(their.untranslated());
        if is_through(own, their, Sixth::With) != by_sixth {
            wrong.push((own, their, Sixth::With));
        }
    }
    assert!(wrong.is_empty(), "{} of 162: {wrong:#?}", wrong.len());
}
