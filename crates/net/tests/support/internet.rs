//! Endpoints behind NATs, with a TURN server between them, in a time of their own.
//!
//! Each address of this internet is a socket on loopback, so that the endpoints are
//! real; who is behind which address, what a NAT lets through and how long a packet
//! takes is decided here. Time goes on when nothing is on its way any more: to the
//! next deadline of anybody, however far away. So minutes of idleness take no time,
//! and a second is a second on every machine.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use waymesh_net::turn::server::{
    AllocationId, Ends, Limits, Network, Now, PeerPolicy, RelaySecret, SECRET_BYTES, Server,
    ServerConfig, ServerEvent, Via,
};
use waymesh_net::webrtc::{Endpoint, EndpointConfig};
use waymesh_proto::AgentId;
use waymesh_proto::ice::IceServer;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

use super::nat::{Edge, Nat};
use super::support::{answered, offered};

/// From one host to another.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(20);

/// Longest time, of this world, until anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than any test.
const CREDENTIALS_LAST: Duration = Duration::from_secs(7_200);

/// Seconds since 1970 when this world begins.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);

/// A packet that a host has sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Since the world began.
    pub(crate) at: Duration,
    pub(crate) host: usize,
    pub(crate) to: SocketAddr,
}

struct Host {
    endpoint: Endpoint,
    real: SocketAddr,
    edge: Edge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Turn,
    Relay(AllocationId),
}

/// A packet on its way, between addresses of the internet.
struct Parcel {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub(crate) struct Internet {
    pub(crate) now: Instant,
    start: Instant,
    hosts: Vec<Host>,
    pub(crate) events: Vec<Vec<LinkEvent>>,
    sockets: HashMap<SocketAddr, UdpSocket>,
    services: HashMap<SocketAddr, Service>,
    pub(crate) turn: SocketAddr,
    server: Server,
    secret: RelaySecret,
    way: BTreeMap<(Instant, u64), Parcel>,
    parcels: u64,
    marker: tokio::net::UdpSocket,
    pub(crate) sent: Vec<Sent>,
    /// Packets that a NAT has not let in.
    pub(crate) filtered: u64,
}

fn socket() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    (socket.local_addr().expect("bound"), socket)
}

impl Internet {
    /// Without hosts yet.
    pub(crate) async fn new() -> Self {
        let secret = RelaySecret::new(&[7; SECRET_BYTES]);
        let config = ServerConfig {
            realm: "test".into(),
            secret: secret.clone(),
            policy: PeerPolicy {
                allow: vec![Network::new([127, 0, 0, 0].into(), 8).expect("a network")],
                own: Vec::new(),
            },
            limits: Limits {
                credential_lifetime: CREDENTIALS_LAST,
                ..Limits::default()
            },
            alternate: None,
            seed: [3; 32],
        };
        let marker = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let marker = marker.expect("a port");
        let itself = marker.local_addr().expect("bound");
        marker.connect(itself).await.expect("loopback");
        let now = Instant::now();
        let mut internet = Self {
            now,
            start: now,
            hosts: Vec::new(),
            events: Vec::new(),
            sockets: HashMap::new(),
            services: HashMap::new(),
            turn: itself,
            server: Server::new(config, now),
            secret,
            way: BTreeMap::new(),
            parcels: 0,
            marker,
            sent: Vec::new(),
            filtered: 0,
        };
        internet.turn = internet.address();
        internet.services.insert(internet.turn, Service::Turn);
        internet
    }

