//! The examination against simulated NATs: each kind is told for what it is, and what
//! cannot be known is not guessed.

use std::collections::HashMap;

use super::*;

const INSIDE: [u8; 4] = [10, 0, 0, 2];
const OUTSIDE: [u8; 4] = [198, 51, 100, 1];
const FIRST: ([u8; 4], u16) = ([192, 0, 2, 1], 3478);
const OTHER: ([u8; 4], u16) = ([192, 0, 2, 2], 3479);
const ELSEWHERE: ([u8; 4], u16) = ([203, 0, 113, 9], 3478);
const PORT: u16 = 40_000;

/// What the server is able to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    TwoAddresses,
    OneAddress,
    /// It has two, but takes no notice of where it shall answer from.
    IgnoresChange,
    /// It refuses to answer from elsewhere.
    RefusesChange,
    /// It names a second address that nobody reaches.
    OtherUnreachable,
    Silent,
}

/// A NAT with a mapping for each of what its kind tells apart.
struct World {
    mapping: Mapping,
    filtering: Filtering,
    server: Server,
    ports: HashMap<(u16, Option<IpAddr>, Option<u16>), u16>,
    sent: Vec<(u16, SocketAddr)>,
}

impl World {
    fn new(mapping: Mapping, filtering: Filtering, server: Server) -> Self {
        Self {
            mapping,
            filtering,
            server,
            ports: HashMap::new(),
            sent: Vec::new(),
        }
    }

    /// Where a packet from an inner port comes from, as its receiver sees it.
    fn mapped(&mut self, inner: u16, to: SocketAddr) -> SocketAddr {
        let key = match self.mapping {
            Mapping::None => return (INSIDE, inner).into(),
            Mapping::EndpointIndependent => (inner, None, None),
            Mapping::AddressDependent => (inner, Some(to.ip()), None),
            _ => (inner, Some(to.ip()), Some(to.port())),
        };
        let next = 50_000 + self.ports.len() as u16;
        (OUTSIDE, *self.ports.entry(key).or_insert(next)).into()
    }

    fn lets_in(&self, mapped: SocketAddr, from: SocketAddr) -> bool {
        let mut sent = self.sent.iter().filter(|(port, _)| *port == mapped.port());
        match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => sent.any(|(_, to)| to.ip() == from.ip()),
            Filtering::AddressAndPortDependent => sent.any(|(_, to)| *to == from),
        }
    }

    fn answer(&mut self, ask: &Ask<Test>) -> Said {
        let inner = match ask.lane {
            Lane::First => PORT,
            Lane::Second => PORT + 1,
        };
        let mapped = self.mapped(inner, ask.to);
        self.sent.push((mapped.port(), ask.to));
        let (first, other): (SocketAddr, SocketAddr) = (FIRST.into(), OTHER.into());
        let is_changed = ask.answer_from != AnswerFrom::There;
        let from = match (self.server, ask.answer_from) {
            (Server::Silent, _) => return Err(Silence::Nothing),
            (Server::RefusesChange, _) if is_changed => return Err(Silence::Refused(420)),
            (Server::OtherUnreachable, _) if is_changed || ask.to.ip() == other.ip() => {
                return Err(Silence::Nothing);
            }
            (Server::IgnoresChange, _) | (_, AnswerFrom::There) => ask.to,
            (_, AnswerFrom::OtherPort) => SocketAddr::new(first.ip(), other.port()),
            (_, AnswerFrom::OtherAddressAndPort | AnswerFrom::OtherAddress) => other,
        };
        if !self.lets_in(mapped, from) {
            return Err(Silence::Nothing);
        }
        let has_other = self.server != Server::OneAddress;
        Ok(Answer {
            from,
            mapped,
            other: has_other.then_some(other),
        })
    }

    fn examined(mut self, second: Option<SocketAddr>) -> Nat {
        let own = vec![IpAddr::from(INSIDE)];
        let mut behaviour = Behaviour::new(FIRST.into(), second, own, PORT);
        while let Some(ask) = behaviour.poll_ask() {
            match self.answer(&ask) {
                Ok(answer) => behaviour.handle_answer(ask.key, answer),
                Err(silence) => behaviour.handle_silence(ask.key, silence),
            }
        }
        behaviour.nat()
    }
}

const MAPPINGS: [Mapping; 4] = [
    Mapping::None,
    Mapping::EndpointIndependent,
    Mapping::AddressDependent,
    Mapping::AddressAndPortDependent,
];
const FILTERINGS: [Filtering; 3] = [
    Filtering::EndpointIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
];

#[test]
fn every_kind_of_nat_is_told_for_what_it_is() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let nat = World::new(mapping, filtering, Server::TwoAddresses).examined(None);
            assert_eq!(nat.mapping, Some(mapping));
            assert_eq!(nat.filtering, Some(filtering), "{mapping:?}");
            assert!(nat.has_other && nat.mapped.is_some());
        }
    }
}

#[test]
fn without_a_second_address_only_the_absence_of_a_nat_is_known() {
    for mapping in MAPPINGS {
        let filtering = Filtering::AddressDependent;
        let nat = World::new(mapping, filtering, Server::OneAddress).examined(None);
        let is_none = mapping == Mapping::None;
        assert_eq!(nat.mapping, is_none.then_some(Mapping::None));
        assert_eq!((nat.filtering, nat.has_other), (None, false));
    }
}

#[test]
fn two_servers_tell_whether_the_mapping_depends_on_whom_it_is_for() {
    let by_two = |mapping, second: ([u8; 4], u16)| {
        let world = World::new(mapping, Filtering::AddressDependent, Server::OneAddress);
        let nat = world.examined(Some(second.into()));
        assert_eq!(nat.filtering, None);
        nat.mapping
    };
    let independent = Mapping::EndpointIndependent;
    assert_eq!(by_two(independent, ELSEWHERE), Some(independent));
    for mapping in [Mapping::AddressDependent, Mapping::AddressAndPortDependent] {
        assert_eq!(by_two(mapping, ELSEWHERE), Some(Mapping::Dependent));
    }
    // Another port of the same host tells less.
    let port = (FIRST.0, 5_000);
    assert_eq!(by_two(independent, port), None);
    assert_eq!(by_two(Mapping::AddressDependent, port), None);
    let both = Mapping::AddressAndPortDependent;
    assert_eq!(by_two(both, port), Some(Mapping::Dependent));
}

#[test]
fn a_server_that_answers_from_where_it_was_asked_tells_nothing_of_the_filter() {
    for server in [Server::IgnoresChange, Server::RefusesChange] {
        let strict = Filtering::AddressAndPortDependent;
        let nat = World::new(Mapping::EndpointIndependent, strict, server).examined(None);
        assert_eq!(nat.mapping, Some(Mapping::EndpointIndependent));
        assert_eq!(nat.filtering, None);
    }
}

#[test]
fn silence_of_an_address_that_nobody_reaches_is_not_taken_for_a_filter() {
    let world = World::new(
        Mapping::AddressDependent,
        Filtering::EndpointIndependent,
        Server::OtherUnreachable,
    );
    let nat = world.examined(None);
    assert_eq!((nat.mapping, nat.filtering), (None, None));
    assert!(nat.has_other && nat.mapped.is_some());
}

#[test]
fn a_silent_server_tells_nothing() {
    let world = World::new(
        Mapping::None,
        Filtering::EndpointIndependent,
        Server::Silent,
    );
    assert_eq!(world.examined(None), Nat::default());
}
