//! Which STUN and TURN servers there are, as the configuration says.
//!
//! What can be wrong with it is in `error`, how that is found out in `check`,
//! what opens the servers of others in `access`.

mod access;
mod check;
mod error;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use waymesh_core::registry::SERVERS_LIFE;

pub(crate) use access::TurnAccess;
pub(crate) use check::{CheckedIce, CheckedTurn};
pub use error::IceConfigError;

/// Which STUN and TURN servers the members are told of.
#[derive(Debug, Clone)]
pub struct IceConfig {
    /// The registry's own; `None` for none.
    pub turn: Option<TurnConfig>,
    /// STUN servers of others, as URLs.
    pub stun_urls: Vec<String>,
    /// TURN servers of others, as URLs. They all take the same credentials.
    pub turn_urls: Vec<String>,
    /// How members prove to those that they may use them.
    pub turn_auth: Option<TurnAuth>,
    /// How long a member's credentials are good, from one second to a day;
    /// they end with its membership at the latest.
    pub lifetime: Duration,
}

impl Default for IceConfig {
    fn default() -> Self {
        Self {
            turn: Some(TurnConfig::default()),
            stun_urls: Vec::new(),
            turn_urls: Vec::new(),
            turn_auth: None,
            lifetime: SERVERS_LIFE,
        }
    }
}

/// How the registry's own STUN and TURN server is run. On TCP and TLS it is
/// at the registry's port in any case.
#[derive(Debug, Clone, Default)]
pub struct TurnConfig {
    /// Where it listens on UDP; `None` is the registry's address and port.
    pub listen: Option<SocketAddr>,
    /// A second address of this machine, so that clients can find out how
    /// their NAT behaves (RFC 5780 §6). Both the address and the port must differ.
    pub other: Option<SocketAddr>,
    /// The address that relayed addresses have for others, when this machine
    /// does not know it: that of a cloud's NAT.
    pub relay_ip: Option<IpAddr>,
    /// UDP ports of relayed addresses, as `A-B`; `None` is 49152-65535.
    pub relay_ports: Option<String>,
    /// Networks that may be relayed to although they are private or this machine's.
    pub relay_allow: Vec<String>,
    /// What one member may have relayed, MiB a second in both directions
    /// together; `None` is 32. What is more is dropped.
    pub relay_rate: Option<NonZeroU32>,
}

/// How members prove to a TURN server of others that they may use it.
#[derive(Debug, Clone)]
pub enum TurnAuth {
    /// Each by credentials of its own, made of a secret that the server knows
    /// too (`use-auth-secret` of coturn).
    Secret {
        /// The file with the secret.
        file: PathBuf,
    },
    /// All by the same.
    Static {
        /// The username.
        username: String,
        /// The file with the password.
        password_file: PathBuf,
    },
}
