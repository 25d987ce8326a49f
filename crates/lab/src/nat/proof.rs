//! Proves that each kind of network does what its name says, and that this would be noticed
//! if it did not.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::firewall::Rule;
use super::internet::GateConfig;
use super::kind::{Kind, Place};
use super::net::{Net, Sixth};
use super::probe::{self, Observed, Server};
use super::theory::Reach;
use super::translator::Dependence::{self, Address, AddressAndPort, Independent};
use super::translator::NatConfig;

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
        let expected = Observed::expected(Reach::through(&kind.gates(&net.peek_place())));
        let host = net.add_host(&kind.name(), *kind)?;
        let seen = host
            .namespace
            .run(probe::observe)
            .with_context(|| kind.name())?;
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
        let gates = (broken.gates)(&net.peek_place(), registry);
        let expected = Observed::expected(Reach::through(&broken.kind.gates(&net.peek_place())));
        let host = net.add_host_behind("broken", &gates)?;
        let seen = host.namespace.run(probe::observe).context(broken.what)?;
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

/// A network that is not what it should be.
struct Broken {
    what: &'static str,
    kind: Kind,
    gates: fn(&Place, SocketAddr) -> Vec<GateConfig>,
}

fn nat(place: &Place, mapping: Dependence, filtering: Dependence) -> GateConfig {
    GateConfig::Nat(NatConfig::new(mapping, filtering), place.outside)
}

/// One mistake for every property that a proof must see.
fn broken() -> [Broken; 7] {
    [
        Broken {
            what: "a full cone that filters by address",
            kind: Kind::FullCone,
            gates: |place, _| vec![nat(place, Independent, Address)],
        },
        Broken {
            what: "an address-restricted NAT that filters by port too",
            kind: Kind::AddressRestricted,
            gates: |place, _| vec![nat(place, Independent, AddressAndPort)],
        },
        Broken {
            what: "a port-restricted NAT that lets all ports of an address in",
            kind: Kind::PortRestricted,
            gates: |place, _| vec![nat(place, Independent, Address)],
        },
        Broken {
            what: "a symmetric NAT that maps all ports of an address to one",
            kind: Kind::Symmetric,
            gates: |place, _| vec![nat(place, Address, AddressAndPort)],
        },
        Broken {
            what: "a firewall against UDP with the door open",
            kind: Kind::UdpBlocked,
            gates: |place, _| vec![nat(place, Independent, AddressAndPort)],
        },
        Broken {
            what: "a firewall for port 443 that lets out all TCP",
            kind: Kind::OnlyTcp443,
            gates: |place, _| {
                let nat = nat(place, Independent, AddressAndPort);
                vec![nat, GateConfig::Firewall(Rule::NoUdp)]
            },
        },
        Broken {
            what: "a firewall for the registry alone that lets out TURN",
            kind: Kind::OnlyRegistry,
            gates: |place, _| {
                let nat = nat(place, Independent, AddressAndPort);
                vec![nat, GateConfig::Firewall(Rule::TcpHttps)]
            },
        },
    ]
}
