//! Everything that proves membership: `spec/vectors/membership.json`.
//!
//! A sealed item is never the same twice, so the committed one is kept as long
//! as it opens.

use crate::mesh::{
    DAY_MS, INVITE, NOW_MS, alice, alices_next, bob, certificate, check, committed, invite, keys,
    member, mesh_key, name, registry, sealing, sealing_key,
};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waymesh_proto::control::Nonce;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::mailbox::{Item, ItemHeader, Keep};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Class, Code, Incarnation, ItemId};
use waymesh_trust::certificate::{self, Cache};
use waymesh_trust::invite::{Applicant, InviteSecret};
use waymesh_trust::revocation::{self, Target};
use waymesh_trust::rotation::{self, Rotation};
use waymesh_trust::sealing::{Content, open, seal, verify_statement};
use waymesh_trust::{Keypair, dpop, fingerprint, join, mesh_id};

/// A certificate and what it proves.
fn good(about: &str, certificate: &Certificate, now_ms: u64) -> Value {
    let verified = certificate::verify(certificate, &mesh_key(), now_ms).expect(about);
    json!({
        "about": about,
        "now_ms": now_ms,
        "certificate": certificate,
        "proves": {
            "name": verified.name,
            "agent_id": verified.agent_id,
            "key": verified.key,
            "roles": verified.roles,
            "expires_ms": verified.expires_ms,
            "renew_until_ms": verified.renew_until_ms,
            "registry": verified.registry,
            "invite": verified.invite,
            "rotations": verified.rotations,
        },
    })
}

/// A certificate that must be refused, and the code of the refusal.
fn bad(about: &str, certificate: &Certificate, now_ms: u64, code: Code) -> Value {
    let outcome = certificate::verify(certificate, &mesh_key(), now_ms);
    assert_eq!(
        outcome.map(|_| ()).map_err(|e| e.code()),
        Err(code),
        "{about}"
    );
    json!({"about": about, "now_ms": now_ms, "certificate": certificate, "code": code})
}

fn rotation() -> Rotation {
    let (old, new, id) = (alice(), alices_next(), alice().agent_id());
    rotation::rotate(&old, &new, id, 1, NOW_MS)
}

fn admitted() -> Certificate {
    let who = Applicant {
        name: name("alice"),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
    };
    invite(true).admit(&who, NOW_MS).expect("it may")
}

fn extended(certificate: &Certificate) -> Certificate {
    let verified = certificate::verify(certificate, &mesh_key(), NOW_MS).expect("good");
    let now_ms = NOW_MS + 4 * DAY_MS;
    let extension = certificate::extend(&registry(), &verified, now_ms + 7 * DAY_MS, now_ms);
    certificate::with_extension(certificate, &extension).expect("it fits")
}

fn rotated(certificate: &Certificate) -> Certificate {
    certificate::with_rotation(certificate, &rotation()).expect("it fits")
}

/// The delegation of one invite before a member token that its key did not sign.
fn spliced() -> Certificate {
    let (delegation, member) = (invite(true).delegation, certificate("alice", &alice()));
    format!("{delegation}~{member}").parse().expect("a chain")
}

fn unapproved() -> Certificate {
    let (delegation, admitted) = (invite(false).delegation, admitted());
    let (_, member) = admitted.as_str().split_once('~').expect("a chain");
    format!("{delegation}~{member}").parse().expect("a chain")
}

