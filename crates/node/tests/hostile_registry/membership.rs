//! Lies about who still belongs to the mesh, and what is hidden of it.

use waymesh_node::{Condition, Node, Topology, rotate_identity};
use waymesh_proto::Code;
use waymesh_proto::api::PeerState;
use waymesh_proto::control::ServerMessage;
use waymesh_proto::envelope::Payload;
use waymesh_trust::revocation::{Target, revoke};

use crate::forge;
use crate::registry::{Hostile, Malice, registry_keypair, unix_ms};
use crate::scene::{
    Host, PATIENCE, Scene, alice, answered, config, eventually, mesh, name, scene, whoami,
};

cases! {
    it_revokes_bob_itself => answered(
        Topology::OnDemand,
        Malice::none().greeting(|house, _| {
            let bob = house.record("bob").expect("bob came first").agent.agent_id;
            let forged = revoke(&registry_keypair(), Target::Member(bob), unix_ms());
            vec![ServerMessage::Revoked { revocations: vec![forged] }]
        }),
        alice,
        |metrics| metrics.registry.revocations_forged,
    );
    it_revokes_alice_itself => answered(
        Topology::OnDemand,
        Malice::none().greeting(|_, member| {
            let forged = revoke(&registry_keypair(), Target::Member(member), unix_ms());
            vec![ServerMessage::Revoked { revocations: vec![forged] }]
        }),
        alice,
        |metrics| metrics.registry.revocations_forged,
    );
    it_hides_a_revocation_that_a_peer_knows => hidden_revocation();
    it_keeps_the_record_of_who_was_revoked => revoked_record();
    it_lets_a_revoked_member_write => revoked_letter();
    it_extends_the_own_certificate_past_its_renewal => answered(
        Topology::OnDemand,
        Malice::none().greeting(|house, member| {
            let record = house.directory.values().find(|r| r.agent.agent_id == member);
            let verified = forge::verified(record.expect("who has logged in"));
            let until_ms = verified.renew_until_ms + 3_600_000;
            vec![ServerMessage::Extended { extension: forge::extension(&verified, until_ms) }]
        }),
        alice,
        |metrics| metrics.registry.extensions_refused,
    );
    it_extends_the_own_certificate_with_that_of_another => answered(
        Topology::OnDemand,
        Malice::none().greeting(|house, _| {
            let bob = forge::verified(house.record("bob").expect("bob came first"));
            let until_ms = bob.expires_ms + 3_600_000;
            vec![ServerMessage::Extended { extension: forge::extension(&bob, until_ms) }]
        }),
        alice,
        |metrics| metrics.registry.extensions_refused,
    );
    it_shows_the_key_that_bob_had_before => old_key();
    it_repeats_the_login => repeated_login();
    it_refuses_without_proof_who_has_logged_in => bare_refusals();
    it_says_what_no_version_knows => answered(
        Topology::OnDemand,
        Malice::none().greeting(|_, _| Vec::new()).record(|house, record| {
            for member in house.directory.values() {
                let text = r#"{"type":"from_the_future"}"#.to_owned();
                house.give(member.agent.agent_id, text.into());
            }
            vec![record]
        }),
        alice,
        |metrics| metrics.registry.messages_unknown,
    );
}

fn revocation_of(host: &Host) -> ServerMessage {
    let revocation = revoke(&mesh(), Target::Member(host.id()), unix_ms());
    ServerMessage::Revoked {
        revocations: vec![revocation],
    }
}

impl Scene {
    async fn call_mallory(&self) -> Result<(), waymesh_proto::Fault> {
        let (to, payload) = (name("mallory"), Payload::json("1"));
        let answer = self
            .alice
            .agent
            .call(&to, &whoami(), payload, PATIENCE)
            .await;
        answer.map(drop)
    }
}

/// What it says against alice costs her its connection for a while, and no
/// link; that she has a twin is for it alone to know.
async fn bare_refusals() {
    let mut scene = scene(Topology::OnDemand, Malice::none()).await;
    let to_bob = name("bob");
    let linked = scene.alice.agent.connect(&to_bob, PATIENCE).await;
    linked.expect("a link");
    let alice = scene.alice.id();
    let say = |scene: &Scene, code| {
        let error = waymesh_proto::Fault::new(code, "so says the registry");
        let error = ServerMessage::Error { error };
        scene.registry.with(|house| house.tell(alice, &error));
    };
    let codes = [
        Code::Revoked,
        Code::BadCertificate,
        Code::CertificateExpired,
        Code::NameTaken,
    ];
    for (said, code) in (1..).zip(codes) {
        let logins = scene.alice.metrics().registry.logins;
        say(&scene, code);
        eventually(|| scene.alice.metrics().registry.failed_attempts >= said).await;
        let peers = scene.alice.agent.peers().await.expect("peers");
        let bob = peers.iter().find(|peer| peer.agent == to_bob);
        assert_eq!(bob.expect("bob").state, PeerState::Linked);
        eventually(|| scene.alice.metrics().registry.logins > logins).await;
        scene.call(PATIENCE).await.expect("bob's answer");
    }
    scene.check();
    say(&scene, Code::IdentityInUse);
    let stopped = tokio::time::timeout(PATIENCE, scene.alice.node.stopped());
    let fault = stopped.await.expect("in time").expect("a reason");
    assert_eq!(fault.code, Code::IdentityInUse);
}

