//! Lies about which registry it is, and about who may join.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use waymesh_node::{Condition, Invitation, Node, Topology};
use waymesh_proto::control::{Login, Nonce, RegistryKey, ServerMessage, Signature, Welcome};
use waymesh_proto::{Code, Fault};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::Cache;
use waymesh_trust::login::{Gate, WELCOME_LABEL};

use crate::forge;
use crate::registry::{Hostile, Malice, registry_keypair, unix_ms};
use crate::scene::{PATIENCE, config, eventually, host, invite, mesh};

cases! {
    it_says_that_it_serves_another_mesh => never_in(
        Malice::none().challenge(|mut challenge| {
            challenge.mesh = Keypair::from_seed(&[8; 32]).mesh_key();
            challenge
        }),
        Code::WrongRegistry,
    );
    it_shows_another_key_than_the_mesh_names => never_in(
        Malice::none().challenge(|mut challenge| {
            challenge.registry = RegistryKey::from_bytes([8; 32]);
            challenge
        }),
        Code::RegistryIdentityChanged,
    );
    it_welcomes_without_the_key_that_it_shows => unproved(Malice::none().welcome(|_| Welcome {
        sig: Signature::from_bytes([0; 64]),
    }));
    it_welcomes_another_login_than_this => unproved(Malice::none().welcome(|welcome| Welcome {
        sig: registry_keypair().sign(WELCOME_LABEL, welcome.sig.as_bytes()),
    }));
    it_passes_a_login_on_to_another_registry => passed_on();
    it_approves_a_join_with_a_certificate_of_its_own => not_admitted(
        |join| forge::minted("alice", joiner(join)),
        Code::BadCertificate,
    );
    it_approves_a_join_with_a_certificate_of_another_mesh => not_admitted(
        |join| {
            let other = Keypair::from_seed(&[8; 32]);
            forge::issued(&other, "alice", joiner(join), unix_ms())
        },
        Code::BadCertificate,
    );
    it_approves_a_join_under_another_name => not_admitted(
        |join| forge::issued(&mesh(), "mallory", joiner(join), unix_ms()),
        Code::BadCertificate,
    );
    it_approves_a_join_with_somebody_elses_certificate => not_admitted(
        |_| forge::issued(&mesh(), "alice", Keypair::from_seed(&[66; 32]).agent_id(), unix_ms()),
        Code::BadCertificate,
    );
    it_takes_a_join_for_another_mesh => join_elsewhere();
    it_changes_the_mesh_while_a_join_waits => join_moved();
    it_says_without_proof_that_a_member_was_revoked => refusal(Code::Revoked);
    it_says_without_proof_that_a_name_is_taken => refusal(Code::NameTaken);
    it_says_without_proof_that_a_member_is_there_already => refusal(Code::IdentityInUse);
}

fn joiner(join: &waymesh_proto::control::Join) -> waymesh_proto::AgentId {
    let request = waymesh_trust::join::verify(&join.request);
    request.expect("nodes talk sense").agent_id
}

/// A newcomer ends with a code.
async fn never_in(malice: Malice, code: Code) {
    let registry = Hostile::start(mesh().mesh_key(), malice).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(config("alice", &registry, &dir))
        .await
        .expect("a node");
    let fault = ends(&mut node).await;
    assert_eq!(fault.code, code, "{fault}");
}

async fn ends(node: &mut Node) -> Fault {
    let registered = tokio::time::timeout(PATIENCE, node.registered()).await;
    registered.expect("in time").expect_err("it may not get in")
}

/// A node is never registered, and says why.
async fn unproved(malice: Malice) {
    let registry = Hostile::start(mesh().mesh_key(), malice).await;
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(config("alice", &registry, &dir))
        .await
        .expect("a node");
    let fault = away(&node).await;
    assert_eq!(fault.code, Code::BadSignature, "{fault}");
    assert_eq!(node.metrics().registry.logins, 0);
}

/// Why the registry is away, as the node knows it.
async fn away(node: &Node) -> Fault {
    let mut condition = node.condition();
    let told = condition.wait_for(|c| matches!(c, Condition::Unregistered(Some(_))));
    let told = tokio::time::timeout(PATIENCE, told).await.expect("in time");
    match &*told.expect("the node lives") {
        Condition::Unregistered(Some(fault)) => fault.clone(),
        other => panic!("{other:?}"),
    }
}

