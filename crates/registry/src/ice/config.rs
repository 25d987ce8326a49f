//! Which STUN and TURN servers there are, as the configuration says, and all
//! that is wrong with it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waymesh_core::registry::SERVERS_LIFE;
use waymesh_proto::ice::{Credential, ICE_URLS_MAX, IceScheme, IceUrl, IceUrlError};

use crate::turn::Network;
use waymesh_net::turn::server::RelaySecret;

/// Ports that relayed addresses are taken from (RFC 8656 §7.2).
const RELAY_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// How long credentials may be good. Chosen: from what a test can wait for to
/// a day, which is much for something that cannot be taken back elsewhere.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Largest secret or password file, bytes. Chosen.
const SECRET_MAX_BYTES: u64 = 4 * 1024;

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

/// One thing that is wrong with an [`IceConfig`].
#[derive(Debug, thiserror::Error)]
pub enum IceConfigError {
    /// A URL is none; correct it.
    #[error(transparent)]
    Url(#[from] IceUrlError),
    /// A STUN server is named as a TURN server, or the other way round.
    #[error("{url} is no {expected}: URL")]
    Scheme {
        /// What was given.
        url: IceUrl,
        /// What was expected.
        expected: &'static str,
    },
    /// There are more URLs than nodes use.
    #[error("{0} URLs of STUN and TURN servers are more than {ICE_URLS_MAX}")]
    TooManyUrls(usize),
    /// TURN servers of others need credentials.
    #[error("the TURN servers need a secret, or a username and a password")]
    NoAuth,
    /// There are credentials, and no server for them.
    #[error("there are TURN credentials, and no TURN URL that they are for")]
    AuthAlone,
    /// A secret cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no secret.
    #[error("{0} holds no secret: it must be one line of text, at most 4 KiB")]
    Secret(PathBuf),
    /// The relay's ports are no range of ports.
    #[error("{0:?} is no range of ports")]
    RelayPorts(String),
    /// A network is none.
    #[error("{0:?} is no network")]
    RelayAllow(String),
    /// The second address is not another one.
    #[error("{other} must differ from {listen} in both address and port")]
    Other {
        /// The second address.
        other: SocketAddr,
        /// The first.
        listen: SocketAddr,
    },
    /// The relay's address cannot be anybody's.
    #[error("{0} is no address that others can send to")]
    RelayIp(IpAddr),
    /// Credentials would be good for too short or too long.
    #[error("TURN credentials cannot be good for {0:?}")]
    Lifetime(Duration),
}

impl IceConfigError {
    /// What to do about it.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::Scheme { .. } => {
                "give it as stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or turns:HOST[:PORT]"
            }
            Self::TooManyUrls(_) => "give fewer of them: nodes use no more",
            Self::NoAuth => "add --turn-secret-file, or --turn-username and --turn-password-file",
            Self::AuthAlone => "add --turn-url, or leave the credentials out",
            Self::File { .. } | Self::Secret(_) => "check the path and what the file holds",
            Self::RelayPorts(_) => "give the first and the last one, such as 50000-50999",
            Self::RelayAllow(_) => {
                "give an address and how many bits of it count, such as 10.0.0.0/8"
            }
            Self::Other { .. } => {
                "give another address of this machine with another port, or leave it out"
            }
            Self::RelayIp(_) => "give the public address of this machine",
            Self::Lifetime(_) => "give from 1s to 24h",
        }
    }
}

/// An [`IceConfig`] in which nothing is wrong.
#[derive(Debug)]
pub(crate) struct CheckedIce {
    /// The registry's own server, if it is to run.
    pub(crate) turn: Option<CheckedTurn>,
    /// STUN servers of others.
    pub(crate) stun: Vec<IceUrl>,
    /// TURN servers of others, and what opens them.
    pub(crate) external: Option<(Vec<IceUrl>, TurnAccess)>,
    pub(crate) lifetime: Duration,
}

/// What opens the TURN servers of others.
#[derive(Debug, Clone)]
pub(crate) enum TurnAccess {
    /// Credentials of each member's own are made of this.
    Secret(Box<RelaySecret>),
    /// The same for all.
    Static {
        username: String,
        password: Credential,
    },
}

/// How the registry's own server is run.
#[derive(Debug, Clone)]
pub(crate) struct CheckedTurn {
    /// Where it listens on UDP; `None` is the registry's address and port.
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) other: Option<SocketAddr>,
    pub(crate) relay_ip: Option<IpAddr>,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) allow: Vec<Network>,
    /// MiB a second of one member; `None` is the default.
    pub(crate) rate: Option<NonZeroU32>,
}

