//! Rotation: how an agent changes its key and stays who it is.
//!
//! A statement hands an identity from one key to the next and is signed by
//! both. The statements form a chain from the agent id, which is the first
//! key, to the current one, and travel behind the certificate. Whoever has
//! seen a chain must refuse any that does not go on from it ([`goes_on`]):
//! the holder of an old key can make another chain, but not an unseen past.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use waymesh_proto::control::Signature;
use waymesh_proto::limits::TOKEN_MAX_BYTES;
use waymesh_proto::{AgentId, Code};

use crate::jwt::{self, Base64Bytes, Typ};
use crate::keys::{self, Keypair};

/// What the new key's signature covers before the statement.
pub const ROTATION_LABEL: &str = "waymesh rotation v1";

/// Longest chain, statements. Chosen: that many fit into a certificate beside
/// everything else; one more is refused with `bad_certificate`.
pub const ROTATIONS_MAX: usize = 20;

/// One signed statement, as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotation(Box<str>);

impl Rotation {
    pub(crate) fn from_token(token: &str) -> Self {
        Self(token.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rotation({} bytes)", self.0.len())
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Rotation {
    type Err = RotationError;

    fn from_str(text: &str) -> Result<Self, RotationError> {
        let fits = text.len() <= TOKEN_MAX_BYTES;
        let typ = fits.then(|| Typ::of(text)).transpose();
        match typ {
            Ok(Some(Typ::Rotation)) => Ok(Self(text.into())),
            _ => Err(RotationError::Malformed),
        }
    }
}

/// Why a chain of rotations does not lead from an agent id to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// A part of it is not a rotation statement.
    #[error("a rotation statement is malformed")]
    Malformed,
    /// It is of another agent, or does not follow the one before it.
    #[error("rotation {seq} does not follow the one before it")]
    Broken {
        /// Its position in the chain, from 1.
        seq: u32,
    },
    /// Not signed by both keys.
    #[error("rotation {seq} is not signed by the old and the new key")]
    Forged {
        /// Its position in the chain, from 1.
        seq: u32,
    },
    /// More than [`ROTATIONS_MAX`]: the agent needs a new identity.
    #[error("{0} rotations are more than {ROTATIONS_MAX}")]
    TooMany(usize),
}

impl RotationError {
    /// The code to count it under.
    pub const fn code(&self) -> Code {
        Code::BadCertificate
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    aid: AgentId,
    old: Base64Bytes,
    new: Base64Bytes,
    seq: u32,
    iat: u64,
    /// The new key's signature; the token's is the old key's.
    proof: Signature,
}

/// A verified chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Every key from the first, which is the agent id, to the current one.
    pub(crate) keys: Vec<AgentId>,
    /// When the last statement was made, Unix time in milliseconds; 0 without one.
    pub(crate) issued_ms: u64,
}

/// Hands the identity `agent_id` from `old` to `new`; `seq` is 1 for the first rotation.
pub fn rotate(old: &Keypair, new: &Keypair, agent_id: AgentId, seq: u32, now_ms: u64) -> Rotation {
    let iat = jwt::seconds(now_ms);
    let (old_key, new_key) = (Base64Bytes(*old.public()), Base64Bytes(*new.public()));
    let proof = new.sign(
        ROTATION_LABEL,
        &statement(&agent_id, &old_key, &new_key, seq, iat),
    );
    let claims = Claims {
        aid: agent_id,
        old: old_key,
        new: new_key,
        seq,
        iat,
        proof,
    };
    Rotation(jwt::sign(Typ::Rotation, &claims, old).into())
}

/// Checks a chain and gives every key of the agent, from the first to the current one.
///
/// # Errors
/// The first statement that does not hold.
pub fn verify(agent_id: &AgentId, chain: &[Rotation]) -> Result<Vec<AgentId>, RotationError> {
    verify_chain(agent_id, chain.iter().map(Rotation::as_str)).map(|chain| chain.keys)
}

/// Whether a history of keys, oldest first, is one that was seen before or goes on from it.
pub fn goes_on(seen: &[AgentId], now: &[AgentId]) -> bool {
    now.starts_with(seen)
}

pub(crate) fn verify_chain<'a>(
    agent_id: &AgentId,
    tokens: impl ExactSizeIterator<Item = &'a str>,
) -> Result<Chain, RotationError> {
    if tokens.len() > ROTATIONS_MAX {
        return Err(RotationError::TooMany(tokens.len()));
    }
    let mut chain = Chain {
        keys: vec![*agent_id],
        issued_ms: 0,
    };
    let mut current = *agent_id;
    for (seq, token) in (1u32..).zip(tokens) {
        let claims = verify_one(token, seq, agent_id, &current)?;
        current = AgentId::from_bytes(claims.new.0);
        chain.keys.push(current);
        chain.issued_ms = chain.issued_ms.max(jwt::millis(claims.iat));
    }
    Ok(chain)
}

fn verify_one(
    token: &str,
    seq: u32,
    agent_id: &AgentId,
    current: &AgentId,
) -> Result<Claims, RotationError> {
    let claims: Claims = match jwt::verify(token, Typ::Rotation, current.as_bytes()) {
        Ok(claims) => claims,
        Err(jwt::JwtError::Forged) => return Err(RotationError::Forged { seq }),
        Err(_) => return Err(RotationError::Malformed),
    };
    let follows =
        claims.aid == *agent_id && claims.old.0 == *current.as_bytes() && claims.seq == seq;
    if !follows {
        return Err(RotationError::Broken { seq });
    }
    let statement = statement(agent_id, &claims.old, &claims.new, seq, claims.iat);
    let new = AgentId::from_bytes(claims.new.0);
    keys::verify(&new, ROTATION_LABEL, &statement, &claims.proof)
        .map_err(|_| RotationError::Forged { seq })?;
    Ok(claims)
}

/// What the new key signs: agent id (32), old key (32), new key (32), position
/// (4, big-endian), time in seconds (8, big-endian).
fn statement(aid: &AgentId, old: &Base64Bytes, new: &Base64Bytes, seq: u32, iat: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 * 3 + 12);
    bytes.extend_from_slice(aid.as_bytes());
    bytes.extend_from_slice(&old.0);
    bytes.extend_from_slice(&new.0);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&iat.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_leads_from_the_first_key_to_the_current_one() {
        let (current, chain) = rotated(&alice(), 3);
        let keys = verify(&alice().agent_id(), &chain).expect("a good chain");
        assert_eq!(keys.first(), Some(&alice().agent_id()));
        assert_eq!(keys.last(), Some(&current.agent_id()));
        assert_eq!(
            verify(&alice().agent_id(), &[]),
            Ok(vec![alice().agent_id()])
        );
    }

