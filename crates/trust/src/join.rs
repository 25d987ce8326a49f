//! Requests to join: what a node says of itself before it is a member.
//!
//! The node signs its name, its identity, the registry that it talks to, the
//! mesh key that it was told of, and the nonce of the registry's challenge, so
//! that a request is of one connection and an admin can be sure that the
//! joiner means this very mesh. With an invite the invite's key signs too. A
//! joiner that trusts the registry's TLS key on first use signs which one it
//! was shown, so that the registry finds out who stands between.
//!
//! ```text
//! join [~ rotation]…
//! ```

#[cfg(test)]
mod tests;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MeshKey, Nonce, RegistryKey, Signature};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::membership::JoinRequest;
use waymesh_proto::{AgentId, Code, Fault, Name};

use crate::invite::VerifiedDelegation;
use crate::jwt::{self, Base64Bytes, Confirmation, JwtError, Typ, millis, seconds};
use crate::keys::{self, Keypair, fields};
use crate::rotation::{self, Rotation, RotationError};

/// What the invite's signature covers before the statement.
pub const JOIN_LABEL: &str = "waymesh join by invite v1";

/// Why a request to join is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Not of this shape.
    #[error("the request to join is malformed: {0}")]
    Malformed(String),
    /// Not signed by the key that would join.
    #[error("the request to join is not signed by the key that would join")]
    Forged,
    /// Its rotations do not lead from the agent id to the key.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Not signed by the invite that came with it, or signed by one and none came.
    #[error("the request to join is not signed by its invite")]
    NotInvited,
    /// The joiner means another mesh or registry than this: somebody is in between.
    #[error("the joiner means another {0} than this one")]
    Elsewhere(&'static str),
    /// The joiner was shown a TLS key that is not the registry's: somebody is in between.
    #[error("the joiner was shown the TLS key {}, which is not this registry's", HEXLOWER.encode(shown))]
    Intercepted {
        /// The SHA-256 of the key that it was shown.
        shown: [u8; 32],
    },
    /// Made for another connection.
    #[error("the request to join was made for another connection")]
    Replayed,
    /// Made too long ago or in the future: one of the two clocks is wrong.
    #[error("the request to join was made {} s away from this clock", off_ms / 1_000)]
    ClockSkew {
        /// The difference, milliseconds.
        off_ms: u64,
    },
}

impl JoinError {
    /// The code that the joiner is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::BadRequest,
            Self::Forged => Code::BadSignature,
            Self::Rotation(error) => error.code(),
            Self::NotInvited => Code::BadInvite,
            Self::Elsewhere(_) => Code::WrongRegistry,
            Self::Intercepted { .. } => Code::UntrustedTls,
            Self::Replayed => Code::Replayed,
            Self::ClockSkew { .. } => Code::ClockSkew,
        }
    }

    /// The error that the joiner is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self {
            Self::NotInvited => fault.with_hint("ask an admin for a new invite"),
            Self::Elsewhere(_) => fault.with_hint(
                "somebody may stand between the two: compare the fingerprints that both sides show",
            ),
            Self::Intercepted { .. } => fault.with_hint(
                "somebody stands between the node and the registry and reads along: join from another network, or with an invite, which pins the registry's key",
            ),
            Self::ClockSkew { .. } => fault.with_hint("set the clocks of both hosts right"),
            _ => fault,
        }
    }
}

/// What a request to join proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedJoin {
    /// The name that the joiner wants.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// Its current key.
    pub key: AgentId,
    /// What led from the identity to the key, oldest first.
    pub rotations: Vec<Rotation>,
    /// The mesh that it wants to join.
    pub mesh: MeshKey,
    /// The registry that it asks.
    pub registry: RegistryKey,
    /// The nonce that the registry gave it.
    pub nonce: Nonce,
    /// The SHA-256 of the TLS key (SPKI) that it was shown and trusts on first
    /// use; `None` when it was told which key to trust, or an authority vouches.
    pub tls_key: Option<[u8; 32]>,
    /// When it asked, Unix time in milliseconds.
    pub issued_ms: u64,
    /// The invite's key, when the invite has signed too.
    pub invited_by: Option<AgentId>,
}

/// Whom a joiner asks, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The name that it wants.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// What led from the identity to its current key, oldest first.
    pub rotations: Vec<Rotation>,
    /// The mesh, of the invite or else of the challenge.
    pub mesh: MeshKey,
    /// The registry of the challenge.
    pub registry: RegistryKey,
    /// The nonce of the challenge.
    pub nonce: Nonce,
    /// The SHA-256 of the registry's TLS key (SPKI), where it is trusted on first use.
    pub tls_key: Option<[u8; 32]>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    sub: Name,
    aid: AgentId,
    cnf: Confirmation,
    mesh: MeshKey,
    reg: RegistryKey,
    nonce: Nonce,
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<Base64Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invite: Option<Invited>,
}

/// The invite's consent.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invited {
    key: AgentId,
    proof: Signature,
}

