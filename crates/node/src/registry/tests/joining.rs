//! How nodes become members, and how they stop being it.

use std::num::NonZeroU32;

use waymesh_proto::control::PairingCode;
use waymesh_proto::ids::InviteId;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_registry::Tls;
use waymesh_registry::admin::{Order, PendingJoin as Waiting, Reply};
use waymesh_trust::certificate::{self, Member};
use waymesh_trust::fingerprint;
use waymesh_trust::join;
use waymesh_trust::revocation::{Target, revoke};

use super::seat::{any_port, grant, invite, mesh, order, registry_with};
use super::*;
use crate::client::unix_ms;
use crate::membership::Invitation;

/// Waits until the node says that it waits for an admin.
async fn pending(link: &mut RegistryLink) -> PendingJoin {
    until(link, |news| match news {
        News::Pending(pending) => Some(pending),
        News::Fatal(fault) => panic!("{fault}"),
        _ => None,
    })
    .await
}

/// What the admin sees of who waits.
async fn waiting(dir: &TempDir) -> Waiting {
    let Reply::Pending { mut joins } = order(dir, Order::Pending).await else {
        panic!("not what was asked for")
    };
    joins.pop().expect("somebody waits")
}

/// Agrees, as `waymesh approve` does.
async fn approve(dir: &TempDir, registry: &Registry, waiting: &Waiting) {
    let asked = join::verify(&waiting.join_request).expect("a request");
    let now_ms = unix_ms();
    let member = Member {
        name: asked.name,
        agent_id: asked.agent_id,
        rotations: asked.rotations,
        roles: Vec::new(),
        registry: registry.key(),
        issued_ms: now_ms,
        expires_ms: now_ms + CERTIFICATE_LIFE_MS,
        renew_until_ms: now_ms + CERTIFICATE_LIFE_MS,
    };
    let certificate = certificate::issue(&mesh(), &member).expect("a certificate");
    let request = waiting.request.clone();
    order(
        dir,
        Order::Approve {
            request,
            certificate,
        },
    )
    .await;
}

