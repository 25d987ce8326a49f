//! The HTTP proxy that the environment names for a registry.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls_pki_types::ServerName;
use tokio_rustls::rustls::ClientConfig;
use waymesh_proto::control::Origin;

use super::error::TargetError;
use super::target::without_brackets;
use super::tls::{self, TlsTrust};

/// What the environment says of proxies, with the meaning that curl gives it.
///
/// A proxy on another machine is not asked for a registry on this one, which it
/// could not reach. A program that wants no proxy gives the default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    https: Option<Setting>,
    http: Option<Setting>,
    all: Option<Setting>,
    no: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
struct Setting {
    variable: &'static str,
    value: String,
}

impl ProxyEnvironment {
    /// Takes the variables `https_proxy`, `http_proxy`, `all_proxy` and
    /// `no_proxy` from `read`, or those in capitals where there are none in
    /// small letters. `HTTP_PROXY` is not taken: a web server may have set it
    /// from a request's `Proxy` header.
    pub fn new(read: impl Fn(&str) -> Option<String>) -> Self {
        let first = |variables: &[&'static str]| {
            variables.iter().find_map(|&variable| {
                let value = read(variable).filter(|value| !value.is_empty())?;
                Some(Setting { variable, value })
            })
        };
        Self {
            https: first(&["https_proxy", "HTTPS_PROXY"]),
            http: first(&["http_proxy"]),
            all: first(&["all_proxy", "ALL_PROXY"]),
            no: first(&["no_proxy", "NO_PROXY"]).map(|setting| setting.value),
        }
    }

    /// Whether `NO_PROXY` names the host.
    fn excepts(&self, target: &Uri) -> bool {
        let no = self.no.as_deref().unwrap_or_default();
        // The matcher takes the asterisk for names alone.
        if no.trim() == "*" {
            return true;
        }
        let every = Matcher::builder().all("http://proxy").no(no).build();
        every.intercept(target).is_none()
    }

    fn setting_for(&self, target: &Uri) -> Option<&Setting> {
        let own = match target.scheme_str() {
            Some("https") => &self.https,
            _ => &self.http,
        };
        own.as_ref().or(self.all.as_ref())
    }
}

impl fmt::Debug for ProxyEnvironment {
    /// Without the values: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = [&self.https, &self.http, &self.all];
        let variables = settings.into_iter().flatten().map(|s| s.variable);
        f.debug_list().entries(variables).finish()
    }
}

/// The proxy on the way to one registry.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// `Proxy-Authorization` (RFC 9110 §11.7.2).
    pub(super) credentials: Option<HeaderValue>,
    /// For a proxy that is itself reached through TLS.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    name: String,
}

impl Proxy {
    /// The proxy that the environment names for a registry, if any.
    pub(super) fn for_origin(
        origin: &Origin,
        uri: &Uri,
        environment: &ProxyEnvironment,
        trust: &TlsTrust,
    ) -> Result<Option<Self>, TargetError> {
        let Some(setting) = environment.setting_for(uri) else {
            return Ok(None);
        };
        if environment.excepts(uri) {
            return Ok(None);
        }
        let unusable = TargetError::Proxy {
            variable: setting.variable,
        };
        let only = Matcher::builder().all(&setting.value).build();
        let intercept = only.intercept(uri).ok_or(unusable.clone())?;
        let proxy = Self::new(&intercept, trust)?.ok_or(unusable)?;
        Ok((!origin.is_loopback() || proxy.is_loopback()).then_some(proxy))
    }

    /// `None` for what is not an HTTP proxy.
    fn new(intercept: &Intercept, trust: &TlsTrust) -> Result<Option<Self>, TargetError> {
        let uri = intercept.uri();
        let Some(authority) = uri.authority() else {
            return Ok(None);
        };
        let host = without_brackets(authority.host());
        let (tls, default_port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => {
                let Ok(name) = ServerName::try_from(host.to_owned()) else {
                    return Ok(None);
                };
                (Some((tls::config(&trust.without_pin())?, name)), 443)
            }
            _ => return Ok(None),
        };
        let port = authority.port_u16().unwrap_or(default_port);
        Ok(Some(Self {
            credentials: intercept.basic_auth().cloned(),
            name: format!("{}:{port}", authority.host()),
            host: host.to_owned(),
            port,
            tls,
        }))
    }

    fn is_loopback(&self) -> bool {
        let ip = self.host.parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Host and port, without credentials.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.name).finish()
    }
}