    #[test]
    fn both_keys_must_have_signed() {
        let (new, mallory) = (bob(), Keypair::from_seed(&[66; 32]));
        let claims = |proof_by: &Keypair| {
            let (old_key, new_key) = (Base64Bytes(*alice().public()), Base64Bytes(*new.public()));
            let statement = statement(&alice().agent_id(), &old_key, &new_key, 1, 5);
            Claims {
                aid: alice().agent_id(),
                old: old_key,
                new: new_key,
                seq: 1,
                iat: 5,
                proof: proof_by.sign(ROTATION_LABEL, &statement),
            }
        };
        let outcome = |proof_by: &Keypair, by: &Keypair| {
            let token = jwt::sign(Typ::Rotation, &claims(proof_by), by);
            verify(&alice().agent_id(), &[Rotation::from_token(&token)]).map(|_| ())
        };
        assert_eq!(outcome(&new, &alice()), Ok(()));
        for (proof_by, by) in [(&mallory, &alice()), (&new, &mallory), (&new, &new)] {
            assert_eq!(outcome(proof_by, by), Err(RotationError::Forged { seq: 1 }));
        }
    }

    #[test]
    fn whoever_has_seen_a_chain_takes_only_what_goes_on_from_it() {
        let keys = |times| verify(&alice().agent_id(), &rotated(&alice(), times).1);
        let (one, three) = (keys(1).expect("good"), keys(3).expect("good"));
        assert!(goes_on(&one, &three) && goes_on(&one, &one));
        assert!(!goes_on(&three, &one), "an older key comes back");
        let other = rotate(&alice(), &bob(), alice().agent_id(), 1, NOW_MS);
        let other = verify(&alice().agent_id(), &[other]).expect("well formed");
        assert!(!goes_on(&one, &other), "another future of the first key");
    }

    #[test]
    fn a_rotation_reads_back_from_its_text_and_nothing_else_is_one() {
        let (_, chain) = rotated(&alice(), 1);
        assert_eq!(chain[0].to_string().parse(), Ok(chain[0].clone()));
        let certificate = certificate("alice", &alice());
        let outcome = certificate.as_str().parse::<Rotation>();
        assert_eq!(outcome, Err(RotationError::Malformed));
    }

    proptest! {
        #[test]
        fn reading_any_text_never_panics(text: String) {
            prop_assert!(text.parse::<Rotation>().is_err());
            prop_assert!(verify(&alice().agent_id(), &[Rotation::from_token(&text)]).is_err());
        }
    }
}
