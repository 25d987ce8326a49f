//! Frames: what the two cores at the ends of a link say to each other.
//!
//! ```text
//! frame   = version:u8 (1) section*              at most 16 KiB
//! section = type:u8 body
//!   1 hello    incarnation:u64be
//!   2 ack      stream:u8 window_messages:v window_bytes:v received:set consumed:set
//!   3 probe    token:u64be
//!   4 echo     token:u64be                        the answer to a probe
//!   5 message  header length:v envelope
//!   6 chunk    header total:v offset:v length:v bytes
//!   7 refused  stream:u8 seq:v code:v
//!   8 goodbye  code:v                             the sender is stopping
//!   9 revoked  length:v text                      a revocation, passed on to whoever may not have it
//!  10 adopted                                     the sender uses this link from now on
//! header  = stream:u8 flags:u8 seq:v previous:v lowest:v life_ms:v wait_ms:v
//! set     = cumulative:v count:v (gap:v length:v)*
//! v       = a variable-length integer of RFC 9000 §16
//! ```
//!
//! `previous` and `lowest` are distances below `seq`; in a set, `gap` is the
//! distance from the last member before the range, `length` its members.
//! Flag bit 0 is `redelivered`; the others are zero and ignored.

use crate::class::Stream;
use crate::error::Code;
use crate::ids::Incarnation;
use crate::limits::{ENVELOPE_OVERHEAD_MAX_BYTES, MESSAGE_MAX_BYTES};
use crate::seqset::SeqSet;
use crate::varint::{self, Reader};

/// The version that every frame starts with. The format is fixed from the first
/// release on: what a reader of that would not know needs another.
pub const FRAME_VERSION: u8 = 1;

/// Ranges that one set of an acknowledgement may list. Chosen: more holes than
/// this are told when the lowest have closed.
pub const SET_RANGES_MAX: usize = 32;

/// Most bytes that a message's or chunk's header takes before the envelope's bytes.
pub const HEADER_MAX_BYTES: usize = 1 + 1 + 1 + 8 * 5 + 3 * 8;

/// Where a message stands in its stream, and how long it and its predecessors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The stream.
    pub stream: Stream,
    /// Whether an earlier incarnation of the receiver may have had it.
    pub redelivered: bool,
    /// Its sequence number, from 1.
    pub seq: u64,
    /// The sequence number before it that is still alive; everything between is dead. 0 for none.
    pub previous: u64,
    /// The lowest sequence number that is still alive; everything below is settled.
    pub lowest: u64,
    /// Its remaining life in milliseconds.
    pub life_ms: u64,
    /// The longest remaining life among its predecessors, in milliseconds: a
    /// receiver of an ordered stream waits for them no longer than this.
    pub wait_ms: u64,
}

/// One thing that a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section<'a> {
    /// The sender's incarnation; the first section of a link.
    Hello(Incarnation),
    /// What has arrived on a stream and how much more may be sent.
    Ack(Ack),
    /// A question that the peer answers with the same token.
    Probe(u64),
    /// The answer to a probe.
    Echo(u64),
    /// A whole envelope.
    Message(Header, &'a [u8]),
    /// A piece of an envelope that is longer than a frame.
    Chunk(Header, Piece<'a>),
    /// A message that the receiver will not deliver.
    Refused {
        /// The stream.
        stream: Stream,
        /// The message's sequence number.
        seq: u64,
        /// Why.
        code: Code,
    },
    /// The sender is stopping, or has closed the link for this reason.
    Goodbye(Code),
    /// The text of a [`crate::membership::Revocation`]; not validated.
    Revoked(&'a [u8]),
    /// The sender uses this link from now on, and none that was before it.
    Adopted,
}

/// What has arrived on a stream and how much more may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The stream.
    pub stream: Stream,
    /// Messages that may be sent and not yet consumed.
    pub window_messages: u64,
    /// Bytes of envelopes that may be sent and not yet consumed.
    pub window_bytes: u64,
    /// What this incarnation's node has whole.
    pub received: SeqSet,
    /// What its application has acknowledged, or the node refused.
    pub consumed: SeqSet,
}

/// A piece of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Bytes of the whole envelope.
    pub total: u64,
    /// Where the piece starts.
    pub offset: u64,
    /// The piece.
    pub bytes: &'a [u8],
}

/// Bytes that are not a frame of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte is not the version.
    #[error("a frame of version {0} is not understood")]
    Version(u8),
    /// The frame ends inside a section.
    #[error("the frame is cut off")]
    Truncated,
    /// A section's type or a stream's number is not known.
    #[error("section or stream {0} is not known")]
    Unknown(u8),
    /// A number is outside what its meaning allows.
    #[error("{0} is out of range")]
    Range(&'static str),
}