fn certificates() -> (Vec<Value>, Vec<Value>) {
    let plain = certificate("alice", &alice());
    let later_ms = NOW_MS + 9 * DAY_MS;
    let good = vec![
        good("of the mesh key", &plain, NOW_MS),
        good("of a pre-approved invite", &admitted(), NOW_MS),
        good("extended by the registry", &extended(&plain), later_ms),
        good("after a change of key", &rotated(&plain), NOW_MS),
        good("all of it", &rotated(&extended(&admitted())), later_ms),
        good(
            "at the leeway",
            &plain,
            NOW_MS + 7 * DAY_MS + CLOCK_LEEWAY_MS,
        ),
    ];
    let bad_certificate = Code::BadCertificate;
    let foreign = |by: &Keypair| certificate::issue(by, &member("alice", &alice())).expect("good");
    let changed = plain.as_str().replacen(".eyJ", ".eyK", 1);
    let bad = vec![
        bad(
            "changed",
            &changed.parse().expect("a chain"),
            NOW_MS,
            bad_certificate,
        ),
        bad(
            "of a registry's own mesh",
            &foreign(&registry()),
            NOW_MS,
            bad_certificate,
        ),
        bad(
            "not by the invite's key",
            &spliced(),
            NOW_MS,
            bad_certificate,
        ),
        bad(
            "of an invite that needs approval",
            &unapproved(),
            NOW_MS,
            bad_certificate,
        ),
        bad(
            "a rotation of somebody else",
            &rotated(&certificate("bob", &bob())),
            NOW_MS,
            bad_certificate,
        ),
        bad(
            "one millisecond past the leeway",
            &plain,
            NOW_MS + 7 * DAY_MS + CLOCK_LEEWAY_MS + 1,
            Code::CertificateExpired,
        ),
        bad(
            "an hour too early",
            &plain,
            NOW_MS - 3_600_000,
            Code::ClockSkew,
        ),
    ];
    (good, bad)
}

fn invites() -> Value {
    let secret = invite(true);
    let text = secret.encode().expect("it fits");
    let read = InviteSecret::parse(&text).expect("its own text");
    assert_eq!(read.grant, secret.grant);
    json!({
        "text": text,
        "url": read.registry,
        "mesh": read.mesh,
        "tls_pin_hex": read.tls_pin.map(|pin| HEXLOWER.encode(&pin)),
        "invite": read.grant.invite,
        "names": read.grant.names,
        "roles": read.grant.roles,
        "count": read.grant.count,
        "pre_approved": read.grant.pre_approved,
        "expires_ms": read.grant.expires_ms,
        "renew_until_ms": read.grant.renew_until_ms,
    })
}

fn revocations() -> Value {
    let made = |target| {
        let revocation = revocation::revoke(&crate::mesh::mesh(), target, NOW_MS);
        assert_eq!(revocation::verify(&revocation, &mesh_key()), Ok(target));
        revocation
    };
    let by_registry = revocation::revoke(&registry(), Target::Member(alice().agent_id()), NOW_MS);
    let code = revocation::verify(&by_registry, &mesh_key()).map_err(|e| e.code());
    assert_eq!(code, Err(Code::WrongRegistry));
    json!({
        "good": [
            {"agent_id": alice().agent_id(), "token": made(Target::Member(alice().agent_id()))},
            {"invite": INVITE, "token": made(Target::Invite(INVITE))},
        ],
        "bad": [{"about": "by the registry", "token": by_registry, "code": Code::WrongRegistry}],
    })
}

fn join_request() -> Value {
    let nonce = Nonce::from_bytes([0x33; 32]);
    let ask = join::Ask {
        name: name("alice"),
        agent_id: alice().agent_id(),
        rotations: vec![rotation()],
        mesh: mesh_key(),
        registry: registry().registry_key(),
        nonce,
        tls_key: None,
    };
    let secret = invite(false);
    let request = join::request(&alices_next(), &ask, Some(&secret.keypair), NOW_MS);
    let request = request.expect("a good request");
    let verified = join::verify(&request).expect("a good request");
    assert_eq!(verified.check_invite(Some(&secret.grant)), Ok(()));
    json!({
        "request": request,
        "name": verified.name,
        "agent_id": verified.agent_id,
        "key": verified.key,
        "nonce": nonce,
        "invite_key": secret.grant.key,
    })
}

fn join_on_first_use() -> Value {
    let tls_key = [0xab; 32];
    let ask = join::Ask {
        name: name("alice"),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
        mesh: mesh_key(),
        registry: registry().registry_key(),
        nonce: Nonce::from_bytes([0x33; 32]),
        tls_key: Some(tls_key),
    };
    let request = join::request(&alice(), &ask, None, NOW_MS).expect("a good request");
    let verified = join::verify(&request).expect("a good request");
    assert_eq!(verified.check_tls(Some(&tls_key)), Ok(()));
    let intercepted = verified.check_tls(Some(&[0xac; 32])).map_err(|e| e.code());
    assert_eq!(intercepted, Err(Code::UntrustedTls));
    json!({"request": request, "tls_key_hex": HEXLOWER.encode(&tls_key)})
}

