//! Finds the addresses at which this host can be reached, and remembers what
//! kind of address each candidate of a peer is.

use std::net::{IpAddr, SocketAddr};

use str0m::{Candidate, CandidateKind as IceKind};
use waymesh_proto::link::CandidateKind;

use super::socket::Socket;

/// Host candidates offered to a peer. Chosen: hosts with more addresses exist
/// (containers), but every pair costs a check each 50 ms.
pub(super) const LOCAL_CANDIDATES_MAX: usize = 12;

/// Candidates taken from one peer, in its description and trickled. Chosen: a
/// peer as large as this node, with a reflexive and a relayed address for each.
pub(super) const REMOTE_CANDIDATES_MAX: usize = 3 * LOCAL_CANDIDATES_MAX;

/// The addresses to offer, best first.
///
/// Loopback comes last, so that two nodes on one host without any network
/// connect too. Link-local IPv6 is left out: it means nothing without a zone,
/// which SDP cannot say.
pub(super) fn host_addresses(
    socket: &Socket,
    only: Option<IpAddr>,
    port: u16,
    loopback_only: bool,
) -> Vec<SocketAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the host's interfaces cannot be listed; offering loopback alone");
        Vec::new()
    });
    let mut ips: Vec<IpAddr> = interfaces
        .iter()
        .filter(|interface| interface.is_oper_up() || interface.is_loopback())
        .map(if_addrs::Interface::ip)
        .filter(|ip| is_usable(*ip) && !ip.is_loopback())
        .collect();
    ips.sort();
    ips.dedup();
    if loopback_only {
        ips.clear();
    }
    ips.truncate(LOCAL_CANDIDATES_MAX - 2);
    ips.push(IpAddr::from([127, 0, 0, 1]));
    let has_v6_loopback = interfaces
        .iter()
        .any(|i| i.ip() == IpAddr::from(std::net::Ipv6Addr::LOCALHOST));
    if has_v6_loopback {
        ips.push(std::net::Ipv6Addr::LOCALHOST.into());
    }
    ips.retain(|ip| {
        socket.carries(*ip) && only.is_none_or(|only| only == *ip || only.is_unspecified())
    });
    ips.into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// The candidates that a peer named, and what kind each is.
#[derive(Debug, Default)]
pub(super) struct RemoteCandidates {
    known: Vec<(SocketAddr, CandidateKind)>,
}

impl RemoteCandidates {
    /// Notes a candidate; false when the peer has named too many.
    pub(super) fn add(&mut self, candidate: &Candidate) -> bool {
        if self.known.len() >= REMOTE_CANDIDATES_MAX {
            return false;
        }
        self.known.push((candidate.addr(), kind(candidate.kind())));
        true
    }

    /// What kind of address this is: peer-reflexive if the peer never named it.
    pub(super) fn kind_of(&self, address: SocketAddr) -> CandidateKind {
        let named = self.known.iter().find(|(known, _)| *known == address);
        named.map_or(CandidateKind::Prflx, |(_, kind)| *kind)
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
