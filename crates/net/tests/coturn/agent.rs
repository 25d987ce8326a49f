//! A client with its socket, run by a task.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use waymesh_net::control::ProxyEnvironment;
use waymesh_net::turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, RelayFamily, Remembered, Via,
};
use waymesh_net::turn::stream::{Stream, StreamEvent};

use crate::server::Coturn;

/// Longest time that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

pub(crate) const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

/// What a test lets a client do.
#[derive(Debug)]
pub(crate) enum Act {
    Permit(Vec<IpAddr>),
    Send(SocketAddr, Vec<u8>),
    Probe,
    Credentials(Credentials),
    Close,
}

/// The first two bytes of messages, as they came and went.
#[derive(Debug, Default)]
struct Seen {
    sent: Vec<u16>,
    received: Vec<u16>,
}

/// A client that runs.
pub(crate) struct Agent {
    acts: mpsc::Sender<Act>,
    events: mpsc::Receiver<ClientEvent>,
    seen: Arc<Mutex<Seen>>,
    pub(crate) started: Instant,
    tasks: JoinSet<(Io, Client)>,
}

pub(crate) enum Io {
    Udp(UdpSocket, SocketAddr),
    Stream(Stream, Arc<Notify>),
}

impl Io {
    pub(crate) async fn open(server: &Coturn, transport: Transport) -> Self {
        let url = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
                let server = SocketAddr::from(([127, 0, 0, 1], server.port));
                return Self::Udp(socket, server);
            }
            Transport::Tcp => format!("turn:127.0.0.1:{}?transport=tcp", server.port),
            Transport::Tls => format!("turns:127.0.0.1:{}", server.tls_port),
        };
        let wake = Arc::new(Notify::new());
        let url = url.parse().expect("a URL");
        let proxies = ProxyEnvironment::default();
        let mut stream = Stream::connect(&url, &server.trust, &proxies, Arc::clone(&wake));
        let opened = timeout(PATIENCE, next(&mut stream, &wake)).await;
        assert_eq!(opened.expect("in time"), StreamEvent::Connected);
        Self::Stream(stream, wake)
    }

    fn via(&self) -> Via {
        match self {
            Self::Udp(_, server) => Via::Datagrams { server: *server },
            Self::Stream(..) => Via::Stream,
        }
    }

    async fn send(&mut self, message: Vec<u8>) {
        match self {
            Self::Udp(socket, server) => {
                // Refused while the server is away.
                let _ = socket.send_to(&message, *server).await;
            }
            Self::Stream(stream, _) => stream.send(message),
        }
    }

    async fn receive(&mut self) -> Vec<u8> {
        match self {
            Self::Udp(socket, _) => loop {
                let mut buffer = vec![0; 65_536];
                if let Ok((count, _)) = socket.recv_from(&mut buffer).await {
                    buffer.truncate(count);
                    return buffer;
                }
            },
            Self::Stream(stream, wake) => match next(stream, wake).await {
                StreamEvent::Message(message) => message,
                // The client notices by itself.
                _ => std::future::pending().await,
            },
        }
    }
}

async fn next(stream: &mut Stream, wake: &Notify) -> StreamEvent {
    loop {
        if let Some(event) = stream.poll() {
            return event;
        }
        wake.notified().await;
    }
}

/// The first two bytes.
fn word(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

async fn run(
    mut io: Io,
    mut client: Client,
    mut acts: mpsc::Receiver<Act>,
    events: mpsc::Sender<ClientEvent>,
    seen: Arc<Mutex<Seen>>,
) -> (Io, Client) {
    loop {
        while let Some(message) = client.poll_transmit() {
            seen.lock().expect("whole").sent.push(word(&message));
            io.send(message).await;
        }
        while let Some(event) = client.poll_event() {
            if events.send(event).await.is_err() {
                return (io, client);
            }
        }
        let due = client.poll_timeout();
        let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            act = acts.recv() => match act {
                Some(act) => carry_out(&mut client, act),
                None => return (io, client),
            },
            message = io.receive() => {
                seen.lock().expect("whole").received.push(word(&message));
                client.handle_datagram(Instant::now(), &message);
            }
            () = tokio::time::sleep_until(due.into()) => client.handle_timeout(Instant::now()),
        }
    }
}

