//! Becoming a member and ceasing to be one, as a node and an admin see it.

mod support;

use std::path::Path;

use support::http::get_as;
use support::invite::{invite, invited};
use support::member::claims;
use support::{House, Member, Raw, mesh, mesh_key, now_ms, order};
use waymesh_proto::control::{ClientMessage, Join, PairingCode, ServerMessage};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::membership::Certificate;
use waymesh_proto::{Code, RequestId};
use waymesh_registry::admin::{Order, PendingJoin, Reply};
use waymesh_trust::revocation::{Target, revoke};
use waymesh_trust::{Keypair, certificate, join};

async fn pairing_code(data_dir: &Path) -> PairingCode {
    match order(data_dir, Order::PairingCode { ttl_ms: 60_000 }).await {
        Ok(Reply::PairingCode { code }) => code,
        other => panic!("{other:?}"),
    }
}

async fn pending(data_dir: &Path) -> Vec<PendingJoin> {
    match order(data_dir, Order::Pending).await {
        Ok(Reply::Pending { joins }) => joins,
        other => panic!("{other:?}"),
    }
}

async fn refusal(data_dir: &Path, what: Order) -> Code {
    let error = order(data_dir, what).await.expect_err("refused");
    error.code()
}

/// Asks to join, and gives the connection to hear the answer on.
async fn ask(house: &House, who: &Member, code: Option<PairingCode>) -> Raw {
    let mut raw = Raw::connect(&house.registry).await;
    let ask = join::Ask {
        name: who.name.clone(),
        agent_id: who.agent_id(),
        rotations: Vec::new(),
        mesh: mesh_key(),
        registry: house.registry.key(),
        nonce: raw.challenge.nonce,
        tls_key: None,
    };
    let request = join::request(&who.keypair, &ask, None, now_ms()).expect("a request");
    let invite = None;
    let join = Join {
        request,
        code,
        invite,
    };
    raw.say(&ClientMessage::Join(join)).await;
    raw
}

async fn request_of(raw: &mut Raw) -> RequestId {
    match raw.next().await {
        ServerMessage::Pending { request } => request,
        other => panic!("{other:?}"),
    }
}

