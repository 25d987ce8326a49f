//! What the registry says to a node.

use serde::{Deserialize, Serialize};

use super::decode::{DecodeError, decode};
use super::keys::{Nonce, RegistryKey, Signature};
use crate::api::AgentRecord;
use crate::error::Fault;
use crate::ids::{AgentId, MeshId, MessageId, Name, SessionId};
use crate::signaling::SignedSignal;

/// A message from the registry to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message of a connection.
    Challenge(Challenge),
    /// The login is accepted.
    Welcome(Welcome),
    /// Agents that were asked for, or that changed.
    Records {
        /// The agents.
        agents: Vec<AgentRecord>,
    },
    /// No agent has this name yet; `records` follows should one take it.
    Unknown {
        /// The name.
        name: Name,
    },
    /// An answer to a find, or a part of it.
    Found {
        /// The id of the find.
        id: MessageId,
        /// The agents of this part.
        agents: Vec<AgentRecord>,
        /// Whether another part follows.
        #[serde(default)]
        more: bool,
    },
    /// A signal of another agent, which the receiver must verify itself.
    Signal {
        /// The sender's name, as the registry knows it.
        from_name: Name,
        /// The signal as its sender signed it.
        signal: SignedSignal,
    },
    /// A signal could not be passed on: its receiver is not connected.
    Undeliverable {
        /// The receiver.
        to: AgentId,
        /// The attempt that the signal belongs to.
        session: SessionId,
    },
    /// A message was refused. Where the connection cannot go on, it is closed next.
    Error {
        /// Why.
        error: Fault,
    },
}

/// Who the registry says it is, and a nonce that the node must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The protocol's version: [`super::CONTROL_VERSION`].
    pub version: u32,
    /// The mesh that the registry serves.
    pub mesh: MeshId,
    /// The registry's public key.
    pub registry: RegistryKey,
    /// The registry's nonce.
    pub nonce: Nonce,
}

/// The registry's proof that it holds the key that it announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The registry's signature over the welcome statement (`spec/control.md`).
    pub sig: Signature,
}

impl ServerMessage {
    const KNOWN: &[&str] = &[
        "challenge",
        "welcome",
        "records",
        "unknown",
        "found",
        "signal",
        "undeliverable",
        "error",
    ];

    /// Decodes a text frame.
    ///
    /// # Errors
    /// A [`DecodeError`]. A node skips a message of unknown type and leaves a
    /// registry that talks nonsense.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, Self::KNOWN)
    }

    /// The text frame.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("control messages have string keys only")
    }
}
