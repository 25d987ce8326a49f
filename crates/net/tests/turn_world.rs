//! Our TURN clients and our server in a world of virtual time whose datagrams
//! get lost, doubled and overtaken, by seed.
//!
//! Only requests and answers get lost on the way: so every payload arrives, or
//! the client or the server has counted it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use waymesh_net::turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, RelayFamily, Via as Reach,
};
use waymesh_net::turn::framing::ChannelData;
use waymesh_net::turn::message::{Class, Message};
use waymesh_net::turn::server::{
    AllocationId, Ends, Limits, Now, PeerPolicy, RelaySecret, Server, ServerConfig, ServerEvent,
    ToPeer, Via,
};
use waymesh_proto::AgentId;

const SERVER_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(5, 5, 5, 5));
/// As long as the longest test, and longer.
const CREDENTIAL_LIFETIME: Duration = Duration::from_secs(7_200);

const SECRET: &[u8] = b"secret";

/// Seconds since 1970 when the world begins.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);

/// How the way between clients and server is.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Of 100 requests and answers.
    lost: u64,
    /// Of 100 messages.
    doubled: u64,
    /// Longest time on the way, milliseconds: later ones may come earlier.
    delay_ms: u64,
}

const FAIR: Weather = Weather {
    lost: 0,
    doubled: 0,
    delay_ms: 20,
};

/// Something on the way.
#[derive(Debug, Clone)]
enum Parcel {
    ToServer(SocketAddr, Vec<u8>),
    ToClient(usize, SocketAddr, Vec<u8>),
}

struct Host {
    client: Client,
    address: SocketAddr,
    relayed: Option<SocketAddr>,
    /// Every event but data.
    events: Vec<ClientEvent>,
    clients_made: u8,
}

struct World {
    now: Instant,
    start: Instant,
    random: u64,
    weather: Weather,
    server: Server,
    relays: BTreeMap<SocketAddr, AllocationId>,
    next_port: u16,
    hosts: Vec<Host>,
    /// By when it arrives, and which it is.
    way: BTreeMap<(Instant, u64), Parcel>,
    parcels_made: u64,
    sent: u64,
    arrived: BTreeSet<u64>,
}

fn server(seed: u8, now: Instant) -> Server {
    let config = ServerConfig {
        realm: "mesh".into(),
        secret: RelaySecret::new(SECRET),
        policy: PeerPolicy {
            own: vec![SERVER_IP],
            ..PeerPolicy::default()
        },
        limits: Limits {
            credential_lifetime: CREDENTIAL_LIFETIME,
            ..Limits::default()
        },
        alternate: None,
        seed: [seed; 32],
    };
    Server::new(config, now)
}

