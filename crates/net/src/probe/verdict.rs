//! What the network's answers come to: the path to a peer of each kind, and what would
//! have to change for a better one. It decides from [`Facts`] alone.

use serde::Serialize;
use waymesh_proto::link::Path;

use super::behaviour::{Filtering, Mapping};

#[cfg(test)]
mod tests;

/// What is known of the network; `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the registry is reached, so that links are introduced and the mailbox works.
    pub registry: Option<bool>,
    /// Whether UDP gets out and its answers in.
    pub udp: Option<bool>,
    /// What a NAT does.
    pub mapping: Option<Mapping>,
    /// Whom the NAT or a firewall lets in.
    pub filtering: Option<Filtering>,
    /// Whether a TURN server relays for this host, by any transport. One that answered and
    /// was not logged in to leaves it unknown.
    pub relay: Option<bool>,
}

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerKind {
    /// On the internet, with UDP open.
    Public,
    /// Behind a NAT with one mapping for everybody, which lets in whom it was sent to.
    Cone,
    /// Behind a NAT with a mapping for each peer.
    Symmetric,
}

/// The path to a peer of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Prospect {
    /// Where the peer is.
    pub peer: PeerKind,
    /// The path; `None` where it cannot be known, or there is none.
    pub path: Option<Path>,
    /// What there is otherwise: at least, when the path is not known; else when it does not
    /// come about.
    pub otherwise: Option<Path>,
    /// Why.
    pub reason: &'static str,
}

/// The paths to peers of every kind.
pub fn prospects(facts: Facts) -> [Prospect; 3] {
    [PeerKind::Public, PeerKind::Cone, PeerKind::Symmetric].map(|peer| prospect(facts, peer))
}

fn prospect(facts: Facts, peer: PeerKind) -> Prospect {
    let (path, otherwise, reason) = if facts.registry == Some(false) {
        let reason = "without the registry nobody is introduced and no mailbox is there";
        (None, None, reason)
    } else {
        let mailbox = facts.registry.and(Some(Path::Mailbox));
        let (relayed, least) = match facts.relay {
            Some(true) => (Some(Path::Relay), mailbox),
            Some(false) => (mailbox, None),
            None => (None, mailbox),
        };
        match direct(facts, peer) {
            (Some(true), reason) => (Some(Path::Direct), relayed.or(least), reason),
            (Some(false), reason) => (relayed, least, reason),
            (None, reason) => (None, relayed.or(least), reason),
        }
    };
    Prospect {
        peer,
        path,
        otherwise,
        reason,
    }
}

/// Whether a direct link comes about, as theory has it (RFC 4787, RFC 5128 §3.3).
fn direct(facts: Facts, peer: PeerKind) -> (Option<bool>, &'static str) {
    match facts.udp {
        Some(false) => return (Some(false), "UDP is blocked"),
        None => {
            return (
                None,
                "no STUN server has answered, and whether UDP gets out is not known",
            );
        }
        Some(true) => {}
    }
    let is_dependent = facts.mapping.map(is_dependent);
    match peer {
        PeerKind::Public => (Some(true), "UDP gets out, and the peer sees from where"),
        PeerKind::Cone => match is_dependent {
            Some(false) => (Some(true), "the mapped address is the same to everybody"),
            Some(true) => (
                Some(false),
                "the mapped address differs from peer to peer, and the peer lets in only what it expects",
            ),
            None => (
                None,
                "it is not known whether the mapped address differs from peer to peer",
            ),
        },
        PeerKind::Symmetric => match (is_dependent, facts.filtering) {
            (Some(true), _) => (
                Some(false),
                "neither side knows from where the other's packets come",
            ),
            (_, Some(Filtering::AddressAndPortDependent)) => (
                Some(false),
                "what comes from a port that was not sent to is not let in",
            ),
            (Some(false), Some(_)) => (
                Some(true),
                "what comes from another port of the peer's address is let in",
            ),
            _ => (
                None,
                "it is not known whether packets from a port that was not sent to are let in",
            ),
        },
    }
}

const fn is_dependent(mapping: Mapping) -> bool {
    !matches!(mapping, Mapping::None | Mapping::EndpointIndependent)
}