fn proof() -> Value {
    let certificate = certificate("alice", &alice());
    let request = dpop::Request {
        method: "GET",
        url: "https://mesh.example:4455/v1/agents?limit=1",
        certificate: Some(&certificate),
    };
    let proof = dpop::prove(&alice(), request, Some("n-1"), [0x44; 16], NOW_MS);
    let verified = dpop::verify(&proof, request, |nonce| nonce == "n-1", NOW_MS);
    assert_eq!(verified.map(|proof| proof.key), Ok(alice().agent_id()));
    json!({"method": request.method, "url": request.url, "nonce": "n-1",
        "certificate": certificate, "proof": proof})
}

fn header() -> ItemHeader {
    ItemHeader {
        item: ItemId::from_bytes([0x55; 16]),
        from: alice().agent_id(),
        to: bob().agent_id(),
        class: Class::Tasks,
        keep: Keep::Store,
        life_ms: 300_000,
        key: sealing_key(2).id(),
    }
}

fn content() -> Content {
    Content {
        from_incarnation: Incarnation::new(5),
        to_incarnation: Some(Incarnation::new(6)),
        issued_ms: NOW_MS,
        certificate: certificate("alice", &alice()),
        sealing: sealing(1, &alice()),
        frame: b"for Bob alone".to_vec(),
    }
}

fn opens(item: &Item) -> bool {
    let (keys, me) = ([sealing_key(2)], bob().agent_id());
    let opened = open(item, &mesh_key(), &keys, &me, NOW_MS, &mut Cache::default());
    opened.is_ok_and(|opened| opened.content == content() && opened.header == header())
}

/// The committed item if it still opens, else a new one.
fn item() -> Item {
    let text = |value: &Value| HEXLOWER.decode(value.as_str()?.as_bytes()).ok();
    let kept = committed("membership.json").and_then(|file| {
        let sealed = &file["sealing"];
        Some(Item {
            header: text(&sealed["header_hex"])?,
            sealed: text(&sealed["sealed_hex"])?,
        })
    });
    kept.filter(opens).unwrap_or_else(|| {
        let certificate = certificate("bob", &bob());
        let verified = certificate::verify(&certificate, &mesh_key(), NOW_MS).expect("good");
        let to = verify_statement(&sealing(2, &bob()), &verified, NOW_MS).expect("good");
        seal(&content(), &header(), &mesh_key(), &to, &alice()).expect("a key that agrees")
    })
}

fn sealed() -> Value {
    let (item, content, key) = (item(), content(), sealing_key(2));
    assert!(opens(&item));
    json!({
        "private_hex": "62".repeat(32),
        "public_hex": HEXLOWER.encode(key.public()),
        "key_id": key.id(),
        "statement_of_bob": sealing(2, &bob()),
        "header_hex": HEXLOWER.encode(&item.header),
        "sealed_hex": HEXLOWER.encode(&item.sealed),
        "from_incarnation": content.from_incarnation,
        "to_incarnation": content.to_incarnation,
        "issued_ms": content.issued_ms,
        "certificate": content.certificate,
        "statement_of_alice": content.sealing,
        "frame": String::from_utf8(content.frame).expect("text"),
    })
}

#[test]
fn what_proves_membership_has_the_bytes_of_the_file() {
    let (good, bad) = certificates();
    let mesh_as_agent = AgentId::from_bytes(*mesh_key().as_bytes());
    let made = json!({
        "about": "Certificates and all that belongs to them, see spec/membership.md",
        "keys": keys(),
        "now_ms": NOW_MS,
        "mesh": {
            "key": mesh_key(),
            "id": mesh_id(&mesh_key()),
            "fingerprint": fingerprint(mesh_as_agent.as_bytes()),
        },
        "certificates": {"good": good, "bad": bad},
        "rotation": rotation().as_str(),
        "invite": invites(),
        "join": join_request(),
        "join_on_first_use": join_on_first_use(),
        "revocations": revocations(),
        "dpop": proof(),
        "sealing": sealed(),
    });
    check("membership.json", &made);
}
