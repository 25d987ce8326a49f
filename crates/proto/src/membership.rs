//! Who belongs to a mesh: the signed texts that travel, as texts.
//!
//! Each is made and verified by trust; here only their size and alphabet are
//! checked, so that nothing else reaches a verifier. A certificate is a chain
//! of JWTs (RFC 7519) joined by `~` (`spec/membership.md`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{CERTIFICATE_MAX_BYTES, INVITE_MAX_BYTES, TOKEN_MAX_BYTES};

/// A text that cannot be a signed token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {why}")]
pub struct TokenError {
    what: &'static str,
    why: &'static str,
}

macro_rules! token {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Box<str>);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} bytes)", stringify!($type), self.0.len())
            }
        }

        impl FromStr for $type {
            type Err = TokenError;

            fn from_str(text: &str) -> Result<Self, TokenError> {
                let bad = |why| TokenError { what: $what, why };
                if text.is_empty() {
                    return Err(bad("it is empty"));
                }
                if text.len() > $max {
                    return Err(bad("it is too long"));
                }
                let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
                if !text.bytes().all(allowed) {
                    return Err(bad("it has other characters than base64url, . and ~"));
                }
                Ok(Self(text.into()))
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

token!(
    /// A member's certificate with its chain: what proves name, identity, key and roles.
    Certificate,
    "certificate",
    CERTIFICATE_MAX_BYTES
);
token!(
    /// A member's statement of the key that messages to it are sealed with.
    SealingStatement,
    "sealing statement",
    TOKEN_MAX_BYTES
);
token!(
    /// The registry's statement that a certificate lives longer.
    Extension,
    "extension",
    TOKEN_MAX_BYTES
);
token!(
    /// The authority's statement that a member or an invite is revoked.
    Revocation,
    "revocation",
    TOKEN_MAX_BYTES
);
token!(
    /// What a node says of itself when it asks to join, signed by its key, and
    /// the rotations that led to that key.
    JoinRequest,
    "join request",
    CERTIFICATE_MAX_BYTES
);
token!(
    /// The authority's leave to admit members within limits, to whoever holds its key.
    Delegation,
    "delegation",
    TOKEN_MAX_BYTES
);
token!(
    /// What an admin hands to a new member: whom to trust, where to connect,
    /// and the key to enter with, or to ask with where a person approves. A secret.
    Invite,
    "invite",
    INVITE_MAX_BYTES
);