fn carry_out(client: &mut Client, act: Act) {
    let now = Instant::now();
    match act {
        Act::Permit(ips) => ips.into_iter().for_each(|ip| client.permit(now, ip)),
        Act::Send(peer, bytes) => client.send(now, peer, &bytes),
        Act::Probe => client.probe(now),
        Act::Credentials(credentials) => client.set_credentials(credentials),
        Act::Close => client.close(now),
    }
}

impl Agent {
    /// Starts a client on a new socket.
    pub(crate) async fn start(
        server: &Coturn,
        transport: Transport,
        credentials: Option<Credentials>,
    ) -> Self {
        let io = Io::open(server, transport).await;
        Self::on(io, credentials, None)
    }

    /// Starts a client on this socket.
    pub(crate) fn on(
        io: Io,
        credentials: Option<Credentials>,
        remembered: Option<Remembered>,
    ) -> Self {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).expect("randomness");
        let config = ClientConfig {
            via: io.via(),
            family: RelayFamily::V4,
            credentials,
            earlier: None,
            remembered,
        };
        let client = Client::new(config, Instant::now(), seed);
        let (acts, to_run) = mpsc::channel(10_000);
        let (from_run, events) = mpsc::channel(10_000);
        let seen = Arc::<Mutex<Seen>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(run(io, client, to_run, from_run, Arc::clone(&seen)));
        Self {
            acts,
            events,
            seen,
            started: Instant::now(),
            tasks,
        }
    }

    /// A client with its relayed address.
    pub(crate) async fn allocated(
        server: &Coturn,
        transport: Transport,
        credentials: Credentials,
    ) -> (Self, SocketAddr) {
        let mut agent = Self::start(server, transport, Some(credentials)).await;
        let relayed = agent.relayed().await;
        (agent, relayed)
    }

    /// Waits for the allocation.
    pub(crate) async fn relayed(&mut self) -> SocketAddr {
        match self.next().await {
            ClientEvent::Allocated { relayed, .. } => relayed,
            event => panic!("{event:?}"),
        }
    }

    pub(crate) async fn act(&self, act: Act) {
        self.acts.send(act).await.expect("it runs");
    }

    pub(crate) async fn next(&mut self) -> ClientEvent {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("it runs")
    }

    /// The next payload, if one comes within `limit`.
    pub(crate) async fn data(&mut self, limit: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        match timeout(limit, self.events.recv()).await.ok()?? {
            ClientEvent::Data { peer, bytes } => Some((peer, bytes)),
            event => panic!("{event:?}"),
        }
    }

    /// How many messages were sent whose first two bytes are of these.
    pub(crate) fn sent(&self, words: std::ops::RangeInclusive<u16>) -> usize {
        let seen = self.seen.lock().expect("whole");
        seen.sent.iter().filter(|word| words.contains(word)).count()
    }

    /// How many messages came that begin so.
    pub(crate) fn received(&self, word: u16) -> usize {
        let seen = self.seen.lock().expect("whole");
        seen.received.iter().filter(|w| **w == word).count()
    }

    /// Waits until a message has come that begins so.
    pub(crate) async fn has_received(&self, word: u16) {
        let seen = async {
            while self.received(word) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen).await.expect("the message in time");
    }

    /// Stops the task, as a program that crashes; the socket goes on.
    pub(crate) async fn stop(self) -> (Io, Client) {
        let Self {
            acts, mut tasks, ..
        } = self;
        drop(acts);
        let ended = timeout(PATIENCE, tasks.join_next()).await;
        ended.expect("in time").expect("one").expect("no panic")
    }
}
