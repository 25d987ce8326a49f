//! Revocations: the authority takes back a member or an invite, for ever.
//!
//! A member is revoked by its agent id, under whatever name and key it comes.
//! A revoked invite admits nobody any more, and takes with it every
//! certificate that its own key has issued: nobody could tell an earlier one
//! from one that a thief dates back. Members whom an admin approved have
//! certificates of the mesh key and stay.

use serde::{Deserialize, Serialize};
use waymesh_proto::control::MeshKey;
use waymesh_proto::membership::Revocation;
use waymesh_proto::{AgentId, Code, InviteId, MeshId};

use crate::certificate::Verified;
use crate::jwt::{self, Typ};
use crate::keys::{Keypair, mesh_id};

/// Who or what is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A member, by its identity.
    Member(AgentId),
    /// An invite.
    Invite(InviteId),
}

impl Target {
    /// Whether it ends this membership.
    pub fn hits(&self, member: &Verified) -> bool {
        match self {
            Self::Member(agent_id) => member.agent_id == *agent_id,
            Self::Invite(invite) => member.invite == Some(*invite),
        }
    }
}

/// Why a revocation is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Not of this shape; whoever sent it is broken.
    #[error("the revocation is malformed")]
    Malformed,
    /// Not signed by the mesh key: somebody wants a member out who may not decide it.
    #[error("the revocation is not signed by the mesh")]
    Forged,
    /// Made for another mesh.
    #[error("the revocation is of the mesh {got}, not of {expected}")]
    ForeignMesh {
        /// The own mesh.
        expected: MeshId,
        /// The mesh that the revocation names.
        got: MeshId,
    },
}

impl RevocationError {
    /// The code to count it under.
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed => Code::BadRequest,
            Self::Forged => Code::BadSignature,
            Self::ForeignMesh { .. } => Code::WrongRegistry,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: MeshId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aid: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invite: Option<InviteId>,
    iat: u64,
}

/// Revokes a member or an invite.
pub fn revoke(mesh: &Keypair, target: Target, now_ms: u64) -> Revocation {
    let (aid, invite) = match target {
        Target::Member(agent_id) => (Some(agent_id), None),
        Target::Invite(invite) => (None, Some(invite)),
    };
    let claims = Claims {
        iss: mesh_id(&mesh.mesh_key()),
        aid,
        invite,
        iat: jwt::seconds(now_ms),
    };
    jwt::sign(Typ::Revocation, &claims, mesh)
        .parse()
        .expect("a revocation of a few fields is short")
}

/// Checks a revocation. It holds whatever the clock says.
///
/// # Errors
/// A [`RevocationError`]; the revocation must be ignored then.
pub fn verify(revocation: &Revocation, mesh: &MeshKey) -> Result<Target, RevocationError> {
    let token = revocation.as_str();
    let claims: Claims = match jwt::verify(token, Typ::Revocation, mesh.as_bytes()) {
        Ok(claims) => claims,
        Err(jwt::JwtError::Forged) => return Err(why_forged(token, mesh)),
        Err(_) => return Err(RevocationError::Malformed),
    };
    if claims.iss != mesh_id(mesh) {
        return Err(foreign(claims.iss, mesh));
    }
    match (claims.aid, claims.invite) {
        (Some(agent_id), None) => Ok(Target::Member(agent_id)),
        (None, Some(invite)) => Ok(Target::Invite(invite)),
        _ => Err(RevocationError::Malformed),
    }
}

fn why_forged(token: &str, mesh: &MeshKey) -> RevocationError {
    match jwt::peek::<Claims>(token) {
        Ok(claims) if claims.iss != mesh_id(mesh) => foreign(claims.iss, mesh),
        _ => RevocationError::Forged,
    }
}

fn foreign(got: MeshId, mesh: &MeshKey) -> RevocationError {
    RevocationError::ForeignMesh {
        expected: mesh_id(mesh),
        got,
    }
}
