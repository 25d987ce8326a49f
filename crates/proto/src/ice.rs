//! STUN and TURN servers as configurations and the registry name them, and what
//! came of using them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Servers of one list; the rest is ignored. Chosen: some regions, each by several transports.
pub const ICE_SERVERS_MAX: usize = 8;

/// URLs of one server; the rest is ignored. Chosen: UDP, TCP and TLS, of both IP families.
pub const ICE_URLS_MAX: usize = 8;

/// What a server does, and whether inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IceScheme {
    /// Tells a host's address as it sees it (RFC 7064).
    Stun,
    /// The same inside TLS.
    Stuns,
    /// Relays (RFC 7065), and does what STUN does.
    Turn,
    /// The same inside TLS.
    Turns,
}

/// What carries the requests to a server; inside TLS it is TCP below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IceTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// Where a STUN or TURN server is: `stun:host[:port]`, `turn:host[:port][?transport=udp|tcp]`,
/// and with `s` for TLS (RFC 7064 §3.1, RFC 7065 §3.1). A bare `host:port` is a STUN server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IceUrl {
    scheme: IceScheme,
    host: String,
    port: u16,
    transport: IceTransport,
}

/// A text is no URL of a STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IceUrlError {
    /// It begins with none of `stun:`, `stuns:`, `turn:` and `turns:`.
    #[error("{0:?} is no stun:, stuns:, turn: or turns: URL")]
    Scheme(String),
    /// The host or the port is missing or malformed.
    #[error("{0:?} has no usable host and port, as in turn:mesh.example:3478")]
    Authority(String),
    /// What follows `?` is not `transport=udp` or `transport=tcp`, or does not fit the scheme.
    #[error("{0:?} has an unusable transport")]
    Transport(String),
}

impl IceScheme {
    /// The word before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stun => "stun",
            Self::Stuns => "stuns",
            Self::Turn => "turn",
            Self::Turns => "turns",
        }
    }

    /// Whether the server is spoken to inside TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Stuns | Self::Turns)
    }

    /// Whether the server relays.
    pub const fn relays(self) -> bool {
        matches!(self, Self::Turn | Self::Turns)
    }

    /// The port of a URL that names none (RFC 8489 §18.6, RFC 8656 §7).
    const fn default_port(self) -> u16 {
        if self.is_tls() { 5349 } else { 3478 }
    }
}

impl IceUrl {
    /// The URL of a server; TLS is over TCP whatever `transport` says.
    ///
    /// # Errors
    /// [`IceUrlError::Authority`] when the host is empty or malformed, or the port is 0.
    pub fn new(
        scheme: IceScheme,
        host: &str,
        port: u16,
        transport: IceTransport,
    ) -> Result<Self, IceUrlError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
        if host.is_empty() || port == 0 || host.len() > HOST_MAX_CHARS || !host.chars().all(is_name)
        {
            return Err(IceUrlError::Authority(format!("{host}:{port}")));
        }
        let transport = if scheme.is_tls() {
            IceTransport::Tcp
        } else {
            transport
        };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            transport,
        })
    }

    /// What the server does.
    pub const fn scheme(&self) -> IceScheme {
        self.scheme
    }

    /// A name or an IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What carries the requests.
    pub const fn transport(&self) -> IceTransport {
        self.transport
    }
}

/// Longest host name (RFC 1035 §2.3.4).
const HOST_MAX_CHARS: usize = 253;

impl FromStr for IceUrl {
    type Err = IceUrlError;

    fn from_str(text: &str) -> Result<Self, IceUrlError> {
        let (scheme, rest) = match text.split_once(':') {
            Some(("stun", rest)) => (IceScheme::Stun, rest),
            Some(("stuns", rest)) => (IceScheme::Stuns, rest),
            Some(("turn", rest)) => (IceScheme::Turn, rest),
            Some(("turns", rest)) => (IceScheme::Turns, rest),
            // As some configurations write a STUN server.
            Some((_, port)) if port.parse::<u16>().is_ok() => (IceScheme::Stun, text),
            _ => return Err(IceUrlError::Scheme(text.to_owned())),
        };
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let bad_transport = || IceUrlError::Transport(text.to_owned());
        let transport = match query {
            None if scheme.is_tls() => IceTransport::Tcp,
            None => IceTransport::Udp,
            Some("transport=udp") if !scheme.is_tls() => IceTransport::Udp,
            Some("transport=tcp") => IceTransport::Tcp,
            Some(_) => return Err(bad_transport()),
        };
        let bad_authority = || IceUrlError::Authority(text.to_owned());
        let (host, port) = split(authority).ok_or_else(bad_authority)?;
        let port = match port {
            Some(port) => port.parse().map_err(|_| bad_authority())?,
            None => scheme.default_port(),
        };
        Self::new(scheme, host, port, transport).map_err(|_| bad_authority())
    }
}

