//! Targets of waymesh-net: what a TURN or STUN server may answer, and what its
//! clients and their peers may send. Each takes any bytes and must not panic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use waymesh_net::stun::binding::{Binding, Question};
use waymesh_net::turn::client::{Client, ClientConfig, ClientEvent, Credentials, RelayFamily, Via};
use waymesh_net::turn::credential::{Integrity, Key, PasswordAlgorithm};
use waymesh_net::turn::framing::{CHANNEL_HEADER_BYTES, ChannelData, Decoder};
use waymesh_net::turn::message::{Class, Message, Method, TransactionId, Writer, kind};
use waymesh_net::turn::server::{
    AllocationId, Ends, Limits, Mark, Now, PeerPolicy, RelaySecret, Server, ServerConfig,
    ServerEvent, StreamId, Via as ServerVia,
};
use waymesh_proto::AgentId;
use waymesh_proto::ice::Credential;

/// A target: its name, which is the folder of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("turn_client", turn_client),
    ("stun_answer", stun_answer),
    ("turn_server", turn_server),
    ("turn_framing", turn_framing),
];

/// Most messages that one call of a client may lead to.
const SENT_AT_ONCE_MAX: usize = 200;

/// What the next part of the input is, in the lowest bits of its first byte.
const KINDS: u8 = 6;

/// A TURN client between a server that says anything and a program that sends.
///
/// The input is a run of parts: a byte that says what it is, two bytes of
/// length, and so many bytes. Answers get the transaction of the latest
/// request, and a right signature when bit 3 is set: without them nothing
/// would be looked at.
pub fn turn_client(data: &[u8]) {
    let mut now = Instant::now();
    let start = now;
    let mut client = client(now);
    let mut request = drain(&mut client);
    let mut rest = data;
    while let Some((&[what, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (part, after) = after.split_at(length);
        rest = after;
        match (what & 7) % KINDS {
            0 => {
                client.handle_datagram(now, part);
            }
            1 | 2 => {
                let class = if (what & 7) % KINDS == 1 {
                    Class::Success
                } else {
                    Class::Error
                };
                if let Some(request) = &request {
                    let message = answer(request, class, part, what & 8 != 0);
                    client.handle_datagram(now, &message);
                }
            }
            3 => {
                now = client.poll_timeout().unwrap_or(now).max(now);
                client.handle_timeout(now);
            }
            4 => client.send(now, peer(part), part),
            _ => client.permit(now, peer(part).ip()),
        }
        request = drain(&mut client).or(request);
    }
    assert!(now >= start);
}

fn client(now: Instant) -> Client {
    let server = SocketAddr::from(([192, 0, 2, 1], 3478));
    let credentials = Credentials {
        username: "user".into(),
        credential: Credential::new("password".into()),
    };
    let config = ClientConfig {
        via: Via::Datagrams { server },
        family: RelayFamily::Common,
        credentials: Some(credentials),
        earlier: None,
        remembered: None,
    };
    Client::new(config, now, [7; 32])
}

/// A peer of IPv4, or where the second byte is 6, of IPv6.
fn peer(part: &[u8]) -> SocketAddr {
    let last = part.first().copied().unwrap_or_default();
    match part.get(1) {
        Some(6) => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()], 9)),
        _ => SocketAddr::from(([203, 0, 113, last], 9)),
    }
}

/// Takes everything from the client; the latest request is given back.
fn drain(client: &mut Client) -> Option<Vec<u8>> {
    let mut latest = None;
    let mut sent = 0;
    while let Some(message) = client.poll_transmit() {
        sent += 1;
        assert!(sent <= SENT_AT_ONCE_MAX, "it does not come to rest");
        let is_request = Message::parse(&message).is_ok_and(|m| m.class() == Class::Request);
        if is_request {
            latest = Some(message);
        }
    }
    while let Some(event) = client.poll_event() {
        if let ClientEvent::Allocated { lifetime, .. } = event {
            assert!(lifetime > Duration::ZERO);
        }
    }
    latest
}

