//! Joining by a pairing code, where nobody has told the node which TLS key is
//! the registry's.

mod support;

use support::{House, PATIENCE, mesh_key, now_ms, order};
use tokio::time::timeout;
use waymesh_net::control::{
    Carrier, CarrierChoice, ControlSocket, Message, ProxyEnvironment, Received, Target, TlsTrust,
};
use waymesh_proto::control::{Challenge, ClientMessage, Join, ServerMessage};
use waymesh_proto::{Code, Fault};
use waymesh_registry::Tls;
use waymesh_registry::admin::{Order, Reply};
use waymesh_trust::join;

/// A node's end of a connection that trusts on first use.
struct Node(ControlSocket);

impl Node {
    async fn connect(house: &House) -> Self {
        let trust = TlsTrust::default().with_first_use();
        let url = house.registry.url().clone();
        let target = Target::new(url, &trust, &ProxyEnvironment::default());
        let choice = CarrierChoice::Only(Carrier::WebSocket);
        let socket = ControlSocket::connect(&target.expect("a target"), choice, PATIENCE).await;
        Self(socket.expect("a connection"))
    }

    async fn next(&mut self) -> ServerMessage {
        loop {
            let received = timeout(PATIENCE, self.0.receive()).await;
            match received.expect("a message").expect("a connection") {
                Received::Alive => {}
                Received::Text(text) => {
                    return ServerMessage::decode(text.as_bytes()).expect("a message");
                }
                Received::Binary(bytes) => panic!("{bytes:?}"),
            }
        }
    }

    async fn challenge(&mut self) -> Challenge {
        match self.next().await {
            ServerMessage::Challenge(challenge) => challenge,
            other => panic!("{other:?}"),
        }
    }
}

/// Asks to join with a new pairing code, as somebody who was shown this TLS key.
async fn ask(house: &House, tls_key: Option<[u8; 32]>) -> Result<(), Fault> {
    let made = order(&house.data_dir(), Order::PairingCode { ttl_ms: 60_000 }).await;
    let Ok(Reply::PairingCode { code }) = made else {
        panic!("{made:?}")
    };
    let mut node = Node::connect(house).await;
    assert_eq!(node.0.first_use_key(), house.registry.tls_pin());
    let bob = house.member("bob", 2);
    let ask = join::Ask {
        name: bob.name.clone(),
        agent_id: bob.agent_id(),
        rotations: Vec::new(),
        mesh: mesh_key(),
        registry: house.registry.key(),
        nonce: node.challenge().await.nonce,
        tls_key,
    };
    let join = Join {
        request: join::request(&bob.keypair, &ask, None, now_ms()).expect("a request"),
        code: Some(code),
        invite: None,
    };
    let text = Message::Text(ClientMessage::Join(join).encode());
    node.0.send(text, PATIENCE).await.expect("a connection");
    match node.next().await {
        ServerMessage::Pending { .. } => Ok(()),
        ServerMessage::Error { error } => Err(error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_was_shown_another_tls_key_than_the_registrys_is_warned_of_who_stands_between() {
    let house = House::with_tls(Some(Tls::SelfSigned)).await;
    let fault = ask(&house, Some([1; 32])).await.expect_err("a warning");
    assert_eq!(fault.code, Code::UntrustedTls);
    let hint = fault.hint.expect("a hint");
    assert!(hint.contains("stands between"), "{hint}");
    let waiting = order(&house.data_dir(), Order::Pending).await;
    assert_eq!(waiting.expect("a list"), Reply::Pending { joins: vec![] });
    let own = house.registry.tls_pin();
    assert_eq!(ask(&house, own).await, Ok(()));
    house.registry.stop().await;
}

#[tokio::test]
async fn a_registry_for_which_another_program_speaks_tls_has_nothing_to_compare() {
    let house = House::start().await;
    assert_eq!(ask(&house, Some([1; 32])).await, Ok(()));
    house.registry.stop().await;
}