/// Host, without brackets, and port.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((_, rest)) if rest.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = (self.scheme.name(), &self.host, self.port);
        if host.contains(':') {
            write!(f, "{scheme}:[{host}]:{port}")?;
        } else {
            write!(f, "{scheme}:{host}:{port}")?;
        }
        match (self.scheme.relays(), self.transport) {
            (true, IceTransport::Udp) => f.write_str("?transport=udp"),
            (true, IceTransport::Tcp) => f.write_str("?transport=tcp"),
            (false, IceTransport::Tcp) if !self.scheme.is_tls() => f.write_str("?transport=tcp"),
            (false, _) => Ok(()),
        }
    }
}

impl Serialize for IceUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IceUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A secret that is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(String);

impl Credential {
    /// A password.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// One server with all its URLs, as in the `iceServers` of a browser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// The same server by several transports or names; at most [`ICE_URLS_MAX`] are used.
    pub urls: Vec<IceUrl>,
    /// For TURN.
    #[serde(default)]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default)]
    pub credential: Option<Credential>,
}

/// The servers that a node is to use, in place of those that it was told before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServers {
    /// At most [`ICE_SERVERS_MAX`] are used.
    pub servers: Vec<IceServer>,
    /// How long the credentials are good, milliseconds; `None` is for ever.
    #[serde(default)]
    pub lifetime_ms: Option<u64>,
}

/// What came of asking one server, as a record of an attempt shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerTried {
    /// Which, and by what transport.
    pub url: IceUrl,
    /// What it has given so far.
    pub outcome: ServerOutcome,
    /// From the first request to the outcome, or up to now, milliseconds.
    pub took_ms: f64,
}

impl ServerTried {
    /// Whether it has neither answered nor been given up.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.outcome, ServerOutcome::Waiting)
    }
}

/// What came of asking a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ServerOutcome {
    /// No answer so far.
    Waiting,
    /// It gave this address.
    Gave {
        /// A server-reflexive or relayed address.
        address: std::net::SocketAddr,
    },
    /// It was not needed: another transport of the same server was faster.
    NotNeeded,
    /// It cannot be used.
    Failed {
        /// What happened, in words.
        why: String,
    },
}

/// A duration as the API shows it, milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_the_rfcs_write_them() {
        let cases = [
            ("stun:stun.example.org", "stun:stun.example.org:3478"),
            ("stun.example.org:19302", "stun:stun.example.org:19302"),
            ("stuns:h", "stuns:h:5349"),
            ("stun:h?transport=tcp", "stun:h:3478?transport=tcp"),
            ("turn:h", "turn:h:3478?transport=udp"),
            ("turn:h:443?transport=tcp", "turn:h:443?transport=tcp"),
            ("turns:h", "turns:h:5349?transport=tcp"),
            ("turn:[2001:DB8::1]:9", "turn:[2001:db8::1]:9?transport=udp"),
            ("turn:192.0.2.1:9", "turn:192.0.2.1:9?transport=udp"),
        ];
        for (text, canonical) in cases {
            let url: IceUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_what_is_wrong() {
        let kind = |text: &str| text.parse::<IceUrl>().expect_err(text);
        for text in ["", "http://h", "host", "stun"] {
            assert!(matches!(kind(text), IceUrlError::Scheme(_)), "{text}");
        }
        for text in [
            "stun:",
            "stun::1",
            "turn:h:0",
            "turn:h:70000",
            "turn:a b",
            "turn:2001:db8::1",
            "turn:[h]:1",
            "turn:h/path",
        ] {
            assert!(matches!(kind(text), IceUrlError::Authority(_)), "{text}");
        }
        for text in ["turn:h?transport=sctp", "turns:h?transport=udp", "turn:h?"] {
            assert!(matches!(kind(text), IceUrlError::Transport(_)), "{text}");
        }
    }

    #[test]
    fn a_credential_is_not_shown() {
        let shown = format!("{:?}", Credential::new("secret".into()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
