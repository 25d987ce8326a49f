//! Sealed items as they travel between a node and the registry (`spec/mailbox.md`).
//!
//! Items are binary WebSocket messages, so that control messages are never
//! stuck behind more than one part:
//!
//! ```text
//! message = kind:u8 body
//!   1 post  header:blob total:v bytes          node to registry: an item, or its first part
//!   2 push  note header:blob total:v bytes     registry to node
//!   3 part  bytes                              more of the item that this side has begun
//! note    = again:u8 dwell_ms:v                0 or 1
//! blob    = length:v bytes
//! v       = a variable-length integer of RFC 9000 §16
//! ```
//!
//! `header` is the CBOR of an [`ItemHeader`], byte for byte as its sender made
//! it: it is what the seal covers beside the content. `total` and `bytes` are
//! of the sealed content: from 1 to [`ITEM_MAX_BYTES`] in all, from 1 to
//! [`PART_BYTES`] in one message.

use minicbor::{Decode, Encode};

use crate::class::Class;
use crate::ids::{AgentId, ItemId, KeyId};
use crate::limits::{ITEM_MAX_BYTES, TTL_MAX_MS};
use crate::varint::{self, Reader};

/// Bytes of an item that one binary message carries at most. Chosen: signals
/// and acknowledgements pass in between, also on a slow line.
pub const PART_BYTES: usize = 64 * 1024;

/// Largest encoded [`ItemHeader`], bytes: all fields take 117 at most; keys of
/// newer versions have some room.
pub const ITEM_HEADER_MAX_BYTES: usize = 160;

/// What the registry does with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Keep {
    /// Stores it until it is taken or expires.
    #[n(0)]
    Store,
    /// Stores it in place of the last one of this kind of the same sender: acknowledgements.
    #[n(1)]
    Replace,
    /// Hands it to a receiver that is connected now, and forgets it.
    #[n(2)]
    Forward,
}

/// What the registry may know of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemHeader {
    /// Its id; a second one with the same id and sender is the same item.
    pub item: ItemId,
    /// Its sender.
    pub from: AgentId,
    /// Its receiver.
    pub to: AgentId,
    /// The delivery class of what is in it.
    pub class: Class,
    /// What the registry does with it.
    pub keep: Keep,
    /// How long it lives from its posting, milliseconds.
    pub life_ms: u64,
    /// The receiver's key that it is sealed to.
    pub key: KeyId,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[cbor(n(0), with = "minicbor::bytes")]
    item: [u8; 16],
    #[cbor(n(1), with = "minicbor::bytes")]
    from: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    to: [u8; 32],
    #[n(3)]
    class: u16,
    #[n(4)]
    keep: Keep,
    #[n(5)]
    life_ms: u64,
    #[cbor(n(6), with = "minicbor::bytes")]
    key: [u8; 16],
}

/// Bytes that are not a mailbox message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// It ends too early.
    #[error("the mailbox message is cut off")]
    Truncated,
    /// The first byte says nothing that is known.
    #[error("a mailbox message of kind {0} is not known")]
    Unknown(u8),
    /// The header is not CBOR of the expected shape.
    #[error("the item's header is malformed: {0}")]
    Header(String),
    /// A number is outside what its meaning allows.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// A part without a beginning, or more bytes than were announced.
    #[error("the part belongs to no item")]
    StrayPart,
}

impl MailboxError {
    /// The code that the other side is told.
    pub const fn code(&self) -> crate::Code {
        match self {
            Self::Range(_) => crate::Code::TooLarge,
            _ => crate::Code::BadRequest,
        }
    }
}

impl ItemHeader {
    /// The bytes that travel and that the seal covers.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            item: *self.item.as_bytes(),
            from: *self.from.as_bytes(),
            to: *self.to.as_bytes(),
            class: self.class.channel_id(),
            keep: self.keep,
            life_ms: self.life_ms,
            key: *self.key.as_bytes(),
        };
        minicbor::to_vec(wire).expect("writing to memory cannot fail")
    }

    /// Reads the bytes of a header.
    ///
    /// # Errors
    /// A [`MailboxError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MailboxError> {
        if bytes.len() > ITEM_HEADER_MAX_BYTES {
            return Err(MailboxError::Range("the header's length"));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire = decoder
            .decode()
            .map_err(|e| MailboxError::Header(e.to_string()))?;
        if decoder.position() != bytes.len() {
            return Err(MailboxError::Header("more follows".into()));
        }
        if wire.life_ms > TTL_MAX_MS {
            return Err(MailboxError::Range("the item's life"));
        }
        Ok(Self {
            item: ItemId::from_bytes(wire.item),
            from: AgentId::from_bytes(wire.from),
            to: AgentId::from_bytes(wire.to),
            class: Class::from_channel_id(wire.class).ok_or(MailboxError::Range("the class"))?,
            keep: wire.keep,
            life_ms: wire.life_ms,
            key: KeyId::from_bytes(wire.key),
        })
    }
}