/// Builds one frame.
#[derive(Debug)]
pub struct FrameWriter {
    bytes: Vec<u8>,
}

impl Default for FrameWriter {
    fn default() -> Self {
        Self {
            bytes: vec![FRAME_VERSION],
        }
    }
}

impl FrameWriter {
    /// Bytes so far.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been said yet.
    pub const fn is_empty(&self) -> bool {
        self.bytes.len() <= 1
    }

    /// The frame's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends a section.
    pub fn put(&mut self, section: &Section<'_>) {
        match section {
            Section::Hello(incarnation) => self.put_u64(1, incarnation.number()),
            Section::Ack(ack) => self.put_ack(ack),
            Section::Probe(token) => self.put_u64(3, *token),
            Section::Echo(token) => self.put_u64(4, *token),
            Section::Message(header, envelope) => {
                self.put_header(5, header);
                self.put_blob(envelope);
            }
            Section::Chunk(header, piece) => {
                self.put_header(6, header);
                varint::put(&mut self.bytes, piece.total);
                varint::put(&mut self.bytes, piece.offset);
                self.put_blob(piece.bytes);
            }
            Section::Refused { stream, seq, code } => {
                self.bytes.extend_from_slice(&[7, stream.number()]);
                varint::put(&mut self.bytes, *seq);
                varint::put(&mut self.bytes, u64::from(code.number()));
            }
            Section::Goodbye(code) => {
                self.bytes.push(8);
                varint::put(&mut self.bytes, u64::from(code.number()));
            }
            Section::Revoked(text) => {
                self.bytes.push(9);
                self.put_blob(text);
            }
            Section::Adopted => self.bytes.push(10),
        }
    }

    fn put_u64(&mut self, kind: u8, value: u64) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn put_header(&mut self, kind: u8, header: &Header) {
        self.bytes
            .extend_from_slice(&[kind, header.stream.number(), u8::from(header.redelivered)]);
        varint::put(&mut self.bytes, header.seq);
        varint::put(&mut self.bytes, header.seq.saturating_sub(header.previous));
        varint::put(&mut self.bytes, header.seq.saturating_sub(header.lowest));
        varint::put(&mut self.bytes, header.life_ms);
        varint::put(&mut self.bytes, header.wait_ms);
    }

    fn put_blob(&mut self, bytes: &[u8]) {
        varint::put(&mut self.bytes, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn put_ack(&mut self, ack: &Ack) {
        self.bytes.extend_from_slice(&[2, ack.stream.number()]);
        varint::put(&mut self.bytes, ack.window_messages);
        varint::put(&mut self.bytes, ack.window_bytes);
        self.put_set(&ack.received);
        self.put_set(&ack.consumed);
    }

    fn put_set(&mut self, set: &SeqSet) {
        varint::put(&mut self.bytes, set.cumulative());
        varint::put(&mut self.bytes, set.holes().min(SET_RANGES_MAX) as u64);
        let mut last = set.cumulative();
        for (start, end) in set.ranges().take(SET_RANGES_MAX) {
            varint::put(&mut self.bytes, start - last);
            varint::put(&mut self.bytes, end - start + 1);
            last = end;
        }
    }
}

/// Bytes that a whole message takes in a frame.
pub fn message_len(header: &Header, envelope: usize) -> usize {
    header_len(header) + varint::len(envelope as u64) + envelope
}

/// Bytes that a chunk's header takes in a frame, for any piece of an envelope of `total` bytes.
pub fn chunk_overhead(header: &Header, total: usize) -> usize {
    header_len(header) + 3 * varint::len(total as u64)
}

fn header_len(header: &Header) -> usize {
    3 + varint::len(header.seq)
        + varint::len(header.seq.saturating_sub(header.previous))
        + varint::len(header.seq.saturating_sub(header.lowest))
        + varint::len(header.life_ms)
        + varint::len(header.wait_ms)
}

/// Reads the sections of one frame; stops after the first error.
#[derive(Debug)]
pub struct FrameReader<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> FrameReader<'a> {
    /// Starts to read a frame.
    ///
    /// # Errors
    ///
    /// [`FrameError::Version`] or [`FrameError::Truncated`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(bytes);
        match reader.byte() {
            Some(FRAME_VERSION) => Ok(Self {
                reader,
                failed: false,
            }),
            Some(version) => Err(FrameError::Version(version)),
            None => Err(FrameError::Truncated),
        }
    }

