//! The STUN and TURN servers that members are told of: the registry's own
//! ([`crate::turn`]) and those of others that the configuration names.
//!
//! What is wrong with a configuration is in `config`, how the own server is
//! set up in `own`, what a member is told in `offer`. When it is told is
//! decided by [`waymesh_core::registry`].

mod config;
mod offer;
mod own;

pub(crate) use config::{CheckedIce, CheckedTurn, TurnAccess};
pub use config::{IceConfig, IceConfigError, TurnAuth, TurnConfig};
pub(crate) use offer::{Offer, Own};
pub(crate) use own::{Past, start};

use std::time::Duration;

use waymesh_proto::AgentId;
use waymesh_proto::control::Origin;
use waymesh_proto::ice::{IceServers, IceUrl};

use crate::turn::RelayHandle;

/// The servers of one registry, as its driver needs them. The default has none.
#[derive(Debug, Default)]
pub(crate) struct Ice {
    offer: Offer,
    relay: Option<RelayHandle>,
    lifetime: Duration,
}

impl Ice {
    /// What the configuration names, and the registry's own server if it runs one.
    pub(crate) fn new(ice: CheckedIce, own: Option<(Own, RelayHandle)>) -> Self {
        let lifetime = ice.lifetime;
        let (own, relay) = own.unzip();
        Self {
            offer: Offer::new(ice, own),
            relay,
            lifetime,
        }
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
    pub(crate) fn expel(&self, agent: AgentId) {
        if let Some(relay) = &self.relay {
            relay.remove_member(agent);
        }
    }
}
