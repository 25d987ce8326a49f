//! Invites that admit by themselves, and who comes by them.

use std::num::NonZeroU32;

use waymesh_proto::InviteId;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_trust::certificate;
use waymesh_trust::invite::{Grant, InviteSecret};

use super::member::claims;
use super::{House, Member, mesh, now_ms};

/// A pre-approved invite for so many.
pub(crate) fn invite(house: &House, count: u32) -> InviteSecret {
    let grant = Grant {
        invite: InviteId::from_bytes([7; 16]),
        names: None,
        roles: Vec::new(),
        count: NonZeroU32::new(count),
        pre_approved: true,
        issued_ms: now_ms(),
        expires_ms: now_ms() + 3_600_000,
        renew_until_ms: now_ms() + CERTIFICATE_LIFE_MS,
        registry: house.registry.key(),
    };
    let url = house.registry.url().clone();
    InviteSecret::make(&mesh(), &grant, url, None, [8; 32]).expect("an invite")
}

/// Somebody who enters by a pre-approved invite.
pub(crate) fn invited(house: &House, invite: &InviteSecret, name: &str, key: u8) -> Member {
    let until = invite.grant.renew_until_ms;
    let claims = claims(name, key, house.registry.key(), until);
    let claims = certificate::Member {
        issued_ms: invite.grant.issued_ms,
        ..claims
    };
    let certificate = certificate::issue_delegated(invite, &claims).expect("a certificate");
    Member {
        certificate,
        ..house.member(name, key)
    }
}
