//! An allocation, and a channel through it that is ready for bursts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use waymesh_net::turn::client::{Client, ClientConfig, ClientEvent, Credentials, RelayFamily, Via};

use crate::error::BenchError;

/// How long an allocation or a channel may take, the start of the server included.
const SETUP_MAX: Duration = Duration::from_secs(20);

/// How long a read waits before the clock is looked at.
const READ_WAIT: Duration = Duration::from_millis(50);

/// The largest datagram here, bytes.
const DATAGRAM_MAX_BYTES: usize = 2_048;

/// Where the number of a round trip is: it begins the payload, which the four
/// bytes of ChannelData's header precede (RFC 8656 §12.4).
const NUMBER: Range<usize> = 4..12;

/// An allocation on a server.
pub(crate) struct Allocation {
    socket: UdpSocket,
    client: Client,
    pub(crate) relayed: SocketAddr,
}

impl Allocation {
    /// Asks for it until the server answers.
    pub(crate) fn open(server: SocketAddr, credentials: &Credentials) -> Result<Self, BenchError> {
        let until = Instant::now() + SETUP_MAX;
        loop {
            match Self::try_open(server, credentials, until)? {
                Ok(allocation) => return Ok(allocation),
                Err(event) if Instant::now() >= until => return Err(refused(&event)),
                Err(_) => {}
            }
        }
    }

    fn try_open(
        server: SocketAddr,
        credentials: &Credentials,
        until: Instant,
    ) -> Result<Result<Self, ClientEvent>, BenchError> {
        let socket = local_socket()?;
        // A server that does not listen yet refuses: that is told by the next read.
        let _ = socket.connect(server);
        let config = ClientConfig {
            via: Via::Datagrams { server },
            family: RelayFamily::V4,
            credentials: Some(credentials.clone()),
            earlier: None,
            remembered: None,
        };
        let client = Client::new(config, Instant::now(), rand::random());
        let mut allocation = Self {
            socket,
            client,
            relayed: server,
        };
        match allocation.event(until)? {
            ClientEvent::Allocated { relayed, .. } => {
                allocation.relayed = relayed;
                Ok(Ok(allocation))
            }
            other => Ok(Err(other)),
        }
    }

    /// Binds a channel to a peer, for payloads of this size: eight bytes at least.
    pub(crate) fn bind(mut self, peer: SocketAddr, size: usize) -> Result<Channel, BenchError> {
        let until = Instant::now() + SETUP_MAX;
        let payload = vec![b'x'; size];
        while Instant::now() < until {
            self.client.send(Instant::now(), peer, &payload);
            while let Some(bytes) = self.client.poll_transmit() {
                if matches!(bytes.first(), Some(0x40..=0x4f)) {
                    return Ok(Channel {
                        allocation: self,
                        datagram: bytes,
                        trips: 0,
                    });
                }
                self.transmit(&bytes)?;
            }
            self.turn()?;
            while let Some(event) = self.client.poll_event() {
                if !matches!(event, ClientEvent::Data { .. }) {
                    return Err(refused(&event));
                }
            }
        }
        Err(BenchError::Stuck {
            what: "binding a channel",
            limit: SETUP_MAX,
        })
    }

    fn event(&mut self, until: Instant) -> Result<ClientEvent, BenchError> {
        while Instant::now() < until {
            while let Some(bytes) = self.client.poll_transmit() {
                self.transmit(&bytes)?;
            }
            if let Some(event) = self.client.poll_event() {
                return Ok(event);
            }
            self.turn()?;
        }
        Err(BenchError::Stuck {
            what: "an allocation",
            limit: SETUP_MAX,
        })
    }

    fn transmit(&self, bytes: &[u8]) -> Result<(), BenchError> {
        match self.socket.send(bytes) {
            // Nobody listens there yet; the client tries again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => other.map(drop).map_err(BenchError::io("asking a relay")),
        }
    }

    /// Reads once, or lets the clock go on.
    fn turn(&mut self) -> Result<(), BenchError> {
        let mut bytes = [0; DATAGRAM_MAX_BYTES];
        match self.socket.recv(&mut bytes) {
            Ok(length) => {
                self.client
                    .handle_datagram(Instant::now(), &bytes[..length]);
            }
            Err(error) if is_silence(&error) => {}
            Err(error) => return Err(BenchError::io("hearing of a relay")(error)),
        }
        self.client.handle_timeout(Instant::now());
        Ok(())
    }
}

/// A channel of an allocation to one peer.
pub(crate) struct Channel {
    allocation: Allocation,
    /// ChannelData as it goes to the server.
    datagram: Vec<u8>,
    /// Round trips so far: each payload begins with its number, so that what
    /// comes late is not taken for what is waited for.
    trips: u64,
}

impl Channel {
    /// Sends the payload to the peer.
    pub(crate) fn send(&self) -> Result<(), BenchError> {
        let sent = self.allocation.socket.send(&self.datagram);
        sent.map(drop).map_err(BenchError::io("sending to a relay"))
    }

    /// Sends the payload and waits for what the peer sends back; whether it came.
    pub(crate) fn round_trip(&mut self) -> Result<bool, BenchError> {
        self.trips += 1;
        let number = self.trips.to_be_bytes();
        self.datagram[NUMBER].copy_from_slice(&number);
        self.send()?;
        let mut bytes = [0; DATAGRAM_MAX_BYTES];
        loop {
            match self.allocation.socket.recv(&mut bytes) {
                Ok(length) if is_channel_data(&bytes[..length]) && bytes[NUMBER] == number => {
                    return Ok(true);
                }
                Ok(_) => {}
                Err(error) if is_silence(&error) => return Ok(false),
                Err(error) => return Err(BenchError::io("hearing of a relay")(error)),
            }
        }
    }
}

fn is_channel_data(bytes: &[u8]) -> bool {
    bytes.len() >= NUMBER.end && matches!(bytes[0], 0x40..=0x4f)
}

fn refused(event: &ClientEvent) -> BenchError {
    BenchError::contestant("a relay", format!("{event:?}"))
}

/// Whether a read found nothing, or a server that does not listen yet.
pub(super) fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | ConnectionRefused)
}

/// A socket on loopback whose reads end after [`READ_WAIT`].
pub(crate) fn local_socket() -> Result<UdpSocket, BenchError> {
    let what = "binding a UDP socket";
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::io(what))?;
    socket
        .set_read_timeout(Some(READ_WAIT))
        .map_err(BenchError::io(what))?;
    Ok(socket)
}