fn is_payload(message: &[u8]) -> bool {
    let indication = |m: Message<'_>| m.class() == Class::Indication;
    ChannelData::parse(message).is_some() || Message::parse(message).is_ok_and(indication)
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            random: seed,
            weather,
            server: server(1, now),
            relays: BTreeMap::new(),
            next_port: 50_000,
            hosts: Vec::new(),
            way: BTreeMap::new(),
            parcels_made: 0,
            sent: 0,
            arrived: BTreeSet::new(),
        };
        for number in 0..2_u8 {
            let address = SocketAddr::from(([9, 9, 9, number], 4_000));
            let client = world.make_client(number, 0);
            world.hosts.push(Host {
                client,
                address,
                relayed: None,
                events: Vec::new(),
                clients_made: 1,
            });
        }
        world
    }

    /// `splitmix64`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn unix(&self) -> Duration {
        BEGIN + (self.now - self.start)
    }

    fn server_now(&self) -> Now {
        Now {
            instant: self.now,
            unix: self.unix(),
        }
    }

    fn credentials(&self, host: u8) -> Credentials {
        let expires = self.unix() + CREDENTIAL_LIFETIME;
        let member = AgentId::from_bytes([host; 32]);
        let (username, credential) = RelaySecret::new(SECRET).issue(&member, expires);
        Credentials {
            username,
            credential,
        }
    }

    fn make_client(&self, host: u8, made: u8) -> Client {
        let config = ClientConfig {
            via: Reach::Datagrams {
                server: SocketAddr::new(SERVER_IP, 3_478),
            },
            family: RelayFamily::V4,
            credentials: Some(self.credentials(host)),
            earlier: None,
            remembered: None,
        };
        Client::new(config, self.now, [host + 10 * made; 32])
    }

    fn post(&mut self, parcel: Parcel) {
        let (Parcel::ToServer(.., bytes) | Parcel::ToClient(.., bytes)) = &parcel;
        let is_payload = is_payload(bytes);
        if self.below(100) < self.weather.lost && !is_payload {
            return;
        }
        let twice = self.below(100) < self.weather.doubled;
        if twice {
            self.put_on_the_way(parcel.clone());
        }
        self.put_on_the_way(parcel);
    }

    fn put_on_the_way(&mut self, parcel: Parcel) {
        let delay = Duration::from_millis(1 + self.below(self.weather.delay_ms));
        self.parcels_made += 1;
        self.way
            .insert((self.now + delay, self.parcels_made), parcel);
    }

    /// Lets everybody send, and keeps the hosts supplied with clients.
    fn settle(&mut self) {
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            let mut over = host.client.is_over();
            let mut parcels = Vec::new();
            while let Some(message) = host.client.poll_transmit() {
                parcels.push(Parcel::ToServer(host.address, message));
            }
            let mut payloads = Vec::new();
            while let Some(event) = host.client.poll_event() {
                match event {
                    ClientEvent::Data { bytes, .. } => payloads.push(bytes),
                    event => {
                        if let ClientEvent::Allocated { relayed, .. } = &event {
                            host.relayed = Some(*relayed);
                            host.client.permit(self.now, SERVER_IP);
                            over = false;
                        }
                        host.events.push(event);
                    }
                }
            }
            while let Some(message) = host.client.poll_transmit() {
                parcels.push(Parcel::ToServer(host.address, message));
            }
            for bytes in payloads {
                let number = bytes.first_chunk().expect("a number");
                self.arrived.insert(u64::from_be_bytes(*number));
            }
            parcels.into_iter().for_each(|parcel| self.post(parcel));
            if over {
                self.renew(index);
            }
        }
    }

    /// A new client in place of one that failed or lost its allocation.
    fn renew(&mut self, index: usize) {
        let number = u8::try_from(index).expect("few");
        let made = self.hosts[index].clients_made;
        let client = self.make_client(number, made);
        let host = &mut self.hosts[index];
        host.client = client;
        host.clients_made += 1;
        host.relayed = None;
    }

    fn ends(address: SocketAddr) -> Ends {
        Ends {
            via: Via::Udp,
            local: SocketAddr::new(SERVER_IP, 3_478),
            remote: address,
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::ToServer(from, bytes) => {
                let now = self.server_now();
                let onward = self
                    .server
                    .handle_client(now, &Self::ends(from), &bytes)
                    .map(|to: ToPeer<'_>| (to.relayed, to.to_relay, to.data.to_vec()));
                if let Some((source, Some(relay), data)) = onward {
                    let to = self.server.handle_peer(now.instant, relay, source, &data);
                    let back = to.map(|to| {
                        let mut message = Vec::new();
                        to.write(&mut message);
                        (to.to.remote, message)
                    });
                    if let Some((to, message)) = back {
                        self.post_to(to, message);
                    }
                }
                self.serve();
            }
            Parcel::ToClient(index, address, bytes) => {
                let host = &mut self.hosts[index];
                if host.address == address {
                    host.client.handle_datagram(self.now, &bytes);
                }
            }
        }
    }

    fn post_to(&mut self, address: SocketAddr, message: Vec<u8>) {
        let IpAddr::V4(ip) = address.ip() else {
            return;
        };
        let index = usize::from(ip.octets()[3]);
        self.post(Parcel::ToClient(index, address, message));
    }

    /// Does what the server wants.
    fn serve(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Open { allocation, .. } => {
                    self.next_port += 1;
                    let relayed = SocketAddr::new(SERVER_IP, self.next_port);
                    self.relays.insert(relayed, allocation);
                    let now = self.server_now();
                    self.server.relay_opened(now, allocation, Ok(relayed));
                }
                ServerEvent::Close { allocation } => {
                    self.relays.retain(|_, of| *of != allocation);
                }
                ServerEvent::Hangup { .. } => {}
            }
        }
        while let Some(answer) = self.server.poll_transmit() {
            self.post_to(answer.to.remote, answer.bytes);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let parcel = self.way.keys().next().map(|(at, _)| *at);
        let hosts = self.hosts.iter().filter_map(|h| h.client.poll_timeout());
        hosts.chain(parcel).chain(self.server.poll_timeout()).min()
    }

    /// Lets time pass until `end`, or until `done`.
    fn run(&mut self, end: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.start + end;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            let Some(at) = self.next_deadline().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            while let Some(first) = self.way.first_entry().filter(|e| e.key().0 <= self.now) {
                let parcel = first.remove();
                self.deliver(parcel);
            }
            for host in &mut self.hosts {
                host.client.handle_timeout(self.now);
            }
            let now = self.server_now();
            self.server.handle_timeout(now);
            self.serve();
        }
    }

    fn both_allocated(&self) -> bool {
        self.hosts.iter().all(|host| host.relayed.is_some())
    }

    /// Each sends the other a payload with a number.
    fn exchange(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            if let Some(peer) = self.hosts[to].relayed {
                let bytes = self.sent.to_be_bytes();
                self.sent += 1;
                self.hosts[from].client.send(self.now, peer, &bytes);
            }
        }
    }

    /// Payloads that somebody has counted as dropped, or that still wait.
    fn counted(&self) -> u64 {
        let clients = self.hosts.iter().map(|host| {
            let c = host.client.counters();
            c.dropped_waiting
                + c.dropped_full
                + c.dropped_refused
                + c.dropped_unsendable
                + c.dropped_events
                + c.unmatched
                + host.client.waiting() as u64
        });
        let server = self.server.counters();
        clients.sum::<u64>() + server.dropped_unpermitted + server.dropped_own
    }

    fn losses(&self, host: usize) -> usize {
        let events = self.hosts[host].events.iter();
        events
            .filter(|e| matches!(e, ClientEvent::Lost { .. }))
            .count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_hour_of_bad_weather_loses_no_allocation_and_no_payload_uncounted(
        seed: u64,
        lost in 0_u64..20,
        doubled in 0_u64..20,
        delay_ms in 1_u64..200,
    ) {
        let mut world = World::new(seed, Weather { lost, doubled, delay_ms });
        world.run(Duration::from_secs(60), World::both_allocated);
        prop_assert!(world.both_allocated());
        let before: Vec<_> = world.hosts.iter().map(|h| h.relayed).collect();
        let mut at = world.now - world.start;
        while at < Duration::from_secs(3_600) {
            // Sometimes dense, sometimes so rare that permissions and channels end.
            let pause = [50, 1_000, 20_000, 700_000][usize::try_from(world.below(4)).expect("few")];
            at += Duration::from_millis(1 + world.below(pause));
            world.exchange();
            world.run(at, |_| false);
        }
        world.run(at + Duration::from_secs(20), |_| false);
        let after: Vec<_> = world.hosts.iter().map(|h| h.relayed).collect();
        prop_assert_eq!(before, after, "no allocation was lost");
        let missing = world.sent - world.arrived.len() as u64;
        prop_assert!(missing <= world.counted(), "{} of {} missing, {} counted", missing, world.sent, world.counted());
        // Not everything is merely counted; after long silence both sides begin anew at once.
        prop_assert!(world.arrived.len() as u64 * 4 >= world.sent);
    }
}