/// Bob knows that mallory was revoked and says it over his link to alice.
async fn hidden_revocation() {
    let scene = scene(Topology::OnDemand, Malice::none()).await;
    scene
        .alice
        .agent
        .connect(&name("bob"), PATIENCE)
        .await
        .expect("a link");
    let (bob, revoked) = (scene.bob.id(), revocation_of(&scene.mallory));
    scene.registry.with(|house| house.tell(bob, &revoked));
    let refused = async {
        loop {
            if let Err(fault) = scene.call_mallory().await {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("in time");
    assert_eq!(fault.code, Code::Revoked, "{fault}");
}

/// Alice was told, in another life, and asks for mallory now.
async fn revoked_record() {
    let mut scene = scene(Topology::OnDemand, Malice::none()).await;
    let (alice, revoked) = (scene.alice.id(), revocation_of(&scene.mallory));
    scene.registry.with(|house| house.tell(alice, &revoked));
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.alice = restarted(scene.alice, &scene.registry).await;
    let fault = scene.call_mallory().await.expect_err("revoked");
    assert_eq!(fault.code, Code::Revoked, "{fault}");
    scene.check();
}

async fn revoked_letter() {
    let mut scene = scene(Topology::MailboxOnly, Malice::none()).await;
    let mut inbox = scene.alice.agent.inbox().await.expect("the inbox");
    let (alice, revoked) = (scene.alice.id(), revocation_of(&scene.mallory));
    scene.registry.with(|house| house.tell(alice, &revoked));
    let (to, payload) = (name("alice"), Payload::json("1"));
    let sent = scene
        .mallory
        .agent
        .send(&to, payload, Default::default())
        .await;
    sent.expect("it is queued");
    scene
        .alice
        .until(|metrics| metrics.registry.items_refused)
        .await;
    use futures_util::FutureExt;
    assert!(inbox.next().now_or_never().is_none());
    scene.check();
}

/// Stops a node and starts it again from its directory.
async fn restarted(host: Host, registry: &Hostile) -> Host {
    let Host { node, agent, dir } = host;
    drop(agent);
    node.stop().await;
    let who = registry.with(|house| {
        let mut names = house.directory.keys();
        names.next().expect("somebody").clone()
    });
    let mut again = config(who.as_str(), registry, &dir);
    again.name = waymesh_node::Home::peek_membership(dir.path())
        .expect("a directory")
        .expect("a member")
        .name;
    let mut node = Node::start(again).await.expect("the node again");
    node.registered().await.expect("a login");
    let agent = node.agent();
    Host { node, agent, dir }
}

/// Bob has changed his key, and alice has seen it. Whoever has the old one can
/// no longer be bob for her, in her next life either.
async fn old_key() {
    let mut scene = scene(Topology::OnDemand, Malice::none()).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    let old = scene
        .registry
        .with(|house| house.record("bob").expect("bob").clone());
    let Host { node, agent, dir } = scene.bob;
    drop(agent);
    node.stop().await;
    let rotated = rotate_identity(dir.path()).expect("another key");
    assert_eq!(rotated.agent_id, old.agent.agent_id);
    let mut node = Node::start(config("bob", &scene.registry, &dir))
        .await
        .expect("bob again");
    node.registered().await.expect("a login");
    let agent = node.agent();
    scene.bob = Host { node, agent, dir };
    scene
        .alice
        .agent
        .connect(&name("bob"), PATIENCE)
        .await
        .expect("still bob");
    scene.alice = restarted(scene.alice, &scene.registry).await;
    scene
        .registry
        .with(|house| house.directory.insert(name("bob"), old));
    let fault = scene.call(PATIENCE).await.expect_err("not bob's key");
    // Bob himself may have written to alice meanwhile, with the key that he has
    // now: then the call reached him, and this life of his has no skill.
    let expected = [Code::IdentityChanged, Code::UnknownSkill];
    assert!(expected.contains(&fault.code), "{fault}");
    scene.check();
}

/// In the middle of a session it challenges again: the node leaves and comes back.
async fn repeated_login() {
    let mut scene = scene(Topology::OnDemand, Malice::none()).await;
    let alice = scene.alice.id();
    scene.registry.with(|house| {
        let request = "abc".parse().expect("a request id");
        house.tell(alice, &ServerMessage::Pending { request });
    });
    scene
        .alice
        .until(|metrics| metrics.registry.failed_attempts)
        .await;
    scene.call(PATIENCE).await.expect("bob's answer");
    let condition = scene.alice.node.condition().borrow().clone();
    assert_eq!(condition, Condition::Registered);
    scene.check();
}
