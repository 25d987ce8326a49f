//! The HTTP proxy that the environment names for a registry.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls_pki_types::ServerName;
use waymesh_proto::control::Origin;

use super::error::TargetError;
use super::target::without_brackets;
use super::tls::{Tls, TlsTrust};

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
    pub(super) tls: Option<Tls>,
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
                (Some(Tls::new(&trust.without_key(), name)?), 443)
            }
            _ => return Ok(None),
        };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => default_port,
            None => return Ok(None),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> ProxyEnvironment {
        ProxyEnvironment::new(|name| {
            let mut variables = variables.iter();
            variables.find_map(|(key, value)| (*key == name).then(|| (*value).to_owned()))
        })
    }

    /// The proxy's name for a registry, or the variable that is wrong.
    fn proxy(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, TargetError> {
        let origin: Origin = url.parse().expect("an origin");
        let uri = url.parse().expect("a URL");
        let trust = TlsTrust::default();
        let proxy = Proxy::for_origin(&origin, &uri, &environment(variables), &trust)?;
        Ok(proxy.map(|proxy| proxy.name().to_owned()))
    }

    const REGISTRY: &str = "https://registry.example:8443";

    #[test]
    fn the_variable_of_the_scheme_goes_before_that_for_all() {
        let all = ("ALL_PROXY", "http://all:1");
        let https = ("HTTPS_PROXY", "https://both:2");
        let lower = ("https_proxy", "lower:3");
        for (variables, expected) in [
            (&[][..], None),
            (&[("https_proxy", "")], None),
            (&[("http_proxy", "http://other:9")], None),
            (&[all], Some("all:1")),
            (&[all, https], Some("both:2")),
            (&[all, https, lower], Some("lower:3")),
            (
                &[("https_proxy", "proxy.example")],
                Some("proxy.example:80"),
            ),
            (&[("https_proxy", "http://[::2]:4")], Some("[::2]:4")),
        ] {
            let name = proxy(REGISTRY, variables).expect("usable variables");
            assert_eq!(name.as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn http_proxy_is_believed_in_small_letters_alone() {
        let url = "http://127.0.0.1:7700";
        let proxy_url = "http://localhost:3128";
        let small = proxy(url, &[("http_proxy", proxy_url)]);
        assert_eq!(small, Ok(Some("localhost:3128".into())));
        assert_eq!(proxy(url, &[("HTTP_PROXY", proxy_url)]), Ok(None));
    }

    #[test]
    fn a_proxy_elsewhere_is_not_asked_for_a_registry_on_this_machine() {
        let variables = [("all_proxy", "http://proxy.example:3128")];
        for url in [
            "http://127.0.0.1:7700",
            "https://localhost",
            "https://[::1]",
        ] {
            assert_eq!(proxy(url, &variables), Ok(None), "{url}");
        }
        let local = [("all_proxy", "http://[::1]:3128")];
        let name = proxy("https://localhost", &local);
        assert_eq!(name, Ok(Some("[::1]:3128".into())));
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_directly() {
        let is_direct = |url: &str, no: &str| {
            let variables = [("ALL_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", no)];
            proxy(url, &variables).expect("usable variables").is_none()
        };
        for (url, no) in [
            (REGISTRY, "registry.example"),
            (REGISTRY, "other, .example"),
            (REGISTRY, "EXAMPLE"),
            (REGISTRY, "*"),
            ("https://10.1.2.3", "*"),
            ("https://10.1.2.3", "10.0.0.0/8"),
            ("https://[fd00::1]", "fd00::/8"),
            ("http://127.0.0.1:7700", "127.0.0.1"),
        ] {
            assert!(is_direct(url, no), "{url} {no}");
        }
        for (url, no) in [
            (REGISTRY, ""),
            (REGISTRY, "try.example, registry.example.org"),
            ("https://10.1.2.3", "10.1.2.4, 11.0.0.0/8"),
        ] {
            assert!(!is_direct(url, no), "{url} {no}");
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_by_the_name_of_its_variable() {
        for value in [
            "socks5://host:1",
            "ftp://host",
            "http://",
            "a b",
            "http://h:99999",
        ] {
            let variables = [("all_proxy", value)];
            let variable = "all_proxy";
            let error = TargetError::Proxy { variable };
            assert_eq!(proxy(REGISTRY, &variables), Err(error), "{value}");
            let excepted = [("all_proxy", value), ("no_proxy", "*")];
            assert_eq!(proxy(REGISTRY, &excepted), Ok(None), "{value}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let variables = [("https_proxy", "http://alice:secret@proxy.example:1")];
        let environment = environment(&variables);
        let origin: Origin = REGISTRY.parse().expect("an origin");
        let uri = REGISTRY.parse().expect("a URL");
        let proxy = Proxy::for_origin(&origin, &uri, &environment, &TlsTrust::default());
        let proxy = proxy.expect("usable variables").expect("a proxy");
        assert!(proxy.credentials.is_some());
        let shown = format!("{environment:?} {proxy:?} {}", proxy.name());
        assert!(
            !shown.contains("secret") && !shown.contains("alice"),
            "{shown}"
        );
    }
}
