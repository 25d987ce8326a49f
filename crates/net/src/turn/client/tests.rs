//! A client and a server of the test's own words, one message at a time.

use std::net::IpAddr;

use waymesh_proto::ice::Credential;

use super::payloads::TO_SERVER_CAP;
use super::requests::{REQUESTED_UDP, REQUESTS_MAX};
use super::*;
use crate::turn::credential::{Integrity, Key, PasswordAlgorithm};
use crate::turn::message::{Method, TransactionId, Writer, code, kind};

mod peers;
mod refusals;

const SERVER: &str = "192.0.2.1:3478";
const RELAYED: &str = "192.0.2.1:50000";
const MAPPED: &str = "198.51.100.7:4000";
const PEER: &str = "203.0.113.9:9000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn user(name: &str) -> Credentials {
    Credentials {
        username: name.into(),
        credential: Credential::new("password".into()),
    }
}

fn key(name: &str) -> Key {
    Key::new(name, "realm", "password", PasswordAlgorithm::Md5)
}

fn config(via: Via) -> ClientConfig {
    ClientConfig {
        via,
        family: RelayFamily::V4,
        credentials: Some(user("alice")),
        earlier: None,
        remembered: None,
    }
}

/// A client, the time, and what it says.
struct Rig {
    client: Client,
    now: Instant,
}

impl Rig {
    fn new(config: ClientConfig) -> Self {
        let now = Instant::now();
        let client = Client::new(config, now, [7; 32]);
        Self { client, now }
    }

    fn datagrams() -> Self {
        let server = address(SERVER);
        Self::new(config(Via::Datagrams { server }))
    }

    /// With an allocation.
    fn allocated() -> Self {
        let mut rig = Self::datagrams();
        rig.allocate();
        rig
    }

    fn allocate(&mut self) {
        let first = self.take();
        self.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
        let second = self.take();
        self.answer(allocation(&second));
        assert_eq!(self.event(), Some(allocated_event()));
    }

    /// The one message that is to be sent.
    fn take(&mut self) -> Vec<u8> {
        let message = self.client.poll_transmit().expect("a message");
        assert_eq!(self.client.poll_transmit(), None);
        message
    }

    fn nothing(&mut self) {
        assert_eq!(self.client.poll_transmit(), None);
    }

    fn event(&mut self) -> Option<ClientEvent> {
        self.client.poll_event()
    }

    fn answer(&mut self, message: Vec<u8>) {
        let handled = self.client.handle_datagram(self.now, &message);
        assert_eq!(handled, Handled::Taken);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now);
    }

    /// Goes on to the next deadline.
    fn step(&mut self) {
        self.now = self
            .client
            .poll_timeout()
            .expect("a deadline")
            .max(self.now);
        self.client.handle_timeout(self.now);
    }

    fn send(&mut self, peer: &str, bytes: &[u8]) {
        self.client.send(self.now, address(peer), bytes);
    }
}

fn allocated_event() -> ClientEvent {
    ClientEvent::Allocated {
        relayed: address(RELAYED),
        mapped: Some(address(MAPPED)),
        lifetime: Duration::from_secs(600),
    }
}

fn parse(bytes: &[u8]) -> Message<'_> {
    Message::parse(bytes).expect("a message")
}

fn challenge(request: &[u8], code: u16, nonce: &str) -> Vec<u8> {
    let mut writer = Writer::error(&parse(request), code);
    writer.put(kind::REALM, b"realm");
    writer.put(kind::NONCE, nonce.as_bytes());
    writer.finish()
}

/// A success, signed for alice.
fn success(request: &[u8], fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::success(&parse(request));
    fill(&mut writer);
    writer.sign(&key("alice"), Integrity::Sha1).finish()
}

fn fill_allocation(writer: &mut Writer) {
    writer
        .put_xor_address(kind::XOR_RELAYED_ADDRESS, address(RELAYED))
        .put_xor_address(kind::XOR_MAPPED_ADDRESS, address(MAPPED))
        .put_number(kind::LIFETIME, 600);
}

fn allocation(request: &[u8]) -> Vec<u8> {
    success(request, fill_allocation)
}

fn refreshed(request: &[u8]) -> Vec<u8> {
    success(request, |writer| {
        writer.put_number(kind::LIFETIME, 600);
    })
}

/// A refusal, signed for alice.
fn refusal(request: &[u8], code: u16) -> Vec<u8> {
    let writer = Writer::error(&parse(request), code);
    writer.sign(&key("alice"), Integrity::Sha1).finish()
}

