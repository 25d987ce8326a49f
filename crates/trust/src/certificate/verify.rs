//! From a certificate's text to what it proves.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MeshKey, RegistryKey};
use waymesh_proto::limits::{CERTIFICATE_LIFE_MS, CLOCK_LEEWAY_MS, ROLES_MAX};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, MeshId, Name, Role};

use super::Verified;
use super::chain::Parts;
use super::error::{BeyondInvite, CertificateError, Token};
use crate::invite::{self, VerifiedDelegation};
use crate::jwt::{self, Base64Bytes, Confirmation, JwtError, Typ, millis};
use crate::keys::{mesh_id, sha256};
use crate::rotation;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberClaims {
    pub(super) iss: MeshId,
    pub(super) sub: Name,
    pub(super) aid: AgentId,
    pub(super) cnf: Confirmation,
    pub(super) roles: Vec<Role>,
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) renew_until: u64,
    pub(super) reg: RegistryKey,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtensionClaims {
    /// SHA-256 of the member token.
    pub(super) sub: Base64Bytes,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

/// Checks a whole certificate. Three Ed25519 verifications and more; [`super::Cache`] remembers them.
///
/// # Errors
/// The first check that fails: shape, delegation, member, extension, rotations, time.
pub fn verify(
    certificate: &Certificate,
    mesh: &MeshKey,
    now_ms: u64,
) -> Result<Verified, CertificateError> {
    let verified = verify_chain(certificate, mesh)?;
    verified.check_time(now_ms)?;
    Ok(verified)
}

/// Like [`verify`], but one that has ended passes as long as its registry may extend it.
///
/// # Errors
/// As [`verify`].
pub fn verify_renewable(
    certificate: &Certificate,
    mesh: &MeshKey,
    now_ms: u64,
) -> Result<Verified, CertificateError> {
    let verified = verify_chain(certificate, mesh)?;
    verified.check_renewable(now_ms)?;
    Ok(verified)
}

/// Everything but the time.
pub(super) fn verify_chain(
    certificate: &Certificate,
    mesh: &MeshKey,
) -> Result<Verified, CertificateError> {
    let parts = Parts::split(certificate)?;
    let delegation = match parts.delegation {
        Some(token) => Some(invite::verify_token(token, mesh).map_err(delegation_error)?),
        None => None,
    };
    let issuer = delegation
        .as_ref()
        .map_or(mesh.as_bytes(), |d| d.key.as_bytes());
    let member: MemberClaims = read(parts.member, Typ::Member, Token::Member, issuer)
        .map_err(|error| why_forged(error, parts.member, mesh))?;
    check_member(&member, mesh)?;
    if let Some(delegation) = &delegation {
        check_limits(&member, delegation)?;
    }
    let member_hash = sha256(parts.member.as_bytes());
    let extension = match parts.extension {
        Some(token) => Some(verify_extension(token, &member, &member_hash)?),
        None => None,
    };
    let chain = rotation::verify_chain(&member.aid, parts.rotations.iter().copied())?;
    let holder = member.cnf.key();
    if !holder.is_some_and(|key| chain.keys.contains(&key)) {
        let why = "its key is not one of the agent's";
        return Err(CertificateError::Malformed(why.into()));
    }
    let extended = extension.map_or((0, 0), |e| (millis(e.iat), millis(e.exp)));
    Ok(Verified {
        mesh: member.iss,
        agent_id: member.aid,
        key: *chain.keys.last().unwrap_or(&member.aid),
        issued_ms: millis(member.iat).max(extended.0).max(chain.issued_ms),
        expires_ms: millis(member.exp).max(extended.1),
        renew_until_ms: millis(member.renew_until),
        registry: member.reg,
        invite: delegation.as_ref().map(|d| d.invite),
        delegation,
        rotations: u32::try_from(parts.rotations.len()).unwrap_or(u32::MAX),
        keys: chain.keys,
        hash: sha256(certificate.as_str().as_bytes()),
        member_hash,
        name: member.sub,
        roles: member.roles,
    })
}

fn read<T: DeserializeOwned>(
    text: &str,
    typ: Typ,
    token: Token,
    by: &[u8; 32],
) -> Result<T, CertificateError> {
    jwt::verify(text, typ, by).map_err(|error| match error {
        JwtError::Forged => CertificateError::Forged { token },
        other => CertificateError::Malformed(format!("the {token}: {other}")),
    })
}

fn delegation_error(error: invite::InviteError) -> CertificateError {
    use invite::InviteError as E;
    match error {
        E::ForeignMesh { expected, got } => CertificateError::ForeignMesh { expected, got },
        E::Forged => CertificateError::Forged {
            token: Token::Delegation,
        },
        other => CertificateError::Malformed(other.to_string()),
    }
}

/// Says of a member token that is not signed by its issuer what it seems to be.
fn why_forged(error: CertificateError, text: &str, mesh: &MeshKey) -> CertificateError {
    let CertificateError::Forged { token } = error else {
        return error;
    };
    let Ok(claims) = jwt::peek::<MemberClaims>(text) else {
        return error;
    };
    if jwt::is_signed_by(text, claims.reg.as_bytes()) {
        let name = claims.sub;
        return CertificateError::MintedByRegistry { token, name };
    }
    check_mesh(&claims, mesh).err().unwrap_or(error)
}

fn check_mesh(member: &MemberClaims, mesh: &MeshKey) -> Result<(), CertificateError> {
    let expected = mesh_id(mesh);
    if member.iss != expected {
        let got = member.iss;
        return Err(CertificateError::ForeignMesh { expected, got });
    }
    Ok(())
}

fn check_member(member: &MemberClaims, mesh: &MeshKey) -> Result<(), CertificateError> {
    check_mesh(member, mesh)?;
    let lives = member.iat <= member.exp
        && member.exp <= member.renew_until
        && millis(member.exp - member.iat) <= CERTIFICATE_LIFE_MS;
    if !lives {
        let token = Token::Member;
        return Err(CertificateError::Life { token });
    }
    if member.roles.len() > ROLES_MAX {
        let why = format!("{} roles are more than {ROLES_MAX}", member.roles.len());
        return Err(CertificateError::Malformed(why));
    }
    Ok(())
}

fn check_limits(
    member: &MemberClaims,
    delegation: &VerifiedDelegation,
) -> Result<(), CertificateError> {
    let invite = delegation.invite;
    if !delegation.pre_approved {
        return Err(CertificateError::NotPreApproved { invite });
    }
    let issued_ms = millis(member.iat);
    let early = issued_ms.saturating_add(CLOCK_LEEWAY_MS) < delegation.issued_ms;
    let late = issued_ms > delegation.expires_ms.saturating_add(CLOCK_LEEWAY_MS);
    let what = if !delegation.allows_name(&member.sub) {
        BeyondInvite::Name
    } else if !delegation.allows_roles(&member.roles) {
        BeyondInvite::Role
    } else if early {
        BeyondInvite::Early
    } else if late {
        BeyondInvite::Late
    } else if millis(member.renew_until) > delegation.renew_until_ms {
        BeyondInvite::Renewal
    } else if member.reg != delegation.registry {
        BeyondInvite::Registry
    } else {
        return Ok(());
    };
    Err(CertificateError::BeyondInvite { invite, what })
}

fn verify_extension(
    text: &str,
    member: &MemberClaims,
    member_hash: &[u8; 32],
) -> Result<ExtensionClaims, CertificateError> {
    let token = Token::Extension;
    let by = member.reg.as_bytes();
    let extension: ExtensionClaims = read(text, Typ::Extension, token, by)?;
    if extension.sub.0 != *member_hash {
        let why = "the extension is of another certificate";
        return Err(CertificateError::Malformed(why.into()));
    }
    let lives = extension.iat <= extension.exp
        && millis(extension.exp - extension.iat) <= CERTIFICATE_LIFE_MS + CLOCK_LEEWAY_MS
        && (member.exp..=member.renew_until).contains(&extension.exp);
    if !lives {
        return Err(CertificateError::Life { token });
    }
    Ok(extension)
}
