//! What is possible between two networks, from how their gates map and filter.
//!
//! Nodes speak UDP to each other: a network without UDP has no direct path, but reaches a
//! relay where TURN over TLS on port 443 gets out. Two NATs are passed when a check of one
//! side gets in and its answer gets back ([`Udp::meets`]); [`tests`] plays the exchange
//! over the models of the lab for every combination and finds the same.
//!
//! No gate translates IPv6: what is a NAT to IPv4 is a firewall to IPv6, which lets in whom
//! its filtering lets in, and an address is the same to everybody. So any two networks that
//! let UDP out meet by IPv6. The registry and its relay have IPv4 alone.

use serde::Serialize;
use waymesh_proto::link::Path;

use super::firewall::Rule;
use super::internet::GateConfig;
use super::net::Sixth;
use super::translator::Dependence::{self, AddressAndPort, Independent};

/// How UDP gets in and out of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Udp {
    pub(crate) mapping: Dependence,
    pub(crate) filtering: Dependence,
}

/// What of the internet a network lets its hosts reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Reach {
    /// `None` when no UDP gets out.
    pub(crate) udp: Option<Udp>,
    /// TCP to any port.
    pub(crate) any_tcp: bool,
    /// TCP to port 443, of any host.
    pub(crate) https_port: bool,
    /// What runs on the registry's port: TURN in TLS as such.
    pub(crate) turn_in_tls: bool,
}

impl Reach {
    /// What some gates leave, from how each behaves.
    pub(crate) fn through(gates: &[GateConfig]) -> Self {
        let everything = Self {
            udp: Some(Udp {
                mapping: Independent,
                filtering: Independent,
            }),
            any_tcp: true,
            https_port: true,
            turn_in_tls: true,
        };
        gates
            .iter()
            .fold(everything, |reach, gate| reach.behind(*gate))
    }

    fn behind(self, gate: GateConfig) -> Self {
        match gate {
            // Of two NATs the one that depends on more decides.
            GateConfig::Nat(nat, _) => Self {
                udp: self.udp.map(|udp| Udp {
                    mapping: udp.mapping.max(nat.mapping),
                    filtering: udp.filtering.max(nat.filtering),
                }),
                ..self
            },
            GateConfig::Firewall(rule) => {
                let all = rule == Rule::NoUdp;
                Self {
                    udp: None,
                    any_tcp: self.any_tcp && all,
                    https_port: self.https_port && !matches!(rule, Rule::HttpsTo(_)),
                    turn_in_tls: self.turn_in_tls && !matches!(rule, Rule::HttpsTo(_)),
                }
            }
        }
    }

    /// Whether a relay on the registry's port 443 can be used, by UDP or in TLS.
    pub(crate) const fn relays(self) -> bool {
        self.udp.is_some() || self.turn_in_tls
    }

    /// The best path between two networks whose hosts have IPv4 alone, or both families; the
    /// relay is on the registry's port 443.
    pub(crate) fn best_path(self, other: Self, sixth: Sixth) -> Path {
        let meets = match (self.udp, other.udp, sixth) {
            (Some(own), Some(their), Sixth::Without) => own.meets(their),
            (Some(own), Some(their), Sixth::With) => {
                own.meets(their) || own.untranslated().meets(their.untranslated())
            }
            (None, _, _) | (_, None, _) => false,
        };
        match meets {
            true => Path::Direct,
            false if self.relays() && other.relays() => Path::Relay,
            false => Path::Mailbox,
        }
    }
}

impl Udp {
    /// The same for IPv6.
    const fn untranslated(self) -> Self {
        Self {
            mapping: Independent,
            filtering: self.filtering,
        }
    }

    /// Whether two hosts that know each other's address towards a STUN server find a way.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.opens(other) || other.opens(self)
    }

    /// Whether a check of this side's gets in at the other, and the other's answer back.
    fn opens(self, other: Self) -> bool {
        self.gets_in(other) && self.hears(other)
    }

    /// Whether a check to the other side's known address passes its filter. The other side
    /// has checked this side's known address too, through the mapping that is known only if
    /// it maps independently; and what it checked is where this one comes from only if this
    /// side maps independently.
    fn gets_in(self, other: Self) -> bool {
        match other.filtering {
            Independent => true,
            _ if other.mapping != Independent => false,
            Dependence::Address => true,
            AddressAndPort => self.mapping == Independent,
        }
    }

    /// Whether what the other side sends back, after a check got in, passes this side's
    /// filter: it comes from the address that was checked if the other side maps
    /// independently, and at least from its IP address if not.
    fn hears(self, other: Self) -> bool {
        other.mapping == Independent || self.filtering != AddressAndPort
    }
}

#[cfg(test)]
mod tests;
