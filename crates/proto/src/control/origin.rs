//! The origin of a registry: the scheme and authority of its URL (RFC 6454).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CONTROL_PATH;

/// Longest origin, characters: a scheme and the longest host name (RFC 1035 §2.3.4) fit.
const ORIGIN_MAX_CHARS: usize = 300;

/// The scheme and authority of a registry's URL, in lower case, without a default port.
///
/// Both sides of a login sign it, so that a login made for one registry is
/// worth nothing at another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Box<str>);

/// A text that is not the URL of a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a registry URL: {why}")]
pub struct OriginError {
    why: &'static str,
}

const fn bad(why: &'static str) -> OriginError {
    OriginError { why }
}

impl Origin {
    /// The origin of a registry that speaks plain HTTP on this address.
    pub fn http(addr: SocketAddr) -> Self {
        Self(with_port("http", &bracketed(addr), addr.port()).into())
    }

    /// The origin of a registry that speaks plain HTTP on this port of `localhost`.
    pub fn http_localhost(port: u16) -> Self {
        Self(with_port("http", "localhost", port).into())
    }

    /// The origin of a registry that speaks TLS on this address.
    pub fn https(addr: SocketAddr) -> Self {
        Self(with_port("https", &bracketed(addr), addr.port()).into())
    }

    /// The origin of a registry that speaks TLS on this port of `localhost`.
    pub fn https_localhost(port: u16) -> Self {
        Self(with_port("https", "localhost", port).into())
    }

    /// The origin as text: `http://127.0.0.1:4455`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the registry is to be reached through TLS.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Whether it is an address of the same machine, so that nobody else hears what is said to it.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// A name or an IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        let (host, _) = self.authority();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, also where the text leaves it out.
    pub fn port(&self) -> u16 {
        let scheme = if self.is_tls() { "https" } else { "http" };
        self.authority().1.unwrap_or(default_port(scheme))
    }

    fn authority(&self) -> (&str, Option<u16>) {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        split_authority(rest).unwrap_or_default()
    }

    /// The URL of the control WebSocket, with the scheme `ws` or `wss`.
    pub fn control_url(&self) -> String {
        let rest = self.0.strip_prefix("http").unwrap_or(&self.0);
        format!("ws{rest}{CONTROL_PATH}")
    }
}

fn bracketed(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

fn with_port(scheme: &str, host: &str, port: u16) -> String {
    if port == default_port(scheme) {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    /// Reads a URL; a path other than `/`, a query and user names are refused.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        if text.len() > ORIGIN_MAX_CHARS {
            return Err(bad("too long"));
        }
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or(bad("it must begin with http:// or https://"))?;
        if !matches!(scheme, "http" | "https") {
            return Err(bad("it must begin with http:// or https://"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(default_port(scheme));
        Ok(Self(with_port(scheme, host, port).into()))
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), OriginError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (ip, after) = v6.split_once(']').ok_or(bad("the bracket is not closed"))?;
            ip.parse::<std::net::Ipv6Addr>()
                .map_err(|_| bad("not an IPv6 address in the brackets"))?;
            let host = &authority[..ip.len() + 2];
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(bad("text after the bracket")),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (plain_host(host)?, Some(port)),
            None => (plain_host(authority)?, None),
        },
    };
    match port {
        None => Ok((host, None)),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port
            .parse()
            .ok()
            .filter(|p| *p != 0)
            .map(|p| (host, Some(p)))
            .ok_or(bad("the port is not a number from 1 to 65535")),
        Some(_) => Err(bad("the port is not a number from 1 to 65535")),
    }
}

fn plain_host(host: &str) -> Result<&str, OriginError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(bad("only a host and a port may follow the scheme"));
    }
    Ok(host)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(text: &str) -> Result<String, OriginError> {
        text.parse::<Origin>().map(|o| o.to_string())
    }

    #[test]
    fn an_origin_is_normal_however_the_url_is_spelled() {
        for text in ["http://Host:80", "http://host/", "HTTP://host"] {
            assert_eq!(origin(text).as_deref(), Ok("http://host"));
        }
        assert_eq!(origin("http://[::1]:9").as_deref(), Ok("http://[::1]:9"));
        assert_eq!(origin("https://a.b:443/").as_deref(), Ok("https://a.b"));
    }

    #[test]
    fn a_url_with_more_than_scheme_and_authority_is_refused() {
        for text in [
            "",
            "host:1",
            "ftp://host",
            "http://",
            "http://host/path",
            "http://host?q",
            "http://user@host",
            "http://host:0",
            "http://host:65536",
            "http://host:+1",
            "http://[::1",
            "http://[x]",
            "http://[::1]x",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_control_url_keeps_host_and_port() {
        let http: Origin = "http://[::1]:9".parse().expect("an origin");
        assert_eq!(http.control_url(), "ws://[::1]:9/v1/control");
        let https: Origin = "https://a".parse().expect("an origin");
        assert_eq!(https.control_url(), "wss://a/v1/control");
    }

    #[test]
    fn only_addresses_of_the_same_machine_are_loopback() {
        let is_loopback = |text: &str| text.parse::<Origin>().expect("an origin").is_loopback();
        for text in ["http://localhost:1", "https://127.1.2.3", "http://[::1]:9"] {
            assert!(is_loopback(text), "{text}");
        }
        for text in [
            "http://localhost.example",
            "http://10.0.0.1",
            "http://[::2]",
        ] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_origin_reads_back_from_its_text(text in "(http|https)://[a-z0-9.-]{1,20}(:[0-9]{1,5})?/?") {
            if let Ok(once) = text.parse::<Origin>() {
                prop_assert_eq!(once.to_string().parse::<Origin>(), Ok(once));
            }
        }

        #[test]
        fn an_address_reads_back_as_its_own_origin(addr: SocketAddr) {
            prop_assume!(addr.port() != 0);
            for origin in [Origin::http(addr), Origin::https(addr)] {
                prop_assert_eq!(origin.as_str().parse::<Origin>(), Ok(origin));
            }
        }

        #[test]
        fn parsing_any_text_never_panics(text: String) {
            let _ = text.parse::<Origin>();
            let _ = format!("http://[{text}").parse::<Origin>();
        }
    }
}
