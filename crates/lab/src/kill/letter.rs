//! What a message says about itself: who sent it in which life, to whom, and which it is.

use std::str::FromStr;

use waymesh_proto::Class;
use waymesh_proto::envelope::Payload;
use waymesh_proto::ipc::RequestId;

/// One message in these many is large. Chosen.
const LARGE_ONE_IN: u64 = 50;

/// One message in these many is of the unordered class. Chosen.
const UNORDERED_ONE_IN: u64 = 4;

/// Bytes that fill up a message.
const SMALL_BYTES: usize = 200;
const LARGE_BYTES: usize = 20_000;

/// The number of a sender or receiver.
pub(crate) type Actor = u8;

/// The lives of an actor, counted from one.
pub(crate) type Life = u32;

/// A message, unlike all others of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Letter {
    pub(crate) from: Actor,
    pub(crate) to: Actor,
    /// Counted for each pair, over all lives of the sender.
    pub(crate) number: u64,
    /// The sender's.
    pub(crate) life: Life,
}

impl Letter {
    /// The class that it is sent in.
    pub(crate) const fn class(self) -> Class {
        if self.number.is_multiple_of(UNORDERED_ONE_IN) {
            Class::Tasks
        } else {
            Class::Control
        }
    }

    /// The message itself.
    pub(crate) fn payload(self) -> Payload {
        let size = if self.number.is_multiple_of(LARGE_ONE_IN) {
            LARGE_BYTES
        } else {
            SMALL_BYTES
        };
        let filling = "x".repeat(size);
        Payload::json(format!("\"{} {filling}\"", self.text()))
    }

    /// The message that a payload is, if it is one, whole.
    pub(crate) fn read(payload: &Payload) -> Option<Self> {
        let text = std::str::from_utf8(&payload.bytes).ok()?;
        let (text, _) = text.strip_prefix('"')?.split_once(' ')?;
        let letter: Self = text.parse().ok()?;
        (letter.payload() == *payload).then_some(letter)
    }

    /// The id of the request that sends it.
    pub(crate) fn request(self) -> Option<RequestId> {
        self.text().parse().ok()
    }

    pub(crate) fn text(self) -> String {
        let Self {
            from,
            to,
            number,
            life,
        } = self;
        format!("{from}.{to}.{number}.{life}")
    }
}

impl FromStr for Letter {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(4, '.');
        let mut next = || parts.next().unwrap_or("");
        Ok(Self {
            from: next().parse()?,
            to: next().parse()?,
            number: next().parse()?,
            life: next().parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_back_only_when_it_is_whole() {
        let letter = Letter {
            from: 1,
            to: 2,
            number: 50,
            life: 3,
        };
        let mut payload = letter.payload();
        assert_eq!(Letter::read(&payload), Some(letter));
        payload.bytes.pop();
        payload.bytes.pop();
        payload.bytes.push(b'"');
        assert_eq!(Letter::read(&payload), None);
    }
}
