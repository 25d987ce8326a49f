//! Making certificates. Nothing is made that [`super::verify`] would refuse.

use waymesh_proto::control::RegistryKey;
use waymesh_proto::membership::{Certificate, Extension};
use waymesh_proto::{AgentId, Name, Role};

use super::Verified;
use super::error::CertificateError;
use super::verify::{ExtensionClaims, MemberClaims, verify_chain};
use crate::invite::InviteSecret;
use crate::jwt::{self, Base64Bytes, Confirmation, Typ, seconds};
use crate::keys::{Keypair, mesh_id};
use crate::rotation::Rotation;

/// What a certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The member's name.
    pub name: Name,
    /// The member's identity.
    pub agent_id: AgentId,
    /// What led from the identity to its current key, oldest first.
    pub rotations: Vec<Rotation>,
    /// What it may be trusted with.
    pub roles: Vec<Role>,
    /// The registry that may extend the certificate.
    pub registry: RegistryKey,
    /// Now, Unix time in milliseconds.
    pub issued_ms: u64,
    /// When it ends unless it is extended, Unix time in milliseconds.
    pub expires_ms: u64,
    /// Until when it may be extended, Unix time in milliseconds.
    pub renew_until_ms: u64,
}

/// Makes a certificate with the mesh key. Times are cut to whole seconds.
///
/// # Errors
/// It says what no certificate may say.
pub fn issue(mesh: &Keypair, member: &Member) -> Result<Certificate, CertificateError> {
    let iss = mesh_id(&mesh.mesh_key());
    let token = jwt::sign(Typ::Member, &claims(iss, member)?, mesh);
    let certificate = join([token.as_str()], member)?;
    verify_chain(&certificate, &mesh.mesh_key())?;
    Ok(certificate)
}

/// Makes a certificate with the key of an invite: what the holder of a pre-approved one does for itself.
///
/// # Errors
/// It says what no certificate may say, or what the invite does not allow.
pub fn issue_delegated(
    invite: &InviteSecret,
    member: &Member,
) -> Result<Certificate, CertificateError> {
    let iss = mesh_id(&invite.mesh);
    let token = jwt::sign(Typ::Member, &claims(iss, member)?, &invite.keypair);
    let certificate = join([invite.delegation.as_str(), &token], member)?;
    verify_chain(&certificate, &invite.mesh)?;
    Ok(certificate)
}

fn claims(iss: waymesh_proto::MeshId, member: &Member) -> Result<MemberClaims, CertificateError> {
    let keys = crate::rotation::verify(&member.agent_id, &member.rotations)?;
    Ok(MemberClaims {
        iss,
        sub: member.name.clone(),
        aid: member.agent_id,
        cnf: Confirmation::new(keys.last().unwrap_or(&member.agent_id)),
        roles: member.roles.clone(),
        iat: seconds(member.issued_ms),
        exp: seconds(member.expires_ms),
        renew_until: seconds(member.renew_until_ms),
        reg: member.registry,
    })
}

fn join<'a>(
    first: impl IntoIterator<Item = &'a str>,
    member: &'a Member,
) -> Result<Certificate, CertificateError> {
    let rotations = member.rotations.iter().map(Rotation::as_str);
    let tokens: Vec<_> = first.into_iter().chain(rotations).collect();
    let text = tokens.join("~").parse();
    text.map_err(|e: waymesh_proto::membership::TokenError| {
        CertificateError::Malformed(e.to_string())
    })
}

/// Lets a certificate live until `until_ms`, or as long as its renewal and the
/// longest life of a certificate allow; never shorter than it lives already.
///
/// Only the registry that the certificate names can do it; peers refuse an
/// extension by another key. Times are cut to whole seconds.
pub fn extend(registry: &Keypair, member: &Verified, until_ms: u64, now_ms: u64) -> Extension {
    let longest = now_ms.saturating_add(waymesh_proto::limits::CERTIFICATE_LIFE_MS);
    let until_ms = until_ms
        .min(longest)
        .min(member.renew_until_ms)
        .max(member.expires_ms);
    let claims = ExtensionClaims {
        sub: Base64Bytes(member.member_hash),
        iat: seconds(now_ms),
        exp: seconds(until_ms),
    };
    jwt::sign(Typ::Extension, &claims, registry)
        .parse()
        .expect("an extension of three fields is short")
}
