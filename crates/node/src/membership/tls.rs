//! Whom a node takes for its registry when TLS begins: a key that it knows, an
//! authority's word, or, only when it knows neither, the key that it is shown first.

use std::fmt;

use serde::{Deserialize, Serialize};
use waymesh_net::control::TlsTrust;

/// The SHA-256 of a registry's TLS public key (SPKI), written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TlsPin(pub [u8; 32]);

impl fmt::Debug for TlsPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsPin({self})")
    }
}

impl fmt::Display for TlsPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Serialize for TlsPin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TlsPin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let pin = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        pin.ok_or_else(|| serde::de::Error::custom("not a SHA-256 in hexadecimal"))
    }
}

/// What a node knows of its registry's TLS key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegistryTls {
    /// Which one it is.
    Pinned(TlsPin),
    /// An authority has to vouch for it.
    Vouched,
    /// Nothing: the one that is shown first is trusted, the registry compares
    /// it with its own, and an admin the fingerprints.
    FirstUse,
}

impl RegistryTls {
    /// The key, if it is known.
    pub(crate) const fn pin(self) -> Option<TlsPin> {
        match self {
            Self::Pinned(pin) => Some(pin),
            Self::Vouched | Self::FirstUse => None,
        }
    }

    /// Whom TLS trusts, these authorities among them.
    pub(crate) fn trust(self, authorities: TlsTrust) -> TlsTrust {
        match self {
            Self::Pinned(pin) => authorities.with_pin(pin.0),
            Self::Vouched => authorities,
            Self::FirstUse => authorities.with_first_use(),
        }
    }

    /// What is known after the first connection, which trusted `key` on first
    /// use: whoever comes after it must be the same.
    pub(crate) fn after_first_use(self, key: Option<[u8; 32]>) -> Self {
        match (self, key) {
            (Self::FirstUse, Some(key)) => Self::Pinned(TlsPin(key)),
            (Self::FirstUse, None) => Self::Vouched,
            (known, _) => known,
        }
    }
}

impl From<Option<TlsPin>> for RegistryTls {
    /// What an invite or a membership says.
    fn from(pin: Option<TlsPin>) -> Self {
        pin.map_or(Self::Vouched, Self::Pinned)
    }
}