    /// A new address, at which nobody answers.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let (address, socket) = socket();
        self.sockets.insert(address, socket);
        address
    }

    /// The server, as STUN and as TURN server with good credentials.
    pub(crate) fn servers(&self) -> Vec<IceServer> {
        let member = AgentId::from_bytes([9; 32]);
        let expires = self.unix() + CREDENTIALS_LAST;
        let (username, credential) = self.secret.issue(&member, expires);
        let url = |text: String| vec![text.parse().expect("a URL")];
        let stun = IceServer {
            urls: url(format!("stun:{}", self.turn)),
            username: None,
            credential: None,
        };
        let turn = IceServer {
            urls: url(format!("turn:{}?transport=udp", self.turn)),
            username: Some(username),
            credential: Some(credential),
        };
        vec![stun, turn]
    }

    /// Adds a host and gives its number. To all of them this world is a little younger
    /// than they are, so that none of them finds anything late in it.
    pub(crate) fn add(&mut self, nat: Nat, config: EndpointConfig) -> usize {
        let config = EndpointConfig {
            ip: Some(Ipv4Addr::LOCALHOST.into()),
            loopback_only: true,
            ..config
        };
        let endpoint = Endpoint::bind(config).expect("loopback has a free port");
        let real = endpoint.addresses()[0];
        let face = self.address();
        let edge = Edge::new(nat, face);
        self.hosts.push(Host {
            endpoint,
            real,
            edge,
        });
        self.events.push(Vec::new());
        self.hosts.len() - 1
    }

    pub(crate) fn endpoint(&mut self, host: usize) -> &mut Endpoint {
        &mut self.hosts[host].endpoint
    }

    /// Has a host's NAT lose all that it remembers.
    pub(crate) fn flush_nat(&mut self, host: usize) {
        self.hosts[host].edge.forget();
    }

    pub(crate) fn command(&mut self, host: usize, command: LinkCommand) {
        let now = self.now;
        self.endpoint(host).handle_command(now, command);
    }

    /// How long this world has gone on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn unix(&self) -> Duration {
        BEGIN + self.elapsed()
    }

    fn server_now(&self) -> Now {
        Now {
            instant: self.now,
            unix: self.unix(),
        }
    }

    /// Lets time pass until `done`, or panics when it takes too long.
    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let give_up = self.now + PATIENCE;
        loop {
            self.settle().await;
            if done(self) {
                return;
            }
            assert!(self.now < give_up, "waited too long for: {what}");
            self.go_on(give_up);
        }
    }

    /// Lets this much time pass.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle().await;
        while self.now < end {
            self.go_on(end);
            self.settle().await;
        }
    }

    /// On to the next deadline of anybody, at most to `end`.
    fn go_on(&mut self, end: Instant) {
        let parcel = self.way.keys().next().map(|(at, _)| *at);
        let hosts = self.hosts.iter().filter_map(|h| h.endpoint.poll_timeout());
        let server = self.server.poll_timeout();
        let next = hosts.chain(parcel).chain(server).min().unwrap_or(end);
        self.now = next.clamp(self.now, end);
        let now = self.server_now();
        self.server.handle_timeout(now);
        self.serve();
        for host in &mut self.hosts {
            host.endpoint.handle_timeout(now.instant);
        }
    }

    /// Until nothing moves at this time.
    async fn settle(&mut self) {
        loop {
            for host in &mut self.hosts {
                host.endpoint.flush();
            }
            self.arrived().await;
            let has_taken = self.take();
            if self.deliver() {
                self.arrived().await;
            } else if !has_taken {
                break;
            }
            let now = self.now;
            for host in &mut self.hosts {
                while host.endpoint.receive(now).expect("the socket lives") {}
            }
        }
        for (host, events) in self.hosts.iter_mut().zip(&mut self.events) {
            while let Some(event) = host.endpoint.poll_event() {
                events.push(event);
            }
        }
    }

    /// Waits until what was sent is where it is to be read: behind it a mark is sent.
    async fn arrived(&self) {
        self.marker.send(b"mark").await.expect("loopback takes it");
        self.marker.readable().await.expect("the socket lives");
        while self.marker.try_recv(&mut [0; 8]).is_ok() {}
    }

    /// Takes what the hosts have sent; whether there was anything.
    fn take(&mut self) -> bool {
        let mut taken = Vec::new();
        let mut bytes = [0; 2_048];
        for (address, socket) in &self.sockets {
            while let Ok((len, real)) = socket.recv_from(&mut bytes) {
                taken.push((real, *address, bytes[..len].to_vec()));
            }
        }
        let has_taken = !taken.is_empty();
        for (real, to, bytes) in taken {
            let host = self.hosts.iter().position(|host| host.real == real);
            let host = host.expect("nobody else sends here");
            self.sent.push(Sent {
                at: self.elapsed(),
                host,
                to,
            });
            let sockets = &mut self.sockets;
            let new = || {
                let (address, socket) = socket();
                sockets.insert(address, socket);
                address
            };
            let from = self.hosts[host].edge.translate(self.now, to, new);
            self.post(Parcel { from, to, bytes });
        }
        has_taken
    }

    fn post(&mut self, parcel: Parcel) {
        self.parcels += 1;
        let at = (self.now + ONE_WAY, self.parcels);
        self.way.insert(at, parcel);
    }

    /// Delivers what is there by now; whether there was anything.
    fn deliver(&mut self) -> bool {
        let mut has_delivered = false;
        while let Some(first) = self.way.first_entry().filter(|e| e.key().0 <= self.now) {
            let parcel = first.remove();
            has_delivered = true;
            match self.services.get(&parcel.to) {
                Some(Service::Turn) => self.hear_client(&parcel),
                Some(Service::Relay(allocation)) => {
                    self.hear_peer(*allocation, parcel.from, &parcel.bytes);
                }
                None => self.hand_over(&parcel),
            }
        }
        has_delivered
    }

    /// Gives a packet to the host that has this address, if its NAT lets it in.
    fn hand_over(&mut self, parcel: &Parcel) {
        let now = self.now;
        let lets_in = |host: &&Host| host.edge.lets_in(now, parcel.from, parcel.to);
        match self.hosts.iter().find(lets_in) {
            Some(host) => {
                let sent = self.sockets[&parcel.from].send_to(&parcel.bytes, host.real);
                sent.expect("loopback takes it");
            }
            None => self.filtered += 1,
        }
    }

    /// The server hears a client.
    fn hear_client(&mut self, parcel: &Parcel) {
        let ends = Ends {
            via: Via::Udp,
            local: parcel.to,
            remote: parcel.from,
        };
        let now = self.server_now();
        let out = self.server.handle_client(now, &ends, &parcel.bytes);
        let out = out.map(|out| (out.relayed, out.to_relay, out.peer, out.data.to_vec()));
        match out {
            Some((from, Some(relay), _, bytes)) => self.hear_peer(relay, from, &bytes),
            Some((from, None, to, bytes)) => self.post(Parcel { from, to, bytes }),
            None => {}
        }
        self.serve();
    }

    /// A relay hears a peer.
    fn hear_peer(&mut self, allocation: AllocationId, peer: SocketAddr, bytes: &[u8]) {
        let out = self.server.handle_peer(self.now, allocation, peer, bytes);
        let Some(out) = out else {
            return;
        };
        let (from, to, mut bytes) = (out.to.local, out.to.remote, Vec::new());
        out.write(&mut bytes);
        self.post(Parcel { from, to, bytes });
    }

    /// Does what the server wants.
    fn serve(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Open { allocation, .. } => {
                    let relayed = self.address();
                    self.services.insert(relayed, Service::Relay(allocation));
                    let now = self.server_now();
                    self.server.relay_opened(now, allocation, Ok(relayed));
                }
                ServerEvent::Close { allocation } => {
                    let gone = Service::Relay(allocation);
                    self.services.retain(|_, service| *service != gone);
                }
                ServerEvent::Hangup { .. } => {}
            }
        }
        while let Some(answer) = self.server.poll_transmit() {
            let (from, to) = (answer.to.local, answer.to.remote);
            let bytes = answer.bytes;
            self.post(Parcel { from, to, bytes });
        }
    }

    /// What a peer learns of a candidate of this host: an address of the internet; a
    /// host's own address behind a NAT means nothing there.
    fn translated(&self, host: usize, line: &str) -> Option<String> {
        let Host { real, edge, .. } = &self.hosts[host];
        if !line.contains("typ host") {
            return Some(line.to_owned());
        }
        let own = format!(" 127.0.0.1 {} ", real.port());
        let public = format!(" 127.0.0.1 {} ", edge.public()?.port());
        Some(line.replace(&own, &public))
    }

    fn translated_sdp(&self, host: usize, sdp: &str) -> String {
        let lines = sdp.split_inclusive("\r\n");
        lines
            .filter_map(|line| self.translated(host, line))
            .collect()
    }

    /// Makes a link from host 0 to host 1 and passes on what is trickled until it is
    /// up at both; the descriptions take a way each.
    pub(crate) async fn connect(&mut self, link: LinkId) {
        self.command(0, LinkCommand::Offer { link });
        let sdp = self.event(0, |event| offered(event, link)).await;
        let sdp = self.translated_sdp(0, &sdp);
        self.pass(ONE_WAY).await;
        self.command(1, LinkCommand::Accept { link, sdp });
        let sdp = self.event(1, |event| answered(event, link)).await;
        let sdp = self.translated_sdp(1, &sdp);
        self.pass(ONE_WAY).await;
        self.command(0, LinkCommand::Answer { link, sdp });
        self.until("both up", |internet| {
            internet.trickle();
            let is_up = |event: &LinkEvent| matches!(event, LinkEvent::Up { .. });
            internet
                .events
                .iter()
                .all(|events| events.iter().any(is_up))
        })
        .await;
    }

    fn trickle(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            for event in std::mem::take(&mut self.events[from]) {
                let LinkEvent::Candidate { link, candidate } = event else {
                    self.events[from].push(event);
                    continue;
                };
                if let Some(candidate) = self.translated(from, &candidate) {
                    self.command(to, LinkCommand::Candidate { link, candidate });
                }
            }
        }
    }

    /// Takes the first event of a host that `pick` turns into something.
    pub(crate) async fn event<T>(
        &mut self,
        host: usize,
        pick: impl Fn(&LinkEvent) -> Option<T>,
    ) -> T {
        let mut found = None;
        self.until("an event", |internet| {
            let events = &mut internet.events[host];
            let at = events.iter().position(|event| pick(event).is_some());
            found = at.and_then(|at| pick(&events.remove(at)));
            found.is_some()
        })
        .await;
        found.expect("until returned")
    }
}
