//! What a network does, found out from inside by a test of the lab's own (RFC 5780 §4): not
//! with waymesh's STUN, and not by looking at the models.

mod client;
mod server;
mod stun;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::internet::GateConfig;
use super::theory::{Reach, Udp};
use super::translator::Hairpin;

pub(crate) use client::{is_there, observe};
pub(crate) use server::Server;

/// The two addresses of the server, and its ports.
pub(crate) const ADDRESSES: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 10),
    Ipv4Addr::new(203, 0, 113, 11),
];
pub(crate) const PORTS: [u16; 2] = [3_478, 3_479];

/// Where the server answers whatever comes by TCP: as HTTPS, and elsewhere.
pub(crate) const TCP_PORTS: [u16; 2] = [443, 8_080];

/// What takes the registry's place in a proof.
pub(crate) fn registry() -> SocketAddr {
    SocketAddr::from((ADDRESSES[0], TCP_PORTS[0]))
}

/// What was seen of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) reach: Reach,
    /// What stands between, where UDP gets out.
    pub(crate) nats: Option<Nats>,
    /// Whether HTTPS gets to the registry; it does from every network.
    pub(crate) https_to_registry: bool,
}

/// The NATs before a host, beyond how they map and filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nats {
    pub(crate) layers: Layers,
    /// Whether hosts inside reach each other by the addresses that the internet sees.
    pub(crate) hairpin: Hairpin,
}

/// How often an address is translated on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layers {
    None,
    One,
    /// At home, and by a carrier.
    Two,
}

impl Observed {
    /// What a network must look like that does what theory takes for granted.
    pub(crate) fn expected(gates: &[GateConfig]) -> Self {
        let reach = Reach::through(gates);
        Self {
            reach,
            nats: reach.udp.map(|_| Nats::of(gates)),
            https_to_registry: true,
        }
    }
}

impl Nats {
    /// Of gates from the internet inwards.
    fn of(gates: &[GateConfig]) -> Self {
        let nats: Vec<_> = gates
            .iter()
            .filter_map(|gate| match gate {
                GateConfig::Nat(config, _) => Some(config),
                GateConfig::Firewall(_) => None,
            })
            .collect();
        Self {
            layers: match nats.len() {
                0 => Layers::None,
                1 => Layers::One,
                _ => Layers::Two,
            },
            // A host without a NAT has the address itself.
            hairpin: nats.first().map_or(Hairpin::Yes, |nat| nat.hairpin),
        }
    }
}

impl fmt::Display for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.layers {
            Layers::None => "no NAT",
            Layers::One => "a NAT",
            Layers::Two => "two NATs",
        })?;
        f.write_str(match self.hairpin {
            Hairpin::Yes => "",
            Hairpin::No => " without hairpinning",
        })
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reach.udp {
            Some(Udp { mapping, filtering }) => {
                write!(f, "maps {}, filters {}", mapping.name(), filtering.name())?;
            }
            None => f.write_str("no UDP")?,
        }
        if let Some(nats) = self.nats {
            write!(f, ", {nats}")?;
        }
        let tcp = match (self.reach.any_tcp, self.reach.https_port) {
            (true, _) => "TCP to any port",
            (false, true) => "TCP to port 443",
            (false, false) => "no TCP",
        };
        write!(f, "; {tcp}")?;
        if !self.reach.any_tcp && self.https_to_registry {
            f.write_str(", HTTPS to the registry")?;
        }
        f.write_str(if self.reach.turn_in_tls {
            ", TURN in TLS"
        } else {
            ", no TURN in TLS"
        })
    }
}
