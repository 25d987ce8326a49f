//! Whether a TURN server is reached by one of its URLs, and whether it relays.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout, timeout_at};
use waymesh_proto::ice::{IceTransport, IceUrl};
use waymesh_proto::{Code, Fault};

use super::stream::resolve;
use super::udp::seed;
use crate::control::{ProxyEnvironment, TlsTrust};
use crate::turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, RelayFamily, TurnError, Via,
};
use crate::turn::stream::{Stream, StreamError, StreamEvent};

/// Bytes of a datagram that are read; more than any answer has.
const READ_BYTES: usize = 2_048;

/// How long the other family's answer is still waited for beside a good one, so that its
/// allocation is given back too. Chosen: an allocation takes two round trips, and both
/// families seldom differ by more.
const GIVE_BACK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;

/// How far it got with a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It gave this relayed address.
    Relays(SocketAddr),
    /// It answered and wants credentials, of which there are none here: whether they
    /// would be taken is not known.
    WantsCredentials,
}

/// What a TURN server is asked with.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Of the server's users.
    pub credentials: Option<Credentials>,
    /// Whom TLS trusts.
    pub trust: TlsTrust,
    /// What is on the way to a server over TCP and TLS.
    pub proxies: ProxyEnvironment,
    /// How long all of it may take.
    pub limit: Duration,
}

/// Why a TURN server gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotReached {
    /// The name does not resolve, or the system cannot send there.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No connection over TCP or TLS, or it ended.
    #[error("{0}")]
    Stream(StreamError),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server answered and gave nothing.
    #[error("{0}")]
    Server(TurnError),
}

impl NotReached {
    /// The error as users are told who asked this URL.
    pub fn fault(&self, url: &IceUrl) -> Fault {
        let there = format!("{}:{}", url.host(), url.port());
        let (code, hint) = match self {
            // Of what is asked of the system, names alone take time.
            Self::Io(error) => (
                match error.kind() {
                    io::ErrorKind::TimedOut => Code::Timeout,
                    _ => Code::PathUnavailable,
                },
                format!(
                    "check the name {} and this host's DNS and routes",
                    url.host()
                ),
            ),
            Self::Timeout(_) | Self::Stream(StreamError::Timeout(_)) => {
                (Code::Timeout, let_out(url))
            }
            Self::Stream(StreamError::Proxy { .. }) => (
                Code::PathUnavailable,
                format!(
                    "let the proxy connect to {there} (CONNECT), or name {} in NO_PROXY",
                    url.host()
                ),
            ),
            Self::Stream(StreamError::UntrustedTls(_)) => (
                Code::UntrustedTls,
                "TLS is opened on the way, or it is another server: if its authority is to be \
                 trusted, give its certificate with --ca FILE"
                    .to_owned(),
            ),
            Self::Stream(StreamError::Settings(_)) => (
                Code::Usage,
                "correct the server's URL, or the proxy's".to_owned(),
            ),
            Self::Stream(StreamError::Refused(_)) => (
                Code::PathUnavailable,
                format!("check that a TURN server listens at {there}, and let TCP out to it"),
            ),
            Self::Stream(_) => (
                Code::PathUnavailable,
                format!(
                    "what answers at {there} is no TURN server, or something on the way lets no TURN pass"
                ),
            ),
            Self::Server(TurnError::CredentialsRefused { .. }) => (
                Code::Unauthorized,
                "the server does not know these credentials: it must have the same secret as \
                 the registry (--turn-secret-file), and a clock that is right"
                    .to_owned(),
            ),
            Self::Server(TurnError::Timeout(_)) => (Code::Timeout, let_out(url)),
            Self::Server(TurnError::NoRoom { .. }) => (
                Code::RateLimited,
                "it has no allocation left, for anybody or for this member: try later".to_owned(),
            ),
            Self::Server(_) => (
                Code::PathUnavailable,
                "see the TURN server's configuration and its log".to_owned(),
            ),
        };
        Fault::new(code, self.to_string()).with_hint(hint)
    }
}

fn let_out(url: &IceUrl) -> String {
    let transport = match url.transport() {
        IceTransport::Udp => "UDP",
        IceTransport::Tcp => "TCP",
    };
    format!("let {transport} out to {}:{}", url.host(), url.port())
}

