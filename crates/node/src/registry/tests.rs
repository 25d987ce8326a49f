//! Links to a real registry on loopback, and to others that only pretend.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::{CONTROL_VERSION, Challenge, Nonce, RegistryKey, ServerMessage};
use waymesh_proto::signaling::Signal;
use waymesh_proto::{AgentId, MessageId, SessionId};
use waymesh_registry::{Registry, RegistryConfig};

use super::*;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn registry(dir: &TempDir, listen: SocketAddr) -> Registry {
    let data_dir = dir.path().join("data");
    let config = RegistryConfig {
        listen,
        data_dir,
        public_url: None,
    };
    Registry::start(config).await.expect("a registry")
}

async fn fresh() -> (TempDir, Registry) {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, SocketAddr::from(([127, 0, 0, 1], 0))).await;
    (dir, registry)
}

fn config(url: &str, name: &str, key: u8, incarnation: u64) -> LinkConfig {
    LinkConfig {
        url: url.into(),
        keypair: Keypair::from_seed(&[key; 32]),
        name: name.parse().expect("a name"),
        incarnation: Incarnation::new(incarnation),
        pinned: None,
    }
}

fn open(url: &str, name: &str, key: u8) -> RegistryLink {
    spawn(config(url, name, key, 1)).expect("a link")
}

/// Waits for the news that the test is after; the rest is passed over.
async fn until<T>(link: &mut RegistryLink, mut wanted: impl FnMut(News) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = link.wait().await.and_then(&mut wanted) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("news in time")
}

async fn connected(link: &mut RegistryLink) {
    until(link, |news| {
        (news == News::Event(RegistryEvent::Connected)).then_some(())
    })
    .await;
}

async fn fatal(link: &mut RegistryLink) -> Code {
    until(link, |news| match news {
        News::Fatal(fault) => Some(fault.code),
        _ => None,
    })
    .await
}

fn tell(link: &mut RegistryLink, command: RegistryCommand) {
    link.place().expect("room").send(command);
}

fn id(key: u8) -> AgentId {
    Keypair::from_seed(&[key; 32]).agent_id()
}

fn signal_to(to: u8, signal: Signal) -> RegistryCommand {
    RegistryCommand::Signal {
        to: id(to),
        to_incarnation: Incarnation::new(1),
        session: SessionId::from_bytes([5; 16]),
        seq: 0,
        signal,
    }
}

fn resolve(name: &str) -> RegistryCommand {
    RegistryCommand::Resolve {
        name: name.parse().expect("a name"),
    }
}

#[tokio::test]
async fn the_registry_is_remembered_at_the_first_login_only() {
    let (_dir, registry) = fresh().await;
    let mut first = open(registry.url(), "alice", 1);
    let pin = until(&mut first, |news| match news {
        News::Pinned(pin) => Some(pin),
        _ => None,
    })
    .await;
    assert_eq!((pin.registry, pin.mesh), (registry.key(), registry.mesh()));
    first.close().await;
    let mut again = config(registry.url(), "alice", 1, 2);
    again.pinned = Some(pin);
    let mut again = spawn(again).expect("a link");
    let next = until(&mut again, Some).await;
    assert_eq!(next, News::Event(RegistryEvent::Connected));
}

#[tokio::test]
async fn an_offer_and_its_answer_find_their_way_signed_and_bound_to_each_other() {
    let (_dir, registry) = fresh().await;
    let (mut alice, mut bob) = (
        open(registry.url(), "alice", 1),
        open(registry.url(), "bob", 2),
    );
    connected(&mut alice).await;
    connected(&mut bob).await;
    let sdp = "v=0".to_owned();
    tell(&mut alice, signal_to(2, Signal::Offer { sdp: sdp.clone() }));
    let received = |news| match news {
        News::Event(RegistryEvent::Signal { from_name, body }) => Some((from_name, body)),
        _ => None,
    };
    let (from_name, body) = until(&mut bob, received).await;
    assert_eq!((from_name.as_str(), body.from), ("alice", id(1)));
    assert_eq!(body.signal, Signal::Offer { sdp: sdp.clone() });
    let offer_hash = String::new();
    tell(
        &mut bob,
        signal_to(
            1,
            Signal::Answer {
                sdp: sdp.clone(),
                offer_hash,
            },
        ),
    );
    let (_, body) = until(&mut alice, received).await;
    let offer_hash = waymesh_trust::signal::offer_hash(&sdp);
    assert_eq!(body.signal, Signal::Answer { sdp, offer_hash });
    assert_eq!(alice.counters().signals_unasked, 0);
}

