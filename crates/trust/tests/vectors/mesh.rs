//! The mesh of the golden vectors, made of seeds that everybody knows.

use std::path::PathBuf;

use serde_json::{Value, json};
use waymesh_proto::control::MeshKey;
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::{InviteId, Name, Role};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::{self, Member};
use waymesh_trust::invite::{Grant, InviteSecret};
use waymesh_trust::sealing::SealingKey;

/// The time of the vectors, Unix time in milliseconds.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;

pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

pub(crate) const INVITE: InviteId = InviteId::from_bytes([0x77; 16]);

pub(crate) fn alice() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

pub(crate) fn bob() -> Keypair {
    Keypair::from_seed(&[2; 32])
}

pub(crate) fn registry() -> Keypair {
    Keypair::from_seed(&[3; 32])
}

pub(crate) fn mesh() -> Keypair {
    Keypair::from_seed(&[4; 32])
}

pub(crate) fn mesh_key() -> MeshKey {
    mesh().mesh_key()
}

pub(crate) fn alices_next() -> Keypair {
    Keypair::from_seed(&[5; 32])
}

pub(crate) fn sealing_key(keypair_seed: u8) -> SealingKey {
    SealingKey::from_seed(&[0x60 + keypair_seed; 32], NOW_MS + 8 * DAY_MS)
}

pub(crate) fn keys() -> Value {
    let named = |name: &str, seed: u8, keypair: &Keypair| json!({"name": name, "seed_hex": format!("{seed:02x}").repeat(32), "public": keypair.agent_id()});
    json!([
        named("alice", 1, &alice()),
        named("bob", 2, &bob()),
        named("registry", 3, &registry()),
        named("mesh", 4, &mesh()),
        named("alice after a change of key", 5, &alices_next()),
        named("invite", 6, &Keypair::from_seed(&[6; 32])),
    ])
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn role(text: &str) -> Role {
    text.parse().expect("a role")
}

pub(crate) fn member(who: &str, keypair: &Keypair) -> Member {
    Member {
        name: name(who),
        agent_id: keypair.agent_id(),
        rotations: Vec::new(),
        roles: vec![role("worker")],
        registry: registry().registry_key(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + 7 * DAY_MS,
        renew_until_ms: NOW_MS + 90 * DAY_MS,
    }
}

pub(crate) fn certificate(who: &str, keypair: &Keypair) -> Certificate {
    certificate::issue(&mesh(), &member(who, keypair)).expect("a good certificate")
}

pub(crate) fn invite(pre_approved: bool) -> InviteSecret {
    let grant = Grant {
        invite: INVITE,
        names: Some(vec![name("alice"), name("bob")]),
        roles: vec![role("reader"), role("worker")],
        count: std::num::NonZeroU32::new(2),
        pre_approved,
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + DAY_MS,
        renew_until_ms: NOW_MS + 90 * DAY_MS,
        registry: registry().registry_key(),
    };
    let origin = "https://mesh.example:4455".parse().expect("an origin");
    InviteSecret::make(&mesh(), &grant, origin, Some([0xab; 32]), [6; 32]).expect("a good invite")
}

pub(crate) fn sealing(keypair_seed: u8, keypair: &Keypair) -> SealingStatement {
    sealing_key(keypair_seed).statement(keypair, keypair.agent_id(), &mesh_key(), NOW_MS)
}

/// The committed vectors of this name, if there are any.
pub(crate) fn committed(name: &str) -> Option<Value> {
    let text = std::fs::read_to_string(path(name)).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// Compares what the code makes with the file, or writes the file.
pub(crate) fn check(name: &str, made: &Value) {
    if std::env::var_os("WAYMESH_BLESS").is_some() {
        let text = serde_json::to_string_pretty(made).expect("JSON") + "\n";
        std::fs::write(path(name), text).expect("a file that can be written");
    }
    let file = committed(name).expect("the vectors");
    assert_eq!(&file, made, "{name} differs");
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors")
        .join(name)
}
