//! What a network does, found out from inside by a test of the lab's own (RFC 5780 §4): not
//! with waymesh's STUN, and not by looking at the models.

mod client;
mod server;
mod stun;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::theory::{Reach, Udp};

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
    /// Whether HTTPS gets to the registry; it does from every network.
    pub(crate) https_to_registry: bool,
}

impl Observed {
    /// What a network must look like that does what theory takes for granted.
    pub(crate) const fn expected(reach: Reach) -> Self {
        Self {
            reach,
            https_to_registry: true,
        }
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
