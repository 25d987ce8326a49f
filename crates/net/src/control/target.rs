//! Where a registry is and how it is reached: the settings of every connection to it.

use std::fmt;
use std::sync::Arc;

use hyper::Uri;
use rustls_pki_types::ServerName;
use waymesh_proto::control::Origin;

use super::error::TargetError;
use super::proxy::{Proxy, ProxyEnvironment};
use super::tls::{Tls, TlsTrust};

/// What a proof of possession is for (RFC 9449 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofRequest<'a> {
    /// The method of the request: `GET` or `POST`.
    pub method: &'static str,
    /// The URL of the request, without query and fragment.
    pub url: &'a str,
    /// What the registry wants to see in the proof, as soon as it has said it.
    pub nonce: Option<&'a str>,
}

/// Makes the `DPoP` header of one request; whoever gives it holds the key.
pub type Prover = Arc<dyn Fn(ProofRequest<'_>) -> String + Send + Sync>;

/// A registry and the way to it. A cheap clone.
#[derive(Clone)]
pub struct Target {
    way: Arc<Way>,
    prover: Option<Prover>,
}

/// What does not depend on who asks.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(super) origin: Origin,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as in the URL, for `Host` headers.
    pub(super) authority: String,
    pub(super) tls: Option<Tls>,
    pub(super) proxy: Option<Proxy>,
}

impl Way {
    /// For a proxy's `CONNECT`.
    pub(super) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Target {
    /// Prepares connections to a registry. Reads the system's certificates
    /// from disk where they are needed, so it is made once and kept.
    ///
    /// # Errors
    /// A [`TargetError`]: with these settings no connection can be made.
    pub fn new(
        origin: Origin,
        trust: &TlsTrust,
        proxies: &ProxyEnvironment,
    ) -> Result<Self, TargetError> {
        let no_host = || TargetError::Host(origin.to_string());
        let uri: Uri = origin.as_str().parse().map_err(|_| no_host())?;
        let authority = uri.authority().ok_or_else(no_host)?;
        let host = without_brackets(authority.host());
        let tls = if origin.is_tls() {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| no_host())?;
            Some(Tls::new(trust, name)?)
        } else if origin.is_loopback() {
            None
        } else {
            return Err(TargetError::PlainHttp(host.to_owned()));
        };
        let default_port = if origin.is_tls() { 443 } else { 80 };
        let way = Way {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            authority: authority.to_string(),
            tls,
            proxy: Proxy::for_origin(&origin, &uri, proxies, trust)?,
            origin,
        };
        Ok(Self {
            way: Arc::new(way),
            prover: None,
        })
    }

    /// The same way to the same registry, trusted otherwise; what is trusted of
    /// a proxy on the way stays.
    ///
    /// # Errors
    /// [`TargetError::Ca`].
    pub fn trusting(&self, trust: &TlsTrust) -> Result<Self, TargetError> {
        match &self.way.tls {
            Some(tls) => Ok(self.with_tls(tls.trusting(trust)?)),
            None => Ok(self.clone()),
        }
    }

    /// The same for another connection: what was trusted on first use is not any more.
    pub(super) fn anew(&self) -> Self {
        match self.way.tls.as_ref().and_then(Tls::anew) {
            Some(tls) => self.with_tls(tls),
            None => self.clone(),
        }
    }

    fn with_tls(&self, tls: Tls) -> Self {
        let mut way = Way::clone(&self.way);
        way.tls = Some(tls);
        Self {
            way: Arc::new(way),
            prover: self.prover.clone(),
        }
    }

    /// The key of the registry that is trusted only because it was shown first.
    pub(super) fn first_use_key(&self) -> Option<[u8; 32]> {
        self.way.tls.as_ref()?.first_use_key()
    }

    /// Adds what proves the possession of a key; long-poll needs it, and so do
    /// requests by members.
    #[must_use]
    pub fn with_prover(mut self, prover: Prover) -> Self {
        self.prover = Some(prover);
        self
    }

    /// The registry's origin.
    pub fn origin(&self) -> &Origin {
        &self.way.origin
    }

    /// Host and port of the proxy on the way, without credentials.
    pub fn proxy(&self) -> Option<&str> {
        self.way.proxy.as_ref().map(Proxy::name)
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    pub(super) fn prover(&self) -> Option<&Prover> {
        self.prover.as_ref()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("way", &self.way)
            .field("has_prover", &self.prover.is_some())
            .finish()
    }
}

/// A host as the resolver wants it: URLs put IPv6 addresses in brackets.
pub(super) fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inner.unwrap_or(host)
}
