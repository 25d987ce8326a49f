//! The way to the registry: its name, TCP, the proxy, TLS and the two carriers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use serde::Serialize;
use waymesh_net::control::{Carrier, ConnectError};
use waymesh_net::probe::stream;
use waymesh_proto::{Code, Fault};

use super::super::subject::Registry;
use super::{Check, State};

/// HTTPS's port: the one that the narrowest networks leave open.
const HTTPS_PORT: u16 = 443;

/// What TLS shows.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct TlsFound {
    /// Another key than the pinned one: something on the way opens the connection.
    pub(in super::super) intercepted: bool,
    pub(in super::super) key: Option<String>,
    pub(in super::super) pin: Option<String>,
    pub(in super::super) issuer: Option<String>,
}

type Names = (Check<Vec<IpAddr>>, Check<SocketAddr>, Check<SocketAddr>);

pub(super) async fn names(registry: Option<&Registry>, limit: Duration) -> Names {
    let none = "no registry is named";
    let Some(registry) = registry else {
        return (
            Check::skipped(none),
            Check::skipped(none),
            Check::skipped(none),
        );
    };
    let begun = Instant::now();
    let host = &registry.host;
    let addresses = match stream::resolve(host, registry.port, limit).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let message = format!("{host} has no address here: {error}");
            let hint = format!("check the name {host} in --registry, and this host's DNS");
            let fault = Fault::new(Code::RegistryUnreachable, message).with_hint(hint);
            let unresolved = "the registry's name does not resolve";
            return (
                Check::failed(fault, begun),
                Check::skipped(unresolved),
                Check::skipped(unresolved),
            );
        }
    };
    let ips: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    let what = match host.parse::<IpAddr>() {
        Ok(_) => "the registry is named by its address".to_owned(),
        Err(_) => {
            let shown: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
            format!("{host} is {}", shown.join(", "))
        }
    };
    let dns = Check::new(State::Passed, what, begun).with(ips);
    let https: Vec<_> = addresses
        .iter()
        .map(|address| SocketAddr::new(address.ip(), HTTPS_PORT))
        .collect();
    let (own, https) = tokio::join!(tcp(&addresses, limit), tcp(&https, limit));
    (dns, own, https_port(registry, https))
}

async fn tcp(addresses: &[SocketAddr], limit: Duration) -> Check<SocketAddr> {
    let begun = Instant::now();
    match stream::connect(addresses, limit).await {
        Ok(address) => Check::new(State::Passed, format!("{address} answers"), begun).with(address),
        Err(error) => {
            let port = addresses.first().map_or(0, SocketAddr::port);
            let message = match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("port {port} refuses"),
                _ => format!("port {port}: {error}"),
            };
            let hint = "check that `waymesh registry` runs there, and let TCP out to its port";
            let fault = Fault::new(Code::RegistryUnreachable, message).with_hint(hint);
            Check::failed(fault, begun)
        }
    }
}

/// That nothing answers on 443 says nothing of the network where nothing listens there.
fn https_port(registry: &Registry, mut check: Check<SocketAddr>) -> Check<SocketAddr> {
    if !check.is_passed() && registry.port != HTTPS_PORT {
        check.state = State::Unknown;
        check.error = None;
        check.what = format!("{}; the registry may have nothing there", check.what);
    }
    check
}

/// The byte stream to the registry: proxy and TLS.
pub(super) async fn way_in(
    registry: Option<&Registry>,
    limit: Duration,
) -> (Check<String>, Check<TlsFound>) {
    let Some(registry) = registry else {
        let none = "no registry is named";
        return (Check::skipped(none), Check::skipped(none));
    };
    let begun = Instant::now();
    let reached = stream::reach(&registry.strict, limit).await;
    let proxy = match (registry.strict.proxy(), &reached) {
        (None, _) => Check::skipped("the environment names none for the registry"),
        (Some(proxy), Err(error @ (ConnectError::Proxy { .. } | ConnectError::Timeout { .. }))) => {
            Check::failed(error.fault(), begun).with(proxy.to_owned())
        }
        (Some(proxy), _) => {
            let what = format!("{proxy} connects to the registry");
            Check::new(State::Passed, what, begun).with(proxy.to_owned())
        }
    };
    (proxy, tls(registry, reached.as_ref().err(), begun))
}

fn tls(registry: &Registry, error: Option<&ConnectError>, begun: Instant) -> Check<TlsFound> {
    let hex = |key: [u8; 32]| HEXLOWER.encode(&key);
    let found = |intercepted, key: Option<[u8; 32]>, issuer| TlsFound {
        intercepted,
        key: key.map(hex),
        pin: registry.pin.map(hex),
        issuer,
    };
    if !registry.origin.is_tls() {
        return Check::skipped("the registry speaks plain HTTP, on this machine only");
    }
    match error {
        None => {
            let what = match registry.pin {
                Some(_) => "the registry shows its pinned key",
                None => "an authority vouches for the registry's key",
            };
            Check::new(State::Passed, what, begun).with(found(false, registry.pin, None))
        }
        Some(ConnectError::UntrustedTls(distrust)) => {
            let issuer = distrust.issuer.clone();
            let by = issuer.as_deref().unwrap_or("nobody that it names");
            let is_intercepted = distrust.pin.is_some() && distrust.found.is_some();
            let what = match is_intercepted {
                true => format!("INTERCEPTED: not the pinned key, but one issued by {by}"),
                false => format!("no authority vouches for the key, which is issued by {by}"),
            };
            // Without a pin it may well be the registry's own.
            let state = match is_intercepted {
                true => State::Failed,
                false => State::Unknown,
            };
            Check {
                error: is_intercepted.then(|| distrust.fault()),
                ..Check::new(state, what, begun)
            }
            .with(found(is_intercepted, distrust.found, issuer))
        }
        Some(error @ ConnectError::Tls(_)) => Check::failed(error.fault(), begun),
        Some(_) => Check::new(State::Unknown, "no connection to try it on", begun),
    }
}

pub(super) async fn carrier(
    registry: Option<&Registry>,
    carrier: Carrier,
    limit: Duration,
) -> Check<()> {
    let Some(registry) = registry else {
        return Check::skipped("no registry is named");
    };
    let begun = Instant::now();
    match stream::carry(&registry.target, carrier, limit).await {
        Ok(()) => Check::new(State::Passed, "passes", begun),
        Err(ConnectError::Refused(fault)) => {
            let what = format!("passes; the registry says: {}", fault.message);
            Check::new(State::Passed, what, begun)
        }
        Err(error) => Check::failed(error.fault(), begun),
    }
}