#[tokio::test]
async fn a_signal_to_nobody_and_a_name_of_nobody_are_reported() {
    let (_dir, registry) = fresh().await;
    let mut alice = open(registry.url(), "alice", 1);
    connected(&mut alice).await;
    tell(
        &mut alice,
        signal_to(9, Signal::Offer { sdp: String::new() }),
    );
    tell(&mut alice, resolve("nobody"));
    let to = until(&mut alice, |news| match news {
        News::Event(RegistryEvent::Undeliverable { to, .. }) => Some(to),
        _ => None,
    })
    .await;
    assert_eq!(to, id(9));
    let name = until(&mut alice, |news| match news {
        News::Event(RegistryEvent::Unknown { name }) => Some(name),
        _ => None,
    })
    .await;
    assert_eq!(name.as_str(), "nobody");
}

#[tokio::test]
async fn presence_and_skills_of_a_peer_are_reported_as_they_change() {
    let (_dir, registry) = fresh().await;
    let mut alice = open(registry.url(), "alice", 1);
    connected(&mut alice).await;
    tell(&mut alice, resolve("bob"));
    let mut bob = open(registry.url(), "bob", 2);
    connected(&mut bob).await;
    let spec = SkillSpec {
        name: "echo".parse().expect("a skill name"),
        description: None,
        schema: None,
        idempotent: false,
    };
    tell(&mut bob, RegistryCommand::Skills(vec![spec]));
    let record = |online: bool, skills: usize| {
        move |news| match news {
            News::Event(RegistryEvent::Record(record)) => {
                (record.online == online && record.skills.len() == skills).then_some(())
            }
            _ => None,
        }
    };
    until(&mut alice, record(true, 1)).await;
    bob.close().await;
    until(&mut alice, record(false, 1)).await;
}

#[tokio::test]
async fn a_find_is_answered_by_the_registry_and_by_its_absence() {
    let (_dir, registry) = fresh().await;
    let mut alice = open(registry.url(), "alice", 1);
    connected(&mut alice).await;
    let find = |n: u8| RegistryCommand::Find {
        id: MessageId::from_bytes([n; 16]),
        name: None,
        skill: None,
    };
    let found = |news| match news {
        News::Event(RegistryEvent::Found { outcome, .. }) => Some(outcome),
        _ => None,
    };
    tell(&mut alice, find(1));
    let agents = until(&mut alice, found).await.expect("agents");
    assert_eq!(agents.len(), 1);
    registry.stop().await;
    until(&mut alice, |news| {
        (news == News::Event(RegistryEvent::Disconnected)).then_some(())
    })
    .await;
    tell(&mut alice, find(2));
    let fault = until(&mut alice, found).await.expect_err("no registry");
    assert_eq!(fault.code, Code::RegistryUnreachable);
}

#[tokio::test]
async fn a_link_that_starts_before_its_registry_logs_in_when_that_comes_and_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let reserved = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = reserved.local_addr().expect("an address");
    drop(reserved);
    let mut alice = open(&format!("http://{addr}"), "alice", 1);
    for _ in 0..3 {
        let registry = registry(&dir, addr).await;
        connected(&mut alice).await;
        registry.stop().await;
    }
    assert!(alice.counters().logins >= 3);
    alice.close().await;
}

#[tokio::test]
async fn refusals_that_no_retry_helps_end_the_link_with_their_code() {
    let (_dir, registry) = fresh().await;
    let mut alice = open(registry.url(), "alice", 1);
    connected(&mut alice).await;
    assert_eq!(
        fatal(&mut open(registry.url(), "alice", 2)).await,
        Code::NameTaken
    );
    let mut copy = open(registry.url(), "alice", 1);
    assert_eq!(fatal(&mut copy).await, Code::IdentityInUse);
    let mut newer = spawn(config(registry.url(), "alice", 1, 2)).expect("a link");
    connected(&mut newer).await;
    assert_eq!(fatal(&mut alice).await, Code::IdentityInUse);
    alice.close().await;
}

