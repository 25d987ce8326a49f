//! What goes wrong with the control connection, and what users are told of it.

use std::io;
use std::time::Duration;

use waymesh_proto::{Code, Fault};

pub use super::tls::Distrust;

/// Settings that cannot lead to a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Plain HTTP to another machine: anybody on the way could change it. Use `https`.
    #[error("plain HTTP is spoken on this machine only, not to {0}")]
    PlainHttp(String),
    /// The host of the URL cannot be in a TLS certificate.
    #[error("{0} cannot be the host of an https URL")]
    Host(String),
    /// A certificate that is to be trusted is not one.
    #[error("a certificate to trust is not usable: {0}")]
    Ca(String),
    /// The environment names a proxy that cannot be used. The value is not
    /// repeated, because it may hold a password.
    #[error("{variable} does not name an HTTP proxy")]
    Proxy {
        /// The variable of the environment.
        variable: &'static str,
    },
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time; try again later.
    #[error("no answer within {limit:?}{}", through(proxy.as_deref()))]
    Timeout {
        /// How long was waited.
        limit: Duration,
        /// Host and port of the proxy on the way.
        proxy: Option<String>,
    },
    /// The address does not resolve or refuses connections, or the connection
    /// broke; try again later.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The proxy of the environment did not let the connection through; check it.
    #[error("the proxy {proxy} does not connect to the registry: {why}")]
    Proxy {
        /// Host and port of the proxy, without credentials.
        proxy: String,
        /// What it said or did.
        why: String,
    },
    /// The registry's certificate is not trusted; trying again does not help.
    #[error("{0}")]
    UntrustedTls(Distrust),
    /// TLS failed otherwise: no TLS there, or a broken connection.
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
    /// Whoever answers there is not a registry, or something on the way changes
    /// what passes; check the URL.
    #[error("no registry answers there: {0}")]
    Handshake(String),
    /// The registry refuses the connection, with its reason.
    #[error("{0}")]
    Refused(Fault),
}

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other side has closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The registry has ended the connection with a reason.
    #[error("{0}")]
    Refused(Fault),
    /// A message larger than the limit, or what no registry sends.
    #[error("the other side sent what no registry sends: {0}")]
    Unreadable(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Why a message was not sent; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The other side does not read.
    #[error("the other side did not read for {0:?}")]
    Timeout(Duration),
    /// The registry does not take messages any more, with its reason.
    #[error("{0}")]
    Refused(Fault),
    /// The message is larger than any carrier takes; it was not sent.
    #[error("a message of {0} bytes is too large to be sent")]
    TooLarge(usize),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Why a single request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection was made, or no answer came in time.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The registry refuses the request, with its reason.
    #[error("{0}")]
    Refused(Fault),
    /// The answer is not a registry's, or larger than the limit.
    #[error("no registry answers there: {0}")]
    Unreadable(String),
    /// The connection broke before the answer was whole.
    #[error("the connection broke: {0}")]
    Broken(String),
}

const CHECK_URL: &str = "check the registry's URL, and that `waymesh registry` runs there";

fn unreachable(error: &dyn std::fmt::Display, hint: &str) -> Fault {
    Fault::new(Code::RegistryUnreachable, error.to_string()).with_hint(hint)
}

fn through(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"))
}

impl TargetError {
    /// The error as users are told.
    pub fn fault(&self) -> Fault {
        let hint = match self {
            Self::PlainHttp(_) => "give the https URL that the registry prints, or its invite",
            Self::Host(_) => "check the registry's URL",
            Self::Ca(_) => "give a file of certificates in PEM form",
            Self::Proxy { .. } => "it looks like http://user:password@proxy.example:3128",
        };
        Fault::new(Code::Usage, self.to_string()).with_hint(hint)
    }
}

impl ConnectError {
    /// The error as users are told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(fault) => fault.clone(),
            Self::UntrustedTls(distrust) => distrust.fault(),
            Self::Proxy { .. } | Self::Timeout { proxy: Some(_), .. } => unreachable(
                self,
                "check HTTPS_PROXY, or name the registry's host in NO_PROXY",
            ),
            Self::Tls(_) => unreachable(self, "check that the registry's URL says https rightly"),
            Self::Timeout { .. } | Self::Io(_) | Self::Handshake(_) => unreachable(self, CHECK_URL),
        }
    }
}

impl RequestError {
    /// The error as users are told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Connect(error) => error.fault(),
            Self::Refused(fault) => fault.clone(),
            Self::Unreadable(_) | Self::Broken(_) => unreachable(self, CHECK_URL),
        }
    }
}

impl ReceiveError {
    /// The error as users are told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(fault) => fault.clone(),
            Self::Closed | Self::Unreadable(_) | Self::Broken(_) => {
                Fault::new(Code::RegistryUnreachable, self.to_string())
            }
        }
    }
}

impl SendError {
    /// The error as users are told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(fault) => fault.clone(),
            Self::TooLarge(_) => Fault::new(Code::TooLarge, self.to_string()),
            Self::Timeout(_) | Self::Broken(_) => {
                Fault::new(Code::RegistryUnreachable, self.to_string())
            }
        }
    }
}
