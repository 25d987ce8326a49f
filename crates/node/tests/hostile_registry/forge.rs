//! What a registry can make with the keys that it has.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use waymesh_proto::class::Class;
use waymesh_proto::control::MemberRecord;
use waymesh_proto::ids::Incarnation;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::mailbox::{Item, ItemHeader, Keep};
use waymesh_proto::membership::{Certificate, Extension};
use waymesh_proto::{AgentId, ItemId};
use waymesh_trust::certificate::{self, Member, Verified};
use waymesh_trust::sealing::{self, Content, SealTo};
use waymesh_trust::{Keypair, mesh_id};

use crate::registry::{registry_keypair, unix_ms};
use crate::scene::mesh;

/// What the DER of an Ed25519 private key begins with (RFC 8410 §7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The registry's seed, of which [`registry_keypair`] is made.
const REGISTRY_SEED: [u8; 32] = [7; 32];

/// A token of any kind with any claims, signed by the registry.
fn token(typ: &str, claims: &Value) -> String {
    let der = [&PKCS8_HEAD[..], &REGISTRY_SEED].concat();
    let header = Header {
        typ: Some(typ.to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    encode(&header, claims, &EncodingKey::from_ed_der(&der)).expect("a token")
}

/// What a record's certificate proves.
pub(crate) fn verified(record: &MemberRecord) -> Verified {
    let certificate = &record.certificate;
    certificate::verify(certificate, &mesh().mesh_key(), unix_ms()).expect("a member")
}

/// A certificate of this mesh that the registry has signed.
pub(crate) fn minted(name: &str, agent_id: AgentId) -> Certificate {
    let now = unix_ms() / 1_000;
    let end = now + 3_600;
    let claims = json!({
        "iss": mesh_id(&mesh().mesh_key()),
        "sub": name,
        "aid": agent_id,
        "cnf": {"jwk": {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": BASE64URL_NOPAD.encode(agent_id.as_bytes()),
        }},
        "roles": [],
        "iat": now,
        "exp": end,
        "renew_until": end,
        "reg": registry_keypair().registry_key(),
    });
    let certificate = token("waymesh-member+jwt", &claims);
    certificate.parse().expect("a certificate")
}

/// A certificate that some mesh has issued.
pub(crate) fn issued(by: &Keypair, name: &str, agent_id: AgentId, issued_ms: u64) -> Certificate {
    let member = Member {
        name: name.parse().expect("a name"),
        agent_id,
        rotations: Vec::new(),
        roles: Vec::new(),
        registry: registry_keypair().registry_key(),
        issued_ms,
        expires_ms: issued_ms + CERTIFICATE_LIFE_MS,
        renew_until_ms: issued_ms + CERTIFICATE_LIFE_MS,
    };
    certificate::issue(by, &member).expect("a certificate")
}

/// An extension by the registry to any time.
pub(crate) fn extension(member: &Verified, until_ms: u64) -> Extension {
    let claims = json!({
        "sub": BASE64URL_NOPAD.encode(&member.member_hash),
        "iat": until_ms / 1_000 - 3_600,
        "exp": until_ms / 1_000,
    });
    let extension = token("waymesh-extension+jwt", &claims);
    extension.parse().expect("an extension")
}

/// Who seems to write, and who signs.
pub(crate) struct Writer<'a> {
    pub(crate) from: AgentId,
    pub(crate) papers: &'a MemberRecord,
    pub(crate) signer: &'a Keypair,
}

/// A letter to a member that the writer has sealed.
pub(crate) fn letter(writer: &Writer<'_>, to: &MemberRecord) -> Item {
    let seal_to = seal_to(to);
    let header = ItemHeader {
        item: ItemId::from_bytes([77; 16]),
        from: writer.from,
        to: to.agent.agent_id,
        class: Class::Control,
        keep: Keep::Store,
        life_ms: 60_000,
        key: seal_to.id,
    };
    let content = Content {
        from_incarnation: Incarnation::new(1),
        to_incarnation: None,
        issued_ms: unix_ms(),
        certificate: writer.papers.certificate.clone(),
        sealing: writer.papers.sealing.clone(),
        frame: vec![0],
    };
    let sealed = sealing::seal(
        &content,
        &header,
        &mesh().mesh_key(),
        &seal_to,
        writer.signer,
    );
    sealed.expect("a key that works")
}

fn seal_to(record: &MemberRecord) -> SealTo {
    let member = verified(record);
    sealing::verify_statement(&record.sealing, &member, unix_ms()).expect("a sealing key")
}