#[tokio::test]
async fn a_node_does_not_follow_another_registry_at_the_same_url() {
    let (_dir, registry) = fresh().await;
    let (_other_dir, other) = fresh().await;
    let pin = Pin {
        registry: registry.key(),
        mesh: registry.mesh(),
    };
    let mut changed = config(other.url(), "alice", 1, 1);
    changed.pinned = Some(pin);
    let mut changed = spawn(changed).expect("a link");
    assert_eq!(fatal(&mut changed).await, Code::RegistryIdentityChanged);
    let mut moved = config(registry.url(), "alice", 1, 1);
    moved.pinned = Some(Pin {
        mesh: other.mesh(),
        ..pin
    });
    let mut moved = spawn(moved).expect("a link");
    assert_eq!(fatal(&mut moved).await, Code::WrongRegistry);
}

/// A stranger on the registry's port, who knows what everybody can know of the registry.
struct Stranger {
    listener: TcpListener,
    challenge: Challenge,
}

impl Stranger {
    async fn in_place_of(registry: Registry) -> Self {
        let challenge = Challenge {
            version: CONTROL_VERSION,
            mesh: registry.mesh(),
            registry: registry.key(),
            nonce: Nonce::from_bytes([7; 32]),
        };
        let addr = registry.local_addr();
        registry.stop().await;
        let listener = TcpListener::bind(addr).await.expect("the registry's port");
        Self {
            listener,
            challenge,
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

    /// Refuses the login without having proved anything.
    async fn refuse(&self, code: Code) {
        let challenge = ServerMessage::Challenge(self.challenge.clone());
        let error = Fault::new(code, "so says a stranger");
        self.say(&[challenge, ServerMessage::Error { error }]).await;
    }
}

#[tokio::test]
async fn a_stranger_on_the_registrys_port_cannot_end_a_link() {
    let (dir, registry) = fresh().await;
    let addr = registry.local_addr();
    let mut alice = open(registry.url(), "alice", 1);
    connected(&mut alice).await;
    let mut stranger = Stranger::in_place_of(registry).await;
    for code in [Code::IdentityInUse, Code::NameTaken, Code::WrongRegistry] {
        stranger.refuse(code).await;
    }
    let known = stranger.challenge.registry;
    stranger.challenge.registry = RegistryKey::from_bytes([8; 32]);
    assert_ne!(stranger.challenge.registry, known);
    let other = ServerMessage::Challenge(stranger.challenge.clone());
    stranger.say(&[other]).await;
    drop(stranger);
    let registry = self::registry(&dir, addr).await;
    until(&mut alice, |news| match news {
        News::Event(RegistryEvent::Connected) => Some(()),
        News::Fatal(fault) => panic!("a stranger ended the link: {fault}"),
        _ => None,
    })
    .await;
    alice.close().await;
    registry.stop().await;
}

#[tokio::test]
async fn a_stranger_cannot_refuse_a_node_that_has_a_pin_from_an_earlier_life() {
    let (dir, registry) = fresh().await;
    let addr = registry.local_addr();
    let mut settings = config(registry.url(), "alice", 1, 1);
    settings.pinned = Some(Pin {
        registry: registry.key(),
        mesh: registry.mesh(),
    });
    let stranger = Stranger::in_place_of(registry).await;
    let mut alice = spawn(settings).expect("a link");
    stranger.refuse(Code::IdentityInUse).await;
    stranger.refuse(Code::NameTaken).await;
    drop(stranger);
    let registry = self::registry(&dir, addr).await;
    connected(&mut alice).await;
    alice.close().await;
    registry.stop().await;
}

#[tokio::test]
async fn a_url_that_is_none_or_needs_tls_is_refused_at_once() {
    for (url, code) in [
        ("127.0.0.1:4455", Code::Usage),
        ("https://mesh.example", Code::NotSupportedYet),
    ] {
        let error = spawn(config(url, "alice", 1, 1)).expect_err("refused");
        assert_eq!(error.code, code, "{url}");
    }
}

#[tokio::test]
async fn a_full_queue_of_commands_says_when_there_is_room_again() {
    let (_dir, registry) = fresh().await;
    let mut alice = open(registry.url(), "alice", 1);
    connected(&mut alice).await;
    for _ in 0..2 * DRIVER_TO_LINK_CAP {
        while alice.place().is_none() {
            timeout(PATIENCE, alice.wait()).await.expect("room in time");
        }
        tell(&mut alice, RegistryCommand::WatchAll);
    }
    alice.close().await;
}