impl IceConfig {
    /// Checks all that can be checked before a file is made or a port opened;
    /// `None` when something is wrong.
    pub(crate) fn check(
        &self,
        registry: SocketAddr,
        errors: &mut Vec<IceConfigError>,
    ) -> Option<CheckedIce> {
        let before = errors.len();
        let stun = urls(&self.stun_urls, Expected::Stun, errors);
        let turn = urls(&self.turn_urls, Expected::Turn, errors);
        let count = self.stun_urls.len() + self.turn_urls.len();
        if count > ICE_URLS_MAX {
            errors.push(IceConfigError::TooManyUrls(count));
        }
        let access = self.check_auth(errors);
        let own = self.turn.as_ref();
        let own = own.and_then(|turn| turn.check(registry, errors));
        if !LIFETIMES.contains(&self.lifetime) {
            errors.push(IceConfigError::Lifetime(self.lifetime));
        }
        (errors.len() == before).then(|| CheckedIce {
            turn: own.filter(|turn| turn.reaches_others(registry)),
            stun,
            external: access.map(|access| (turn, access)),
            lifetime: self.lifetime,
        })
    }

    fn check_auth(&self, errors: &mut Vec<IceConfigError>) -> Option<TurnAccess> {
        match (&self.turn_auth, self.turn_urls.is_empty()) {
            (None, true) => None,
            (None, false) => {
                errors.push(IceConfigError::NoAuth);
                None
            }
            (Some(_), true) => {
                errors.push(IceConfigError::AuthAlone);
                None
            }
            (Some(auth), false) => match auth.read() {
                Ok(access) => Some(access),
                Err(error) => {
                    errors.push(error);
                    None
                }
            },
        }
    }
}

impl TurnConfig {
    /// `None` when something is wrong.
    fn check(&self, registry: SocketAddr, errors: &mut Vec<IceConfigError>) -> Option<CheckedTurn> {
        let before = errors.len();
        let ports = match &self.relay_ports {
            None => Some(RELAY_PORTS),
            Some(text) => port_range(text),
        };
        if let (None, Some(text)) = (&ports, &self.relay_ports) {
            errors.push(IceConfigError::RelayPorts(text.clone()));
        }
        let mut allow = Vec::new();
        for text in &self.relay_allow {
            match text.parse() {
                Ok(network) => allow.push(network),
                Err(_) => errors.push(IceConfigError::RelayAllow(text.clone())),
            }
        }
        let listen = self.listen.unwrap_or(registry);
        if let Some(other) = self.other
            && (other.ip() == listen.ip() || other.port() == listen.port())
        {
            errors.push(IceConfigError::Other { other, listen });
        }
        if let Some(ip) = self.relay_ip
            && (ip.is_unspecified() || ip.is_multicast())
        {
            errors.push(IceConfigError::RelayIp(ip));
        }
        let ports = ports?;
        (errors.len() == before).then_some(CheckedTurn {
            listen: self.listen,
            other: self.other,
            relay_ip: self.relay_ip,
            ports,
            allow,
            rate: self.relay_rate,
        })
    }
}

impl CheckedTurn {
    /// Whether it is worth to be run. On loopback it could relay to this
    /// machine alone, which needs no relay and is forbidden anyway unless it
    /// is named.
    fn reaches_others(&self, registry: SocketAddr) -> bool {
        let listen = self.listen.unwrap_or(registry).ip();
        let allows = |allow: &Network| allow.contains(listen);
        !listen.is_loopback() || self.allow.iter().any(allows)
    }
}

impl TurnAuth {
    fn read(&self) -> Result<TurnAccess, IceConfigError> {
        Ok(match self {
            Self::Secret { file } => {
                TurnAccess::Secret(Box::new(RelaySecret::new(read_secret(file)?.as_bytes())))
            }
            Self::Static {
                username,
                password_file,
            } => TurnAccess::Static {
                username: username.clone(),
                password: Credential::new(read_secret(password_file)?),
            },
        })
    }
}

/// The line that a file holds.
fn read_secret(path: &Path) -> Result<String, IceConfigError> {
    let at = |source| IceConfigError::File {
        path: path.to_owned(),
        source,
    };
    let unusable = || IceConfigError::Secret(path.to_owned());
    if fs::metadata(path).map_err(at)?.len() > SECRET_MAX_BYTES {
        return Err(unusable());
    }
    let bytes = fs::read(path).map_err(at)?;
    let text = String::from_utf8(bytes).map_err(|_| unusable())?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains(['\r', '\n']) {
        return Err(unusable());
    }
    Ok(line.to_owned())
}

#[derive(Clone, Copy)]
enum Expected {
    Stun,
    Turn,
}

/// The URLs that are of this kind; what is wrong with the others is told.
fn urls(texts: &[String], expected: Expected, errors: &mut Vec<IceConfigError>) -> Vec<IceUrl> {
    let mut all = Vec::new();
    for text in texts {
        match (text.parse::<IceUrl>(), expected) {
            (Ok(url), Expected::Stun) if !url.scheme().relays() => all.push(url),
            (Ok(url), Expected::Turn) if url.scheme().relays() => all.push(url),
            (Ok(url), Expected::Stun) => errors.push(wrong_scheme(url, IceScheme::Stun)),
            (Ok(url), Expected::Turn) => errors.push(wrong_scheme(url, IceScheme::Turn)),
            (Err(error), _) => errors.push(error.into()),
        }
    }
    all
}

