//! What the registry says to a node.

use serde::{Deserialize, Serialize};

use super::decode::{DecodeError, decode};
use super::keys::{MeshKey, Nonce, RegistryKey, Signature};
use crate::api::AgentRecord;
use crate::error::{Code, Fault};
use crate::ice::IceServers;
use crate::ids::{AgentId, ItemId, MessageId, Name, RequestId, SessionId};
use crate::membership::{Certificate, Extension, Revocation, SealingStatement};
use crate::signaling::SignedSignal;

/// A message from the registry to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message of a connection.
    Challenge(Challenge),
    /// The login is accepted.
    Welcome(Welcome),
    /// The request to join waits for an admin.
    Pending {
        /// What the admin sees it under.
        request: RequestId,
    },
    /// An admin has agreed: log in with this.
    Approved {
        /// Issued by the mesh key to the key that asked.
        certificate: Certificate,
    },
    /// The own certificate lives longer; what peers are shown is that.
    Extended {
        /// Signed by the registry.
        extension: Extension,
    },
    /// The STUN and TURN servers to use, in place of those told before: after the
    /// login, before the credentials end, and when the node asks.
    IceServers(IceServers),
    /// Members and invites that were revoked: all that are known after the
    /// login, if there are any, and new ones as they come.
    Revoked {
        /// Each signed by the mesh key.
        revocations: Vec<Revocation>,
    },
    /// What became of posted items.
    Posted {
        /// The items.
        items: Vec<Posted>,
    },
    /// Stored items that will not be delivered.
    Returned {
        /// The items.
        items: Vec<Returned>,
    },
    /// Agents that were asked for, or that changed.
    Records {
        /// The agents.
        agents: Vec<MemberRecord>,
    },
    /// Agents that nobody has asked for by name, so that they can be written to
    /// without asking first. A hint: it may be missing, and may be old.
    Introduced {
        /// The agents, without skills; neither their lives nor their presence are
        /// told again when they change.
        agents: Vec<MemberRecord>,
    },
    /// No agent has this name, or none any more; `records` follows should one take it.
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
        /// The signal as its sender signed it.
        signal: SignedSignal,
    },
    /// A signal could not be passed on.
    Undeliverable {
        /// The receiver.
        to: AgentId,
        /// The attempt that the signal belongs to.
        session: SessionId,
        /// `peer_offline`: it is not connected; `unauthorized`: it does not want to hear of the sender.
        code: Code,
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
    pub mesh: MeshKey,
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

/// An agent and what proves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// What the registry says; only what the certificate proves is to be believed.
    #[serde(flatten)]
    pub agent: AgentRecord,
    /// The agent's certificate.
    pub certificate: Certificate,
    /// The key to seal messages to it with.
    pub sealing: SealingStatement,
}

/// What became of a posted item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// The item.
    pub item: ItemId,
    /// What became of it.
    #[serde(flatten)]
    pub state: PostedState,
}

/// What became of a posted item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PostedState {
    /// It is durable in the receiver's mailbox.
    Stored,
    /// It was handed to the receiver's connection and is not stored: it was not
    /// to be, the receiver took it before it was written, or the disk failed.
    Forwarded,
    /// It was not accepted.
    Refused {
        /// Why (`spec/mailbox.md`). Most reasons pass: `unauthorized`,
        /// `too_large` and `expired` do not.
        error: Fault,
    },
}

/// A stored item that will not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// The item.
    pub item: ItemId,
    /// `expired` when it was never handed out in its life; `unreadable` or
    /// `unauthorized` when the receiver said so; `revoked` when the receiver is
    /// a member no more; `storage` when the registry's disk has lost it.
    pub code: Code,
}

impl ServerMessage {
    const KNOWN: &[&str] = &[
        "challenge",
        "welcome",
        "pending",
        "approved",
        "extended",
        "ice_servers",
        "revoked",
        "posted",
        "returned",
        "records",
        "introduced",
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
