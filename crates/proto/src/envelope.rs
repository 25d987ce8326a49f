//! The envelope: one message as the applications at both ends see it.
//!
//! Between nodes it is a CBOR map (RFC 8949) with integer keys, as
//! `spec/envelope.cddl` says; unknown keys are skipped. Sender, channel,
//! sequence and lifetime are not in it: the link and the frame imply them.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Executed, Fault};
use crate::ids::{MessageId, SkillName};
use crate::limits::{ENVELOPE_OVERHEAD_MAX_BYTES, MESSAGE_MAX_BYTES};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message to the agent's inbox.
    #[n(0)]
    Message,
    /// A call of a skill.
    #[n(1)]
    CapabilityCall,
    /// The answer to a call.
    #[n(2)]
    CapabilityResponse,
    /// The caller no longer wants the answer.
    #[n(3)]
    Cancel,
    /// One piece of a stream.
    #[n(4)]
    StreamChunk,
    /// A message to a topic.
    #[n(5)]
    Publish,
    /// What the sender is doing.
    #[n(6)]
    Status,
    /// The answer to a call that failed.
    #[n(7)]
    Error,
    /// A sign of life of a foreign peer.
    #[n(8)]
    Heartbeat,
}

/// How urgent a message is among those that may overtake each other.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everything else.
    #[n(0)]
    Low,
    /// The default.
    #[default]
    #[n(1)]
    Normal,
    /// Before normal.
    #[n(2)]
    High,
    /// Before everything else.
    #[n(3)]
    Critical,
}

/// A payload and what its bytes are.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// The media type; `None` is `application/json`.
    pub content_type: Option<Box<str>>,
    /// The bytes as the application gave them.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// A payload of JSON text.
    pub fn json(text: impl Into<Vec<u8>>) -> Self {
        Self {
            content_type: None,
            bytes: text.into(),
        }
    }

    /// A payload of any bytes.
    pub fn bytes(content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            content_type: Some(content_type.into()),
            bytes: bytes.into(),
        }
    }

    /// Whether the bytes are JSON.
    pub const fn is_json(&self) -> bool {
        self.content_type.is_none()
    }
}

impl fmt::Debug for Payload {
    /// Shows the size only: payloads never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Payload({:?}, {} bytes)",
            self.content_type,
            self.bytes.len()
        )
    }
}

/// One message between two agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: MessageId,
    /// The id of the message that it answers or cancels.
    pub correlation: Option<MessageId>,
    /// How urgent it is.
    pub priority: Priority,
    /// The skill that a call asks for.
    pub skill: Option<SkillName>,
    /// What went wrong, in an `Error`.
    pub fault: Option<Fault>,
    /// The trace that it belongs to (W3C Trace Context, `traceparent`).
    pub traceparent: Option<Box<str>>,
    /// What it carries.
    pub payload: Payload,
}

/// Bytes that are not an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not CBOR of the expected shape.
    #[error("not an envelope: {0}")]
    Cbor(#[from] minicbor::decode::Error),
    /// An id in it is not valid.
    #[error("not an envelope: {0}")]
    Id(#[from] crate::ids::IdError),
    /// The payload or the rest of it is over the limit.
    #[error("an envelope of {0} bytes is over the limit")]
    TooLarge(usize),
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(0)]
    kind: Kind,
    #[cbor(n(1), with = "minicbor::bytes")]
    id: [u8; 16],
    #[cbor(n(2), with = "minicbor::bytes")]
    correlation: Option<[u8; 16]>,
    #[n(3)]
    priority: Option<Priority>,
    #[b(4)]
    skill: Option<&'a str>,
    #[b(5)]
    content_type: Option<&'a str>,
    #[cbor(b(6), with = "minicbor::bytes")]
    payload: &'a [u8],
    #[b(7)]
    fault: Option<WireFault<'a>>,
    #[b(8)]
    traceparent: Option<&'a str>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireFault<'a> {
    #[n(0)]
    number: u16,
    #[b(1)]
    message: &'a str,
    #[b(2)]
    hint: Option<&'a str>,
    #[n(3)]
    executed: Option<u8>,
}

impl Envelope {
    /// An envelope of normal priority with nothing but an id and a payload.
    pub const fn new(kind: Kind, id: MessageId, payload: Payload) -> Self {
        Self {
            kind,
            id,
            correlation: None,
            priority: Priority::Normal,
            skill: None,
            fault: None,
            traceparent: None,
            payload,
        }
    }

    /// The bytes that travel between nodes.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            kind: self.kind,
            id: *self.id.as_bytes(),
            correlation: self.correlation.map(|id| *id.as_bytes()),
            priority: (self.priority != Priority::Normal).then_some(self.priority),
            skill: self.skill.as_ref().map(SkillName::as_str),
            content_type: self.payload.content_type.as_deref(),
            payload: &self.payload.bytes,
            fault: self.fault.as_ref().map(WireFault::from),
            traceparent: self.traceparent.as_deref(),
        };
        let mut out = Vec::with_capacity(self.payload.bytes.len() + 64);
        minicbor::encode(wire, &mut out).expect("writing to memory cannot fail");
        out
    }

    /// Reads the bytes of a peer.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the bytes are not one whole envelope within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MESSAGE_MAX_BYTES + ENVELOPE_OVERHEAD_MAX_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire<'_> = decoder.decode()?;
        if decoder.position() != bytes.len() {
            return Err(minicbor::decode::Error::message("bytes behind the envelope").into());
        }
        if wire.payload.len() > MESSAGE_MAX_BYTES {
            return Err(EnvelopeError::TooLarge(wire.payload.len()));
        }
        Ok(Self {
            kind: wire.kind,
            id: MessageId::from_bytes(wire.id),
            correlation: wire.correlation.map(MessageId::from_bytes),
            priority: wire.priority.unwrap_or_default(),
            skill: wire.skill.map(str::parse).transpose()?,
            fault: wire.fault.map(Fault::from),
            traceparent: wire.traceparent.map(Into::into),
            payload: Payload {
                content_type: wire.content_type.map(Into::into),
                bytes: wire.payload.to_vec(),
            },
        })
    }
}

impl<'a> From<&'a Fault> for WireFault<'a> {
    fn from(fault: &'a Fault) -> Self {
        Self {
            number: fault.code.number(),
            message: clipped(&fault.message),
            hint: fault.hint.as_deref().map(clipped),
            executed: fault.executed.map(|e| u8::from(e == Executed::Unknown)),
        }
    }
}

impl From<WireFault<'_>> for Fault {
    fn from(wire: WireFault<'_>) -> Self {
        Self {
            code: Code::from_number(wire.number),
            message: wire.message.into(),
            hint: wire.hint.map(Into::into),
            executed: wire.executed.map(|e| match e {
                0 => Executed::No,
                _ => Executed::Unknown,
            }),
        }
    }
}

/// A text short enough that a fault fits the envelope's overhead.
fn clipped(text: &str) -> &str {
    let end = (0..=text.len().min(ENVELOPE_OVERHEAD_MAX_BYTES / 4))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests;
