//! How the registry's own STUN and TURN server is set up.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use waymesh_net::turn::server::RelaySecret;
use waymesh_proto::AgentId;

use crate::ice::CheckedTurn;
use crate::turn::{Limits, Relay, RelayConfig, RelayError};

/// The realm of the credentials (RFC 8489 §9.2): the same for every mesh, as
/// nobody keeps passwords by it.
const REALM: &str = "waymesh";

/// What is the same at every start of one registry, whatever is configured.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    /// What credentials are made of.
    pub(crate) secret: RelaySecret,
    /// Whose credentials from before this start count no more.
    pub(crate) removed: BTreeSet<AgentId>,
}

/// Starts it beside a registry that listens there.
///
/// # Errors
/// [`RelayError`]: a port cannot be opened.
pub(crate) fn start(
    turn: &CheckedTurn,
    registry: SocketAddr,
    past: Past,
    lifetime: Duration,
) -> Result<Relay, RelayError> {
    Relay::start(RelayConfig {
        listen: vec![turn.listen.unwrap_or(registry)],
        other: turn.other,
        relay_ips: turn.relay_ip.into_iter().collect::<Vec<IpAddr>>(),
        relay_ports: Some(turn.ports.clone()),
        realm: REALM.to_owned(),
        secret: past.secret,
        allow: turn.allow.clone(),
        removed: past.removed,
        limits: Limits {
            credential_lifetime: lifetime,
            ..turn.rate.map_or_else(Limits::default, of_rate)
        },
    })
}

/// Limits with another rate, and a burst of a quarter of a second.
fn of_rate(mib_per_second: NonZeroU32) -> Limits {
    let bytes_per_second = u64::from(mib_per_second.get()) * 1024 * 1024;
    Limits {
        bytes_per_second,
        burst_bytes: bytes_per_second / 4,
        ..Limits::default()
    }
}
