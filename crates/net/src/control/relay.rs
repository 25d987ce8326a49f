//! The way of a registry's connections, to a TURN server: TCP, the proxy's
//! `CONNECT`, TLS.

use hyper::Uri;
use rustls_pki_types::ServerName;
use tokio::task::spawn_blocking;
use waymesh_proto::control::Origin;
use waymesh_proto::ice::IceUrl;

use super::dial::{Io, dial};
use super::error::{ConnectError, TargetError};
use super::meter::Meter;
use super::proxy::{Proxy, ProxyEnvironment};
use super::target::Way;
use super::tls::{Tls, TlsTrust};

/// Why there is no stream to a TURN server.
#[derive(Debug)]
pub(crate) enum RelayDialError {
    /// With these settings there cannot be one.
    Target(TargetError),
    /// None was made.
    Connect(ConnectError),
}

/// Opens a stream to a TURN server. The trust is wider than for the registry,
/// see [`Tls::for_relay`]. What is dropped before its end leaves nothing open.
pub(crate) async fn dial_relay(
    url: &IceUrl,
    trust: &TlsTrust,
    proxies: &ProxyEnvironment,
) -> Result<Io, RelayDialError> {
    let (url, trust, proxies) = (url.clone(), trust.clone(), proxies.clone());
    // It reads the system's certificates.
    let way = spawn_blocking(move || way(&url, &trust, &proxies)).await;
    let way = way.expect("it does not panic, and the runtime runs");
    let way = way.map_err(RelayDialError::Target)?;
    let io = Box::pin(dial(&way, &Meter::default())).await;
    io.map_err(RelayDialError::Connect)
}

fn way(url: &IceUrl, trust: &TlsTrust, proxies: &ProxyEnvironment) -> Result<Way, TargetError> {
    let host = url.host();
    let no_host = || TargetError::Host(host.to_owned());
    let authority = if host.contains(':') {
        format!("[{host}]:{}", url.port())
    } else {
        format!("{host}:{}", url.port())
    };
    // A tunnel is what proxies for https make, whatever goes through it.
    let as_https = format!("https://{authority}");
    let origin: Origin = as_https.parse().map_err(|_| no_host())?;
    let uri: Uri = as_https.parse().map_err(|_| no_host())?;
    let tls = if url.scheme().is_tls() {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| no_host())?;
        Some(Tls::for_relay(trust, name)?)
    } else {
        None
    };
    Ok(Way {
        host: host.to_owned(),
        port: url.port(),
        authority,
        tls,
        proxy: Proxy::for_origin(&origin, &uri, proxies, trust)?,
        origin,
    })
}
