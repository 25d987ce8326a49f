//! Targets of waymesh-trust: each takes any bytes, must not panic, and must
//! believe nothing that the keys of the golden vectors have not signed.
//!
//! Texts that nobody signed end at the first signature; so `claims` signs what
//! it is given with the keys of the vectors, and goes on from there.

use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64URL_NOPAD;
use waymesh_proto::mailbox::{Item, ItemHeader, Keep};
use waymesh_proto::membership::{
    Certificate, Delegation, Invite, JoinRequest, Revocation, SealingStatement,
};
use waymesh_proto::{Class, ItemId};
use waymesh_trust::certificate::{self, Cache};
use waymesh_trust::rotation::{self, Rotation};
use waymesh_trust::sealing::{self, Content, SealingKey};
use waymesh_trust::{Keypair, dpop, invite, join, revocation};

/// A target: its name, which is the folder of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("certificate", certificate),
    ("claims", claims),
    ("invite", invite),
    ("join_request", join_request),
    ("sealed", sealed),
    ("sealed_content", sealed_content),
    ("dpop", dpop),
];

/// The time of the vectors.
const NOW_MS: u64 = 1_767_225_600_000;

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn alice() -> Keypair {
    keypair(1)
}

fn bob() -> Keypair {
    keypair(2)
}

fn mesh() -> Keypair {
    keypair(4)
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A certificate with its chain.
pub fn certificate(data: &[u8]) {
    let Some(Ok(read)) = text(data).map(str::parse::<Certificate>) else {
        return;
    };
    let mesh = mesh().mesh_key();
    let outcome = certificate::verify_renewable(&read, &mesh, NOW_MS);
    if let Err(error) = &outcome {
        assert!(!error.fault().message.is_empty());
    }
    let cached = Cache::default().verify_renewable(&read, &mesh, NOW_MS);
    assert_eq!(cached.as_deref().ok(), outcome.as_ref().ok());
    if let Ok(rotations) = certificate::rotations(&read) {
        let _ = rotation::verify(&alice().agent_id(), &rotations);
    }
}

/// Claims of a token: the first byte says of which, the rest is signed by the key that may.
pub fn claims(data: &[u8]) {
    let Some((kind, claims)) = data.split_first() else {
        return;
    };
    match kind % 8 {
        0 => certificate(signed("member", claims, 4).as_bytes()),
        1 => {
            let delegation = signed("delegation", claims, 4);
            if let Ok(read) = delegation.parse::<Delegation>() {
                let _ = invite::verify_delegation(&read, &mesh().mesh_key());
            }
        }
        2 => behind_a_member(&signed("extension", claims, 3)),
        3 => {
            let rotation = signed("rotation", claims, 1);
            behind_a_member(&rotation);
            if let Ok(read) = rotation.parse::<Rotation>() {
                let _ = rotation::verify(&alice().agent_id(), &[read]);
            }
        }
        4 => {
            if let Ok(read) = signed("revocation", claims, 4).parse::<Revocation>() {
                let _ = revocation::verify(&read, &mesh().mesh_key());
            }
        }
        5 => join_request(signed("join", claims, 1).as_bytes()),
        6 => {
            if let Ok(read) = signed("sealing", claims, 1).parse::<SealingStatement>() {
                let by = certificate::verify(&alices(), &mesh().mesh_key(), NOW_MS);
                let _ = sealing::verify_statement(&read, &by.expect("good"), NOW_MS);
            }
        }
        _ => {
            let key = BASE64URL_NOPAD.encode(alice().public());
            let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{key}"}}"#);
            let header = format!(r#"{{"typ":"dpop+jwt","alg":"EdDSA","jwk":{jwk}}}"#);
            dpop(token(header.as_bytes(), claims, 1).as_bytes());
        }
    }
}

/// Alice's certificate, and what comes behind it.
fn behind_a_member(token: &str) {
    certificate(format!("{}~{token}", alices()).as_bytes());
}

fn alices() -> Certificate {
    let member = certificate::Member {
        name: "alice".parse().expect("a name"),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
        roles: Vec::new(),
        registry: keypair(3).registry_key(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS,
        renew_until_ms: NOW_MS + 90 * 24 * 3_600_000,
    };
    certificate::issue(&mesh(), &member).expect("a good certificate")
}

/// A token of this kind with these claims, signed by the key of this seed.
fn signed(kind: &str, claims: &[u8], seed: u8) -> String {
    let header = format!(r#"{{"typ":"waymesh-{kind}+jwt","alg":"EdDSA"}}"#);
    token(header.as_bytes(), claims, seed)
}

fn token(header: &[u8], claims: &[u8], seed: u8) -> String {
    let (header, claims) = (
        BASE64URL_NOPAD.encode(header),
        BASE64URL_NOPAD.encode(claims),
    );
    let message = format!("{header}.{claims}");
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
    let signature = BASE64URL_NOPAD.encode(pair.sign(message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

/// The text of an invite, or the JSON in it.
pub fn invite(data: &[u8]) {
    let encoded = BASE64URL_NOPAD.encode(data);
    for text in [text(data).unwrap_or_default(), &encoded] {
        let Ok(read) = text.parse::<Invite>() else {
            continue;
        };
        if let Ok(secret) = invite::InviteSecret::parse(&read) {
            let again = secret.encode().expect("it was one");
            let again = invite::InviteSecret::parse(&again).expect("own text");
            assert_eq!(again.grant, secret.grant);
        }
    }
}

/// A request to join with its rotations.
pub fn join_request(data: &[u8]) {
    if let Some(Ok(read)) = text(data).map(str::parse::<JoinRequest>)
        && let Ok(verified) = join::verify(&read)
    {
        let (mesh, registry) = (mesh().mesh_key(), keypair(3).registry_key());
        let _ = verified.check_here(&mesh, &registry, &verified.nonce, NOW_MS);
    }
}

/// A proof of possession.
pub fn dpop(data: &[u8]) {
    let request = dpop::Request {
        method: "GET",
        url: "https://mesh.example:4455/v1/agents",
        certificate: None,
    };
    if let Some(proof) = text(data) {
        let _ = dpop::verify(proof, request, |_| true, NOW_MS);
    }
}

/// Sealed bytes behind a good header, which nobody has sealed.
pub fn sealed(data: &[u8]) {
    let key = SealingKey::from_seed(&[0x62; 32], NOW_MS);
    let header = ItemHeader {
        item: ItemId::from_bytes([0x55; 16]),
        from: alice().agent_id(),
        to: bob().agent_id(),
        class: Class::Tasks,
        keep: Keep::Store,
        life_ms: 300_000,
        key: key.id(),
    };
    let (me, mesh, keys) = (bob().agent_id(), mesh().mesh_key(), [key]);
    let whole = Item {
        header: header.encode(),
        sealed: data.to_vec(),
    };
    let (head, rest) = data.split_at(data.len().min(whole.header.len()));
    let of_anybody = Item {
        header: head.to_vec(),
        sealed: rest.to_vec(),
    };
    let mut cache = Cache::default();
    for item in [whole, of_anybody] {
        if let Ok(opened) = sealing::open(&item, &mesh, &keys, &me, NOW_MS, &mut cache) {
            assert_eq!(
                opened.sender.agent_id,
                alice().agent_id(),
                "only Alice has sealed any"
            );
        }
    }
}

/// What is inside of a sealed message, as a hostile member may make it.
pub fn sealed_content(data: &[u8]) {
    if let Ok(read) = Content::decode(data) {
        let mut again = Vec::new();
        read.encode(&mut again);
        assert_eq!(again, data);
    }
}
