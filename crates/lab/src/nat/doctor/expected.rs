//! What doctor has to say of a kind of network, from what theory makes of its gates.

use waymesh_proto::ice::{IceTransport, IceUrl};
use waymesh_proto::link::{CandidateKind, Path, TriedCandidate};

use crate::nat::kind::Kind;
use crate::nat::net::Sixth;
use crate::nat::table;
use crate::nat::theory::Reach;
use crate::nat::translator::Dependence;
use crate::stage::{Checks, Foreseen, Nat};

/// The peers that doctor foresees paths to, and the kinds that they stand for.
const PEERS: [(&str, Kind); 3] = [
    ("public", Kind::None),
    ("cone", Kind::PortRestricted),
    ("symmetric", Kind::Symmetric),
];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A member whose node runs.
    BesideNode,
    /// A member whose node does not run.
    AsMember,
    /// Somebody without a membership, whom nobody tells of relays.
    AsStranger,
}

impl Asked {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::BesideNode => "node",
            Self::AsMember => "member",
            Self::AsStranger => "stranger",
        }
    }

    /// Whose word the servers are.
    const fn source(self) -> &'static str {
        match self {
            Self::BesideNode => "node",
            Self::AsMember => "registry",
            Self::AsStranger => "nobody",
        }
    }
}

/// What doctor is to say.
#[derive(Debug)]
pub(super) struct Expected {
    asked: Asked,
    kind: Kind,
    reach: Reach,
}

/// A TURN server's transport in one word.
pub(super) fn transport(url: &IceUrl) -> &'static str {
    match (url.scheme().is_tls(), url.transport()) {
        (true, _) => "TLS",
        (false, IceTransport::Tcp) => "TCP",
        (false, IceTransport::Udp) => "UDP",
    }
}

impl Expected {
    pub(super) fn of(kind: Kind, asked: Asked) -> Self {
        let reach = table::reach(kind);
        Self { asked, kind, reach }
    }

    /// In what doctor is wrong.
    pub(super) fn differences(&self, paths: &[Foreseen], checks: &Checks) -> Vec<String> {
        let mut all = Vec::new();
        let mut compare = |what: &str, said: String, expected: String| {
            if said != expected {
                let asked = self.asked.name();
                all.push(format!(
                    "{what} ({asked}): {said}, but theory has {expected}"
                ));
            }
        };
        for (peer, kind) in PEERS {
            let said = paths.iter().find(|foreseen| foreseen.peer == peer);
            let (best, otherwise) = said.map_or((None, None), |said| (said.path, said.otherwise));
            compare(peer, path(best), path(self.path_to(kind)));
            let what = format!("{peer}, otherwise");
            compare(&what, path(otherwise), path(self.otherwise_to(kind)));
        }
        let nat = checks.nat.found.clone();
        compare("NAT", format!("{nat:?}"), format!("{:?}", self.nat()));
        let source = checks.servers.found.as_ref();
        let named = source.map_or("-", |found| found.source.as_str());
        compare("source", named.into(), self.asked.source().into());
        if self.asked == Asked::BesideNode {
            let is_relayed = |offered: &TriedCandidate| offered.kind == CandidateKind::Relay;
            let offers = source.is_some_and(|found| found.candidates.iter().any(is_relayed));
            let expected = self.reach.relays();
            compare("offers a relay", offers.to_string(), expected.to_string());
        }
        for turn in &checks.turn {
            let expected = self.turn(transport(&turn.url));
            compare(&turn.url.to_string(), turn.reach.clone(), expected.into());
        }
        compare("TURN URLs", checks.turn.len().to_string(), "3".into());
        all
    }

    /// A stranger does not log in to relays, and knows of no relayed path.
    fn path_to(&self, peer: Kind) -> Option<Path> {
        let best = table::best_path(self.kind, peer, Sixth::Without);
        (best == Path::Direct || self.asked != Asked::AsStranger).then_some(best)
    }

    /// What there is beside that; a stranger knows of the mailbox alone.
    fn otherwise_to(&self, peer: Kind) -> Option<Path> {
        if self.asked == Asked::AsStranger {
            return Some(Path::Mailbox);
        }
        match table::best_path(self.kind, peer, Sixth::Without) {
            Path::Direct if self.reach.relays() => Some(Path::Relay),
            Path::Direct | Path::Relay => Some(Path::Mailbox),
            Path::Mailbox => None,
        }
    }

    fn nat(&self) -> Option<Nat> {
        let word = |dependence| match dependence {
            Dependence::Independent => "endpoint_independent",
            Dependence::Address => "address_dependent",
            Dependence::AddressAndPort => "address_and_port_dependent",
        };
        let udp = self.reach.udp?;
        Some(Nat {
            mapping: Some(match self.kind {
                Kind::None => "none".to_owned(),
                _ => word(udp.mapping).to_owned(),
            }),
            filtering: Some(word(udp.filtering).to_owned()),
        })
    }

    /// How far doctor gets with the registry's TURN server on port 443.
    fn turn(&self, transport: &str) -> &'static str {
        let passes = match transport {
            "UDP" => self.reach.udp.is_some(),
            "TCP" => self.reach.https_port,
            _ => self.reach.turn_in_tls,
        };
        match (passes, self.asked) {
            (false, _) => "nothing",
            // No stranger knows whose TLS key it is: nothing is told there.
            (true, Asked::AsStranger) if transport == "TLS" => "nothing",
            (true, Asked::AsStranger) => "answered",
            (true, _) => "allocated",
        }
    }
}

fn path(path: Option<Path>) -> String {
    path.map_or("unknown", table::path_name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_told_every_path_and_a_stranger_only_what_needs_no_relay() {
        let paths = |kind, asked| {
            let expected = Expected::of(kind, asked);
            PEERS.map(|(_, peer)| expected.path_to(peer))
        };
        use Asked::{AsMember, AsStranger};
        let (direct, relay) = (Some(Path::Direct), Some(Path::Relay));
        assert_eq!(paths(Kind::Symmetric, AsMember), [direct, relay, relay]);
        assert_eq!(paths(Kind::Symmetric, AsStranger), [direct, None, None]);
        assert_eq!(paths(Kind::OnlyTcp443, AsMember), [relay; 3]);
        assert_eq!(
            paths(Kind::OnlyRegistry, AsMember),
            [Some(Path::Mailbox); 3]
        );
    }

    #[test]
    fn behind_the_best_path_is_the_next_best_that_theory_has() {
        let otherwise = |kind, asked| {
            let expected = Expected::of(kind, asked);
            PEERS.map(|(_, peer)| expected.otherwise_to(peer))
        };
        use Asked::{AsMember, AsStranger};
        let (relay, mailbox) = (Some(Path::Relay), Some(Path::Mailbox));
        assert_eq!(
            otherwise(Kind::Symmetric, AsMember),
            [relay, mailbox, mailbox]
        );
        assert_eq!(otherwise(Kind::OnlyTcp443, AsMember), [mailbox; 3]);
        assert_eq!(otherwise(Kind::OnlyRegistry, AsMember), [None; 3]);
        assert_eq!(otherwise(Kind::Symmetric, AsStranger), [mailbox; 3]);
    }
}
