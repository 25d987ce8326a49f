//! Long-term credentials (RFC 8489 §9.2): keys out of passwords, and what they sign.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use stun_types::attribute::{MessageIntegrity, MessageIntegritySha256};
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials};

use super::message::{AttributeType, kind};

/// Shortest MESSAGE-INTEGRITY-SHA256 that counts: it may be cut (RFC 8489 §14.6).
const SHA256_MIN_BYTES: usize = 16;

/// How a message is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Integrity {
    /// MESSAGE-INTEGRITY: HMAC-SHA1.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256: HMAC-SHA256.
    Sha256,
}

/// How a key is made out of user name, realm and password (RFC 8489 §18.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PasswordAlgorithm {
    /// What everybody knows, and the rule where nothing is said.
    Md5,
    /// The newer one.
    Sha256,
}

/// The key of one user in one realm.
#[derive(Clone)]
pub struct Key(IntegrityKey);

impl Integrity {
    /// The attribute that carries the signature.
    pub const fn attribute(self) -> AttributeType {
        match self {
            Self::Sha1 => kind::MESSAGE_INTEGRITY,
            Self::Sha256 => kind::MESSAGE_INTEGRITY_SHA256,
        }
    }

    /// Bytes of a whole signature.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl PasswordAlgorithm {
    /// The value of PASSWORD-ALGORITHM, and an entry of PASSWORD-ALGORITHMS (RFC 8489 §14.12).
    pub const fn value(self) -> [u8; 4] {
        match self {
            Self::Md5 => [0, 1, 0, 0],
            Self::Sha256 => [0, 2, 0, 0],
        }
    }
}

impl Key {
    /// The key of a user (RFC 8489 §9.2.2).
    pub fn new(user: &str, realm: &str, password: &str, algorithm: PasswordAlgorithm) -> Self {
        let of = LongTermKeyCredentials::new(user.into(), password.into(), realm.into());
        Self(of.make_key(match algorithm {
            PasswordAlgorithm::Md5 => IntegrityAlgorithm::Sha1,
            PasswordAlgorithm::Sha256 => IntegrityAlgorithm::Sha256,
        }))
    }

    /// The signature over a text, in the first [`Integrity::length`] bytes.
    pub(super) fn sign(&self, integrity: Integrity, text: &[u8]) -> [u8; 32] {
        self.sign_parts(integrity, &[text])
    }

    fn sign_parts(&self, integrity: Integrity, parts: &[&[u8]]) -> [u8; 32] {
        let mut signature = [0; 32];
        match integrity {
            Integrity::Sha1 => {
                let short = MessageIntegrity::compute(parts, &self.0).expect("HMAC takes any text");
                signature[..short.len()].copy_from_slice(&short);
            }
            Integrity::Sha256 => {
                signature =
                    MessageIntegritySha256::compute(parts, &self.0).expect("HMAC takes any text");
            }
        }
        signature
    }

    pub(super) fn verify(&self, integrity: Integrity, parts: &[&[u8]], value: &[u8]) -> bool {
        let whole = integrity.length();
        let fits = match integrity {
            Integrity::Sha1 => value.len() == whole,
            Integrity::Sha256 => {
                (SHA256_MIN_BYTES..=whole).contains(&value.len()) && value.len().is_multiple_of(4)
            }
        };
        fits && verify_slices_are_equal(&self.sign_parts(integrity, parts)[..value.len()], value)
            .is_ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}
