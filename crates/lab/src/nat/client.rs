//! A host that uses a TURN server without being a node: with which credentials it likes,
//! for what it likes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use data_encoding::BASE64;
use waymesh_net::turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, RelayFamily, TurnError, Via,
};
use waymesh_proto::ice::Credential;

/// The port of peers that something is sent to: discard (RFC 863).
pub(crate) const PROBED_PORT: u16 = 9;

/// How long a server may take for anything. Chosen far above what is expected.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing may come from a server that has taken a permission.
const SILENCE: Duration = Duration::from_millis(400);

/// One allocation, and the socket that it is used by.
#[derive(Debug)]
pub(crate) struct Guest {
    client: Client,
    socket: UdpSocket,
}

/// What came of asking for an allocation.
#[derive(Debug)]
pub(crate) enum Asked {
    Allocated(Box<Guest>),
    Refused(TurnError),
}

/// What a server made of a peer's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Permitted {
    Yes,
    No(TurnError),
}

/// A name that is good until then, and the password to it (`use-auth-secret`).
pub(crate) fn credentials(secret: &[u8], user: &str, good_for: i64) -> Credentials {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let username = format!("{}:{user}", now.saturating_add_signed(good_for));
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = sign(&key, username.as_bytes());
    Credentials {
        credential: Credential::new(BASE64.encode(tag.as_ref())),
        username,
    }
}

impl Guest {
    /// Asks for an allocation, from the namespace of this thread.
    pub(crate) fn ask(server: SocketAddr, credentials: Option<Credentials>) -> Result<Asked> {
        let config = ClientConfig {
            via: Via::Datagrams { server },
            family: RelayFamily::V4,
            credentials,
            earlier: None,
            remembered: None,
        };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let client = Client::new(config, Instant::now(), rand::random());
        let mut guest = Self { client, socket };
        match guest.next(PATIENCE)? {
            Some(ClientEvent::Allocated { .. }) => Ok(Asked::Allocated(Box::new(guest))),
            Some(ClientEvent::Failed { error } | ClientEvent::CredentialsRefused { error }) => {
                Ok(Asked::Refused(error))
            }
            other => bail!("the TURN server gave {other:?} when asked for an allocation"),
        }
    }

    /// Asks that an address may send, and sends it something.
    pub(crate) fn permit(&mut self, peer: IpAddr) -> Result<Permitted> {
        self.client.send(
            Instant::now(),
            SocketAddr::new(peer, PROBED_PORT),
            b"anybody there?",
        );
        let until = Instant::now() + PATIENCE;
        loop {
            match self.next(SILENCE)? {
                Some(ClientEvent::PeerRefused { ip, error }) if ip == peer => {
                    return Ok(Permitted::No(error));
                }
                Some(ClientEvent::Lost { error }) => bail!("the allocation is lost: {error}"),
                None if self.client.waiting() == 0 => return Ok(Permitted::Yes),
                _ if Instant::now() > until => bail!("the TURN server does not answer"),
                _ => {}
            }
        }
    }

    /// Whether the server still has the allocation.
    pub(crate) fn is_kept(&mut self) -> Result<bool> {
        self.client.probe(Instant::now());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.next(SILENCE)? {
                Some(ClientEvent::Lost { .. } | ClientEvent::CredentialsRefused { .. }) => {
                    return Ok(false);
                }
                None => return Ok(!self.client.is_over()),
                _ => {}
            }
        }
        bail!("the TURN server tells more than it was asked");
    }

    /// The next event; `None` when none came in time.
    fn next(&mut self, patience: Duration) -> Result<Option<ClientEvent>> {
        let until = Instant::now() + patience;
        loop {
            let server = self.client.server();
            while let Some(bytes) = self.client.poll_transmit() {
                if let Some(server) = server {
                    self.socket.send_to(&bytes, server)?;
                }
            }
            if let Some(event) = self.client.poll_event() {
                return Ok(Some(event));
            }
            let due = self.client.poll_timeout().unwrap_or(until);
            let left = due.min(until).saturating_duration_since(Instant::now());
            let mut bytes = [0; 2_048];
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            if let Ok((length, _)) = self.socket.recv_from(&mut bytes) {
                self.client
                    .handle_datagram(Instant::now(), &bytes[..length]);
            }
            let now = Instant::now();
            if self.client.poll_timeout().is_some_and(|due| due <= now) {
                self.client.handle_timeout(now);
            } else if now >= until {
                return Ok(None);
            }
        }
    }
}
