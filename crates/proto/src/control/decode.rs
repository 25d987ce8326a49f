//! From hostile bytes to a control message, or to the reason why not.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::CONTROL_MAX_BYTES;
use crate::error::{Code, Fault};

/// Why bytes are not a control message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`CONTROL_MAX_BYTES`]; send less.
    #[error("the message of {len} bytes is larger than {max}")]
    TooLarge {
        /// Its length, bytes.
        len: usize,
        /// The limit, bytes.
        max: usize,
    },
    /// Not UTF-8 (RFC 8259 §8.1).
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// A `type` that this version does not know.
    #[error("the type {0:?} is not known")]
    UnknownType(String),
    /// Not JSON, or not the shape of its type.
    #[error("the message is malformed: {0}")]
    Malformed(String),
}

impl DecodeError {
    /// The code that the other side is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::TooLarge,
            Self::NotUtf8 => Code::NotUtf8,
            Self::UnknownType(_) => Code::UnknownVerb,
            Self::Malformed(_) => Code::BadRequest,
        }
    }

    /// The error that the other side is told.
    pub fn fault(&self) -> Fault {
        Fault::new(self.code(), self.to_string())
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// Longest part of an unknown type that is repeated in an error, characters.
const UNKNOWN_SHOWN_CHARS: usize = 40;

/// Decodes one message whose `type` is among `known`.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], known: &[&str]) -> Result<T, DecodeError> {
    if bytes.len() > CONTROL_MAX_BYTES {
        return Err(DecodeError::TooLarge {
            len: bytes.len(),
            max: CONTROL_MAX_BYTES,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)?;
    let head: Head<'_> = serde_json::from_str(text).map_err(malformed)?;
    if !known.contains(&head.kind.as_ref()) {
        let shown = head.kind.chars().take(UNKNOWN_SHOWN_CHARS).collect();
        return Err(DecodeError::UnknownType(shown));
    }
    serde_json::from_str(text).map_err(malformed)
}

fn malformed(error: serde_json::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}