const fn wrong_scheme(url: IceUrl, expected: IceScheme) -> IceConfigError {
    let expected = expected.name();
    IceConfigError::Scheme { url, expected }
}

/// `A-B`, neither of them 0.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYWHERE: &str = "0.0.0.0:443";

    fn check(config: &IceConfig, listen: &str) -> Result<CheckedIce, Vec<IceConfigError>> {
        let mut errors = Vec::new();
        let checked = config.check(listen.parse().expect("an address"), &mut errors);
        checked.ok_or(errors)
    }

    fn turn(turn: TurnConfig) -> IceConfig {
        IceConfig {
            turn: Some(turn),
            ..IceConfig::default()
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let config = IceConfig {
            turn: Some(TurnConfig {
                listen: Some("192.0.2.1:443".parse().expect("an address")),
                other: Some("192.0.2.1:444".parse().expect("an address")),
                relay_ip: Some("0.0.0.0".parse().expect("an address")),
                relay_ports: Some("9-1".into()),
                relay_allow: vec!["10.0.0.0/33".into()],
                relay_rate: None,
            }),
            stun_urls: vec!["turn:h".into()],
            turn_urls: vec!["turn:h:0".into(), "stun:h".into()],
            turn_auth: Some(TurnAuth::Secret {
                file: "/nowhere/secret".into(),
            }),
            lifetime: Duration::ZERO,
        };
        let errors = check(&config, EVERYWHERE).expect_err("refused");
        use IceConfigError as E;
        assert!(
            matches!(
                errors[..],
                [
                    E::Scheme { .. },
                    E::Url(_),
                    E::Scheme { .. },
                    E::File { .. },
                    E::RelayPorts(_),
                    E::RelayAllow(_),
                    E::Other { .. },
                    E::RelayIp(_),
                    E::Lifetime(_)
                ]
            ),
            "{errors:?}"
        );
    }

    #[test]
    fn urls_and_credentials_of_turn_servers_need_each_other() {
        let config = IceConfig {
            turn_urls: vec!["turn:h".into()],
            ..IceConfig::default()
        };
        let errors = check(&config, EVERYWHERE).expect_err("refused");
        assert!(matches!(errors[..], [IceConfigError::NoAuth]), "{errors:?}");
        let config = IceConfig {
            turn_auth: Some(TurnAuth::Secret { file: "x".into() }),
            ..IceConfig::default()
        };
        let errors = check(&config, EVERYWHERE).expect_err("refused");
        assert!(matches!(errors[..], [IceConfigError::AuthAlone]));
    }

    #[test]
    fn as_many_urls_as_nodes_use_pass_and_one_more_is_refused() {
        let of = |count| IceConfig {
            stun_urls: vec!["stun:h".into(); count],
            ..IceConfig::default()
        };
        assert!(check(&of(ICE_URLS_MAX), EVERYWHERE).is_ok());
        let errors = check(&of(ICE_URLS_MAX + 1), EVERYWHERE).expect_err("refused");
        assert!(matches!(errors[..], [IceConfigError::TooManyUrls(9)]));
    }

    #[test]
    fn a_secret_is_the_line_of_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secret");
        let read = |text: &str| {
            fs::write(&file, text).expect("a file");
            read_secret(&file)
        };
        assert_eq!(read("north\n").expect("a secret"), "north");
        assert_eq!(read("a b").expect("a secret"), "a b");
        for text in ["", "\n", "a\nb\n", &"x".repeat(4_097)] {
            assert!(matches!(read(text), Err(IceConfigError::Secret(_))));
        }
    }

    #[test]
    fn on_loopback_there_is_no_relay_unless_loopback_may_be_relayed_to() {
        let plain = check(&IceConfig::default(), "127.0.0.1:7700").expect("nothing wrong");
        assert!(plain.turn.is_none());
        let elsewhere = check(&IceConfig::default(), EVERYWHERE).expect("nothing wrong");
        assert!(elsewhere.turn.is_some());
        let allowed = turn(TurnConfig {
            relay_allow: vec!["127.0.0.0/8".into()],
            ..TurnConfig::default()
        });
        let allowed = check(&allowed, "127.0.0.1:7700").expect("nothing wrong");
        assert!(allowed.turn.is_some());
    }

    #[test]
    fn a_range_of_ports_has_a_first_and_a_last_one() {
        assert_eq!(port_range("1-65535"), Some(1..=65_535));
        assert_eq!(port_range("7-7"), Some(7..=7));
        for text in ["", "7", "0-9", "9-7", "1-65536", "-1-2", "a-b"] {
            assert_eq!(port_range(text), None, "{text}");
        }
    }
}
