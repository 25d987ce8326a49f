//! Long-poll sessions: the whole way of a node that no WebSocket gets through.

mod support;

use std::sync::Arc;

use support::http::{Answer, ask, ask_with_key, nonce};
use support::member::proof_of_key;
use support::{House, Member, PATIENCE, Raw};
use tokio::time::timeout;
use waymesh_net::control::{
    Carrier, CarrierChoice, ControlSocket, Message, ProofRequest, ProxyEnvironment, Received,
    Target, TlsTrust,
};
use waymesh_proto::PollId;
use waymesh_proto::control::{ClientMessage, ServerMessage};
use waymesh_proto::poll::{PollMessage, PollOpened};
use waymesh_registry::{Registry, Tls};
use waymesh_trust::Keypair;

/// A node's own end of a session.
struct Node {
    socket: ControlSocket,
    member: Member,
}

impl Node {
    async fn connect(registry: &Registry, member: &Member) -> Self {
        let keypair = member.keypair.clone();
        let prove = move |request: ProofRequest<'_>| {
            proof_of_key(&keypair, request.method, request.url, request.nonce)
        };
        let trust = match registry.tls_pin() {
            Some(pin) => TlsTrust::default().with_pin(pin),
            None => TlsTrust::default(),
        };
        let target = Target::new(registry.url().clone(), &trust, &ProxyEnvironment::default());
        let target = target.expect("a target").with_prover(Arc::new(prove));
        let choice = CarrierChoice::Only(Carrier::Poll);
        let socket = ControlSocket::connect(&target, choice, PATIENCE).await;
        Self {
            socket: socket.expect("a session"),
            member: member.clone(),
        }
    }

    async fn log_in(registry: &Registry, member: &Member) -> Self {
        let mut node = Self::connect(registry, member).await;
        let challenge = match node.next().await {
            ServerMessage::Challenge(challenge) => challenge,
            other => panic!("{other:?}"),
        };
        let (login, pending) = node.member.login(registry.url(), &challenge, 1);
        node.say(&ClientMessage::Login(login)).await;
        match node.next().await {
            ServerMessage::Welcome(welcome) => pending.verify(&welcome).expect("a real registry"),
            other => panic!("{other:?}"),
        };
        node
    }

    /// Waits for a message that does not come, for as long as another agent is
    /// answered: then the registry knows that it waits.
    async fn waits(&mut self, other: &mut Raw) {
        tokio::select! {
            message = self.next() => panic!("{message:?}"),
            () = answered(other) => {}
        }
    }

    async fn say(&mut self, message: &ClientMessage) {
        let message = Message::Text(message.encode());
        self.socket
            .send(message, PATIENCE)
            .await
            .expect("a session");
    }

    async fn next(&mut self) -> ServerMessage {
        loop {
            let received = timeout(PATIENCE, self.socket.receive()).await;
            match received.expect("a message").expect("a session") {
                Received::Alive => {}
                Received::Text(text) => {
                    match ServerMessage::decode(text.as_bytes()).expect("a message") {
                        ServerMessage::Revoked { .. } | ServerMessage::Extended { .. } => {}
                        other => return other,
                    }
                }
                Received::Binary(bytes) => panic!("{bytes:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_node_logs_in_asks_and_is_asked_for_without_a_websocket() {
    for tls in [None, Some(Tls::SelfSigned)] {
        let house = House::with_tls(tls).await;
        let mut node = Node::log_in(&house.registry, &house.member("alice", 1)).await;
        let name = "nobody".parse().expect("a name");
        node.say(&ClientMessage::Resolve { name }).await;
        assert!(matches!(node.next().await, ServerMessage::Unknown { .. }));
        let name = "alice".parse().expect("a name");
        node.say(&ClientMessage::Resolve { name }).await;
        let found = node.next().await;
        assert!(
            matches!(&found, ServerMessage::Records { agents } if agents[0].agent.online),
            "{found:?}"
        );
        drop(node);
        house.registry.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_vanishes_is_seen_offline_at_once() {
    let house = House::start().await;
    let mut watcher = house.log_in("watcher", 1, 1).await;
    let mut node = Node::log_in(&house.registry, &house.member("alice", 2)).await;
    let name = "alice".parse().expect("a name");
    watcher.say(&ClientMessage::Resolve { name }).await;
    let online = watcher.next().await;
    assert!(matches!(online, ServerMessage::Records { agents } if agents[0].agent.online));
    // The node waits for messages, and goes away while it does.
    node.waits(&mut watcher).await;
    drop(node);
    let offline = watcher.next().await;
    assert!(matches!(offline, ServerMessage::Records { agents } if !agents[0].agent.online));
    house.registry.stop().await;
}

/// Asks the registry something and waits for the answer.
async fn answered(raw: &mut Raw) {
    let name = "nobody".parse().expect("a name");
    raw.say(&ClientMessage::Resolve { name }).await;
    assert!(matches!(raw.next().await, ServerMessage::Unknown { .. }));
}

fn key(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

async fn opened(house: &House, keypair: &Keypair) -> PollId {
    let answer = ask_with_key(house.addr(), keypair, ("POST", "/v1/poll"), "", &[]).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let opened: PollOpened = serde_json::from_slice(&answer.body).expect("a session");
    opened.session
}

async fn posted(house: &House, keypair: &Keypair, session: &str, body: &[u8]) -> Answer {
    let header = format!("waymesh-session: {session}\r\n");
    let path = ("POST", "/v1/poll/in");
    ask_with_key(house.addr(), keypair, path, &header, body).await
}

async fn fetched(house: &House, keypair: &Keypair, session: &str) -> Answer {
    let header = format!("waymesh-session: {session}\r\n");
    let path = ("GET", "/v1/poll/out");
    ask_with_key(house.addr(), keypair, path, &header, &[]).await
}

fn body(message: &ClientMessage) -> Vec<u8> {
    let mut body = Vec::new();
    PollMessage::Text(&message.encode()).put(&mut body);
    body
}

/// The control messages of an answer.
fn messages(answer: &Answer) -> Vec<ServerMessage> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let messages = PollMessage::all(&answer.body).expect("messages");
    let decode = |message| match message {
        PollMessage::Text(text) => ServerMessage::decode(text.as_bytes()).expect("a message"),
        PollMessage::Binary(bytes) => panic!("{bytes:?}"),
    };
    messages.into_iter().map(decode).collect()
}

#[tokio::test]
async fn a_stolen_session_id_is_worth_nothing_without_the_key() {
    let house = House::start().await;
    let (owner, thief) = (key(1), key(66));
    let session = opened(&house, &owner).await.to_string();
    let name = "nobody".parse().expect("a name");
    let message = body(&ClientMessage::Resolve { name });
    for answer in [
        fetched(&house, &thief, &session).await,
        posted(&house, &thief, &session, &message).await,
    ] {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "unauthorized")
        );
    }
    let header = format!("host: {}\r\nwaymesh-session: {session}\r\n", house.addr());
    let bare = ask(house.addr(), "GET /v1/poll/out", &header, &[]).await;
    assert_eq!((bare.status, bare.code().as_str()), (401, "unauthorized"));
    let challenge = messages(&fetched(&house, &owner, &session).await);
    assert!(matches!(challenge[..], [ServerMessage::Challenge(_)]));
}

#[tokio::test]
async fn a_request_that_was_overheard_cannot_be_sent_again() {
    let house = House::start().await;
    let (addr, owner) = (house.addr(), key(1));
    let session = opened(&house, &owner).await;
    let nonce = nonce(addr).await;
    let url = format!("http://{addr}/v1/poll/in");
    let proof = proof_of_key(&owner, "POST", &url, Some(&nonce));
    let headers = format!(
        "host: {addr}\r\ndpop: {proof}\r\nwaymesh-session: {session}\r\ncontent-length: 0\r\n"
    );
    let first = ask(addr, "POST /v1/poll/in", &headers, &[]).await;
    assert_eq!(first.status, 204);
    let again = ask(addr, "POST /v1/poll/in", &headers, &[]).await;
    assert_eq!((again.status, again.code().as_str()), (401, "replayed"));
}

#[tokio::test]
async fn only_the_key_of_a_session_may_log_in_on_it() {
    let house = House::start().await;
    let other = key(66);
    let session = opened(&house, &other).await.to_string();
    let challenge = messages(&fetched(&house, &other, &session).await);
    let [ServerMessage::Challenge(challenge)] = &challenge[..] else {
        panic!("{challenge:?}");
    };
    let alice = house.member("alice", 1);
    let (login, _) = alice.login(house.registry.url(), challenge, 1);
    let login = body(&ClientMessage::Login(login));
    assert_eq!(posted(&house, &other, &session, &login).await.status, 204);
    let refusal = messages(&fetched(&house, &other, &session).await);
    assert!(
        matches!(&refusal[..], [ServerMessage::Error { error }] if error.code.name() == "unauthorized"),
        "{refusal:?}"
    );
    let over = fetched(&house, &other, &session).await;
    assert_eq!((over.status, over.code().as_str()), (410, "unknown_id"));
}

#[tokio::test]
async fn mistakes_get_a_coded_error() {
    let house = House::start().await;
    let owner = key(1);
    for (session, status, code) in [
        ("", 400, "bad_request"),
        ("not an id", 400, "bad_request"),
        ("00000000000000000000000000000000", 410, "unknown_id"),
    ] {
        let answer = fetched(&house, &owner, session).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{session:?}"
        );
    }
    for (body, code) in [
        (&b"\x01\x00\x00\x00\x05ab"[..], "bad_request"),
        (b"\x07\x00\x00\x00\x00", "bad_request"),
        (b"\x01\x00\x00\x00\x01\xff", "not_utf8"),
        (b"{\"type\":\"resolve\"}", "bad_request"),
    ] {
        let session = opened(&house, &owner).await.to_string();
        let answer = posted(&house, &owner, &session, body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, code),
            "{body:?}"
        );
    }
}

#[tokio::test]
async fn nonsense_in_a_message_is_answered_as_on_a_websocket() {
    let house = House::start().await;
    let mut node = Node::log_in(&house.registry, &house.member("alice", 1)).await;
    for (text, code) in [
        ("{", "bad_request"),
        (r#"{"type":"dance"}"#, "unknown_verb"),
    ] {
        let message = Message::Text(text.into());
        node.socket
            .send(message, PATIENCE)
            .await
            .expect("a session");
        match node.next().await {
            ServerMessage::Error { error } => assert_eq!(error.code.name(), code),
            other => panic!("{other:?}"),
        }
    }
    let name = "nobody".parse().expect("a name");
    node.say(&ClientMessage::Resolve { name }).await;
    assert!(matches!(node.next().await, ServerMessage::Unknown { .. }));
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_too_large() {
    use waymesh_proto::poll::{POLL_BODY_MAX_BYTES, POLL_HEAD_BYTES};
    let house = House::start().await;
    let owner = key(1);
    for (more, status) in [(0, 204), (1, 413)] {
        let session = opened(&house, &owner).await.to_string();
        let largest = vec![0; POLL_BODY_MAX_BYTES - POLL_HEAD_BYTES + more];
        let mut body = Vec::new();
        PollMessage::Binary(&largest).put(&mut body);
        let answer = posted(&house, &owner, &session, &body).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_registry_that_stops_says_good_bye_to_a_node_that_polls() {
    let house = House::start().await;
    let mut other = house.log_in("other", 2, 1).await;
    let mut node = Node::log_in(&house.registry, &house.member("alice", 1)).await;
    node.waits(&mut other).await;
    drop(other);
    let ended = async {
        loop {
            if node.socket.receive().await.is_err() {
                break;
            }
        }
    };
    let (stopped, ended) = tokio::join!(
        timeout(PATIENCE, house.registry.stop()),
        timeout(PATIENCE, ended)
    );
    assert!(stopped.is_ok() && ended.is_ok());
}
