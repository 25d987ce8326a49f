//! A small mesh for the unit tests: its keys, its members and its invites.

use std::num::NonZeroU32;

use waymesh_proto::control::MeshKey;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::{InviteId, Name, Role};

use crate::certificate::{self, Member};
use crate::invite::{Grant, InviteSecret};
use crate::keys::Keypair;
use crate::rotation::{Rotation, rotate};
use crate::sealing::SealingKey;

pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

pub(crate) const RENEW_UNTIL_MS: u64 = NOW_MS + 90 * DAY_MS;

pub(crate) const INVITE: InviteId = InviteId::from_bytes([5; 16]);

pub(crate) fn mesh() -> Keypair {
    Keypair::from_seed(&[100; 32])
}

pub(crate) fn mesh_key() -> MeshKey {
    mesh().mesh_key()
}

pub(crate) fn registry() -> Keypair {
    Keypair::from_seed(&[101; 32])
}

pub(crate) fn alice() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

pub(crate) fn bob() -> Keypair {
    Keypair::from_seed(&[2; 32])
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn role(text: &str) -> Role {
    text.parse().expect("a role")
}

/// What the certificate of a member says that has joined now.
pub(crate) fn member(who: &str, keypair: &Keypair) -> Member {
    Member {
        name: name(who),
        agent_id: keypair.agent_id(),
        rotations: Vec::new(),
        roles: vec![role("worker")],
        registry: registry().registry_key(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + CERTIFICATE_LIFE_MS,
        renew_until_ms: RENEW_UNTIL_MS,
    }
}

pub(crate) fn certificate(who: &str, keypair: &Keypair) -> Certificate {
    certificate::issue(&mesh(), &member(who, keypair)).expect("a good certificate")
}

/// As many keys as an agent has after so many rotations, and the statements.
pub(crate) fn rotated(first: &Keypair, times: u8) -> (Keypair, Vec<Rotation>) {
    let (mut current, mut statements) = (first.clone(), Vec::new());
    for seq in 1..=times {
        let next = Keypair::from_seed(&[150 + seq; 32]);
        let agent_id = first.agent_id();
        statements.push(rotate(&current, &next, agent_id, seq.into(), NOW_MS));
        current = next;
    }
    (current, statements)
}

/// A pre-approved invite for any name, three members and one day.
pub(crate) fn grant() -> Grant {
    Grant {
        invite: INVITE,
        names: None,
        roles: vec![role("worker"), role("reader")],
        count: NonZeroU32::new(3),
        pre_approved: true,
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + DAY_MS,
        renew_until_ms: RENEW_UNTIL_MS,
        registry: registry().registry_key(),
    }
}

pub(crate) fn invite(grant: &Grant) -> InviteSecret {
    let origin = "https://mesh.example:4455".parse().expect("an origin");
    InviteSecret::make(&mesh(), grant, origin, None, [9; 32]).expect("a good invite")
}

pub(crate) fn sealing_key(seed: u8) -> SealingKey {
    SealingKey::from_seed(&[seed; 32], NOW_MS + 8 * DAY_MS)
}

pub(crate) fn sealing_statement(key: &SealingKey, keypair: &Keypair) -> SealingStatement {
    key.statement(keypair, keypair.agent_id(), &mesh_key(), NOW_MS)
}