async fn certificate_of(raw: &mut Raw) -> Certificate {
    match raw.next().await {
        ServerMessage::Approved { certificate } => certificate,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pairing_code_leads_to_an_admin_who_approves() {
    let house = House::start().await;
    let data_dir = house.data_dir();
    let bob = house.member("bob", 2);
    let code = pairing_code(&data_dir).await;
    let mut raw = ask(&house, &bob, Some(code)).await;
    let request = request_of(&mut raw).await;
    let waiting = pending(&data_dir).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (&waiting[0].request, &waiting[0].name),
        (&request, &bob.name)
    );
    assert_eq!(waiting[0].agent_id, bob.agent_id());
    assert!(waiting[0].address.is_loopback());
    let certificate = bob.certificate.clone();
    let approve = Order::Approve {
        request,
        certificate,
    };
    order(&data_dir, approve).await.expect("approved");
    assert_eq!(certificate_of(&mut raw).await, bob.certificate);
    Raw::log_in(&house.registry, &bob, 1).await;
    assert_eq!(pending(&data_dir).await, []);
    house.registry.stop().await;
}

#[tokio::test]
async fn codes_requests_and_approvals_outlive_a_stopped_registry() {
    let house = House::start().await;
    let data_dir = house.data_dir();
    let addr = house.addr();
    let (dir, bob) = (house.dir, Member::new("bob", 2, house.registry.key()));
    house.registry.stop().await;
    let code = pairing_code(&data_dir).await;
    let house = House::again(dir, addr).await;
    let request = request_of(&mut ask(&house, &bob, Some(code)).await).await;
    let dir = house.dir;
    house.registry.stop().await;
    assert_eq!(pending(&data_dir).await[0].request, request);
    let certificate = bob.certificate.clone();
    let approve = Order::Approve {
        request,
        certificate,
    };
    order(&data_dir, approve).await.expect("approved");
    let house = House::again(dir, addr).await;
    let mut raw = ask(&house, &bob, None).await;
    assert_eq!(certificate_of(&mut raw).await, bob.certificate);
    Raw::log_in(&house.registry, &bob, 1).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn a_pairing_code_is_good_once_and_guessing_is_slow() {
    let house = House::start().await;
    let code = pairing_code(&house.data_dir()).await;
    let mut first = ask(&house, &house.member("bob", 2), Some(code)).await;
    request_of(&mut first).await;
    // The first try counts as well: five a minute from one address.
    for key in 3..=6 {
        let mut other = ask(&house, &house.member("eve", key), Some(code)).await;
        assert_eq!(other.error().await, Code::BadPairingCode, "{key}");
    }
    let mut sixth = ask(&house, &house.member("eve", 7), Some(code)).await;
    assert_eq!(sixth.error().await, Code::RateLimited);
}

#[tokio::test]
async fn whoever_was_not_invited_or_is_rejected_is_told_so() {
    let house = House::start().await;
    let data_dir = house.data_dir();
    let bob = house.member("bob", 2);
    let mut uninvited = ask(&house, &bob, None).await;
    assert_eq!(uninvited.error().await, Code::InviteRequired);
    let code = pairing_code(&data_dir).await;
    let mut raw = ask(&house, &bob, Some(code)).await;
    let request = request_of(&mut raw).await;
    let reason = Some("not today".to_owned());
    let reject = Order::Reject { request, reason };
    order(&data_dir, reject).await.expect("rejected");
    match raw.next().await {
        ServerMessage::Error { error } => {
            assert_eq!(error.code, Code::Rejected);
            assert!(error.to_string().contains("not today"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    raw.closed().await;
}

#[tokio::test]
async fn a_request_is_not_approved_with_the_certificate_of_another_key_or_mesh() {
    let house = House::start().await;
    let data_dir = house.data_dir();
    let bob = house.member("bob", 2);
    let code = pairing_code(&data_dir).await;
    let request = request_of(&mut ask(&house, &bob, Some(code)).await).await;
    let other_mesh = Keypair::from_seed(&[201; 32]);
    let until = now_ms() + CERTIFICATE_LIFE_MS;
    let foreign = claims("bob", 2, house.registry.key(), until);
    let foreign = certificate::issue(&other_mesh, &foreign).expect("a certificate");
    for certificate in [
        house.member("bob", 3).certificate,
        house.member("eve", 2).certificate,
        foreign,
    ] {
        let approve = Order::Approve {
            request: request.clone(),
            certificate,
        };
        assert_eq!(refusal(&data_dir, approve).await, Code::BadCertificate);
    }
    assert_eq!(pending(&data_dir).await.len(), 1);
}

#[tokio::test]
async fn a_request_that_nobody_made_can_be_neither_approved_nor_rejected() {
    for is_stopped in [false, true] {
        let house = House::start().await;
        let (data_dir, bob) = (house.data_dir(), house.member("bob", 2));
        let House { dir, registry, .. } = house;
        let registry = if is_stopped {
            registry.stop().await;
            None
        } else {
            Some(registry)
        };
        let request: RequestId = "nobody".parse().expect("an id");
        let approve = Order::Approve {
            request: request.clone(),
            certificate: bob.certificate.clone(),
        };
        assert_eq!(refusal(&data_dir, approve).await, Code::UnknownId);
        let reason = None;
        let reject = Order::Reject { request, reason };
        assert_eq!(refusal(&data_dir, reject).await, Code::UnknownId);
        drop((registry, dir));
    }
}

#[tokio::test]
async fn a_revoked_member_is_out_at_once_everywhere_and_the_others_hear_of_it() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let bob = house.member("bob", 2);
    let mut bobs = Raw::log_in(&house.registry, &bob, 1).await;
    let revocation = revoke(&mesh(), Target::Member(bob.agent_id()), now_ms());
    let revocations = vec![revocation.clone()];
    let done = order(&house.data_dir(), Order::Revoke { revocations }).await;
    assert_eq!(done.expect("revoked"), Reply::Done);
    assert_eq!(bobs.error().await, Code::Revoked);
    bobs.closed().await;
    let revocations = vec![revocation];
    let heard = alice.next_of_any_kind().await;
    assert_eq!(heard, ServerMessage::Revoked { revocations });
    let refused = Raw::refused(&house.registry, &bob, 2).await;
    assert_eq!(refused, Code::Revoked);
    let answer = get_as(house.addr(), &bob, "/v1/agents").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "revoked"));
}

#[tokio::test]
async fn a_member_that_was_revoked_while_the_registry_was_stopped_does_not_come_back() {
    let house = House::start().await;
    let (data_dir, addr) = (house.data_dir(), house.addr());
    let bob = house.member("bob", 2);
    drop(Raw::log_in(&house.registry, &bob, 1).await);
    let dir = house.dir;
    house.registry.stop().await;
    let revocations = vec![revoke(&mesh(), Target::Member(bob.agent_id()), now_ms())];
    let done = order(&data_dir, Order::Revoke { revocations }).await;
    assert_eq!(done.expect("revoked"), Reply::Done);
    let house = House::again(dir, addr).await;
    let refused = Raw::refused(&house.registry, &bob, 2).await;
    assert_eq!(refused, Code::Revoked);
    house.registry.stop().await;
}

#[tokio::test]
async fn nobody_but_the_mesh_revokes() {
    let house = House::start().await;
    let mut bob = house.log_in("bob", 2, 1).await;
    let target = Target::Member(house.member("bob", 2).agent_id());
    let forged = revoke(&Keypair::from_seed(&[201; 32]), target, now_ms());
    let nonsense = "a.b.c".parse().expect("a token");
    for (revocation, code) in [(forged, Code::WrongRegistry), (nonsense, Code::BadRequest)] {
        let revocations = vec![revocation];
        let revoke = Order::Revoke { revocations };
        assert_eq!(refusal(&house.data_dir(), revoke).await, code);
    }
    let name = "nobody".parse().expect("a name");
    bob.say(&ClientMessage::Resolve { name }).await;
    assert!(matches!(bob.next().await, ServerMessage::Unknown { .. }));
}

#[tokio::test]
async fn an_invite_admits_as_many_as_it_says_and_none_after_it_was_revoked() {
    let house = House::start().await;
    let invite = invite(&house, 2);
    let bob = invited(&house, &invite, "bob", 2);
    let carol = invited(&house, &invite, "carol", 3);
    for member in [&bob, &carol] {
        Raw::log_in(&house.registry, member, 1).await;
    }
    let third = invited(&house, &invite, "eve", 4);
    let refused = Raw::refused(&house.registry, &third, 1).await;
    assert_eq!(refused, Code::InviteExhausted);
    // Whoever was admitted comes back at any time.
    let mut again = Raw::log_in(&house.registry, &bob, 2).await;
    let target = Target::Invite(invite.grant.invite);
    let revocations = vec![revoke(&mesh(), target, now_ms())];
    let done = order(&house.data_dir(), Order::Revoke { revocations }).await;
    assert_eq!(done.expect("revoked"), Reply::Done);
    assert_eq!(again.error().await, Code::Revoked);
    let refused = Raw::refused(&house.registry, &carol, 2).await;
    assert_eq!(refused, Code::Revoked);
}