/// A pairing code, as `waymesh invite --code` prints it.
async fn pairing_code(dir: &TempDir) -> PairingCode {
    match order(dir, Order::PairingCode { ttl_ms: 60_000 }).await {
        Reply::PairingCode { code } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_has_an_invite_that_needs_approval_waits_and_enters_when_an_admin_agrees() {
    let (dir, registry) = fresh().await;
    let mut grant = grant(&registry);
    grant.pre_approved = false;
    let mut alice = Seat::with("alice", Some(invite(&registry, &grant, None)));
    let mut link = alice.open();
    let shown = pending(&mut link).await;
    let seen = waiting(&dir).await;
    assert_eq!(shown.request, seen.request);
    assert_eq!(
        shown.mesh_fingerprint,
        fingerprint(mesh().mesh_key().as_bytes())
    );
    assert_eq!(shown.fingerprint, fingerprint(seen.agent_id.as_bytes()));
    approve(&dir, &registry, &seen).await;
    connected(&mut link).await;
    let membership = alice.home.membership().expect("a home").expect("a member");
    assert_eq!(membership.agent_id, alice.id());
}

#[tokio::test]
async fn six_digits_lead_to_a_request_and_are_worth_nothing_to_the_next() {
    let (dir, registry) = fresh().await;
    let code = pairing_code(&dir).await;
    let mut alice = Seat::with("alice", Some(Invitation::Code(code)));
    alice.registry = Some(registry.url().to_string());
    let mut link = alice.open();
    pending(&mut link).await;
    let mut thief = Seat::with("bob", Some(Invitation::Code(code)));
    thief.registry = Some(registry.url().to_string());
    assert_eq!(fatal(&mut thief.open()).await, Code::BadPairingCode);
    approve(&dir, &registry, &waiting(&dir).await).await;
    connected(&mut link).await;
}

/// A registry with a TLS key of its own, and a newcomer that asks it with six digits.
async fn met_first() -> (TempDir, Registry, Seat) {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry_with(&dir, any_port(), Some(Tls::SelfSigned)).await;
    let code = pairing_code(&dir).await;
    let mut alice = Seat::with("alice", Some(Invitation::Code(code)));
    alice.registry = Some(registry.url().to_string());
    (dir, registry, alice)
}

/// Another registry of the mesh at the same address: with the same key, but for TLS.
async fn usurped(dir: &TempDir, registry: Registry) -> Registry {
    let addr = registry.local_addr();
    registry.stop().await;
    std::fs::remove_file(dir.path().join("data/tls.key")).expect("a key");
    registry_with(dir, addr, Some(Tls::SelfSigned)).await
}

#[tokio::test]
async fn the_tls_key_that_was_shown_with_six_digits_is_the_registrys_from_then_on() {
    let (dir, registry, mut alice) = met_first().await;
    let mut link = alice.open();
    pending(&mut link).await;
    let asked = join::verify(&waiting(&dir).await.join_request).expect("a request");
    assert_eq!(asked.tls_key, registry.tls_pin());
    approve(&dir, &registry, &waiting(&dir).await).await;
    connected(&mut link).await;
    let membership = alice.home.membership().expect("a home").expect("a member");
    assert_eq!(membership.tls_pin.map(|pin| pin.0), registry.tls_pin());
    let _usurper = usurped(&dir, registry).await;
    untrusted(&mut link).await;
    link.close().await;
    alice.incarnation += 1;
    untrusted(&mut alice.open()).await;
}

/// Waits until the node takes nobody at the registry's address for the registry.
async fn untrusted(link: &mut RegistryLink) {
    until(link, |news| match news {
        News::Away(fault) => (fault.code == Code::UntrustedTls).then_some(()),
        News::Event(RegistryEvent::Connected) => panic!("another registry was believed"),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn who_comes_between_while_an_admin_is_waited_for_is_noticed() {
    let (dir, registry, mut alice) = met_first().await;
    let mut link = alice.open();
    pending(&mut link).await;
    let _usurper = usurped(&dir, registry).await;
    assert_eq!(fatal(&mut link).await, Code::UntrustedTls);
    assert_eq!(alice.home.membership().expect("a home"), None);
}

#[tokio::test]
async fn a_request_outlives_the_registry_and_the_node_that_asked() {
    let (dir, registry) = fresh().await;
    let (addr, mut grant) = (registry.local_addr(), grant(&registry));
    grant.pre_approved = false;
    let mut alice = Seat::with("alice", Some(invite(&registry, &grant, None)));
    let mut link = alice.open();
    let first = pending(&mut link).await;
    registry.stop().await;
    let registry = self::registry(&dir, addr).await;
    let again = pending(&mut link).await;
    assert_eq!(again.mesh_fingerprint, first.mesh_fingerprint);
    link.close().await;
    approve(&dir, &registry, &waiting(&dir).await).await;
    connected(&mut alice.open()).await;
}

#[tokio::test]
async fn whoever_is_rejected_leaves_with_that_code() {
    let (dir, registry) = fresh().await;
    let mut grant = grant(&registry);
    grant.pre_approved = false;
    let mut alice = Seat::with("alice", Some(invite(&registry, &grant, None)));
    let mut link = alice.open();
    pending(&mut link).await;
    let request = waiting(&dir).await.request;
    let reason = None;
    order(&dir, Order::Reject { request, reason }).await;
    assert_eq!(fatal(&mut link).await, Code::Rejected);
    assert_eq!(alice.home.membership().expect("a home"), None);
}

#[tokio::test]
async fn an_exhausted_invite_admits_nobody_and_leaves_no_membership_behind() {
    let (_dir, registry) = fresh().await;
    let mut grant = grant(&registry);
    grant.count = NonZeroU32::new(1);
    let seat = |name| Seat::with(name, Some(invite(&registry, &grant, None)));
    let (mut alice, mut bob) = (seat("alice"), seat("bob"));
    connected(&mut alice.open()).await;
    assert_eq!(fatal(&mut bob.open()).await, Code::InviteExhausted);
    assert_eq!(bob.home.membership().expect("a home"), None);
    // Another invite is another chance.
    grant.invite = InviteId::from_bytes([4; 16]);
    bob.invitation = Some(invite(&registry, &grant, None));
    connected(&mut bob.open()).await;
}

#[tokio::test]
async fn a_revoked_node_leaves_and_can_tell_by_itself_in_its_next_life() {
    let (dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    let mut link = alice.open();
    connected(&mut link).await;
    let revocation = revoke(&mesh(), Target::Member(alice.id()), unix_ms());
    let revocations = vec![revocation];
    order(&dir, Order::Revoke { revocations }).await;
    assert_eq!(fatal(&mut link).await, Code::Revoked);
    registry.stop().await;
    alice.incarnation += 1;
    assert_eq!(fatal(&mut alice.open()).await, Code::Revoked);
}

#[tokio::test]
async fn a_revocation_of_a_peer_is_told_once_and_the_peer_is_not_believed_any_more() {
    let (dir, registry) = fresh().await;
    let (mut alice, mut bob) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    let (mut to_alice, mut to_bob) = (alice.open(), bob.open());
    connected(&mut to_alice).await;
    connected(&mut to_bob).await;
    let revocation = revoke(&mesh(), Target::Member(bob.id()), unix_ms());
    let revocations = vec![revocation.clone()];
    order(&dir, Order::Revoke { revocations }).await;
    let revoked = until(&mut to_alice, |news| match news {
        News::Event(RegistryEvent::Revoked { ids, revocations }) => Some((ids, revocations)),
        _ => None,
    });
    assert_eq!(revoked.await, (vec![bob.id()], vec![revocation]));
    assert_eq!(fatal(&mut to_bob).await, Code::Revoked);
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_extended_at_the_login() {
    let (_dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    connected(&mut alice.open()).await;
    let now_ms = unix_ms();
    let mut membership = alice.home.membership().expect("a home").expect("a member");
    let member = Member {
        name: membership.name.clone(),
        agent_id: alice.id(),
        rotations: Vec::new(),
        roles: Vec::new(),
        registry: registry.key(),
        issued_ms: now_ms - CERTIFICATE_LIFE_MS - 3_600_000,
        expires_ms: now_ms - 3_600_000,
        renew_until_ms: now_ms + CERTIFICATE_LIFE_MS,
    };
    membership.certificate = certificate::issue(&mesh(), &member).expect("a certificate");
    alice.home.store_membership(&membership).expect("room");
    alice.incarnation += 1;
    let mut link = alice.open();
    let now = std::time::Instant::now();
    until(&mut link, |news| match news {
        News::Event(RegistryEvent::Membership { expires }) => {
            (expires > now + Duration::from_secs(3_600)).then_some(())
        }
        _ => None,
    })
    .await;
    let kept = alice.home.membership().expect("a home").expect("a member");
    let verified = certificate::verify(&kept.certificate, &kept.mesh, now_ms);
    assert!(verified.expect("a certificate").expires_ms > now_ms);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_extended_any_more_ends_the_node() {
    let (_dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    connected(&mut alice.open()).await;
    let ended_ms = unix_ms() - 3_600_000;
    let mut membership = alice.home.membership().expect("a home").expect("a member");
    let member = Member {
        name: membership.name.clone(),
        agent_id: alice.id(),
        rotations: Vec::new(),
        roles: Vec::new(),
        registry: registry.key(),
        issued_ms: ended_ms - CERTIFICATE_LIFE_MS,
        expires_ms: ended_ms,
        renew_until_ms: ended_ms,
    };
    membership.certificate = certificate::issue(&mesh(), &member).expect("a certificate");
    alice.home.store_membership(&membership).expect("room");
    alice.invitation = None;
    assert_eq!(fatal(&mut alice.open()).await, Code::CertificateExpired);
}