#[test]
fn in_fair_weather_everything_arrives() {
    let mut world = World::new(1, FAIR);
    world.run(Duration::from_secs(10), World::both_allocated);
    for second in 1..600 {
        world.run(Duration::from_secs(10 + second), |_| false);
        world.exchange();
    }
    world.run(Duration::from_secs(620), |_| false);
    assert_eq!(world.arrived.len() as u64, world.sent);
    assert_eq!(world.counted(), 0);
}

#[test]
fn a_restarted_server_is_noticed_within_34_s_and_allocates_anew() {
    for seed in 0..20 {
        let weather = Weather {
            lost: 10,
            doubled: 5,
            delay_ms: 150,
        };
        let mut world = World::new(seed, weather);
        world.run(Duration::from_secs(60), World::both_allocated);
        let at = world.now;
        world.server = server(2, world.now);
        world.relays.clear();
        let limit = at - world.start + Duration::from_secs(34);
        world.run(limit, |w| w.losses(0) > 0 && w.losses(1) > 0);
        assert_eq!((world.losses(0), world.losses(1)), (1, 1), "seed {seed}");
        let limit = world.now - world.start + Duration::from_secs(60);
        world.run(limit, World::both_allocated);
        assert!(world.both_allocated(), "seed {seed}");
    }
}

#[test]
fn a_nat_that_changes_its_mind_costs_the_allocation_and_not_the_way_back() {
    for seed in 0..20 {
        let mut world = World::new(seed, FAIR);
        world.run(Duration::from_secs(60), World::both_allocated);
        // From another port: to the server it is another client.
        world.hosts[0].address.set_port(4_001);
        let limit = world.now - world.start + Duration::from_secs(34);
        world.run(limit, |w| w.losses(0) > 0);
        assert_eq!(world.losses(0), 1, "seed {seed}");
        let limit = world.now - world.start + Duration::from_secs(10);
        world.run(limit, World::both_allocated);
        assert!(world.both_allocated(), "seed {seed}");
    }
}

#[test]
fn what_a_crashed_program_left_does_not_keep_the_next_one_out() {
    for seed in 0..20 {
        let mut world = World::new(seed, FAIR);
        world.run(Duration::from_secs(60), World::both_allocated);
        world.renew(0);
        let limit = world.now - world.start + Duration::from_secs(10);
        world.run(limit, World::both_allocated);
        assert!(world.both_allocated(), "seed {seed}");
        assert!(
            world.hosts[0]
                .events
                .iter()
                .all(|e| matches!(e, ClientEvent::Allocated { .. }))
        );
    }
}