/// Makes a request; `invite` is the key of the invite, if there is one.
///
/// # Errors
/// The rotations do not lead to this key, or are too many.
pub fn request(
    keypair: &Keypair,
    ask: &Ask,
    invite: Option<&Keypair>,
    now_ms: u64,
) -> Result<JoinRequest, JoinError> {
    let mut claims = Claims {
        sub: ask.name.clone(),
        aid: ask.agent_id,
        cnf: Confirmation::new(&keypair.agent_id()),
        mesh: ask.mesh,
        reg: ask.registry,
        nonce: ask.nonce,
        iat: seconds(now_ms),
        tls: ask.tls_key.map(Base64Bytes),
        invite: None,
    };
    claims.invite = invite.map(|invite| Invited {
        key: invite.agent_id(),
        proof: invite.sign(JOIN_LABEL, &statement(&claims, &keypair.agent_id())),
    });
    let token = jwt::sign(Typ::Join, &claims, keypair);
    let rotations = ask.rotations.iter().map(Rotation::as_str);
    let tokens: Vec<_> = std::iter::once(token.as_str()).chain(rotations).collect();
    let request = tokens.join("~").parse();
    let request = request.map_err(|_| JoinError::Malformed("too long".into()))?;
    verify(&request)?;
    Ok(request)
}

/// Checks what a request proves by itself: whose it is and what it says.
///
/// # Errors
/// [`JoinError::Malformed`], [`JoinError::Forged`], [`JoinError::Rotation`] or
/// [`JoinError::NotInvited`].
pub fn verify(request: &JoinRequest) -> Result<VerifiedJoin, JoinError> {
    let mut tokens = request.as_str().split('~');
    let token = tokens.next().unwrap_or_default();
    let rotations: Vec<&str> = tokens.collect();
    let claimed: Claims = jwt::peek(token).map_err(malformed)?;
    let chain = rotation::verify_chain(&claimed.aid, rotations.iter().copied())?;
    let key = *chain.keys.last().unwrap_or(&claimed.aid);
    let claims: Claims = match jwt::verify(token, Typ::Join, key.as_bytes()) {
        Ok(claims) => claims,
        Err(JwtError::Forged) => return Err(JoinError::Forged),
        Err(other) => return Err(malformed(other)),
    };
    if claims.cnf.key() != Some(key) {
        return Err(JoinError::Forged);
    }
    let invited_by = claims.invite.as_ref().map(|invited| {
        let covered = statement(&claims, &key);
        let proof = keys::verify(&invited.key, JOIN_LABEL, &covered, &invited.proof);
        proof.map(|()| invited.key)
    });
    Ok(VerifiedJoin {
        invited_by: invited_by.transpose().map_err(|_| JoinError::NotInvited)?,
        name: claims.sub,
        agent_id: claims.aid,
        key,
        rotations: rotations.into_iter().map(Rotation::from_token).collect(),
        mesh: claims.mesh,
        registry: claims.reg,
        nonce: claims.nonce,
        tls_key: claims.tls.map(|key| key.0),
        issued_ms: millis(claims.iat),
    })
}

fn malformed(error: impl ToString) -> JoinError {
    JoinError::Malformed(error.to_string())
}

/// What the invite signs: name, agent id (32), current key (32), mesh key (32),
/// registry's key (32), nonce (32), time in seconds (8, big-endian), each as its
/// length in four big-endian bytes and itself.
fn statement(claims: &Claims, key: &AgentId) -> Vec<u8> {
    fields([
        claims.sub.as_str().as_bytes(),
        claims.aid.as_bytes(),
        key.as_bytes(),
        claims.mesh.as_bytes(),
        claims.reg.as_bytes(),
        claims.nonce.as_bytes(),
        &claims.iat.to_be_bytes(),
    ])
}

impl VerifiedJoin {
    /// Checks that the request was made for this registry, its mesh and this connection.
    ///
    /// # Errors
    /// [`JoinError::Elsewhere`], [`JoinError::Replayed`] or [`JoinError::ClockSkew`].
    pub fn check_here(
        &self,
        mesh: &MeshKey,
        registry: &RegistryKey,
        nonce: &Nonce,
        now_ms: u64,
    ) -> Result<(), JoinError> {
        if self.mesh != *mesh {
            return Err(JoinError::Elsewhere("mesh"));
        }
        if self.registry != *registry {
            return Err(JoinError::Elsewhere("registry"));
        }
        if self.nonce != *nonce {
            return Err(JoinError::Replayed);
        }
        let off_ms = self.issued_ms.abs_diff(now_ms);
        if off_ms > CLOCK_LEEWAY_MS {
            return Err(JoinError::ClockSkew { off_ms });
        }
        Ok(())
    }

    /// Checks that nobody stands between the joiner and this registry, whose
    /// TLS key `own` is: `None` where others speak TLS for it, and nothing can
    /// be compared.
    ///
    /// # Errors
    /// [`JoinError::Intercepted`].
    pub fn check_tls(&self, own: Option<&[u8; 32]>) -> Result<(), JoinError> {
        match (self.tls_key, own) {
            (Some(shown), Some(own)) if shown != *own => Err(JoinError::Intercepted { shown }),
            _ => Ok(()),
        }
    }

    /// Checks that the invite that came with the request has signed it and allows the name.
    ///
    /// # Errors
    /// [`JoinError::NotInvited`].
    pub fn check_invite(&self, invite: Option<&VerifiedDelegation>) -> Result<(), JoinError> {
        let fits = match (invite, self.invited_by) {
            (None, None) => true,
            (Some(invite), Some(by)) => invite.key == by && invite.allows_name(&self.name),
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(JoinError::NotInvited)
        }
    }
}
