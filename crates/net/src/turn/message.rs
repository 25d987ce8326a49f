//! STUN messages (RFC 8489 §5): a header of 20 bytes and attributes.
//!
//! ```text
//!  0                   1                   2                   3
//!  |0 0|  class and method (14)    |  length of the attributes (16)|
//!  |                 magic cookie 0x2112A442 (32)                  |
//!  |                 transaction id (96)                           |
//!  |  type (16)                    |  length without padding (16)  |  each attribute,
//!  |  value, padded to 4 bytes                                     |  repeated
//! ```

mod attribute;
mod read;
mod write;

pub use attribute::{AttributeType, code, kind};
pub use read::{Attributes, Malformed, Message};
pub use write::Writer;

/// Bytes of a message's header.
pub const HEADER_BYTES: usize = 20;

/// The fixed value that tells a STUN message (RFC 8489 §5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Asks for one's own address (RFC 8489 §3).
    Binding,
    /// Asks for a relayed address (RFC 8656 §7).
    Allocate,
    /// Prolongs an allocation, or ends it (RFC 8656 §8).
    Refresh,
    /// Carries data to a peer (RFC 8656 §11).
    Send,
    /// Carries data from a peer (RFC 8656 §11).
    Data,
    /// Lets peers of an IP address in (RFC 8656 §10).
    CreatePermission,
    /// Gives a peer a channel number (RFC 8656 §12).
    ChannelBind,
}

/// Which part in an exchange a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// The good answer.
    Success,
    /// The bad answer.
    Error,
}

/// The 96 bits that join a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId([u8; 12]);

impl TransactionId {
    /// An id; of requests it must be unguessable (RFC 8489 §5).
    pub const fn new(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

impl Method {
    const ALL: [Self; 7] = [
        Self::Binding,
        Self::Allocate,
        Self::Refresh,
        Self::Send,
        Self::Data,
        Self::CreatePermission,
        Self::ChannelBind,
    ];

    /// The number of RFC 8489 §18.2 and RFC 8656 §17.
    pub const fn number(self) -> u16 {
        match self {
            Self::Binding => 0x001,
            Self::Allocate => 0x003,
            Self::Refresh => 0x004,
            Self::Send => 0x006,
            Self::Data => 0x007,
            Self::CreatePermission => 0x008,
            Self::ChannelBind => 0x009,
        }
    }

    fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.number() == number)
    }
}

/// The first two bytes of a message: the bits of the class lie between those of the method.
pub(super) const fn type_of(class: Class, method: u16) -> u16 {
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (method & 0xf) | (method & 0x70) << 1 | (method & 0xf80) << 2 | class
}

/// Class and number of the method in the first two bytes of a message.
const fn class_and_method(of: u16) -> (Class, u16) {
    let class = match of & 0x110 {
        0x000 => Class::Request,
        0x010 => Class::Indication,
        0x100 => Class::Success,
        _ => Class::Error,
    };
    (class, (of & 0xf) | (of >> 1 & 0x70) | (of >> 2 & 0xf80))
}

/// The value of FINGERPRINT after this text: its CRC-32, mixed with a constant (RFC 8489 §14.7).
fn fingerprint(text: &[u8]) -> [u8; 4] {
    let mut value = stun_types::attribute::Fingerprint::compute(&[text]);
    value.iter_mut().zip(b"STUN").for_each(|(a, b)| *a ^= b);
    value
}

/// Bytes that fill a value up to a multiple of 4.
const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

#[cfg(test)]
mod tests;
