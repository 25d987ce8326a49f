//! Candidates: the addresses that this node offers, and what kind of address
//! each candidate of a peer is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use str0m::{Candidate, CandidateKind as IceKind};
use waymesh_proto::link::{CandidateKind, LinkProtocol, TriedCandidate};

use super::interfaces::Interfaces;

/// Host candidates offered to a peer, loopback included. Chosen: hosts with more
/// addresses exist (containers), but ICE keeps 100 pairs at most and drops the
/// relayed ones first; two peers with this many and two relays each make 100.
pub(super) const HOST_CANDIDATES_MAX: usize = 8;

/// Candidates taken from one peer, in its description and trickled. Chosen: a
/// peer as large as this node, with some reflexive and relayed addresses, that
/// changes its network twice while the link is being made.
pub(super) const REMOTE_CANDIDATES_MAX: usize = 36;

/// A candidate of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalCandidate {
    /// `Host`, `Srflx` or `Relay`.
    pub(super) kind: CandidateKind,
    /// Where peers send to.
    pub(super) address: SocketAddr,
    /// The host's address behind it.
    pub(super) base: SocketAddr,
    /// What carries packets from this host: to the peer, or to the relay.
    pub(super) protocol: LinkProtocol,
}

impl LocalCandidate {
    pub(super) const fn host(address: SocketAddr) -> Self {
        Self {
            kind: CandidateKind::Host,
            address,
            base: address,
            protocol: LinkProtocol::Udp,
        }
    }

    pub(super) const fn reflexive(address: SocketAddr, base: SocketAddr) -> Self {
        Self {
            kind: CandidateKind::Srflx,
            address,
            base,
            protocol: LinkProtocol::Udp,
        }
    }

    /// What the stack calls the source of packets that this candidate sends.
    pub(super) const fn source(&self) -> SocketAddr {
        match self.kind {
            CandidateKind::Relay => self.address,
            _ => self.base,
        }
    }

    /// The candidate as the stack wants it; `None` for an address that cannot be one.
    pub(super) fn to_ice(self) -> Option<Candidate> {
        let made = match self.kind {
            // Between relay and peer it is UDP whatever leads to the relay.
            CandidateKind::Relay => Candidate::relayed(self.address, self.base, "udp"),
            CandidateKind::Host => Candidate::host(self.address, "udp"),
            CandidateKind::Srflx | CandidateKind::Prflx => {
                Candidate::server_reflexive(self.address, self.base, "udp")
            }
        };
        made.inspect_err(
            |error| tracing::debug!(%error, address = %self.address, "not a candidate"),
        )
        .ok()
    }

    pub(super) const fn tried(&self) -> TriedCandidate {
        TriedCandidate {
            kind: self.kind,
            address: self.address,
        }
    }
}

/// Which of the host's addresses the socket can offer.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostRules {
    pub(super) port: u16,
    /// The address that the socket is bound to, if to one.
    pub(super) only: Option<IpAddr>,
    pub(super) loopback_only: bool,
    pub(super) carries_v6: bool,
}

impl HostRules {
    /// The addresses to offer, best first.
    ///
    /// Loopback comes last, so that two nodes on one host without any network
    /// connect too.
    pub(super) fn addresses(&self, interfaces: &Interfaces) -> Vec<SocketAddr> {
        let mut ips = match self.loopback_only {
            true => Vec::new(),
            false => interfaces.ips.clone(),
        };
        let is_carried = |ip: &IpAddr| {
            (ip.is_ipv4() || self.carries_v6)
                && self
                    .only
                    .is_none_or(|only| only == *ip || only.is_unspecified())
        };
        ips.retain(is_carried);
        ips.truncate(HOST_CANDIDATES_MAX - 2);
        let v6_loopback = interfaces
            .has_v6_loopback
            .then_some(Ipv6Addr::LOCALHOST.into());
        let loopback = [Some(Ipv4Addr::LOCALHOST.into()), v6_loopback];
        ips.extend(loopback.into_iter().flatten().filter(is_carried));
        let port = self.port;
        ips.into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect()
    }
}

/// Whether an address means something only inside some network: those of RFC
/// 1918, 6598, 3927 and 4193, and loopback.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// The candidates that a peer named, and what kind each is.
#[derive(Debug, Default)]
pub(super) struct RemoteCandidates {
    known: Vec<TriedCandidate>,
}

impl RemoteCandidates {
    /// Notes a candidate; false when the peer has named too many.
    pub(super) fn add(&mut self, candidate: &Candidate) -> bool {
        if self.known.len() >= REMOTE_CANDIDATES_MAX {
            return false;
        }
        self.known.push(TriedCandidate {
            kind: kind(candidate.kind()),
            address: candidate.addr(),
        });
        true
    }

    /// What kind of address this is: peer-reflexive if the peer never named it.
    pub(super) fn kind_of(&self, address: SocketAddr) -> CandidateKind {
        let named = self.known.iter().find(|known| known.address == address);
        named.map_or(CandidateKind::Prflx, |known| known.kind)
    }

    /// What the peer named.
    pub(super) fn named(&self) -> &[TriedCandidate] {
        &self.known
    }
}

fn kind(kind: IceKind) -> CandidateKind {
    match kind {
        IceKind::Host => CandidateKind::Host,
        IceKind::PeerReflexive => CandidateKind::Prflx,
        IceKind::ServerReflexive => CandidateKind::Srflx,
        IceKind::Relayed => CandidateKind::Relay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: HostRules = HostRules {
        port: 9,
        only: None,
        loopback_only: false,
        carries_v6: true,
    };

    fn interfaces(count: u8) -> Interfaces {
        Interfaces {
            ips: (1..=count)
                .map(|n| IpAddr::from([192, 168, 0, n]))
                .collect(),
            has_v6_loopback: true,
        }
    }

    #[test]
    fn as_many_addresses_as_the_limit_are_offered_and_of_one_more_the_last_is_not_but_loopback_is()
    {
        let most = (HOST_CANDIDATES_MAX - 2) as u8;
        for count in [most, most + 1] {
            let offered = RULES.addresses(&interfaces(count));
            assert_eq!(offered.len(), HOST_CANDIDATES_MAX);
            let loopback = offered.iter().filter(|a| a.ip().is_loopback());
            assert_eq!(loopback.count(), 2);
            assert_eq!(offered[0].ip(), IpAddr::from([192, 168, 0, 1]));
        }
    }

    #[test]
    fn a_socket_that_is_bound_to_an_address_offers_that_alone() {
        let only = Some(IpAddr::from([192, 168, 0, 2]));
        let bound = HostRules { only, ..RULES };
        assert_eq!(
            bound.addresses(&interfaces(3)),
            [SocketAddr::from(([192, 168, 0, 2], 9))]
        );
        assert_eq!(bound.addresses(&interfaces(1)), []);
        let bound = HostRules {
            only: Some(Ipv4Addr::UNSPECIFIED.into()),
            carries_v6: false,
            ..RULES
        };
        assert_eq!(bound.addresses(&interfaces(1)).len(), 2);
    }

    #[test]
    fn private_are_the_addresses_behind_a_nat() {
        for (ip, expected) in [
            ("10.1.2.3", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("192.0.2.1", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                is_private(ip.parse().expect("an address")),
                expected,
                "{ip}"
            );
        }
    }
}
