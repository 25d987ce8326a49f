use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use waymesh_net::turn::credential::{Integrity, Key, PasswordAlgorithm};
use waymesh_net::turn::framing::{ChannelData, Decoder};
use waymesh_net::turn::message::{Class, Message, Method, TransactionId, Writer, kind};
use waymesh_net::turn::server::{Family, PeerPolicy, PortWish, RelaySecret, Server, ServerConfig};
use waymesh_net::udp::{Socket, Wanted};

use super::addresses::{covers, relay_ip};
use super::batch::{Batch, Target};
use super::hub::{Hub, OWN_EVERY};
use super::relay_ports::RelayPorts;
use super::*;

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn config() -> RelayConfig {
    RelayConfig {
        listen: vec![at("127.0.0.1:0")],
        other: None,
        relay_ips: Vec::new(),
        relay_ports: None,
        realm: "waymesh".into(),
        secret: RelaySecret::new(b"north"),
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        removed: BTreeSet::new(),
        limits: Limits::default(),
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// A client over UDP or over a stream in memory.
struct Client {
    wire: Wire,
    credentials: RelayCredentials,
    nonce: Vec<u8>,
    next: u8,
}

enum Wire {
    Udp(UdpSocket),
    Stream(tokio::io::DuplexStream, Decoder),
}

impl Client {
    async fn udp(relay: &Relay, member: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let server = relay.handle().addresses()[0];
        socket.connect(server).await.expect("connected");
        Self::new(relay, member, Wire::Udp(socket))
    }

    fn stream(relay: &Relay, member: u8) -> Self {
        let (ours, theirs) = tokio::io::duplex(4_096);
        let ends = StreamEnds {
            local: at("127.0.0.1:443"),
            remote: at("127.0.0.1:9"),
        };
        relay.handle().serve_stream(theirs, ends);
        Self::new(relay, member, Wire::Stream(ours, Decoder::default()))
    }

    fn new(relay: &Relay, member: u8, wire: Wire) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock");
        let member = AgentId::from_bytes([member; 32]);
        Self {
            wire,
            credentials: relay.handle().credentials(&member, unix),
            nonce: Vec::new(),
            next: 0,
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send(bytes).await.expect("sent");
            }
            Wire::Stream(stream, _) => {
                stream.write_all(bytes).await.expect("sent");
                let padding = waymesh_net::turn::framing::padding(bytes.len());
                stream.write_all(padding).await.expect("sent");
            }
        }
    }

    /// The next message; `None` when the stream is closed.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 2_048];
        match &mut self.wire {
            Wire::Udp(socket) => {
                let length = in_time(socket.recv(&mut bytes)).await.expect("received");
                bytes.truncate(length);
                Some(bytes)
            }
            Wire::Stream(stream, decoder) => loop {
                if let Some(message) = decoder.poll().expect("a good stream") {
                    return Some(message.to_vec());
                }
                match in_time(stream.read(&mut bytes)).await.expect("received") {
                    0 => return None,
                    length => decoder.extend(&bytes[..length]),
                }
            },
        }
    }

    async fn ask(&mut self, method: Method, put: impl Fn(&mut Writer)) -> Vec<u8> {
        loop {
            self.next += 1;
            let id = TransactionId::new([self.next; 12]);
            let mut writer = Writer::new(Class::Request, method, id);
            put(&mut writer);
            let name = &self.credentials.username;
            if !self.nonce.is_empty() {
                let password = self.credentials.credential.reveal();
                let key = Key::new(name, "waymesh", password, PasswordAlgorithm::Md5);
                writer
                    .put(kind::USERNAME, name.as_bytes())
                    .put(kind::REALM, b"waymesh")
                    .put(kind::NONCE, &self.nonce);
                writer = writer.sign(&key, Integrity::Sha1);
            }
            self.say(&writer.finish()).await;
            let answer = self.hear().await.expect("an answer");
            let message = Message::parse(&answer).expect("a message");
            match message.find(kind::NONCE) {
                Some(nonce) if self.nonce.is_empty() => self.nonce = nonce.to_vec(),
                _ => return answer,
            }
        }
    }

    async fn allocate(&mut self) -> SocketAddr {
        let answer = self.ask(Method::Allocate, udp).await;
        let message = Message::parse(&answer).expect("a message");
        let relayed = message.xor_address(kind::XOR_RELAYED_ADDRESS);
        relayed.unwrap_or_else(|| panic!("{:?}", message.error()))
    }

    async fn bind(&mut self, channel: u16, peer: SocketAddr) {
        let answer = self.ask(Method::ChannelBind, |w| {
            w.put_number(kind::CHANNEL_NUMBER, u32::from(channel) << 16)
                .put_xor_address(kind::XOR_PEER_ADDRESS, peer);
        });
        let answer = answer.await;
        let message = Message::parse(&answer).expect("a message");
        assert_eq!(message.class(), Class::Success, "{:?}", message.error());
    }

    async fn send(&mut self, channel: u16, data: &[u8]) {
        let header = ChannelData::header(channel, data.len()).expect("short");
        self.say(&[&header, data].concat()).await;
    }
}

