//! What is between a host and the internet: which outside address its packets have, and
//! which packets are let in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a NAT remembers what it let out: the least that is met.
pub(crate) const BINDING_LASTS: Duration = Duration::from_secs(30);

/// What is between a host and the internet. What filters, filters by address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Nothing.
    None,
    /// One outside address for all remotes.
    PortRestricted,
    /// Another outside address for each remote.
    Symmetric,
}

/// What a NAT remembers.
#[derive(Debug)]
struct Binding {
    outside: SocketAddr,
    remote: SocketAddr,
    last_out: Instant,
}

/// One host's.
#[derive(Debug)]
pub(crate) struct Edge {
    nat: Nat,
    /// The host's address without a NAT.
    face: SocketAddr,
    bindings: Vec<Binding>,
}

impl Edge {
    pub(crate) const fn new(nat: Nat, face: SocketAddr) -> Self {
        Self {
            nat,
            face,
            bindings: Vec::new(),
        }
    }

    /// The address of the host itself, where others can reach it.
    pub(crate) fn public(&self) -> Option<SocketAddr> {
        (self.nat == Nat::None).then_some(self.face)
    }

    /// The outside address of what the host sends there, perhaps a new one.
    pub(crate) fn translate(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        new: impl FnOnce() -> SocketAddr,
    ) -> SocketAddr {
        if self.nat == Nat::None {
            return self.face;
        }
        let is_kept = |binding: &Binding| now < binding.last_out + BINDING_LASTS;
        self.bindings.retain(is_kept);
        if let Some(known) = self.bindings.iter_mut().find(|b| b.remote == remote) {
            known.last_out = now;
            return known.outside;
        }
        let same = match self.nat {
            Nat::Symmetric => None,
            _ => self.bindings.first().map(|binding| binding.outside),
        };
        let outside = same.unwrap_or_else(new);
        self.bindings.push(Binding {
            outside,
            remote,
            last_out: now,
        });
        outside
    }

    /// Loses all that it remembers, as when it is started anew.
    pub(crate) fn forget(&mut self) {
        self.bindings.clear();
    }

    /// Whether a packet from there to this outside address reaches the host.
    pub(crate) fn lets_in(&self, now: Instant, from: SocketAddr, to: SocketAddr) -> bool {
        match self.nat {
            Nat::None => self.face == to,
            _ => self.bindings.iter().any(|binding| {
                let is_open = now < binding.last_out + BINDING_LASTS;
                is_open && binding.outside == to && binding.remote == from
            }),
        }
    }
}
