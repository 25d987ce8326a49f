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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    const MEMBER: Target = Target::Member(AgentId::from_bytes([7; 32]));

    #[test]
    fn a_revocation_says_who_or_what_is_revoked() {
        for target in [MEMBER, Target::Invite(INVITE)] {
            let revocation = revoke(&mesh(), target, NOW_MS);
            assert_eq!(verify(&revocation, &mesh_key()), Ok(target));
        }
    }

    #[test]
    fn only_the_mesh_revokes() {
        let by_registry = revoke(&registry(), MEMBER, NOW_MS);
        let outcome = verify(&by_registry, &mesh_key()).map_err(|e| e.code());
        assert_eq!(
            outcome,
            Err(Code::WrongRegistry),
            "it is of a mesh of its own"
        );
        let claims = Claims {
            iss: mesh_id(&mesh_key()),
            aid: Some(alice().agent_id()),
            invite: None,
            iat: 1,
        };
        let forged = jwt::sign(Typ::Revocation, &claims, &registry());
        let outcome = verify(&forged.parse().expect("a token"), &mesh_key());
        assert_eq!(outcome, Err(RevocationError::Forged));
    }

    #[test]
    fn a_revocation_of_nobody_or_of_two_is_malformed() {
        for (aid, invite) in [(None, None), (Some(alice().agent_id()), Some(INVITE))] {
            let iss = mesh_id(&mesh_key());
            let claims = Claims {
                iss,
                aid,
                invite,
                iat: 1,
            };
            let token = jwt::sign(Typ::Revocation, &claims, &mesh());
            let outcome = verify(&token.parse().expect("a token"), &mesh_key());
            assert_eq!(outcome, Err(RevocationError::Malformed));
        }
    }

    #[test]
    fn a_revoked_invite_takes_with_it_whom_it_admitted_by_itself() {
        let who = crate::invite::Applicant {
            name: name("alice"),
            agent_id: alice().agent_id(),
            rotations: Vec::new(),
        };
        let by_invite = invite(&grant()).admit(&who, NOW_MS).expect("it may");
        let verify = |c| crate::certificate::verify(c, &mesh_key(), NOW_MS).expect("good");
        let (by_invite, by_mesh) = (verify(&by_invite), verify(&certificate("alice", &alice())));
        assert!(Target::Invite(INVITE).hits(&by_invite));
        assert!(!Target::Invite(INVITE).hits(&by_mesh));
        for member in [by_invite, by_mesh] {
            assert!(Target::Member(alice().agent_id()).hits(&member));
            assert!(!MEMBER.hits(&member));
        }
    }

    proptest! {
        #[test]
        fn verifying_any_text_never_panics(text in "[A-Za-z0-9_.-]{1,200}") {
            prop_assert!(verify(&text.parse().expect("a token"), &mesh_key()).is_err());
        }

        #[test]
        fn no_changed_character_goes_unnoticed(at in 0usize..100_000, to in "[A-Za-z0-9_.-]") {
            let mut text = revoke(&mesh(), MEMBER, NOW_MS).as_str().to_owned();
            let at = at % text.len();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert!(verify(&text.parse().expect("a token"), &mesh_key()).is_err());
        }
    }
}
