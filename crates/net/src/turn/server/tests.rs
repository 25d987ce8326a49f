mod allocations;
mod credentials;
mod limits;
mod relaying;
mod traps;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::turn::credential::{Integrity, Key, PasswordAlgorithm};
use crate::turn::framing::ChannelData;
use crate::turn::message::{Class, TransactionId, Writer, code, kind};

const SECRET: &[u8] = b"north";
const REALM: &str = "waymesh";

/// When the tests begin, since 1970.
const START: Duration = Duration::from_secs(1_800_000_000);

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn member(seed: u8) -> AgentId {
    AgentId::from_bytes([seed; 32])
}

/// A server and the sockets that it asked for.
struct Bed {
    server: Server,
    start: Instant,
    passed: Duration,
    next_port: u16,
    next_id: u64,
    closed: Vec<AllocationId>,
    hung_up: Vec<StreamId>,
    opened: Vec<(AllocationId, Family)>,
}

/// Somebody with credentials.
#[derive(Clone)]
struct Client {
    ends: Ends,
    name: String,
    password: String,
    algorithm: Option<PasswordAlgorithm>,
    integrity: Integrity,
    nonce: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    class: Class,
    code: Option<u16>,
    bytes: Vec<u8>,
}

impl Told {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).expect("a message")
    }

    fn address(&self, kind: u16) -> SocketAddr {
        self.message().xor_address(kind).expect("an address")
    }

    fn lifetime(&self) -> u32 {
        self.message().number(kind::LIFETIME).expect("a lifetime")
    }
}

impl Bed {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig {
            realm: REALM.into(),
            secret: RelaySecret::new(SECRET),
            policy: PeerPolicy {
                allow: Vec::new(),
                own: vec![at("192.0.2.1:0").ip()],
            },
            limits: Limits::default(),
            alternate: None,
            seed: [1; 32],
        };
        change(&mut config);
        let start = Instant::now();
        Self {
            server: Server::new(config, start),
            start,
            passed: Duration::ZERO,
            next_port: 50_000,
            next_id: 0,
            closed: Vec::new(),
            hung_up: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + self.passed,
            unix: START + self.passed,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.passed += time;
        self.server.handle_timeout(self.now());
        self.work();
    }

    /// Opens and closes sockets.
    fn work(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Open {
                    allocation, family, ..
                } => {
                    self.opened.push((allocation, family));
                    let ip = match family {
                        Family::V4 => "192.0.2.1",
                        Family::V6 => "[2001:db8::1]",
                    };
                    let relayed = at(&format!("{ip}:{}", self.next_port));
                    self.next_port += 1;
                    self.server
                        .relay_opened(self.now(), allocation, Ok(relayed));
                }
                ServerEvent::Close { allocation } => self.closed.push(allocation),
                ServerEvent::Hangup { stream } => self.hung_up.push(stream),
            }
        }
    }

    /// Hears a message and gives the answer to this client, if there is one.
    fn hear(&mut self, ends: &Ends, bytes: &[u8]) -> Option<Told> {
        let to_peer = self.server.handle_client(self.now(), ends, bytes);
        assert_eq!(to_peer, None);
        self.work();
        let mut told = None;
        while let Some(answer) = self.server.poll_transmit() {
            assert_eq!(answer.to.remote, ends.remote);
            let message = Message::parse(&answer.bytes).expect("a message");
            let (class, code) = (message.class(), message.error().map(|(code, _)| code));
            told = Some(Told {
                class,
                code,
                bytes: answer.bytes,
            });
        }
        told
    }

    fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.next_id.to_be_bytes());
        TransactionId::new(id)
    }

    /// Asks with credentials, after it was told how.
    fn ask(&mut self, client: &mut Client, method: Method, put: impl Fn(&mut Writer)) -> Told {
        let id = self.id();
        let told = self.ask_as(client, id, method, &put);
        if told.code != Some(code::STALE_NONCE) && !client.nonce.is_empty() {
            return told;
        }
        let Some(nonce) = told.message().find(kind::NONCE) else {
            return told;
        };
        client.nonce = nonce.to_vec();
        let id = self.id();
        self.ask_as(client, id, method, &put)
    }

    fn ask_as(
        &mut self,
        client: &Client,
        id: TransactionId,
        method: Method,
        put: &impl Fn(&mut Writer),
    ) -> Told {
        let bytes = client.request(id, method, put);
        self.hear(&client.ends, &bytes).expect("an answer")
    }

    fn allocate(&mut self, client: &mut Client) -> SocketAddr {
        let told = self.ask(client, Method::Allocate, udp);
        assert_eq!(told.class, Class::Success, "{told:?}");
        told.address(kind::XOR_RELAYED_ADDRESS)
    }

    fn permit(&mut self, client: &mut Client, peer: &str) -> Told {
        let peer = at(peer);
        self.ask(client, Method::CreatePermission, |w| {
            w.put_xor_address(kind::XOR_PEER_ADDRESS, peer);
        })
    }

    fn bind(&mut self, client: &mut Client, number: u16, peer: &str) -> Told {
        let peer = at(peer);
        self.ask(client, Method::ChannelBind, |w| {
            w.put_number(kind::CHANNEL_NUMBER, u32::from(number) << 16)
                .put_xor_address(kind::XOR_PEER_ADDRESS, peer);
        })
    }

    fn refresh(&mut self, client: &mut Client, seconds: u32) -> Told {
        self.ask(client, Method::Refresh, |w| {
            w.put_number(kind::LIFETIME, seconds);
        })
    }

    /// Data by channel; where it goes.
    fn channel(&mut self, client: &Client, number: u16, data: &[u8]) -> Option<SocketAddr> {
        let mut bytes = ChannelData::header(number, data.len())
            .expect("short")
            .to_vec();
        bytes.extend_from_slice(data);
        let now = self.now();
        let to = self.server.handle_client(now, &client.ends, &bytes)?;
        assert_eq!(to.data, data);
        Some(to.peer)
    }

    /// Data by indication; where it goes.
    fn send(&mut self, client: &Client, peer: &str, data: &[u8]) -> Option<SocketAddr> {
        let mut writer = Writer::new(Class::Indication, Method::Send, self.id());
        writer
            .put_xor_address(kind::XOR_PEER_ADDRESS, at(peer))
            .put(kind::DATA, data);
        let (bytes, now) = (writer.finish(), self.now());
        let to = self.server.handle_client(now, &client.ends, &bytes)?;
        assert_eq!(to.data, data);
        Some(to.peer)
    }

    /// What reaches the client of what a peer sends.
    fn hear_peer(&mut self, of: usize, peer: &str, data: &[u8]) -> Option<Vec<u8>> {
        let (id, now) = (self.opened[of].0, self.now());
        let to = self.server.handle_peer(now.instant, id, at(peer), data)?;
        let mut bytes = Vec::new();
        to.write(&mut bytes);
        assert_eq!(bytes.len(), to.length());
        Some(bytes)
    }

    fn counters(&self) -> Counters {
        self.server.counters()
    }
}