#[test]
fn an_allocation_is_asked_for_without_credentials_and_then_with_them() {
    let mut rig = Rig::datagrams();
    let first = rig.take();
    assert_eq!(parse(&first).method(), Some(Method::Allocate));
    assert_eq!(parse(&first).integrity(), None);
    let wanted = parse(&first).find(kind::REQUESTED_TRANSPORT);
    assert_eq!(wanted, Some(REQUESTED_UDP.as_slice()));
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    assert_eq!(parse(&second).text(kind::USERNAME), Some("alice"));
    assert_eq!(parse(&second).text(kind::NONCE), Some("nonce"));
    assert!(parse(&second).verify(&key("alice")));
    rig.answer(allocation(&second));
    assert_eq!(rig.event(), Some(allocated_event()));
    assert_eq!(rig.client.relayed(), Some(address(RELAYED)));
    rig.nothing();
}

#[test]
fn what_an_earlier_client_has_learnt_saves_a_round_trip() {
    let earlier = Rig::allocated();
    let mut config = config(Via::Stream);
    config.remembered = earlier.client.remembered();
    let mut rig = Rig::new(config);
    let first = rig.take();
    assert!(parse(&first).verify(&key("alice")));
    // It is too old: answered at once.
    rig.answer(challenge(&first, code::STALE_NONCE, "newer"));
    let second = rig.take();
    assert_eq!(parse(&second).text(kind::NONCE), Some("newer"));
    rig.answer(allocation(&second));
    assert_eq!(rig.event(), Some(allocated_event()));
}

#[test]
fn silence_is_told_in_less_than_5_s_and_the_request_was_repeated() {
    let mut rig = Rig::datagrams();
    let start = rig.now;
    let first = rig.take();
    let mut times = Vec::new();
    let failed = loop {
        rig.step();
        while let Some(message) = rig.client.poll_transmit() {
            assert_eq!(message, first);
            times.push((rig.now - start).as_millis());
        }
        if let Some(event) = rig.event() {
            break event;
        }
    };
    assert_eq!(times, [250, 750, 1_750, 2_750, 3_750]);
    let error = TurnError::Timeout(ANSWER_WITHIN);
    assert_eq!(failed, ClientEvent::Failed { error });
    assert!(rig.now - start < Duration::from_secs(5));
    assert!(rig.client.is_over());
    assert_eq!(rig.client.poll_timeout(), None);
}

#[test]
fn by_a_stream_nothing_is_repeated() {
    let mut rig = Rig::new(config(Via::Stream));
    rig.take();
    rig.wait(ANSWER_WITHIN - Duration::from_millis(1));
    rig.nothing();
    rig.wait(Duration::from_millis(1));
    let error = TurnError::Timeout(ANSWER_WITHIN);
    assert_eq!(rig.event(), Some(ClientEvent::Failed { error }));
}

#[test]
fn an_answer_without_a_right_signature_is_not_believed() {
    let mut rig = Rig::datagrams();
    let first = rig.take();
    rig.answer(challenge(&first, code::UNAUTHENTICATED, "nonce"));
    let second = rig.take();
    let mut forged = Writer::success(&parse(&second));
    fill_allocation(&mut forged);
    rig.answer(forged.clone().finish());
    rig.answer(forged.sign(&key("mallory"), Integrity::Sha1).finish());
    assert_eq!(rig.event(), None);
    assert_eq!(rig.client.counters().unverified, 2);
    rig.answer(allocation(&second));
    assert_eq!(rig.event(), Some(allocated_event()));
    // Once more: nothing is open any more.
    let again = rig.client.handle_datagram(rig.now, &allocation(&second));
    assert_eq!(again, Handled::NotMine);
    assert_eq!(rig.client.counters().unmatched, 1);
}

#[test]
fn the_allocation_is_refreshed_every_20_s() {
    let mut rig = Rig::allocated();
    for _ in 0..3 {
        rig.wait(REFRESH_EVERY - Duration::from_millis(1));
        rig.nothing();
        rig.wait(Duration::from_millis(1));
        let request = rig.take();
        assert_eq!(parse(&request).method(), Some(Method::Refresh));
        assert_eq!(parse(&request).number(kind::LIFETIME), None);
        rig.answer(refreshed(&request));
    }
    assert_eq!(rig.event(), None);
}

