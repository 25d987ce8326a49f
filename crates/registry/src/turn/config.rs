//! How the server is set up.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use waymesh_net::turn::server::{Limits, Network, RelaySecret};
use waymesh_proto::AgentId;

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where it listens by UDP. TCP and TLS come by [`super::RelayHandle::serve_stream`].
    pub listen: Vec<SocketAddr>,
    /// A second address for NAT behaviour discovery (RFC 5780): of this host,
    /// differing in IP address and port from the first in `listen` of its family.
    /// UDP is served on both ports of both addresses.
    pub other: Option<SocketAddr>,
    /// The addresses that relays have, one of a family at most. Without one of a
    /// family, the address that the client has reached the server at. One that no
    /// interface has is that of a 1:1 NAT: relays listen on all addresses then.
    pub relay_ips: Vec<IpAddr>,
    /// The ports that relays have; `None` lets the system choose.
    pub relay_ports: Option<RangeInclusive<u16>>,
    /// The realm of the credentials.
    pub realm: String,
    /// What credentials are made of.
    pub secret: RelaySecret,
    /// Networks that data may be relayed to although they are not of the open internet.
    pub allow: Vec<Network>,
    /// Who was removed before this start, whether or not it is a member again:
    /// credentials from before count no more.
    pub removed: BTreeSet<AgentId>,
    /// How much of everything.
    pub limits: Limits,
}

/// Longest realm, bytes. Chosen: every challenge carries it.
const REALM_MAX_BYTES: usize = 63;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A UDP port cannot be opened: choose another, or end who has it.
    #[error("UDP {address} cannot be opened: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The second address does not differ in both, or is of no family that is listened on.
    #[error(
        "{0} cannot be the second address: it must be an address of this host that differs from the first in IP and port"
    )]
    Other(SocketAddr),
    /// The realm is empty or too long.
    #[error("the realm must have 1 to {REALM_MAX_BYTES} bytes")]
    Realm,
    /// Two relay addresses are of one family, or one is unspecified.
    #[error("{0} cannot be a relay address beside the others")]
    RelayIp(IpAddr),
    /// The range of relay ports has no port.
    #[error("the range of relay ports is empty")]
    RelayPorts,
    /// The thread cannot be started.
    #[error("the relay's thread cannot be started: {0}")]
    Thread(io::Error),
}

impl RelayConfig {
    pub(super) fn check(&self) -> Result<(), RelayError> {
        if self.realm.is_empty() || self.realm.len() > REALM_MAX_BYTES {
            return Err(RelayError::Realm);
        }
        for (at, ip) in self.relay_ips.iter().enumerate() {
            let earlier = &self.relay_ips[..at];
            if ip.is_unspecified() || earlier.iter().any(|e| e.is_ipv4() == ip.is_ipv4()) {
                return Err(RelayError::RelayIp(*ip));
            }
        }
        match &self.relay_ports {
            Some(ports) if ports.is_empty() || *ports.start() == 0 => Err(RelayError::RelayPorts),
            _ => Ok(()),
        }
    }
}