fn udp(writer: &mut Writer) {
    writer.put(kind::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}

#[tokio::test]
async fn datagrams_of_any_transport_reach_a_peer_and_come_back() {
    let relay = Relay::start(config()).expect("a relay");
    let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = peer.local_addr().expect("an address");
    for mut client in [Client::udp(&relay, 1).await, Client::stream(&relay, 1)] {
        let relayed = client.allocate().await;
        client.bind(0x4000, address).await;
        client.send(0x4000, &[7; 101]).await;
        let mut bytes = [0; 200];
        let (length, from) = in_time(peer.recv_from(&mut bytes)).await.expect("received");
        assert_eq!((&bytes[..length], from), ([7; 101].as_slice(), relayed));
        peer.send_to(&[8; 99], relayed).await.expect("sent");
        let back = client.hear().await.expect("data");
        let read = ChannelData::parse(&back).expect("channel data");
        assert_eq!((read.channel, read.data), (0x4000, [8; 99].as_slice()));
    }
}

#[tokio::test]
async fn two_members_reach_each_other_without_a_rule_for_the_host_itself() {
    let mut config = config();
    config.allow.clear();
    let relay = Relay::start(config).expect("a relay");
    let (mut one, mut two) = (Client::udp(&relay, 1).await, Client::stream(&relay, 2));
    let (of_one, of_two) = (one.allocate().await, two.allocate().await);
    one.bind(0x4000, of_two).await;
    two.bind(0x4001, of_one).await;
    one.send(0x4000, b"there").await;
    let heard = two.hear().await.expect("data");
    assert_eq!(ChannelData::parse(&heard).expect("it").data, b"there");
    two.send(0x4001, b"back").await;
    let heard = one.hear().await.expect("data");
    assert_eq!(ChannelData::parse(&heard).expect("it").data, b"back");
}

#[tokio::test]
async fn a_removed_member_is_cut_off_at_once() {
    let relay = Relay::start(config()).expect("a relay");
    let mut by_udp = Client::udp(&relay, 1).await;
    let mut by_stream = Client::stream(&relay, 1);
    let relayed = by_udp.allocate().await;
    by_stream.allocate().await;
    relay.handle().remove_member(AgentId::from_bytes([1; 32]));
    // The stream is closed, and the port is free again.
    assert_eq!(by_stream.hear().await, None);
    assert!(std::net::UdpSocket::bind(relayed).is_ok());
    let answer = by_udp.ask(Method::Allocate, udp).await;
    let error = Message::parse(&answer).expect("a message").error();
    assert_eq!(error.map(|(code, _)| code), Some(401));
}

#[tokio::test]
async fn a_stream_of_something_else_is_closed_and_one_that_closes_frees_its_port() {
    let relay = Relay::start(config()).expect("a relay");
    let mut stranger = Client::stream(&relay, 1);
    stranger.say(b"\xffHELLO").await;
    assert_eq!(stranger.hear().await, None);
    let mut client = Client::stream(&relay, 1);
    let relayed = client.allocate().await;
    drop(client);
    in_time(async {
        while std::net::UdpSocket::bind(relayed).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn dropping_the_relay_frees_its_ports() {
    let relay = Relay::start(config()).expect("a relay");
    let mut client = Client::udp(&relay, 1).await;
    let relayed = client.allocate().await;
    let listening = relay.handle().addresses()[0];
    drop(relay);
    assert!(std::net::UdpSocket::bind(relayed).is_ok());
    assert!(std::net::UdpSocket::bind(listening).is_ok());
}

#[tokio::test]
async fn a_second_address_answers_from_all_four_ends() {
    // The system chooses the first port; some other one is free on both addresses.
    let probe = std::net::UdpSocket::bind("127.0.0.2:0").expect("a port");
    let other = probe.local_addr().expect("an address");
    drop(probe);
    let mut config = config();
    config.other = Some(other);
    let relay = Relay::start(config).expect("a relay");
    let primary = relay.handle().addresses()[0];
    assert_eq!(relay.handle().addresses().len(), 4);
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for (change, from) in [
        (0, primary),
        (2, SocketAddr::new(primary.ip(), other.port())),
        (4, SocketAddr::new(other.ip(), primary.port())),
        (6, other),
    ] {
        let id = TransactionId::new([change as u8; 12]);
        let mut request = Writer::new(Class::Request, Method::Binding, id);
        request.put_number(kind::CHANGE_REQUEST, change);
        client
            .send_to(&request.finish(), primary)
            .await
            .expect("sent");
        let mut bytes = [0; 200];
        let (length, source) = in_time(client.recv_from(&mut bytes))
            .await
            .expect("an answer");
        let message = Message::parse(&bytes[..length]).expect("a message");
        assert_eq!(source, from, "{change}");
        assert_eq!(message.address(kind::OTHER_ADDRESS), Some(other));
        assert_eq!(message.transaction(), id);
    }
}

#[test]
fn contradictions_in_the_configuration_are_told() {
    let refused = |change: fn(&mut RelayConfig)| {
        let mut config = config();
        change(&mut config);
        Relay::start(config).expect_err("it is refused")
    };
    assert!(matches!(refused(|c| c.realm.clear()), RelayError::Realm));
    assert!(matches!(
        refused(|c| c.realm = "x".repeat(64)),
        RelayError::Realm
    ));
    let two_of_a_family =
        refused(|c| c.relay_ips = vec![at("192.0.2.1:0").ip(), at("192.0.2.2:0").ip()]);
    assert!(matches!(two_of_a_family, RelayError::RelayIp(_)));
    assert!(matches!(
        refused(|c| c.relay_ips = vec![at("0.0.0.0:0").ip()]),
        RelayError::RelayIp(_)
    ));
    #[expect(clippy::reversed_empty_ranges, reason = "as somebody may write it")]
    let empty = refused(|c| c.relay_ports = Some(2..=1));
    assert!(matches!(empty, RelayError::RelayPorts));
    assert!(matches!(
        refused(|c| c.other = Some(at("127.0.0.1:9"))),
        RelayError::Other(_)
    ));
    assert!(matches!(
        refused(|c| c.other = Some(at("[::1]:9"))),
        RelayError::Other(_)
    ));
    let elsewhere = refused(|c| c.listen = vec![at("192.0.2.1:9")]);
    assert!(matches!(elsewhere, RelayError::Listen { .. }));
    let mut longest = config();
    longest.realm = "x".repeat(63);
    assert!(Relay::start(longest).is_ok());
}

#[tokio::test]
async fn relays_take_their_ports_out_of_the_range_until_it_is_used_up() {
    let free = std::net::UdpSocket::bind("127.0.0.3:0").expect("a port");
    let first = free.local_addr().expect("an address").port().min(65_530) & !1;
    drop(free);
    let mut ports = RelayPorts {
        ips: Vec::new(),
        own: Vec::new(),
        range: Some(first..=first + 3),
        used: std::collections::HashSet::new(),
    };
    let ip: IpAddr = at("127.0.0.3:0").ip();
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let (socket, relayed) = ports.open(ip, PortWish::Even).expect("an even port");
        assert!(relayed.port().is_multiple_of(2) && (first..=first + 3).contains(&relayed.port()));
        sockets.push(socket);
    }
    assert_eq!(
        ports
            .open(ip, PortWish::Even)
            .map(|_| ())
            .map_err(|e| e.kind()),
        Err(ErrorKind::AddrInUse)
    );
    for _ in 0..2 {
        sockets.push(ports.open(ip, PortWish::Any).expect("a port").0);
    }
    assert!(ports.open(ip, PortWish::Any).is_err());
    ports.range = None;
    let (_, relayed) = ports.open(ip, PortWish::Even).expect("an even port");
    assert!(relayed.port().is_multiple_of(2));
    // As behind a 1:1 NAT: the address is of no interface here.
    let (socket, relayed) = ports
        .open(at("192.0.2.77:0").ip(), PortWish::Any)
        .expect("a port");
    assert_eq!(relayed.ip(), at("192.0.2.77:0").ip());
    assert!(
        socket
            .local_addr()
            .expect("an address")
            .ip()
            .is_unspecified()
    );
}

#[test]
fn a_relay_has_the_address_that_fits() {
    let ip = |text: &str| -> IpAddr { text.parse().expect(text) };
    let own = [
        ip("127.0.0.1"),
        ip("::1"),
        ip("fe80::1"),
        ip("192.0.2.1"),
        ip("2001:db8::1"),
    ];
    let configured = [ip("198.51.100.1")];
    assert_eq!(
        relay_ip(&configured, &own, ip("192.0.2.1"), Family::V4),
        Some(configured[0])
    );
    assert_eq!(
        relay_ip(&[], &own, ip("192.0.2.1"), Family::V4),
        Some(ip("192.0.2.1"))
    );
    assert_eq!(
        relay_ip(&configured, &own, ip("192.0.2.1"), Family::V6),
        Some(ip("2001:db8::1"))
    );
    assert_eq!(
        relay_ip(&[], &own, ip("127.0.0.1"), Family::V6),
        Some(ip("::1"))
    );
    assert_eq!(relay_ip(&[], &own[..1], ip("192.0.2.1"), Family::V6), None);
    for (bound, address, covered) in [
        ("0.0.0.0:5", "192.0.2.1:5", true),
        ("0.0.0.0:5", "192.0.2.1:6", false),
        ("0.0.0.0:5", "[::1]:5", false),
        ("[::]:5", "192.0.2.1:5", true),
        ("[::]:5", "[::1]:5", true),
        ("192.0.2.1:5", "192.0.2.1:5", true),
        ("192.0.2.1:5", "192.0.2.2:5", false),
    ] {
        assert_eq!(covers(at(bound), at(address)), covered, "{bound} {address}");
    }
}

/// Counts what is told at WARN.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn that_the_addresses_cannot_be_listed_is_said_once_until_they_can_again() {
    let start = Instant::now();
    let hub = own_hub(start, Vec::new());
    let mut hub = hub.borrow_mut();
    let warnings = Warnings::default();
    let counted = Arc::clone(&warnings.0);
    tracing::subscriber::with_default(warnings, || {
        let lists = [false, false, false, true, false, false];
        for (n, works) in (1..).zip(lists) {
            hub.keep_own(start + 2 * n * OWN_EVERY, || match works {
                true => Ok(Vec::new()),
                false => Err(ErrorKind::OutOfMemory.into()),
            });
        }
    });
    assert_eq!(counted.load(Ordering::Relaxed), 2);
}

/// A server on a host of these addresses, without a port.
fn own_hub(start: Instant, own: Vec<IpAddr>) -> Rc<RefCell<Hub>> {
    let server = ServerConfig {
        realm: "waymesh".into(),
        secret: RelaySecret::new(b"north"),
        policy: PeerPolicy::default(),
        limits: Limits::default(),
        alternate: None,
        seed: [1; 32],
    };
    let ports = RelayPorts {
        ips: Vec::new(),
        own,
        range: None,
        used: std::collections::HashSet::new(),
    };
    Hub::new(Server::new(server, start), Vec::new(), ports)
}

#[test]
fn the_addresses_of_this_host_are_listed_now_and_then_and_kept_when_they_cannot_be() {
    let ip = |text: &str| -> IpAddr { text.parse().expect(text) };
    let first = vec![ip("192.0.2.1")];
    let start = Instant::now();
    let hub = own_hub(start, first.clone());
    let mut hub = hub.borrow_mut();
    hub.keep_own(start, || panic!("it is not time yet"));
    let (at, later) = (start + 2 * OWN_EVERY, start + 4 * OWN_EVERY);
    let second = vec![ip("192.0.2.1"), ip("2001:db8::1")];
    hub.keep_own(at, || Ok(second.clone()));
    assert_eq!(hub.own(), second);
    hub.keep_own(at + OWN_EVERY / 2, || panic!("it is not time again"));
    hub.keep_own(later, || Err(ErrorKind::OutOfMemory.into()));
    assert_eq!(hub.own(), second);
    hub.keep_own(later + 2 * OWN_EVERY, || Ok(first.clone()));
    assert_eq!(hub.own(), first);
}

#[tokio::test]
async fn datagrams_of_one_size_for_one_peer_go_together_and_arrive_apart() {
    let socket = Rc::new(Socket::open(at("127.0.0.1:0"), 1 << 20).expect("a port"));
    socket.ready(Wanted::ReadOrWrite).await.expect("writable");
    let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let to = Target {
        socket: Rc::clone(&socket),
        source: at("0.0.0.0:0"),
        destination: peer.local_addr().expect("an address"),
    };
    let mut counters = SocketCounters::default();
    let mut batch = Batch::default();
    let sizes = [100, 100, 100, 40, 100, 0, 100, 200];
    for (number, size) in sizes.iter().enumerate() {
        let write = |out: &mut Vec<u8>| out.extend(std::iter::repeat_n(number as u8, *size));
        batch.push(&to, *size, &mut counters, write);
    }
    batch.flush(&mut counters);
    batch.flush(&mut counters);
    for (number, size) in sizes.iter().enumerate() {
        let mut bytes = [0; 300];
        let length = in_time(peer.recv(&mut bytes)).await.expect("received");
        assert_eq!(bytes[..length], vec![number as u8; *size]);
    }
    assert_eq!(
        (counters.dropped_kernel_full, counters.dropped_send_error),
        (0, 0)
    );
    if socket.max_segments() >= 4 {
        // 100 100 100 40, 100, 0, 100, 200
        assert_eq!(counters.bursts_sent, 5);
    }
}
