//! Control messages in the bodies of HTTP requests, where no WebSocket passes
//! (`spec/http.md`).
//!
//! A body is a row of whole messages, possibly none:
//!
//! ```text
//! body    = message*
//! message = kind:u8 length:u32 bytes      big-endian
//!   1 text     a control message          UTF-8
//!   2 binary   a mailbox message
//! ```

use serde::{Deserialize, Serialize};

use crate::error::Code;
use crate::ids::PollId;

/// Largest body in either direction, bytes: a control message of the largest
/// size and several parts of an item. A larger one is refused with `too_large`.
pub const POLL_BODY_MAX_BYTES: usize = 1024 * 1024;

/// How long the registry holds a `GET` back that it has nothing for,
/// milliseconds. Chosen: less than the 30 s after which proxies give up.
pub const POLL_WAIT_MS: u64 = 25_000;

/// How long a session lasts without a waiting `GET`, milliseconds. Chosen: the
/// node fetches its next proof and connects anew on a bad line meanwhile.
pub const POLL_IDLE_MS: u64 = 30_000;

/// Bytes before each message.
pub const POLL_HEAD_BYTES: usize = 5;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// The answer to the request that opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollOpened {
    /// What the next requests name it by.
    pub session: PollId,
}

/// One message of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollMessage<'a> {
    /// A control message.
    Text(&'a str),
    /// A mailbox message.
    Binary(&'a [u8]),
}

/// A body that is not a row of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// The last message is cut off.
    #[error("the last message of the body is cut off")]
    Truncated,
    /// A kind that is not known.
    #[error("a message of kind {0} is not known")]
    Unknown(u8),
    /// A text is not UTF-8.
    #[error("a text message is not UTF-8")]
    NotUtf8,
}

impl PollError {
    /// The code that the other side is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotUtf8 => Code::NotUtf8,
            Self::Truncated | Self::Unknown(_) => Code::BadRequest,
        }
    }
}

impl<'a> PollMessage<'a> {
    /// Appends the message to a body.
    pub fn put(&self, body: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Text(text) => (TEXT, text.as_bytes()),
            Self::Binary(bytes) => (BINARY, *bytes),
        };
        let len = u32::try_from(bytes.len()).expect("a message is far below 4 GiB");
        body.push(kind);
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(bytes);
    }

    /// Takes the first message off a body; `None` at its end.
    ///
    /// # Errors
    /// A [`PollError`]; what follows cannot be read then.
    pub fn take(body: &mut &'a [u8]) -> Result<Option<Self>, PollError> {
        if body.is_empty() {
            return Ok(None);
        }
        let (head, rest) = body
            .split_first_chunk::<POLL_HEAD_BYTES>()
            .ok_or(PollError::Truncated)?;
        let [kind, len @ ..] = *head;
        let len = usize::try_from(u32::from_be_bytes(len)).map_err(|_| PollError::Truncated)?;
        let message = |bytes| match kind {
            TEXT => std::str::from_utf8(bytes)
                .map(Self::Text)
                .map_err(|_| PollError::NotUtf8),
            BINARY => Ok(Self::Binary(bytes)),
            other => Err(PollError::Unknown(other)),
        };
        let (bytes, rest) = rest.split_at_checked(len).ok_or(PollError::Truncated)?;
        *body = rest;
        message(bytes).map(Some)
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// A [`PollError`]; nothing of the body is to be believed then.
    pub fn all(mut body: &'a [u8]) -> Result<Vec<Self>, PollError> {
        let mut messages = Vec::new();
        while let Some(message) = Self::take(&mut body)? {
            messages.push(message);
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_has_these_bytes() {
        let mut body = Vec::new();
        PollMessage::Text("hi").put(&mut body);
        PollMessage::Binary(&[9]).put(&mut body);
        assert_eq!(body, [1, 0, 0, 0, 2, b'h', b'i', 2, 0, 0, 0, 1, 9]);
        assert_eq!(PollMessage::all(&[]), Ok(Vec::new()));
    }

    #[test]
    fn a_body_that_is_no_row_of_messages_is_refused_with_the_reason() {
        for (body, error) in [
            (&[1][..], PollError::Truncated),
            (&[1, 0, 0, 0, 2, b'h'], PollError::Truncated),
            (&[2, 0xff, 0xff, 0xff, 0xff], PollError::Truncated),
            (&[3, 0, 0, 0, 0], PollError::Unknown(3)),
            (&[1, 0, 0, 0, 1, 0xff], PollError::NotUtf8),
            (&[2, 0, 0, 0, 0, 7], PollError::Truncated),
        ] {
            assert_eq!(PollMessage::all(body), Err(error), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(messages: Vec<Result<String, Vec<u8>>>) {
            let messages: Vec<_> = messages
                .iter()
                .map(|m| match m {
                    Ok(text) => PollMessage::Text(text),
                    Err(bytes) => PollMessage::Binary(bytes),
                })
                .collect();
            let mut body = Vec::new();
            for message in &messages {
                message.put(&mut body);
            }
            prop_assert_eq!(PollMessage::all(&body), Ok(messages));
        }

        #[test]
        fn reading_any_bytes_never_panics(body: Vec<u8>) {
            let _ = PollMessage::all(&body);
        }
    }
}