/// What the registry notes on an item that it pushes. Nobody signs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// Whether it was pushed before, on another connection.
    pub again: bool,
    /// How long the registry has had it, milliseconds.
    pub dwell_ms: u64,
}

/// A whole sealed item.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// The header's exact bytes.
    pub header: Vec<u8>,
    /// The sealed content.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for Item {
    /// Shows sizes only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Item({} + {} bytes)",
            self.header.len(),
            self.sealed.len()
        )
    }
}

/// The binary messages that post an item, in order.
pub fn encode_post(item: &Item) -> impl Iterator<Item = Vec<u8>> {
    encode(vec![1], item)
}

/// The binary messages that push an item, in order.
pub fn encode_push(note: Note, item: &Item) -> impl Iterator<Item = Vec<u8>> {
    let mut head = vec![2, u8::from(note.again)];
    varint::put(&mut head, note.dwell_ms.min(varint::MAX));
    encode(head, item)
}

fn encode(mut head: Vec<u8>, item: &Item) -> impl Iterator<Item = Vec<u8>> {
    varint::put(&mut head, item.header.len() as u64);
    head.extend_from_slice(&item.header);
    varint::put(&mut head, item.sealed.len() as u64);
    let first = item.sealed.len().min(PART_BYTES);
    head.extend_from_slice(&item.sealed[..first]);
    let rest = item.sealed[first..].chunks(PART_BYTES).map(|part| {
        let mut message = Vec::with_capacity(1 + part.len());
        message.push(3);
        message.extend_from_slice(part);
        message
    });
    std::iter::once(head).chain(rest)
}

/// Puts the items of one connection together from its binary messages.
///
/// One item at a time: at most [`ITEM_MAX_BYTES`] are held.
#[derive(Debug, Default)]
pub struct Assembly {
    begun: Option<(Option<Note>, Item, usize)>,
}

impl Assembly {
    /// Takes a binary message. Gives the item that it completes; the note is
    /// there when it was pushed.
    ///
    /// # Errors
    /// A [`MailboxError`]; the connection is of no more use then.
    pub fn handle(&mut self, message: &[u8]) -> Result<Option<(Option<Note>, Item)>, MailboxError> {
        let mut reader = Reader::new(message);
        match reader.byte().ok_or(MailboxError::Truncated)? {
            1 => self.begin(None, reader),
            2 => {
                let again = match reader.byte().ok_or(MailboxError::Truncated)? {
                    0 => false,
                    1 => true,
                    _ => return Err(MailboxError::Range("whether it was pushed before")),
                };
                let dwell_ms = reader.varint().ok_or(MailboxError::Truncated)?;
                self.begin(Some(Note { again, dwell_ms }), reader)
            }
            3 => self.go_on(&message[1..]),
            other => Err(MailboxError::Unknown(other)),
        }
    }

    fn begin(
        &mut self,
        note: Option<Note>,
        mut reader: Reader<'_>,
    ) -> Result<Option<(Option<Note>, Item)>, MailboxError> {
        if self.begun.is_some() {
            return Err(MailboxError::StrayPart);
        }
        let len = reader.varint().ok_or(MailboxError::Truncated)?;
        let header = reader.bytes(len).ok_or(MailboxError::Truncated)?.to_vec();
        let total = reader.varint().ok_or(MailboxError::Truncated)?;
        let total = usize::try_from(total)
            .ok()
            .filter(|total| (1..=ITEM_MAX_BYTES).contains(total))
            .ok_or(MailboxError::Range("the item's size"))?;
        ItemHeader::decode(&header)?;
        let item = Item {
            header,
            sealed: Vec::new(),
        };
        self.begun = Some((note, item, total));
        self.go_on(reader.rest())
    }

    fn go_on(&mut self, bytes: &[u8]) -> Result<Option<(Option<Note>, Item)>, MailboxError> {
        let Some((_, item, total)) = &mut self.begun else {
            return Err(MailboxError::StrayPart);
        };
        if bytes.is_empty() {
            return Err(MailboxError::Truncated);
        }
        if bytes.len() > PART_BYTES {
            return Err(MailboxError::Range("the size of a part"));
        }
        if item.sealed.len() + bytes.len() > *total {
            return Err(MailboxError::StrayPart);
        }
        item.sealed.extend_from_slice(bytes);
        let whole = item.sealed.len() == *total;
        Ok(self
            .begun
            .take_if(|_| whole)
            .map(|(note, item, _)| (note, item)))
    }
}

#[cfg(test)]
mod tests;
