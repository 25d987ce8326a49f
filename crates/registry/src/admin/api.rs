//! What an admin asks of a registry, and what it is answered.
//!
//! On the admin socket each is one line of JSON: a [`Request`], then an
//! [`Answer`]. A stopped registry is asked the same through its database.
//! [`Request::Status`] is answered by whoever serves the socket, every
//! [`Order`] by the rules: running, as `Input::Admin` of the driver.

use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MemberRecord, MeshKey, Origin, PairingCode, RegistryKey};
use waymesh_proto::membership::{Certificate, Delegation, JoinRequest, Revocation};
use waymesh_proto::{AgentId, Fault, InviteId, Name, RequestId};

/// Longest line on the admin socket in either direction, bytes. Chosen: all
/// requests that may wait, or a page of agents with their skills, fit.
pub const ADMIN_LINE_MAX_BYTES: usize = 8 * 1024 * 1024;

/// One question or order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Where the registry is and whose; answered by [`Reply::Status`].
    Status,
    /// Something that the rules answer.
    #[serde(untagged)]
    Order(Order),
}

/// What the rules answer and carry out. Each is durable when it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order {
    /// The registry serves this mesh from now on, for ever; answered by [`Reply::Done`].
    /// The same mesh again changes nothing, another one is refused with `wrong_registry`.
    Found {
        /// The mesh's public key.
        mesh: MeshKey,
    },
    /// The agents in the order of their names; answered by [`Reply::Agents`].
    Agents {
        /// Only this name.
        #[serde(default)]
        name: Option<Name>,
        /// Only names that sort after this one: the `next` of the page before.
        #[serde(default)]
        after: Option<Name>,
    },
    /// Who waits to join; answered by [`Reply::Pending`].
    Pending,
    /// Admits who waits; answered by [`Reply::Done`], or `unknown_id`.
    Approve {
        /// The request.
        request: RequestId,
        /// Issued by the mesh key to the key and for the name that asked.
        certificate: Certificate,
    },
    /// Turns away who waits; answered by [`Reply::Done`], or `unknown_id`.
    Reject {
        /// The request.
        request: RequestId,
        /// What the joiner is told.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Ends the membership of members and invites; answered by [`Reply::Done`].
    Revoke {
        /// Each signed by the mesh key.
        revocations: Vec<Revocation>,
    },
    /// Makes a code that one node may ask to join with; answered by [`Reply::PairingCode`].
    PairingCode {
        /// How long it holds, milliseconds; at most 5 minutes.
        ttl_ms: u64,
    },
}

/// What a request is answered, as `{"ok": …}` or `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was carried out.
    Ok(Reply),
    /// It was refused.
    Error(Fault),
}

impl From<Result<Reply, Fault>> for Answer {
    fn from(outcome: Result<Reply, Fault>) -> Self {
        outcome.map_or_else(Self::Error, Self::Ok)
    }
}

impl From<Answer> for Result<Reply, Fault> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Ok(reply) => Ok(reply),
            Answer::Error(fault) => Err(fault),
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// Where the registry is and whose.
    Status(Status),
    /// One page of the agents.
    Agents {
        /// The agents, offline ones too, and what proves them.
        agents: Vec<MemberRecord>,
        /// The name after which the next page begins; `None` at the end.
        next: Option<Name>,
    },
    /// Who waits to join, the longest waiting first.
    Pending {
        /// The requests.
        joins: Vec<PendingJoin>,
    },
    /// A new pairing code.
    PairingCode {
        /// The six digits.
        code: PairingCode,
    },
}

/// Where a registry is and whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The URL that nodes connect to; `None` before the first start.
    pub url: Option<Origin>,
    /// The mesh that it serves; `None` until one was founded.
    pub mesh: Option<MeshKey>,
    /// Its own public key.
    pub registry: RegistryKey,
    /// The SHA-256 of its TLS certificate's public key (SPKI), hexadecimal, when self-signed.
    pub tls_pin: Option<String>,
    /// Whether it runs.
    pub running: bool,
}

/// Somebody who waits to be admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingJoin {
    /// What to approve or reject it under.
    pub request: RequestId,
    /// The name that it wants.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// What it said of itself, to be verified before it is admitted.
    pub join_request: JoinRequest,
    /// The address that it asked from.
    pub address: std::net::IpAddr,
    /// How long it has been waiting, milliseconds.
    pub waiting_ms: u64,
    /// The invite that it came with; `None` when it had a pairing code.
    pub invite: Option<InviteId>,
    /// What the mesh allows that invite, for the authority to verify.
    pub delegation: Option<Delegation>,
    /// Whether an admin has agreed already and it has not fetched that yet.
    pub approved: bool,
}
