//! Events: what a node tells a program.
//!
//! The words only; `read` and `write` turn them from and into lines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RequestId, millis};
use crate::api::{AgentRecord, PeerStatus, SendState};
use crate::class::Class;
use crate::envelope::Payload;
use crate::error::Fault;
use crate::ids::{AgentId, Incarnation, MeshId, MessageId, Name, SkillName};
use crate::link::Path;

mod read;
mod write;

/// One line of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first line of every connection.
    Hello(Hello),
    /// A request without a result is done.
    Ok {
        /// The request.
        id: RequestId,
    },
    /// A request failed, or a line could not be read.
    Error {
        /// The request, if that can be told.
        id: Option<RequestId>,
        /// What went wrong.
        fault: Fault,
    },
    /// A request with a result is done.
    Result {
        /// The request.
        id: Option<RequestId>,
        /// The result.
        payload: Payload,
        /// How a call went.
        route: Option<Route>,
    },
    /// What is known of a message.
    State {
        /// The request, until it is answered.
        id: Option<RequestId>,
        /// What is known.
        outcome: Outcome,
        /// Whether this is the last that the request is told; without one, whether
        /// nothing more will be heard of the message.
        last: bool,
    },
    /// A message for this agent.
    Message {
        /// The number to acknowledge; `None` for an observer's copy.
        delivery: Option<u64>,
        /// The sender's id of it.
        message_id: MessageId,
        /// The sender's name.
        from: Name,
        /// The sender's identity.
        agent_id: AgentId,
        /// The class it came in.
        class: Class,
        /// Whether an earlier incarnation of this node may have had it.
        redelivered: bool,
        /// The path it took.
        path: Path,
        /// What it carries.
        payload: Payload,
    },
    /// A call of a skill of this client.
    Call {
        /// The number to reply to.
        call_id: u64,
        /// The caller's id of it.
        message_id: MessageId,
        /// The caller's name.
        from: Name,
        /// The caller's identity.
        agent_id: AgentId,
        /// The skill.
        skill: SkillName,
        /// How long the caller still waits.
        remaining: Duration,
        /// Whether an earlier incarnation of this node may have had it.
        redelivered: bool,
        /// The arguments.
        payload: Payload,
    },
    /// The caller no longer waits.
    CallCancelled {
        /// The call's number.
        call_id: u64,
        /// Why.
        fault: Fault,
    },
    /// Something changed about a peer.
    Peer {
        /// What changed.
        change: PeerChange,
        /// The peer now.
        peer: PeerStatus,
    },
    /// The peers.
    PeerList {
        /// The request.
        id: Option<RequestId>,
        /// One a peer.
        peers: Vec<PeerStatus>,
    },
    /// The node's certificate ends soon and was not extended.
    CertificateExpiring {
        /// How long it still lives.
        remaining: Duration,
    },
    /// Messages of an ordered class were skipped.
    Gap {
        /// The sender.
        from: Name,
        /// The class.
        class: Class,
        /// How many were skipped.
        missing: u64,
    },
    /// An event of a newer node; a client leaves it alone.
    Unrecognized,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of this protocol, [`super::PROTOCOL`].
    pub protocol: u32,
    /// The agent's name.
    pub agent: Name,
    /// The agent's identity.
    pub agent_id: AgentId,
    /// This life of the node.
    pub incarnation: Incarnation,
    /// The registry's address.
    pub registry: Option<String>,
    /// The mesh that the node is a member of; `None` before it is one.
    #[serde(default)]
    pub mesh: Option<MeshId>,
    /// When its certificate ends unless it is extended before, Unix time in milliseconds.
    #[serde(default)]
    pub certificate_expires_ms: Option<u64>,
    /// The node's version.
    pub version: String,
}

/// How a call travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The call's id, as the peer was told it.
    pub message_id: Option<MessageId>,
    /// The path of the reply.
    pub path: Option<Path>,
    /// The path of the request.
    pub request_path: Option<Path>,
    /// From the request to the result.
    pub elapsed: Duration,
}

/// What became of one message so far. No key is ever absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The receiver.
    pub peer_id: Name,
    /// The message's id.
    pub message_id: MessageId,
    /// What is known.
    pub state: SendState,
    /// The path it took, once known.
    pub path: Option<Path>,
    /// Why it was not delivered.
    pub error: Option<Fault>,
}

/// The result of a `broadcast`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// One a peer that was reached.
    pub peers: Vec<Outcome>,
}

/// The result of `find_agents`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agents {
    /// The agents.
    pub agents: Vec<AgentRecord>,
}

/// The result of a `ping`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// The path of the answer.
    pub path: Path,
    /// The round trip, milliseconds.
    pub rtt_ms: f64,
}

/// What changed about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerChange {
    /// A link is up.
    PeerConnected,
    /// The last link is gone.
    PeerDisconnected,
    /// Traffic moved to another path.
    PathChanged,
}

impl Pong {
    /// The result of a ping that took this way and time.
    pub fn new(path: Path, rtt: Duration) -> Self {
        Self {
            path,
            rtt_ms: millis(rtt),
        }
    }
}

impl Event {
    /// The request that the event answers.
    pub const fn id(&self) -> Option<&RequestId> {
        match self {
            Self::Ok { id } => Some(id),
            Self::Error { id, .. }
            | Self::Result { id, .. }
            | Self::State { id, .. }
            | Self::PeerList { id, .. } => id.as_ref(),
            _ => None,
        }
    }

    /// Whether the event ends the request that it answers.
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::State { last: false, .. })
    }

    /// A result that is a value of the node's own.
    pub fn result(id: Option<RequestId>, value: &impl Serialize) -> Self {
        let json = serde_json::to_vec(value).expect("a result always serialises");
        Self::Result {
            id,
            payload: Payload::json(json),
            route: None,
        }
    }
}
