//! Whether anything is wrong with a configuration, and what is run if nothing is.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use waymesh_proto::ice::{ICE_URLS_MAX, IceScheme, IceUrl};

use super::{IceConfig, IceConfigError, TurnAccess, TurnConfig};
use crate::turn::Network;

/// Ports that relayed addresses are taken from (RFC 8656 §7.2).
const RELAY_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// How long credentials may be good. Chosen: from what a test can wait for to
/// a day, which is much for something that cannot be taken back elsewhere.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

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
    use crate::ice::TurnAuth;

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
