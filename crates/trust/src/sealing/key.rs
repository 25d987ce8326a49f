//! Sealing keys and the statements that make them an agent's.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use rustls::crypto::hpke::{HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use waymesh_proto::control::MeshKey;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::membership::SealingStatement;
use waymesh_proto::{AgentId, KeyId, MeshId, Name};

use super::error::SealError;
use crate::certificate::Verified;
use crate::jwt::{self, Curve, Jwk, JwtError, Typ, millis, seconds};
use crate::keys::{Keypair, mesh_id, sha256};

/// Longest time that a statement lets others seal to a key, milliseconds: 14
/// days. Chosen: a key is replaced weekly, and one that was away for a week
/// can still be written to. A longer one is malformed.
pub const SEALING_LIFE_MAX_MS: u64 = 14 * 24 * 3_600_000;

/// The private half of a sealing key. `Debug` shows its id only.
pub struct SealingKey {
    id: KeyId,
    public: [u8; 32],
    private: HpkePrivateKey,
    expires_ms: u64,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey")
            .field("id", &self.id)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

impl SealingKey {
    /// Makes a key of 32 random bytes. Others may seal to it until `expires_ms`.
    pub fn from_seed(seed: &[u8; 32], expires_ms: u64) -> Self {
        let private = PrivateKey::from_private_key(&X25519, seed)
            .expect("every 32 bytes are an X25519 key (RFC 7748 §5)");
        let public = private
            .compute_public_key()
            .expect("an X25519 key has a public half");
        let public = public
            .as_ref()
            .try_into()
            .expect("an X25519 public key has 32 bytes");
        Self {
            id: key_id(&public),
            public,
            private: HpkePrivateKey::from(seed.to_vec()),
            expires_ms,
        }
    }

    /// The key's id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The public half.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Until when others may seal to it, Unix time in milliseconds.
    pub const fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    pub(super) const fn private(&self) -> &HpkePrivateKey {
        &self.private
    }

    /// Says that this key is the agent's. `signer` is the current key of its certificate.
    pub fn statement(
        &self,
        signer: &Keypair,
        agent_id: AgentId,
        mesh: &MeshKey,
        now_ms: u64,
    ) -> SealingStatement {
        let claims = Claims {
            iss: mesh_id(mesh),
            aid: agent_id,
            jwk: Jwk::new(Curve::X25519, self.public),
            iat: seconds(now_ms),
            exp: seconds(self.expires_ms),
        };
        jwt::sign(Typ::Sealing, &claims, signer)
            .parse()
            .expect("a sealing statement of a few fields is short")
    }
}

/// The first 16 bytes of the SHA-256 of the public half.
fn key_id(public: &[u8; 32]) -> KeyId {
    let hash = sha256(public);
    KeyId::from_bytes(std::array::from_fn(|i| hash[i]))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// The mesh.
    iss: MeshId,
    aid: AgentId,
    jwk: Jwk,
    iat: u64,
    exp: u64,
}

/// A peer's key to seal to, proven to be the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealTo {
    /// Whose it is.
    pub agent_id: AgentId,
    /// The key's id.
    pub id: KeyId,
    /// The public half.
    pub public: [u8; 32],
    /// When the statement was made, Unix time in milliseconds: of two, the newer one counts.
    pub issued_ms: u64,
    /// Until when it may be sealed to, Unix time in milliseconds.
    pub expires_ms: u64,
}

impl SealTo {
    /// Whether it may be sealed to at this time, give or take [`CLOCK_LEEWAY_MS`].
    /// `name` is its owner's.
    ///
    /// # Errors
    /// [`SealError::NotYetValid`] or [`SealError::Expired`].
    pub fn check_time(&self, name: &Name, now_ms: u64) -> Result<(), SealError> {
        let ahead_ms = self.issued_ms.saturating_sub(now_ms);
        if ahead_ms > CLOCK_LEEWAY_MS {
            let name = name.clone();
            return Err(SealError::NotYetValid { name, ahead_ms });
        }
        let over_ms = now_ms.saturating_sub(self.expires_ms);
        if over_ms > CLOCK_LEEWAY_MS {
            let name = name.clone();
            return Err(SealError::Expired { name, over_ms });
        }
        Ok(())
    }

    pub(super) fn public_key(&self) -> HpkePublicKey {
        HpkePublicKey(self.public.to_vec())
    }
}

/// Checks that a statement is this member's and holds now, give or take [`CLOCK_LEEWAY_MS`].
///
/// # Errors
/// A [`SealError`]; nothing may be sealed to the key then.
pub fn verify_statement(
    statement: &SealingStatement,
    by: &Verified,
    now_ms: u64,
) -> Result<SealTo, SealError> {
    let seal_to = verify_without_time(statement, by)?;
    seal_to.check_time(&by.name, now_ms)?;
    Ok(seal_to)
}

/// Everything but the time.
pub(crate) fn verify_without_time(
    statement: &SealingStatement,
    by: &Verified,
) -> Result<SealTo, SealError> {
    let name = || by.name.clone();
    let malformed = |why: &dyn ToString| SealError::Malformed {
        name: name(),
        why: why.to_string(),
    };
    let token = statement.as_str();
    let claims: Claims = match jwt::verify(token, Typ::Sealing, by.key.as_bytes()) {
        Ok(claims) => claims,
        Err(JwtError::Forged) => return Err(SealError::Forged { name: name() }),
        Err(other) => return Err(malformed(&other)),
    };
    if claims.aid != by.agent_id || claims.iss != by.mesh {
        return Err(SealError::Forged { name: name() });
    }
    let public = claims.jwk.key(Curve::X25519);
    let public = public.ok_or_else(|| malformed(&"its key is not an X25519 key"))?;
    let life = claims.exp.checked_sub(claims.iat).map(millis);
    if life.is_none_or(|life_ms| life_ms > SEALING_LIFE_MAX_MS) {
        return Err(malformed(&"it has a life that no such statement may have"));
    }
    Ok(SealTo {
        agent_id: claims.aid,
        id: key_id(&public),
        public,
        issued_ms: millis(claims.iat),
        expires_ms: millis(claims.exp),
    })
}
