//! Targets of waymesh-net: what a TURN or STUN server may answer. Each takes
//! any bytes and must not panic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use waymesh_net::stun::binding::{Binding, Question};
use waymesh_net::turn::client::{Client, ClientConfig, ClientEvent, Credentials, RelayFamily, Via};
use waymesh_net::turn::credential::{Integrity, Key, PasswordAlgorithm};
use waymesh_net::turn::message::{Class, Message, Method, Writer};
use waymesh_proto::ice::Credential;

/// A target: its name, which is the folder of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[("turn_client", turn_client), ("stun_answer", stun_answer)];

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
        family: RelayFamily::V4,
        credentials: Some(credentials),
        remembered: None,
    };
    Client::new(config, now, [7; 32])
}

fn peer(part: &[u8]) -> SocketAddr {
    let last = part.first().copied().unwrap_or_default();
    SocketAddr::from(([203, 0, 113, last], 9))
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