/// An answer to a request with these attributes: type, length, value, one after the other.
fn answer(request: &[u8], class: Class, attributes: &[u8], signed: bool) -> Vec<u8> {
    let request = Message::parse(request).expect("it was sent");
    let method = request.method().unwrap_or(Method::Binding);
    let mut writer = Writer::new(class, method, request.transaction());
    let mut rest = attributes;
    while let Some((&[a, b, c, d], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([c, d])).min(after.len());
        let (value, after) = after.split_at(length);
        writer.put(u16::from_be_bytes([a, b]), value);
        rest = after;
    }
    if signed {
        let key = Key::new("user", "realm", "password", PasswordAlgorithm::Md5);
        writer = writer.sign(&key, Integrity::Sha1);
    }
    writer.finish()
}

/// The answer to a Binding request, as given and with the transaction of the request.
pub fn stun_answer(data: &[u8]) {
    let now = Instant::now();
    for keep_transaction in [false, true] {
        let mut binding = Binding::new(Question::default(), now, [7; 32]);
        let request = binding.poll_transmit().expect("the question");
        let mut bytes = data.to_vec();
        if let (false, Some(id)) = (keep_transaction, bytes.get_mut(8..20)) {
            id.copy_from_slice(&request[8..20]);
        }
        let taken = binding.handle_datagram(now, &bytes);
        assert_eq!(taken, binding.poll_outcome().is_some());
    }
}

