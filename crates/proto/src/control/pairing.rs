//! Pairing codes: six digits that an admin reads out to somebody.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Pairing codes that there are: six decimal digits.
pub const PAIRING_CODES: u32 = 1_000_000;

/// How long a pairing code holds at most, milliseconds: 5 minutes.
pub const PAIRING_CODE_LIFE_MS: u64 = 300_000;

/// Six digits that one node may ask to join with, once. A secret for its short life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairingCode(u32);

/// A text that is not a pairing code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid pairing code: must be six digits")]
pub struct PairingCodeError;

impl PairingCode {
    /// Makes a code of any number: its last six decimal digits.
    pub const fn from_number(number: u32) -> Self {
        Self(number % PAIRING_CODES)
    }

    /// The code as a number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl fmt::Debug for PairingCode {
    /// Does not show the digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode(……)")
    }
}

impl FromStr for PairingCode {
    type Err = PairingCodeError;

    fn from_str(text: &str) -> Result<Self, PairingCodeError> {
        if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PairingCodeError);
        }
        text.parse().map(Self).map_err(|_| PairingCodeError)
    }
}

impl Serialize for PairingCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PairingCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_six_digits_also_when_it_begins_with_zeros() {
        let code = PairingCode::from_number(1_000_042);
        assert_eq!(code.to_string(), "000042");
        assert_eq!("000042".parse(), Ok(code));
        for text in ["", "00042", "0000042", "00004x", "+00042", "٠٠٠٠٤٢"] {
            assert_eq!(text.parse::<PairingCode>(), Err(PairingCodeError), "{text}");
        }
    }
}
