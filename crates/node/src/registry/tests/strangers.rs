//! Whoever listens where the registry should be.

use std::sync::Mutex;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use waymesh_proto::control::{CONTROL_VERSION, Challenge, Nonce, RegistryKey, ServerMessage};
use waymesh_registry::Tls;

use super::seat::{any_port, grant, invite, mesh, registry_with};
use super::*;

/// A stranger on the registry's port, who knows what everybody can know of the registry.
struct Stranger {
    listener: TcpListener,
    challenge: Mutex<Challenge>,
}

impl Stranger {
    async fn in_place_of(registry: Registry) -> Self {
        let challenge = Challenge {
            version: CONTROL_VERSION,
            mesh: mesh().mesh_key(),
            registry: registry.key(),
            nonce: Nonce::from_bytes([7; 32]),
        };
        let addr = registry.local_addr();
        registry.stop().await;
        let listener = TcpListener::bind(addr).await.expect("the registry's port");
        Self {
            listener,
            challenge: Mutex::new(challenge),
        }
    }

    /// Waits for the node and says this to it.
    async fn say(&self, messages: &[ServerMessage]) {
        let said = async {
            let (stream, _) = self.listener.accept().await.expect("a node");
            let mut ws = accept_async(stream).await.expect("a handshake");
            for message in messages {
                let text = Message::Text(message.encode().into());
                ws.send(text).await.expect("a node that listens");
            }
            while let Some(Ok(_)) = ws.next().await {}
        };
        timeout(PATIENCE, said).await.expect("the node comes back");
    }

    fn challenge(&self) -> ServerMessage {
        ServerMessage::Challenge(self.challenge.lock().expect("no panic").clone())
    }

    /// Refuses the login without having proved anything.
    async fn refuse(&self, code: Code) {
        let error = Fault::new(code, "so says a stranger");
        self.say(&[self.challenge(), ServerMessage::Error { error }])
            .await;
    }
}

#[tokio::test]
async fn a_stranger_on_the_registrys_port_cannot_end_a_link() {
    let (dir, registry) = fresh().await;
    let (addr, mut alice) = (registry.local_addr(), Seat::new("alice", &registry));
    let mut link = alice.open();
    connected(&mut link).await;
    let stranger = Stranger::in_place_of(registry).await;
    for code in [Code::IdentityInUse, Code::NameTaken, Code::WrongRegistry] {
        stranger.refuse(code).await;
    }
    stranger.challenge.lock().expect("no panic").registry = RegistryKey::from_bytes([8; 32]);
    stranger.say(&[stranger.challenge()]).await;
    drop(stranger);
    let registry = self::registry(&dir, addr).await;
    connected(&mut link).await;
    link.close().await;
    registry.stop().await;
}

#[tokio::test]
async fn a_stranger_cannot_refuse_a_member_of_an_earlier_life() {
    let (dir, registry) = fresh().await;
    let (addr, mut alice) = (registry.local_addr(), Seat::new("alice", &registry));
    connected(&mut alice.open()).await;
    let stranger = Stranger::in_place_of(registry).await;
    alice.incarnation += 1;
    let mut link = alice.open();
    stranger.refuse(Code::IdentityInUse).await;
    stranger.refuse(Code::Revoked).await;
    drop(stranger);
    let registry = self::registry(&dir, addr).await;
    connected(&mut link).await;
    link.close().await;
    registry.stop().await;
}

#[tokio::test]
async fn a_node_does_not_follow_another_registry_of_the_same_mesh() {
    let (_dir, registry) = fresh().await;
    let (_other_dir, other) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    alice.registry = Some(other.url().to_string());
    assert_eq!(
        fatal(&mut alice.open()).await,
        Code::RegistryIdentityChanged
    );
}

#[tokio::test]
async fn a_newcomer_is_told_of_a_tls_key_that_is_not_the_invites_and_a_member_waits_for_the_right_one()
 {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry_with(&dir, any_port(), Some(Tls::SelfSigned)).await;
    let pin = registry.tls_pin().expect("a self-signed key");
    let wrong = invite(&registry, &grant(&registry), Some([0; 32]));
    let mut stranger = Seat::with("alice", Some(wrong));
    assert_eq!(fatal(&mut stranger.open()).await, Code::UntrustedTls);
    let right = invite(&registry, &grant(&registry), Some(pin));
    let mut bob = Seat::with("bob", Some(right));
    connected(&mut bob.open()).await;
    let mut membership = bob.home.membership().expect("a home").expect("a member");
    membership.tls_pin = Some(crate::membership::TlsPin([0; 32]));
    bob.home.store_membership(&membership).expect("room");
    bob.incarnation += 1;
    let mut link = bob.open();
    let why = until(&mut link, |news| match news {
        News::Away(fault) => Some(fault.code),
        _ => None,
    });
    assert_eq!(why.await, Code::UntrustedTls);
}