    fn section(&mut self) -> Result<Section<'a>, FrameError> {
        let kind = self.reader.byte().ok_or(FrameError::Truncated)?;
        Ok(match kind {
            1 => Section::Hello(Incarnation::new(self.u64()?)),
            2 => Section::Ack(self.ack()?),
            3 => Section::Probe(self.u64()?),
            4 => Section::Echo(self.u64()?),
            5 => Section::Message(self.header()?, self.blob()?),
            6 => Section::Chunk(self.header()?, self.piece()?),
            7 => Section::Refused {
                stream: self.stream()?,
                seq: self.seq()?,
                code: self.code()?,
            },
            8 => Section::Goodbye(self.code()?),
            9 => Section::Revoked(self.blob()?),
            10 => Section::Adopted,
            other => return Err(FrameError::Unknown(other)),
        })
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        let bytes = self.reader.array().ok_or(FrameError::Truncated)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn varint(&mut self) -> Result<u64, FrameError> {
        self.reader.varint().ok_or(FrameError::Truncated)
    }

    fn code(&mut self) -> Result<Code, FrameError> {
        let number = u16::try_from(self.varint()?).map_err(|_| FrameError::Range("a code"))?;
        Ok(Code::from_number(number))
    }

    fn stream(&mut self) -> Result<Stream, FrameError> {
        let number = self.reader.byte().ok_or(FrameError::Truncated)?;
        Stream::from_number(number).ok_or(FrameError::Unknown(number))
    }

    fn seq(&mut self) -> Result<u64, FrameError> {
        match self.varint()? {
            0 => Err(FrameError::Range("a sequence number")),
            seq => Ok(seq),
        }
    }

    fn blob(&mut self) -> Result<&'a [u8], FrameError> {
        let len = self.varint()?;
        self.reader.bytes(len).ok_or(FrameError::Truncated)
    }

    fn header(&mut self) -> Result<Header, FrameError> {
        let stream = self.stream()?;
        let flags = self.reader.byte().ok_or(FrameError::Truncated)?;
        let seq = self.seq()?;
        let below = |distance: u64| seq.checked_sub(distance);
        let previous = below(self.varint()?).ok_or(FrameError::Range("previous"))?;
        let lowest = below(self.varint()?).ok_or(FrameError::Range("lowest"))?;
        if previous >= seq || lowest == 0 {
            return Err(FrameError::Range("previous or lowest"));
        }
        Ok(Header {
            stream,
            redelivered: flags & 1 != 0,
            seq,
            previous,
            lowest,
            life_ms: self.varint()?,
            wait_ms: self.varint()?,
        })
    }

    fn piece(&mut self) -> Result<Piece<'a>, FrameError> {
        let total = self.varint()?;
        let offset = self.varint()?;
        let bytes = self.blob()?;
        let end = offset.checked_add(bytes.len() as u64);
        if total > (MESSAGE_MAX_BYTES + ENVELOPE_OVERHEAD_MAX_BYTES) as u64
            || bytes.is_empty()
            || end.is_none_or(|end| end > total)
        {
            return Err(FrameError::Range("a chunk"));
        }
        Ok(Piece {
            total,
            offset,
            bytes,
        })
    }

    fn ack(&mut self) -> Result<Ack, FrameError> {
        Ok(Ack {
            stream: self.stream()?,
            window_messages: self.varint()?,
            window_bytes: self.varint()?,
            received: self.set()?,
            consumed: self.set()?,
        })
    }

    fn set(&mut self) -> Result<SeqSet, FrameError> {
        let mut set = SeqSet::default();
        let mut last = self.varint()?;
        set.insert_up_to(last);
        let count = self.varint()?;
        if count > SET_RANGES_MAX as u64 {
            return Err(FrameError::Range("the number of ranges"));
        }
        for _ in 0..count {
            let (gap, len) = (self.varint()?, self.varint()?);
            if gap < 2 || len == 0 {
                return Err(FrameError::Range("a range"));
            }
            let start = last.checked_add(gap);
            let end = start.and_then(|start| start.checked_add(len - 1));
            let (Some(start), Some(end @ ..=varint::MAX)) = (start, end) else {
                return Err(FrameError::Range("a range"));
            };
            set.insert_range(start, end);
            last = end;
        }
        Ok(set)
    }
}

impl<'a> Iterator for FrameReader<'a> {
    type Item = Result<Section<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let section = self.section();
        self.failed = section.is_err();
        Some(section)
    }
}

#[cfg(test)]
mod tests;
