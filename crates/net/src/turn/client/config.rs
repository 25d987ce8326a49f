//! What a client is made of.

use std::net::{IpAddr, SocketAddr};

use super::{Credentials, Remembered};

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By UDP: messages get lost and are sent again.
    Datagrams {
        /// Where to send.
        server: SocketAddr,
    },
    /// By one TCP or TLS connection.
    Stream,
}

/// Of which IP family the relayed address is to be; peers of the other cannot be reached by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RelayFamily {
    /// IPv4, and IPv6 of a server that has no IPv4 (440). Relays of two families do
    /// not reach each other, so that IPv4, which nearly every server gives, is what two
    /// nodes have in common most likely, by whatever family they reach their servers.
    #[default]
    Common,
    /// IPv4 alone.
    V4,
    /// IPv6 alone, which some give.
    V6,
}

impl RelayFamily {
    /// Whether an address is of this family, or may turn out to be.
    pub const fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Common => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    /// The family of an address.
    pub(super) const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How the server is reached.
    pub via: Via,
    /// Which addresses it is to relay for.
    pub family: RelayFamily,
    /// Without them only a server that wants none gives an allocation.
    pub credentials: Option<Credentials>,
    /// What an earlier client from the same address to the same server signed with:
    /// coturn refuses other names there (437) for a minute and more.
    pub earlier: Option<Credentials>,
    /// What an earlier client of the same server has learnt ([`Client::remembered`](super::Client::remembered)).
    pub remembered: Option<Remembered>,
}