/// Asks for an allocation and gives it back at once; by UDP one address of each family of
/// the server's, as a node does.
///
/// # Errors
/// [`NotReached`], after the limit at the latest.
pub async fn reach(url: &IceUrl, asking: &Asking) -> Result<Reached, NotReached> {
    let until = Instant::now() + asking.limit;
    if url.transport() == IceTransport::Tcp {
        let asked = timeout_at(until.into(), Box::pin(by_stream(url, asking))).await;
        return asked.unwrap_or(Err(NotReached::Timeout(asking.limit)));
    }
    let addresses = resolve(url.host(), url.port(), asking.limit).await?;
    by_families(&addresses, asking, until).await
}

/// What one of the families gives; else what the server itself has said, where it has.
async fn by_families(
    addresses: &[SocketAddr],
    asking: &Asking,
    until: Instant,
) -> Result<Reached, NotReached> {
    let first_of = |v4: bool| addresses.iter().find(|address| address.is_ipv4() == v4);
    let both = [first_of(true), first_of(false)].into_iter().flatten();
    let mut asked: FuturesUnordered<_> = both
        .map(|server| timeout_at(until.into(), Box::pin(by_datagrams(*server, asking))))
        .collect();
    let mut failure = NotReached::Timeout(asking.limit);
    while let Some(ended) = asked.next().await {
        match ended {
            Ok(Ok(reached)) => {
                let _ = timeout(GIVE_BACK, asked.count()).await;
                return Ok(reached);
            }
            Ok(Err(error)) if !matches!(failure, NotReached::Server(_)) => failure = error,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(failure)
}

fn client(via: Via, asking: &Asking) -> Client {
    let config = ClientConfig {
        via,
        family: RelayFamily::Common,
        credentials: asking.credentials.clone(),
        earlier: None,
        remembered: None,
    };
    Client::new(config, Instant::now(), seed())
}

async fn by_datagrams(server: SocketAddr, asking: &Asking) -> Result<Reached, NotReached> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    let mut client = client(Via::Datagrams { server }, asking);
    let mut buffer = [0; READ_BYTES];
    loop {
        let reached = outcome(&mut client);
        while let (Some(bytes), Some(server)) = (client.poll_transmit(), client.server()) {
            socket.send_to(&bytes, server).await?;
        }
        if let Some(reached) = reached {
            return reached;
        }
        tokio::select! {
            heard = socket.recv_from(&mut buffer) => {
                let (length, from) = heard?;
                if Some(from) == client.server() {
                    client.handle_datagram(Instant::now(), &buffer[..length]);
                }
            }
            () = due(&client) => client.handle_timeout(Instant::now()),
        }
    }
}

async fn by_stream(url: &IceUrl, asking: &Asking) -> Result<Reached, NotReached> {
    let wake = Arc::new(Notify::new());
    let mut stream = Stream::connect(url, &asking.trust, &asking.proxies, Arc::clone(&wake));
    while !is_open(&mut stream)? {
        wake.notified().await;
    }
    let mut client = client(Via::Stream, asking);
    loop {
        while let Some(event) = stream.poll() {
            match event {
                StreamEvent::Message(message) => {
                    client.handle_datagram(Instant::now(), &message);
                }
                StreamEvent::Closed(error) => return Err(NotReached::Stream(error)),
                StreamEvent::Connected => {}
            }
        }
        let reached = outcome(&mut client);
        while let Some(bytes) = client.poll_transmit() {
            stream.send(bytes);
        }
        // The end of the connection ends the allocation too.
        if let Some(reached) = reached {
            return reached;
        }
        tokio::select! {
            () = wake.notified() => {}
            () = due(&client) => client.handle_timeout(Instant::now()),
        }
    }
}

fn is_open(stream: &mut Stream) -> Result<bool, NotReached> {
    match stream.poll() {
        Some(StreamEvent::Closed(error)) => Err(NotReached::Stream(error)),
        event => Ok(event.is_some()),
    }
}

/// What came of it, if anything has; an allocation is given back.
fn outcome(client: &mut Client) -> Option<Result<Reached, NotReached>> {
    while let Some(event) = client.poll_event() {
        return Some(match event {
            ClientEvent::Allocated { relayed, .. } => {
                client.close(Instant::now());
                Ok(Reached::Relays(relayed))
            }
            ClientEvent::Failed {
                error: TurnError::CredentialsMissing,
            }
            | ClientEvent::CredentialsRefused {
                error: TurnError::CredentialsMissing,
            } => Ok(Reached::WantsCredentials),
            ClientEvent::Failed { error }
            | ClientEvent::CredentialsRefused { error }
            | ClientEvent::Lost { error } => Err(NotReached::Server(error)),
            ClientEvent::Data { .. } | ClientEvent::PeerRefused { .. } => continue,
        });
    }
    None
}

async fn due(client: &Client) {
    match client.poll_timeout() {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