impl Client {
    /// With credentials that are good for an hour.
    fn new(seed: u8, port: u16) -> Self {
        Self::until(seed, port, START + Duration::from_secs(3_600))
    }

    fn until(seed: u8, port: u16, expires: Duration) -> Self {
        let (name, password) = RelaySecret::new(SECRET).issue(&member(seed), expires);
        Self {
            ends: Ends {
                via: Via::Udp,
                local: at("192.0.2.1:3478"),
                remote: SocketAddr::new(at("198.51.100.7:0").ip(), port),
            },
            name,
            password: password.reveal().to_owned(),
            algorithm: None,
            integrity: Integrity::Sha1,
            nonce: Vec::new(),
        }
    }

    /// Of a member that came back.
    fn marked(seed: u8, port: u16, expires: Duration, mark: u64) -> Self {
        let secret = RelaySecret::new(SECRET);
        let (name, password) = secret.issue_marked(&member(seed), Mark::new(mark), expires);
        Self {
            name,
            password: password.reveal().to_owned(),
            ..Self::until(seed, port, expires)
        }
    }

    fn on_stream(mut self, stream: u64) -> Self {
        self.ends.via = Via::Stream(StreamId(stream));
        self
    }

    fn key(&self) -> Key {
        let algorithm = self.algorithm.unwrap_or(PasswordAlgorithm::Md5);
        Key::new(&self.name, REALM, &self.password, algorithm)
    }

    fn request(&self, id: TransactionId, method: Method, put: &impl Fn(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(Class::Request, method, id);
        put(&mut writer);
        if self.nonce.is_empty() {
            return writer.finish();
        }
        writer
            .put(kind::USERNAME, self.name.as_bytes())
            .put(kind::REALM, REALM.as_bytes())
            .put(kind::NONCE, &self.nonce);
        if let Some(algorithm) = self.algorithm {
            let offered = answers::PASSWORD_ALGORITHMS.map(PasswordAlgorithm::value);
            writer
                .put(kind::PASSWORD_ALGORITHMS, offered.as_flattened())
                .put(kind::PASSWORD_ALGORITHM, &algorithm.value());
        }
        writer.sign(&self.key(), self.integrity).finish()
    }
}

/// What every Allocate has.
fn udp(writer: &mut Writer) {
    writer.put(kind::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}
