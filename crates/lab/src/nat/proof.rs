//! Proves that each kind of network does what its name says, and that this would be noticed
//! if it did not.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::firewall::Rule;
use super::internet::GateConfig;
use super::kind::{Kind, Place};
use super::net::{Host, Net, Sixth};
use super::probe::{self, Observed, Server};
use super::translator::Dependence::{self, Address, AddressAndPort, Independent};
use super::translator::{Hairpin, NatConfig};

/// What the models of a proof begin with.
const SEED: u64 = 1;

/// Proves kinds; gives how many are not what they say.
pub(crate) fn prove(kinds: &[Kind]) -> Result<usize> {
    let registry = probe::registry();
    let mut net = Net::start(registry, Sixth::Without, SEED)?;
    let host = net.add_server("probe", &probe::ADDRESSES)?;
    let _server = Server::start(&host.namespace)?;
    let mut wrong = 0;
    for kind in kinds {
        let place = net.peek_place();
        let expected = Observed::expected(&kind.gates(&place));
        let host = net.add_host(&kind.name(), *kind)?;
        let seen = observe(&host, &place).with_context(|| kind.name())?;
        if seen == expected {
            println!("proved: {}: {seen}", kind.name());
        } else {
            wrong += 1;
            println!(
                "VIOLATION: {}: {seen}; it should be: {expected}",
                kind.name()
            );
        }
    }
    for broken in broken() {
        let place = net.peek_place();
        let gates = (broken.gates)(&place);
        let expected = Observed::expected(&broken.kind.gates(&place));
        let host = net.add_host_behind("broken", &gates)?;
        let seen = observe(&host, &place).context(broken.what)?;
        if seen == expected {
            wrong += 1;
            println!("VIOLATION: nobody noticed {}", broken.what);
        } else {
            println!("noticed: {}: {seen}", broken.what);
        }
    }
    Ok(wrong)
}

/// All kinds.
pub(crate) fn all() -> &'static [Kind] {
    Kind::value_variants()
}

fn observe(host: &Host, place: &Place) -> Result<Observed> {
    host.namespace.run(|| probe::observe(place.carried))
}

/// A network that is not what it should be.
struct Broken {
    what: &'static str,
    kind: Kind,
    gates: fn(&Place) -> Vec<GateConfig>,
}

const fn broken_as(kind: Kind, what: &'static str, gates: fn(&Place) -> Vec<GateConfig>) -> Broken {
    Broken { what, kind, gates }
}

fn nat(place: &Place, mapping: Dependence, filtering: Dependence) -> GateConfig {
    GateConfig::Nat(NatConfig::new(mapping, filtering), place.outside)
}

/// One who is at home behind a carrier; the carrier maps and the home filters like this.
fn carried(place: &Place, mapping: Dependence, filtering: Dependence) -> Vec<GateConfig> {
    let home = NatConfig::new(Independent, filtering);
    let carrier = nat(place, mapping, Independent);
    vec![carrier, GateConfig::Nat(home, place.carried)]
}

/// A home with a firewall.
fn guarded(place: &Place, rule: Rule) -> Vec<GateConfig> {
    let home = nat(place, Independent, AddressAndPort);
    vec![home, GateConfig::Firewall(rule)]
}

/// Mistakes in every kind, and in every property that a proof must see. How long mappings
/// live is not among them: that takes minutes, and is tested in the translator's own time.
fn broken() -> [Broken; 17] {
    [
        broken_as(Kind::None, "a public address that is translated", |place| {
            vec![nat(place, Independent, Independent)]
        }),
        broken_as(
            Kind::FullCone,
            "a full cone that filters by address",
            |place| vec![nat(place, Independent, Address)],
        ),
        broken_as(
            Kind::FullCone,
            "a full cone that maps each address anew",
            |place| vec![nat(place, Address, Independent)],
        ),
        broken_as(
            Kind::AddressRestricted,
            "an address-restricted NAT that filters by port too",
            |place| vec![nat(place, Independent, AddressAndPort)],
        ),
        broken_as(
            Kind::AddressRestricted,
            "an address-restricted NAT that lets everybody in",
            |place| vec![nat(place, Independent, Independent)],
        ),
        broken_as(
            Kind::PortRestricted,
            "a port-restricted NAT that lets all ports of an address in",
            |place| vec![nat(place, Independent, Address)],
        ),
        broken_as(
            Kind::PortRestricted,
            "a port-restricted NAT without hairpinning",
            |place| {
                let config = NatConfig {
                    hairpin: Hairpin::No,
                    ..NatConfig::new(Independent, AddressAndPort)
                };
                vec![GateConfig::Nat(config, place.outside)]
            },
        ),
        broken_as(
            Kind::Symmetric,
            "a symmetric NAT that maps all ports of an address to one",
            |place| vec![nat(place, Address, AddressAndPort)],
        ),
        broken_as(
            Kind::Symmetric,
            "a symmetric NAT that lets all ports of an address in",
            |place| vec![nat(place, AddressAndPort, Address)],
        ),
        broken_as(
            Kind::Cgnat,
            "a carrier whose customers have no NAT",
            |place| vec![nat(place, Independent, Independent)],
        ),
        broken_as(Kind::Cgnat, "a NAT at home without a carrier's", |place| {
            vec![nat(place, Independent, AddressAndPort)]
        }),
        broken_as(
            Kind::Cgnat,
            "a carrier that maps each other end anew",
            |place| carried(place, AddressAndPort, AddressAndPort),
        ),
        broken_as(
            Kind::Cgnat,
            "a carrier's customer who lets everybody in",
            |place| carried(place, Independent, Independent),
        ),
        broken_as(
            Kind::UdpBlocked,
            "a firewall against UDP with the door open",
            |place| vec![nat(place, Independent, AddressAndPort)],
        ),
        broken_as(
            Kind::UdpBlocked,
            "a firewall against UDP that is against other TCP than HTTPS too",
            |place| guarded(place, Rule::TcpHttps),
        ),
        broken_as(
            Kind::OnlyTcp443,
            "a firewall for port 443 that lets out all TCP",
            |place| guarded(place, Rule::NoUdp),
        ),
        broken_as(
            Kind::OnlyRegistry,
            "a firewall for the registry alone that lets out TURN",
            |place| guarded(place, Rule::TcpHttps),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_there_for_every_kind() {
        for kind in all() {
            assert!(
                broken().iter().any(|broken| broken.kind == *kind),
                "{kind:?}"
            );
        }
    }
}
