//! A TURN client of one allocation, over whatever carries it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use waymesh_net::turn::client::{Client, ClientConfig, ClientEvent, Credentials, RelayFamily, Via};
use waymesh_net::turn::framing::Decoder;
use waymesh_proto::control::ServerMessage;
use waymesh_proto::ice::IceServers;
use waymesh_registry::{IceConfig, Tls, TurnConfig};

use super::{House, PATIENCE, Raw};

/// A relay on loopback that relays to this address of it, and no other.
pub(crate) fn on_loopback() -> IceConfig {
    IceConfig {
        turn: Some(TurnConfig {
            relay_allow: vec!["127.0.0.1".into()],
            ..TurnConfig::default()
        }),
        ..IceConfig::default()
    }
}

/// A registry of a mesh with these servers.
pub(crate) async fn house(tls: Option<Tls>, ice: IceConfig) -> House {
    let house = House::with(tls, ice).await;
    house.found().await;
    house
}

/// A connection to its port.
pub(crate) async fn tcp(house: &House) -> TcpStream {
    let stream = TcpStream::connect(house.addr()).await;
    stream.expect("a connection")
}

/// The next list of servers that is told.
pub(crate) async fn servers(raw: &mut Raw) -> IceServers {
    match raw.next().await {
        ServerMessage::IceServers(servers) => servers,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn told_credentials(servers: &IceServers) -> Credentials {
    let turn = servers.servers.iter().find(|s| s.credential.is_some());
    let turn = turn.expect("a TURN server");
    Credentials {
        username: turn.username.clone().expect("a username"),
        credential: turn.credential.clone().expect("a password"),
    }
}

/// A stream of bytes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What carries the client's messages.
pub(crate) enum Pipe {
    Udp(UdpSocket, SocketAddr),
    Stream(Box<dyn Stream>, Decoder),
}

impl Pipe {
    /// A UDP socket of this address for a server.
    pub(crate) async fn udp(from: &str, server: SocketAddr) -> Self {
        let from: std::net::IpAddr = from.parse().expect("an address");
        let socket = UdpSocket::bind((from, 0)).await.expect("a port");
        Self::Udp(socket, server)
    }

    pub(crate) fn stream(stream: impl Stream + 'static) -> Self {
        Self::Stream(Box::new(stream), Decoder::default())
    }
}

/// One client.
pub(crate) struct Turn {
    pub(crate) client: Client,
    pipe: Pipe,
}

impl Turn {
    /// Begins to ask for an allocation.
    pub(crate) fn new(pipe: Pipe, credentials: Credentials) -> Self {
        Self::of_family(pipe, credentials, RelayFamily::Common)
    }

    /// The same with a relayed address of this family.
    pub(crate) fn of_family(pipe: Pipe, credentials: Credentials, family: RelayFamily) -> Self {
        let via = match &pipe {
            Pipe::Udp(_, server) => Via::Datagrams { server: *server },
            Pipe::Stream(..) => Via::Stream,
        };
        let config = ClientConfig {
            via,
            family,
            credentials: Some(credentials),
            earlier: None,
            remembered: None,
        };
        let client = Client::new(config, Instant::now(), rand::random());
        Self { client, pipe }
    }

    /// A client that has its allocation, and the relayed address.
    pub(crate) async fn allocated(pipe: Pipe, credentials: Credentials) -> (Self, SocketAddr) {
        let mut turn = Self::new(pipe, credentials);
        match turn.event().await {
            ClientEvent::Allocated { relayed, .. } => (turn, relayed),
            other => panic!("{other:?}"),
        }
    }

    /// What happens next.
    pub(crate) async fn event(&mut self) -> ClientEvent {
        let event = timeout(PATIENCE, self.next_event()).await;
        event.expect("an event")
    }

    /// What happens within this time, if anything does.
    pub(crate) async fn event_within(&mut self, time: Duration) -> Option<ClientEvent> {
        timeout(time, self.next_event()).await.ok()
    }

    async fn next_event(&mut self) -> ClientEvent {
        loop {
            while let Some(bytes) = self.client.poll_transmit() {
                self.send(&bytes).await;
            }
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            let due = self.client.poll_timeout();
            tokio::select! {
                () = read(&mut self.pipe, &mut self.client) => {}
                () = sleep_until(due) => self.client.handle_timeout(Instant::now()),
            }
        }
    }

    /// Sends what the client has to say.
    pub(crate) async fn flush(&mut self) {
        while let Some(bytes) = self.client.poll_transmit() {
            self.send(&bytes).await;
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        match &mut self.pipe {
            Pipe::Udp(socket, server) => {
                socket.send_to(bytes, *server).await.expect("a socket");
            }
            // Whoever was hung up on finds out by reading.
            Pipe::Stream(stream, _) => drop(stream.write_all(bytes).await),
        }
    }
}

async fn read(pipe: &mut Pipe, client: &mut Client) {
    let mut bytes = [0; 4_096];
    match pipe {
        Pipe::Udp(socket, _) => {
            let (length, _) = socket.recv_from(&mut bytes).await.expect("a socket");
            client.handle_datagram(Instant::now(), &bytes[..length]);
        }
        Pipe::Stream(stream, decoder) => {
            let length = stream.read(&mut bytes).await.unwrap_or(0);
            if length == 0 {
                // The stream is over; the client finds out by its clock.
                return std::future::pending().await;
            }
            decoder.extend(&bytes[..length]);
            while let Some(message) = decoder.poll().expect("a well-formed stream") {
                client.handle_datagram(Instant::now(), message);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
