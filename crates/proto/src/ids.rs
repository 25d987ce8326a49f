//! Identifiers: each is a newtype that only holds what its format allows.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::limits::NAME_MAX_CHARS;

/// A text that is not a valid identifier of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {why}")]
pub struct IdError {
    what: &'static str,
    why: &'static str,
}

const fn bad(what: &'static str, why: &'static str) -> IdError {
    IdError { what, why }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}

/// The permanent identity of an agent: its first Ed25519 public key.
///
/// Written as 52 characters of lower-case base32 without padding (RFC 4648).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId([u8; 32]);

impl AgentId {
    /// Takes the 32 bytes of the agent's first public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the agent's first public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for AgentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("agent id", "base32 must be in lower case"));
        }
        let bytes = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| bad("agent id", "not base32"))?;
        let bytes = bytes
            .try_into()
            .map_err(|_| bad("agent id", "must be 52 base32 characters (32 bytes)"))?;
        Ok(Self(bytes))
    }
}
serde_as_text!(AgentId);

macro_rules! hex_id {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type([u8; 16]);

        impl $type {
            /// Takes the 16 bytes of the id.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = HEXLOWER
                    .decode(text.as_bytes())
                    .map_err(|_| bad($what, "not lower-case hexadecimal"))?;
                let bytes = bytes
                    .try_into()
                    .map_err(|_| bad($what, "must be 32 hexadecimal characters (16 bytes)"))?;
                Ok(Self(bytes))
            }
        }
        serde_as_text!($type);
    };
}

hex_id!(
    /// One attempt of two nodes to make a link: 128 random bits, chosen by the offerer.
    SessionId,
    "session id"
);
hex_id!(
    /// The mesh that a registry, its members and their signatures belong to.
    MeshId,
    "mesh id"
);

hex_id!(
    /// One sealed item in a mailbox: 128 random bits, chosen by its sender.
    ItemId,
    "item id"
);
hex_id!(
    /// A sealing key: the first 16 bytes of the SHA-256 of its public half.
    KeyId,
    "key id"
);
hex_id!(
    /// An invite: 128 random bits, chosen by the authority.
    InviteId,
    "invite id"
);
hex_id!(
    /// A long-poll session: 128 random bits, chosen by the registry. No secret:
    /// it is of use only with the key that opened it.
    PollId,
    "poll session id"
);

/// The id of one message: a UUIDv7 (RFC 9562), so that ids sort by time of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(uuid::Uuid);

impl MessageId {
    /// Makes a UUIDv7 of a Unix time in milliseconds and ten random bytes.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// Takes any 16 bytes: ids of foreign origin need not be version 7.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        uuid::Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| bad("message id", "not a UUID"))
    }
}
serde_as_text!(MessageId);

macro_rules! text_id {
    ($(#[$doc:meta])* $type:ident, $what:literal, $allowed:expr, $why:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Box<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > NAME_MAX_CHARS || !text.bytes().all(allowed) {
                    return Err(bad($what, $why));
                }
                Ok(Self(text.into()))
            }
        }
        serde_as_text!($type);
    };
}

text_id!(
    /// The short name of an agent, unique in its registry: 1–63 characters of `a-z0-9-`.
    Name,
    "agent name",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-',
    "1 to 63 characters of a-z, 0-9 and -"
);
text_id!(
    /// The name of a skill: 1–63 characters of `a-z0-9-_.`, so that function names fit.
    SkillName,
    "skill name",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'),
    "1 to 63 characters of a-z, 0-9, -, _ and ."
);

text_id!(
    /// What a member may be trusted with, given by its certificate: 1–63 characters of `a-z0-9-_.`.
    Role,
    "role",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'),
    "1 to 63 characters of a-z, 0-9, -, _ and ."
);
text_id!(
    /// A request to join that waits for an admin: a few characters of `a-z0-9` to be typed.
    RequestId,
    "request id",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
    "1 to 63 characters of a-z and 0-9"
);

/// One life of a node: a number that only grows from start to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(u64);

impl Incarnation {
    /// Takes the number of an incarnation.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The next incarnation of a node: max(stored + 1, Unix time in milliseconds).
    pub fn next(stored: Option<Self>, unix_ms: u64) -> Self {
        Self(stored.map_or(unix_ms, |s| unix_ms.max(s.0.saturating_add(1))))
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node's own handle of one link, made by core; it never leaves the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

impl LinkId {
    /// Takes a number that this node has not used for a link before.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_of_63_characters_is_valid_and_one_of_64_is_not() {
        assert!("a".repeat(63).parse::<Name>().is_ok());
        assert!("a".repeat(64).parse::<Name>().is_err());
        assert!("".parse::<Name>().is_err());
        assert!("Alice".parse::<Name>().is_err());
        assert!("count_words".parse::<Name>().is_err());
        assert!("count_words".parse::<SkillName>().is_ok());
    }

    #[test]
    fn an_incarnation_grows_even_when_the_clock_went_back() {
        let stored = Incarnation::new(1_000);
        assert_eq!(Incarnation::next(Some(stored), 5), Incarnation::new(1_001));
        assert_eq!(
            Incarnation::next(Some(stored), 2_000),
            Incarnation::new(2_000)
        );
        assert_eq!(Incarnation::next(None, 7), Incarnation::new(7));
    }

    proptest! {
        #[test]
        fn every_agent_id_reads_back_from_its_text(bytes: [u8; 32]) {
            let id = AgentId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().len(), 52);
            prop_assert_eq!(id.to_string().parse::<AgentId>(), Ok(id));
        }

        #[test]
        fn parsing_any_text_as_an_id_never_panics(text: String) {
            let _ = text.parse::<AgentId>();
            let _ = text.parse::<SessionId>();
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<Name>();
            let _ = text.parse::<SkillName>();
        }
    }
}