/// A TURN server between clients and peers that say anything.
///
/// The input is a run of parts: a byte that says what it is, two bytes of
/// length, and so many bytes. Requests of kinds 1 and 2 are made of attributes (type
/// in two bytes, length in one, value) and signed by a member, in kind 2 by one that
/// was removed and came back: without that no attribute would be looked at.
pub fn turn_server(data: &[u8]) {
    let start = Instant::now();
    let mut now = Now {
        instant: start,
        unix: Duration::from_secs(1_800_000_000),
    };
    let mut server = Server::new(server_config(), start);
    let mut relays = Vec::new();
    let ends = [
        server_ends(ServerVia::Udp),
        server_ends(ServerVia::Stream(StreamId(1))),
    ];
    let challenge = Writer::new(
        Class::Request,
        Method::Allocate,
        TransactionId::new([0; 12]),
    );
    server.handle_client(now, &ends[0], &challenge.finish());
    let nonce = attend(&mut server, now, &mut relays).expect("a challenge");
    let mut rest = data;
    while let Some((&[what, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (part, after) = after.split_at(length);
        rest = after;
        let client = &ends[usize::from(what >> 3 & 1)];
        match (what & 7) % 6 {
            0 => {
                server.handle_client(now, client, part);
            }
            1 => {
                let request = signed_request(now, part, &nonce, Since::Always);
                server.handle_client(now, client, &request);
            }
            2 => {
                let request = signed_request(now, part, &nonce, Since::Removal);
                server.handle_client(now, client, &request);
            }
            3 => {
                now.instant += Duration::from_secs(u64::from(what));
                now.unix += Duration::from_secs(u64::from(what));
                server.handle_timeout(now);
            }
            4 => {
                let peer = peer(part);
                for relay in &relays {
                    if let Some(to) = server.handle_peer(now.instant, *relay, peer, part) {
                        let mut out = Vec::new();
                        to.write(&mut out);
                        assert_eq!(out.len(), to.length());
                    }
                }
            }
            _ if what & 16 == 0 => server.handle_stream_closed(client),
            _ => server.remove_member(&AgentId::from_bytes([what; 32]), Mark::new(what.into())),
        }
        attend(&mut server, now, &mut relays);
        assert!(server.counters().allocations <= 2);
    }
}

/// Opens the relays that are wanted; gives the nonce of the last answer that has one.
fn attend(server: &mut Server, now: Now, relays: &mut Vec<AllocationId>) -> Option<Vec<u8>> {
    while let Some(event) = server.poll_event() {
        if let ServerEvent::Open { allocation, .. } = event {
            let port = 1 + u16::try_from(relays.len()).unwrap_or(0);
            relays.push(allocation);
            let relayed = SocketAddr::from(([192, 0, 2, 1], port));
            server.relay_opened(now, allocation, Ok(relayed));
        }
    }
    let mut nonce = None;
    while let Some(answer) = server.poll_transmit() {
        let message = Message::parse(&answer.bytes).expect("own bytes");
        nonce = message.find(kind::NONCE).map(<[u8]>::to_vec).or(nonce);
    }
    nonce
}

/// Since when somebody is a member.
#[derive(Clone, Copy)]
enum Since {
    Always,
    Removal,
}

fn signed_request(now: Now, part: &[u8], nonce: &[u8], since: Since) -> Vec<u8> {
    let methods = [
        Method::Allocate,
        Method::Refresh,
        Method::CreatePermission,
        Method::ChannelBind,
    ];
    let (method, mut rest) = part.split_first().unwrap_or((&0, &[]));
    let id = TransactionId::new([*method; 12]);
    let mut writer = Writer::new(Class::Request, methods[usize::from(method % 4)], id);
    while let Some((&[high, low, length], after)) = rest.split_first_chunk() {
        let (value, after) = after.split_at(usize::from(length).min(after.len()));
        writer.put(u16::from_be_bytes([high, low]), value);
        rest = after;
    }
    let number = method / 4;
    let member = AgentId::from_bytes([number; 32]);
    let (secret, until) = (
        RelaySecret::new(b"fuzz"),
        now.unix + Duration::from_secs(60),
    );
    let (user, password) = match since {
        Since::Always => secret.issue(&member, until),
        Since::Removal => secret.issue_marked(&member, Mark::new(number.into()), until),
    };
    writer
        .put(kind::USERNAME, user.as_bytes())
        .put(kind::REALM, b"waymesh")
        .put(kind::NONCE, nonce);
    let key = Key::new(&user, "waymesh", password.reveal(), PasswordAlgorithm::Md5);
    writer.sign(&key, Integrity::Sha1).finish()
}

fn server_config() -> ServerConfig {
    ServerConfig {
        realm: "waymesh".into(),
        secret: RelaySecret::new(b"fuzz"),
        policy: PeerPolicy::default(),
        limits: Limits {
            allocations: 2,
            channels: 2,
            permissions: 2,
            strangers_burst: u32::MAX,
            ..Limits::default()
        },
        alternate: None,
        seed: [1; 32],
    }
}

fn server_ends(via: ServerVia) -> Ends {
    Ends {
        via,
        local: SocketAddr::from(([192, 0, 2, 1], 3_478)),
        remote: SocketAddr::from(([198, 51, 100, 1], 1_000)),
    }
}

/// A stream of STUN and ChannelData; the first byte says in which steps it arrives.
pub fn turn_framing(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else {
        return;
    };
    let whole = frames(stream, stream.len());
    assert_eq!(frames(stream, usize::from(*step) + 1), whole);
    for frame in whole.iter().flatten() {
        if let Some(read) = ChannelData::parse(frame) {
            assert_eq!(read.data.len() + CHANNEL_HEADER_BYTES, frame.len());
        }
        if let Ok(message) = Message::parse(frame) {
            assert_eq!(message.bytes(), frame);
        }
    }
}

/// Everything that a stream holds when it arrives `step` bytes at a time.
fn frames(stream: &[u8], step: usize) -> Vec<Option<Vec<u8>>> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for part in stream.chunks(step.max(1)) {
        decoder.extend(part);
        loop {
            match decoder.poll() {
                Ok(Some(frame)) => seen.push(Some(frame.to_vec())),
                Ok(None) => break,
                Err(_) => {
                    seen.push(None);
                    return seen;
                }
            }
        }
    }
    seen
}
