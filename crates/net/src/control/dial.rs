//! One byte stream to the registry: TCP, the proxy's `CONNECT`, TLS.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use super::error::ConnectError;
use super::http::Connection;
use super::meter::{Meter, Metered};
use super::proxy::Proxy;
use super::target::Way;

/// How long one address may be silent before the next is tried beside it (RFC 8305 §5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// What bytes go through, whatever it is made of.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> ByteStream for T {}

/// A stream to the registry.
pub(crate) type Io = Box<dyn ByteStream>;

/// Connects. Not cancel safe in the sense that a dropped attempt begins anew.
pub(crate) async fn dial(way: &Way, meter: &Meter) -> Result<Io, ConnectError> {
    let io = match &way.proxy {
        Some(proxy) => through(proxy, way, meter)
            .await
            .map_err(|error| proxy_failed(proxy, error))?,
        None => tcp(&way.host, way.port, meter).await?,
    };
    match &way.tls {
        Some(tls) => Ok(Box::new(tls.wrap(io).await?)),
        None => Ok(io),
    }
}

/// Asks the proxy for a tunnel (RFC 9110 §9.3.6).
async fn through(proxy: &Proxy, way: &Way, meter: &Meter) -> Result<Io, ConnectError> {
    let io = tcp(&proxy.host, proxy.port, meter).await?;
    let io = match &proxy.tls {
        Some(tls) => Box::new(tls.wrap(io).await?),
        None => io,
    };
    let connection = Connection::start(io).await?;
    connection
        .tunnel(&way.host_and_port(), proxy.credentials.as_ref())
        .await
}

fn proxy_failed(proxy: &Proxy, error: ConnectError) -> ConnectError {
    ConnectError::Proxy {
        proxy: proxy.name().to_owned(),
        why: error.to_string(),
    }
}

/// Connects to the first address of a host that answers.
async fn tcp(host: &str, port: u16, meter: &Meter) -> io::Result<Io> {
    let mut addresses = alternating(lookup_host((host, port)).await?);
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        match addresses.pop_front() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => {
                    // Only slower without it.
                    let _ = stream.set_nodelay(true);
                    if let Ok(local) = stream.local_addr() {
                        meter.note_local(local.ip());
                    }
                    return Ok(Box::new(Metered::new(stream, meter.clone())));
                }
                Err(error) => last = error,
            },
            () = sleep(NEXT_ADDRESS_AFTER), if !addresses.is_empty() => {}
        }
    }
}

/// The addresses in the order of RFC 8305 §4: the families take turns.
fn alternating(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addresses: VecDeque<_> = addresses.collect();
    let first_is_ipv6 = addresses.front().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = addresses
        .drain(..)
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    while !first.is_empty() || !second.is_empty() {
        addresses.extend(first.pop_front());
        addresses.extend(second.pop_front());
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_take_turns() {
        let parse = |texts: &[&str]| -> VecDeque<SocketAddr> {
            texts
                .iter()
                .map(|t| t.parse().expect("an address"))
                .collect()
        };
        let given = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1"]);
        let expected = parse(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(alternating(given.into_iter()), expected);
        assert_eq!(alternating(std::iter::empty()), VecDeque::new());
    }
}
