//! Whether a TURN server is reached by one of its URLs, and whether it relays.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep_until, timeout};
use waymesh_proto::control::Origin;
use waymesh_proto::ice::{IceTransport, IceUrl};

use super::stream::resolve;
use super::udp::seed;
use crate::control::{ConnectError, Meter, ProxyEnvironment, Target, TlsTrust, dial};
use crate::turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, RelayFamily, TurnError, Via,
};
use crate::turn::framing::Decoder;

/// Bytes that are read at once; larger than any answer.
const READ_BYTES: usize = 2_048;

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
    /// What is on the way to a server over TLS.
    pub proxies: ProxyEnvironment,
    /// How long all of it may take.
    pub limit: Duration,
}

/// Why a TURN server gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotReached {
    /// The name does not resolve, or nobody answers there.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No connection over TLS.
    #[error("{0}")]
    Tls(ConnectError),
    /// The URL cannot be asked: TLS over UDP, a name that cannot be in a certificate.
    #[error("{0}")]
    Url(String),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server answered and gave nothing.
    #[error("{0}")]
    Server(TurnError),
}

/// Asks for an allocation and gives it back at once.
///
/// # Errors
/// [`NotReached`], after the limit at the latest.
pub async fn reach(url: &IceUrl, asking: &Asking) -> Result<Reached, NotReached> {
    let (limit, asked) = (asking.limit, Box::pin(ask(url, asking)));
    let asked = timeout(limit, asked).await;
    asked.unwrap_or(Err(NotReached::Timeout(limit)))
}

async fn ask(url: &IceUrl, asking: &Asking) -> Result<Reached, NotReached> {
    if url.scheme().is_tls() {
        let target = tls_target(url, asking)?;
        let stream = dial(target.way(), &Meter::default()).await;
        return by_stream(stream.map_err(NotReached::Tls)?, asking).await;
    }
    let addresses = resolve(url.host(), url.port(), asking.limit).await?;
    match url.transport() {
        IceTransport::Tcp => by_stream(TcpStream::connect(&*addresses).await?, asking).await,
        IceTransport::Udp => by_datagrams(&addresses, asking).await,
    }
}

/// The server as the control connection's dialer knows one: it has the proxy and TLS.
fn tls_target(url: &IceUrl, asking: &Asking) -> Result<Target, NotReached> {
    let host = match url.host() {
        ip if ip.contains(':') => format!("[{ip}]"),
        name => name.to_owned(),
    };
    let origin: Origin = format!("https://{host}:{}", url.port())
        .parse()
        .map_err(|_| NotReached::Url(format!("{url} has a host that no certificate can name")))?;
    let target = Target::new(origin, &asking.trust, &asking.proxies);
    target.map_err(|error| NotReached::Url(error.to_string()))
}

fn client(via: Via, asking: &Asking) -> Client {
    let config = ClientConfig {
        via,
        family: RelayFamily::V4,
        credentials: asking.credentials.clone(),
        remembered: None,
    };
    Client::new(config, Instant::now(), seed())
}

async fn by_datagrams(addresses: &[SocketAddr], asking: &Asking) -> Result<Reached, NotReached> {
    let Some(server) = addresses.first().copied() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address").into());
    };
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

async fn by_stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    asking: &Asking,
) -> Result<Reached, NotReached> {
    let mut client = client(Via::Stream, asking);
    let (mut decoder, mut buffer) = (Decoder::default(), [0; READ_BYTES]);
    loop {
        let reached = outcome(&mut client);
        while let Some(bytes) = client.poll_transmit() {
            stream.write_all(&bytes).await?;
        }
        if let Some(reached) = reached {
            stream.flush().await?;
            return reached;
        }
        stream.flush().await?;
        tokio::select! {
            read = stream.read(&mut buffer) => match read? {
                0 => {
                    let why = "the server closed the connection";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why).into());
                }
                length => {
                    decoder.extend(&buffer[..length]);
                    hear(&mut decoder, &mut client)?;
                }
            },
            () = due(&client) => client.handle_timeout(Instant::now()),
        }
    }
}

fn hear(decoder: &mut Decoder, client: &mut Client) -> Result<(), NotReached> {
    loop {
        match decoder.poll() {
            Ok(Some(message)) => _ = client.handle_datagram(Instant::now(), message),
            Ok(None) => return Ok(()),
            Err(_) => {
                let why = "what answers there does not speak TURN";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why).into());
            }
        }
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
