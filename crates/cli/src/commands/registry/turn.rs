//! The flags that say which STUN and TURN servers a registry runs and names.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use waymesh_registry::{IceConfig, TurnAuth, TurnConfig};

use crate::commands::ice_args::TurnLogin;
use crate::settings;

/// The variable that other programs name TURN servers by. `WAYMESH_TURN_URL` goes
/// first, and without credentials for them it is not meant for us.
const COMMON_TURN_URL: &str = "TURN_URL";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "STUN and TURN")]
pub(super) struct TurnArgs {
    /// Run no STUN and TURN server; no UDP port is opened
    #[arg(long)]
    no_turn: bool,
    /// Listen for STUN and TURN over UDP here instead of at --listen
    #[arg(
        long,
        env = "WAYMESH_TURN_LISTEN",
        value_name = "ADDR",
        value_parser = settings::listen,
        conflicts_with = "no_turn"
    )]
    turn_listen: Option<SocketAddr>,
    /// A second address of this machine, another port too: lets nodes find out how their NAT behaves
    #[arg(
        long,
        env = "WAYMESH_TURN_OTHER",
        value_name = "ADDR",
        value_parser = settings::listen,
        conflicts_with = "no_turn"
    )]
    turn_other: Option<SocketAddr>,
    /// The public address of this machine, where it has a private one behind a cloud's NAT
    #[arg(
        long,
        env = "WAYMESH_RELAY_IP",
        value_name = "IP",
        conflicts_with = "no_turn"
    )]
    relay_ip: Option<IpAddr>,
    /// UDP ports for relayed traffic [default: 49152-65535]
    #[arg(
        long,
        env = "WAYMESH_RELAY_PORTS",
        value_name = "A-B",
        conflicts_with = "no_turn"
    )]
    relay_ports: Option<String>,
    /// Relay to this private network too; may be repeated
    #[arg(
        long,
        env = "WAYMESH_RELAY_ALLOW",
        value_name = "CIDR",
        value_delimiter = ',',
        conflicts_with = "no_turn"
    )]
    relay_allow: Vec<String>,
    /// Relay so many MiB a second for one member at most, in both directions together [default: 32]
    #[arg(
        long,
        env = "WAYMESH_RELAY_RATE",
        value_name = "MIB",
        conflicts_with = "no_turn"
    )]
    relay_rate: Option<NonZeroU32>,
    /// Tell members of this STUN server too; may be repeated
    #[arg(
        long,
        env = "WAYMESH_STUN_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    stun_url: Vec<String>,
    /// Tell members of this TURN server too; may be repeated. With credentials, TURN_URL counts too
    #[arg(
        long,
        env = "WAYMESH_TURN_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    turn_url: Vec<String>,
    /// The secret that it shares with --turn-url, for credentials of each member's own
    /// (use-auth-secret of coturn)
    #[arg(
        long,
        env = "WAYMESH_TURN_SECRET_FILE",
        value_name = "FILE",
        conflicts_with_all = ["turn_username", "turn_password_file"]
    )]
    turn_secret_file: Option<PathBuf>,
    #[command(flatten)]
    login: TurnLogin,
    /// How long a member's TURN credentials are good; new ones are told at half of it
    #[arg(
        long,
        env = "WAYMESH_TURN_LIFETIME",
        value_name = "TIME",
        default_value = "1h",
        value_parser = settings::duration
    )]
    turn_lifetime: Duration,
}

impl TurnArgs {
    pub(super) fn config(self) -> IceConfig {
        let turn = TurnConfig {
            listen: self.turn_listen,
            other: self.turn_other,
            relay_ip: self.relay_ip,
            relay_ports: self.relay_ports,
            relay_allow: self.relay_allow,
            relay_rate: self.relay_rate,
        };
        let turn_auth = match (self.turn_secret_file, self.login.pair()) {
            (Some(file), _) => Some(TurnAuth::Secret { file }),
            (None, Some((username, password_file))) => Some(TurnAuth::Static {
                username,
                password_file,
            }),
            (None, None) => None,
        };
        IceConfig {
            turn: (!self.no_turn).then_some(turn),
            stun_urls: self.stun_url,
            turn_urls: match turn_auth {
                Some(_) => or_common(self.turn_url),
                None => self.turn_url,
            },
            turn_auth,
            lifetime: self.turn_lifetime,
        }
    }
}

fn or_common(urls: Vec<String>) -> Vec<String> {
    match std::env::var(COMMON_TURN_URL) {
        Ok(common) if urls.is_empty() && !common.is_empty() => {
            common.split(',').map(str::to_owned).collect()
        }
        _ => urls,
    }
}