#[test]
fn a_server_that_falls_silent_is_given_up_within_34_s() {
    let mut rig = Rig::allocated();
    let start = rig.now;
    let lost = loop {
        rig.step();
        while rig.client.poll_transmit().is_some() {}
        if let Some(event) = rig.event() {
            break event;
        }
    };
    assert!(matches!(lost, ClientEvent::Lost { .. }), "{lost:?}");
    assert_eq!(rig.now - start, Duration::from_millis(33_500));
}

#[test]
fn a_refresh_that_is_lost_twice_loses_nothing() {
    let mut rig = Rig::allocated();
    rig.wait(REFRESH_EVERY);
    rig.take();
    rig.wait(ANSWER_WITHIN);
    rig.take();
    rig.wait(ANSWER_WITHIN);
    let third = rig.take();
    rig.answer(refreshed(&third));
    assert_eq!(rig.event(), None);
    assert_eq!(rig.client.relayed(), Some(address(RELAYED)));
}

#[test]
fn an_allocation_that_slept_past_its_end_is_lost() {
    let mut rig = Rig::allocated();
    rig.wait(Duration::from_secs(600));
    let error = TurnError::Expired;
    assert_eq!(rig.event(), Some(ClientEvent::Lost { error }));
}

#[test]
fn an_allocation_that_slept_not_past_its_end_is_asked_about_once() {
    let most = Duration::from_secs(570);
    for asleep_in_question in [Duration::ZERO, REFRESH_EVERY] {
        let mut rig = Rig::allocated();
        rig.wait(asleep_in_question);
        while rig.client.poll_transmit().is_some() {}
        rig.wait(most - asleep_in_question);
        let refresh = rig.take();
        assert!(rig.client.poll_timeout() > Some(rig.now));
        rig.answer(refreshed(&refresh));
        assert_eq!(rig.event(), None);
        rig.nothing();
    }
}

#[test]
fn a_closed_client_gives_its_allocation_back() {
    let mut rig = Rig::allocated();
    rig.client.close(rig.now);
    let request = rig.take();
    assert_eq!(parse(&request).method(), Some(Method::Refresh));
    assert_eq!(parse(&request).number(kind::LIFETIME), Some(0));
    assert!(!rig.client.is_over());
    rig.answer(refreshed(&request));
    assert!(rig.client.is_over());
    assert_eq!(rig.event(), None);
    rig.send(PEER, b"late");
    assert_eq!(rig.client.counters().dropped_unsendable, 1);
    assert_eq!(rig.client.poll_timeout(), None);
}

#[test]
fn new_credentials_are_used_from_the_next_request_on() {
    let mut rig = Rig::allocated();
    rig.client.set_credentials(user("bob"));
    rig.client.probe(rig.now);
    let request = rig.take();
    assert!(parse(&request).verify(&key("bob")));
    let mut answer = Writer::success(&parse(&request));
    answer.put_number(kind::LIFETIME, 600);
    rig.answer(answer.sign(&key("bob"), Integrity::Sha1).finish());
    assert_eq!(rig.event(), None);
}

#[test]
fn a_server_that_holds_to_the_first_name_is_given_it_again() {
    let mut rig = Rig::allocated();
    rig.client.set_credentials(user("bob"));
    rig.client.probe(rig.now);
    let request = rig.take();
    let refusal = Writer::error(&parse(&request), code::WRONG_CREDENTIALS);
    rig.answer(refusal.sign(&key("bob"), Integrity::Sha1).finish());
    let again = rig.take();
    assert!(parse(&again).verify(&key("alice")));
    // When those end, a new client will do: nobody has to be asked for others.
    let refusal = Writer::error(&parse(&again), code::UNAUTHENTICATED);
    rig.answer(refusal.sign(&key("alice"), Integrity::Sha1).finish());
    let lost = rig.event().expect("an event");
    assert!(matches!(lost, ClientEvent::Lost { .. }), "{lost:?}");
}

#[test]
fn a_nonce_of_any_bytes_is_given_back_as_it_came() {
    // The first one made another implementation panic.
    for nonce in ["obMatJos2ÄÖÜ€", "obMatJos2", "ÿ", ""] {
        let mut rig = Rig::datagrams();
        let first = rig.take();
        rig.answer(challenge(&first, code::UNAUTHENTICATED, nonce));
        let second = rig.take();
        assert_eq!(parse(&second).text(kind::NONCE), Some(nonce));
    }
}
