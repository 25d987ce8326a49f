//! The mesh key's leave to an invite's key, and its limits.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MeshKey, RegistryKey};
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, ROLES_MAX};
use waymesh_proto::membership::Delegation;
use waymesh_proto::{AgentId, InviteId, MeshId, Name, Role};

use super::error::InviteError;
use crate::jwt::{self, Confirmation, JwtError, Typ, millis, seconds};
use crate::keys::{Keypair, mesh_id};

/// Names that one delegation may list. Chosen: more are `bad_invite`; an
/// invite for any name lists none.
pub const DELEGATED_NAMES_MAX: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: MeshId,
    jti: InviteId,
    cnf: Confirmation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<Vec<Name>>,
    roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<NonZeroU32>,
    pre_approved: bool,
    iat: u64,
    exp: u64,
    renew_until: u64,
    reg: RegistryKey,
}

/// What an invite is to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// 128 random bits.
    pub invite: InviteId,
    /// The names that it may give; `None` is any.
    pub names: Option<Vec<Name>>,
    /// The roles that its members get, or fewer.
    pub roles: Vec<Role>,
    /// How many it admits; `None` is any number.
    pub count: Option<NonZeroU32>,
    /// Whether it admits without an admin.
    pub pre_approved: bool,
    /// Now, Unix time in milliseconds.
    pub issued_ms: u64,
    /// Until when it admits, Unix time in milliseconds.
    pub expires_ms: u64,
    /// Until when its members' certificates may be extended, Unix time in milliseconds.
    pub renew_until_ms: u64,
    /// The registry that admits, and that may extend.
    pub registry: RegistryKey,
}

/// What a delegation proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDelegation {
    /// The invite.
    pub invite: InviteId,
    /// The invite's public key.
    pub key: AgentId,
    /// The names that it may give; `None` is any.
    pub names: Option<Vec<Name>>,
    /// The roles that it may give.
    pub roles: Vec<Role>,
    /// How many it admits; `None` is any number. Only the registry can count.
    pub count: Option<NonZeroU32>,
    /// Whether it admits without an admin.
    pub pre_approved: bool,
    /// When it was made, Unix time in milliseconds.
    pub issued_ms: u64,
    /// Until when it admits, Unix time in milliseconds.
    pub expires_ms: u64,
    /// Until when its members' certificates may be extended, Unix time in milliseconds.
    pub renew_until_ms: u64,
    /// The registry that admits, and that may extend.
    pub registry: RegistryKey,
}

/// Gives an invite's key leave to admit within limits. Times are cut to whole seconds.
///
/// # Errors
/// [`InviteError::Limits`]: no delegation may say this.
pub fn delegate(
    mesh: &Keypair,
    invite_key: &AgentId,
    grant: &Grant,
) -> Result<Delegation, InviteError> {
    let claims = Claims {
        iss: mesh_id(&mesh.mesh_key()),
        jti: grant.invite,
        cnf: Confirmation::new(invite_key),
        names: grant.names.clone(),
        roles: grant.roles.clone(),
        count: grant.count,
        pre_approved: grant.pre_approved,
        iat: seconds(grant.issued_ms),
        exp: seconds(grant.expires_ms),
        renew_until: seconds(grant.renew_until_ms),
        reg: grant.registry,
    };
    check_limits(&claims)?;
    let token = jwt::sign(Typ::Delegation, &claims, mesh);
    token.parse().map_err(|_| InviteError::Limits("too long"))
}

/// Checks everything that a delegation proves by itself. Whether anybody may
/// join by it now says [`VerifiedDelegation::check_open`].
///
/// # Errors
/// An [`InviteError`].
pub fn verify_delegation(
    delegation: &Delegation,
    mesh: &MeshKey,
) -> Result<VerifiedDelegation, InviteError> {
    verify_token(delegation.as_str(), mesh)
}

pub(crate) fn verify_token(token: &str, mesh: &MeshKey) -> Result<VerifiedDelegation, InviteError> {
    let claims: Claims = match jwt::verify(token, Typ::Delegation, mesh.as_bytes()) {
        Ok(claims) => claims,
        Err(JwtError::Forged) => return Err(why_forged(token, mesh)),
        Err(other) => return Err(InviteError::Malformed(other.to_string())),
    };
    check_mesh(&claims, mesh)?;
    check_limits(&claims)?;
    let key = claims.cnf.key();
    Ok(VerifiedDelegation {
        invite: claims.jti,
        key: key.ok_or_else(|| InviteError::Malformed("its key does not sign".into()))?,
        names: claims.names,
        roles: claims.roles,
        count: claims.count,
        pre_approved: claims.pre_approved,
        issued_ms: millis(claims.iat),
        expires_ms: millis(claims.exp),
        renew_until_ms: millis(claims.renew_until),
        registry: claims.reg,
    })
}

fn why_forged(token: &str, mesh: &MeshKey) -> InviteError {
    let claimed = jwt::peek::<Claims>(token).ok();
    let foreign = claimed.and_then(|claims| check_mesh(&claims, mesh).err());
    foreign.unwrap_or(InviteError::Forged)
}

fn check_mesh(claims: &Claims, mesh: &MeshKey) -> Result<(), InviteError> {
    let expected = mesh_id(mesh);
    if claims.iss != expected {
        let got = claims.iss;
        return Err(InviteError::ForeignMesh { expected, got });
    }
    Ok(())
}

fn check_limits(claims: &Claims) -> Result<(), InviteError> {
    let names = claims.names.as_ref().map_or(0, Vec::len);
    if names > DELEGATED_NAMES_MAX {
        return Err(InviteError::Limits("too many names"));
    }
    if claims.roles.len() > ROLES_MAX {
        return Err(InviteError::Limits("too many roles"));
    }
    if claims.iat > claims.exp || claims.exp > claims.renew_until {
        return Err(InviteError::Limits("the times are in a wrong order"));
    }
    Ok(())
}

impl VerifiedDelegation {
    /// Whether it may give this name.
    pub fn allows_name(&self, name: &Name) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Whether it may give all these roles.
    pub fn allows_roles(&self, roles: &[Role]) -> bool {
        roles.iter().all(|role| self.roles.contains(role))
    }

    /// Whether somebody may join by it at this time, give or take [`CLOCK_LEEWAY_MS`].
    ///
    /// # Errors
    /// [`InviteError::Expired`] or [`InviteError::NotYetValid`].
    pub fn check_open(&self, now_ms: u64) -> Result<(), InviteError> {
        let invite = self.invite;
        let ahead_ms = self.issued_ms.saturating_sub(now_ms);
        if ahead_ms > CLOCK_LEEWAY_MS {
            return Err(InviteError::NotYetValid { invite, ahead_ms });
        }
        let over_ms = now_ms.saturating_sub(self.expires_ms);
        if over_ms > CLOCK_LEEWAY_MS {
            return Err(InviteError::Expired { invite, over_ms });
        }
        Ok(())
    }
}