/// It challenges with what an honest registry challenged it with, and brings
/// the node's login there: the node has signed where it really connected to.
async fn passed_on() {
    let nonce = Nonce::from_bytes([4; 32]);
    let stolen = Arc::<Mutex<Option<Login>>>::default();
    let spy = Arc::clone(&stolen);
    let malice = Malice::none()
        .challenge(move |mut challenge| {
            challenge.nonce = nonce;
            challenge
        })
        .login(move |login| *spy.lock().expect("no panic") = Some(login.clone()))
        .welcome(|_| Welcome {
            sig: Signature::from_bytes([0; 64]),
        });
    let registry = Hostile::start(mesh().mesh_key(), malice).await;
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(config("alice", &registry, &dir))
        .await
        .expect("a node");
    away(&node).await;
    let login = stolen.lock().expect("no panic").take().expect("a login");
    let origins = ["https://honest.example".parse().expect("an origin")];
    let honest = Gate {
        keypair: &registry_keypair(),
        mesh: mesh().mesh_key(),
        origins: &origins,
        nonce,
    };
    let refused = honest.verify(&login, unix_ms(), &mut Cache::default());
    assert_eq!(
        refused.expect_err("made elsewhere").code(),
        Code::WrongRegistry
    );
}

/// A joiner ends with a code, and is no member in its next life either.
async fn not_admitted(
    certificate: fn(&waymesh_proto::control::Join) -> waymesh_proto::membership::Certificate,
    code: Code,
) {
    let malice = Malice::none().join(move |join, _| {
        vec![ServerMessage::Approved {
            certificate: certificate(join),
        }]
    });
    let registry = Hostile::start(mesh().mesh_key(), malice).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config("alice", &registry, &dir);
    let key = registry_keypair().registry_key();
    config.invite = Some(invite(&registry.origin, key, false));
    let mut node = Node::start(config).await.expect("a node");
    let fault = ends(&mut node).await;
    assert_eq!(fault.code, code, "{fault}");
    let membership = waymesh_node::Home::peek_membership(dir.path());
    assert_eq!(membership.expect("a directory"), None);
}

async fn join_elsewhere() {
    let other = Keypair::from_seed(&[8; 32]).mesh_key();
    let registry = Hostile::start(other, Malice::none()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config("alice", &registry, &dir);
    let key = registry_keypair().registry_key();
    config.invite = Some(invite(&registry.origin, key, false));
    let mut node = Node::start(config).await.expect("a node");
    assert_eq!(ends(&mut node).await.code, Code::WrongRegistry);
}

/// With a pairing code the first mesh counts: the user has seen its fingerprint.
async fn join_moved() {
    let meshes = Mutex::new(vec![Keypair::from_seed(&[8; 32]).mesh_key()]);
    let malice = Malice::none()
        .challenge(move |mut challenge| {
            if let Some(first) = meshes.lock().expect("no panic").pop() {
                challenge.mesh = first;
            }
            challenge
        })
        .join(|_, _| {
            let request = "abc".parse().expect("a request id");
            let error = Fault::new(Code::RateLimited, "again, please");
            vec![
                ServerMessage::Pending { request },
                ServerMessage::Error { error },
            ]
        });
    let registry = Hostile::start(mesh().mesh_key(), malice).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config("alice", &registry, &dir);
    config.invite = Some("123456".parse::<Invitation>().expect("a code"));
    config.registry = Some(registry.origin.to_string());
    let mut node = Node::start(config).await.expect("a node");
    assert_eq!(ends(&mut node).await.code, Code::WrongRegistry);
}

/// Whoever listens on the registry's port can say anything before a welcome:
/// a member tries again until the right one is there.
async fn refusal(code: Code) {
    let honest = Hostile::start(mesh().mesh_key(), Malice::none()).await;
    let alice = host("alice", &honest, Topology::OnDemand).await;
    drop(alice.agent);
    alice.node.stop().await;
    let liar = Hostile::start(mesh().mesh_key(), Malice::none().refusal(code)).await;
    let mut config = config("alice", &liar, &alice.dir);
    config.registry = Some(liar.origin.to_string());
    let mut node = Node::start(config.clone()).await.expect("a node");
    assert_eq!(away(&node).await.code, code);
    eventually(|| node.metrics().registry.failed_attempts > 1).await;
    assert_eq!(node.stopped().now_or_never(), None);
    node.stop().await;
    config.registry = Some(honest.origin.to_string());
    let mut node = Node::start(config).await.expect("the node again");
    node.registered().await.expect("a login");
}
