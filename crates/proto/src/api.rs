//! What the registry's HTTP API and the node tell about agents, skills and peers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ice::{IceServer, ServerTried};
use crate::ids::{AgentId, Incarnation, Name, Role, SkillName};
use crate::link::{CandidateKind, LinkProtocol, Path, Tried, TriedCandidate};

/// A skill as its owner describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillSpec {
    /// Its name.
    pub name: SkillName,
    /// What it does, in a sentence or two.
    #[serde(default)]
    pub description: Option<String>,
    /// The JSON Schema of its input; `None` accepts anything.
    #[serde(default)]
    pub schema: Option<Value>,
    /// Whether running it twice does no harm: only then a lost call is repeated.
    #[serde(default)]
    pub idempotent: bool,
}

/// An agent as the registry knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its name, bound to the first key that took it.
    pub name: Name,
    /// Its permanent identity.
    pub agent_id: AgentId,
    /// Its newest incarnation.
    pub incarnation: Incarnation,
    /// Whether it is connected to the registry now.
    pub online: bool,
    /// What its certificate lets it be trusted with.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// What it can do.
    #[serde(default)]
    pub skills: Vec<SkillSpec>,
}

/// How a peer is reached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// A link is being made.
    Connecting,
    /// A link is up.
    Linked,
    /// Messages go through the mailbox.
    Mailbox,
    /// The peer cannot be reached.
    Offline,
}

/// A peer as `waymesh peers` shows it. No key is ever absent; unknown is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer's name.
    pub agent: Name,
    /// The peer's identity, once known.
    pub agent_id: Option<AgentId>,
    /// How it is reached.
    pub state: PeerState,
    /// The path in use.
    pub path: Option<Path>,
    /// The transport of the link in use.
    pub transport: Option<Transport>,
    /// This node's end of the link.
    pub local_candidate: Option<CandidateKind>,
    /// The peer's end of the link.
    pub remote_candidate: Option<CandidateKind>,
    /// The protocol below the link.
    pub protocol: Option<LinkProtocol>,
    /// The last measured round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// From the first wish for the link to open channels, milliseconds.
    pub setup_ms: Option<f64>,
    /// Why the peer is in this state.
    pub reason: String,
    /// The last attempts to make a link, newest first; `None` unless asked for.
    pub attempts: Option<Vec<Attempt>>,
}

/// What the network gives a node, as its STUN and TURN servers tell it. No key is ever absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// The addresses that peers are told, best first.
    pub candidates: Vec<TriedCandidate>,
    /// What came of asking each server.
    pub tried: Vec<ServerTried>,
    /// The servers that the node knows, with its credentials: for its own programs, not for others.
    pub servers: Vec<IceServer>,
    /// How many of these, from the first on, the node was started with; the registry has told
    /// the others.
    #[serde(default)]
    pub configured: usize,
}

impl NetworkStatus {
    /// Whether no server is waited for any more.
    pub fn is_settled(&self) -> bool {
        !self.tried.iter().any(ServerTried::is_waiting)
    }
}

/// One attempt to make a link, as `waymesh peers -v` shows it. No key is ever absent; unknown is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// How long ago it began, milliseconds.
    pub age_ms: f64,
    /// From its beginning to its outcome, or up to now, milliseconds.
    pub took_ms: f64,
    /// Who began it.
    pub role: AttemptRole,
    /// What it was for; of an attempt of the peer's, what it was to this node.
    pub purpose: AttemptPurpose,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// The path that it gave.
    pub path: Option<Path>,
    /// What happened, in words.
    pub reason: String,
    /// What was tried, once net has told.
    pub tried: Option<Tried>,
}

/// Who began an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptRole {
    /// This node offered.
    Offered,
    /// The peer offered and this node answered.
    Answered,
}

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptPurpose {
    /// There is no link.
    Connect,
    /// The link in use may be dead.
    Recover,
    /// The link in use is relayed, and a direct one may work.
    Upgrade,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// Nothing yet.
    Trying,
    /// A link that was used.
    Linked,
    /// A link that was not needed: it was no better than the one in use, or another was faster.
    Unneeded,
    /// No link.
    Failed,
}

/// How much of each peer a list tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// How it is reached now.
    #[default]
    Now,
    /// Also what was tried: [`PeerStatus::attempts`].
    Attempts,
}

/// Which way a ping takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The link; one is made where there is none, within the time given.
    #[default]
    InUse,
    /// The link that is up; none is made.
    Link,
    /// The mailbox, also where a link works.
    Mailbox,
}

/// The protocol of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// WebRTC data channels.
    Webrtc,
}

/// What a sender knows of a message. Every message of a reliable class ends in one of the
/// last four, or dies with its node in `Queued` or `Stored`; of one of a lossy class only
/// `Queued` is ever known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendState {
    /// In this node's memory.
    Queued,
    /// Durable in the receiver's mailbox.
    Stored,
    /// Acknowledged by the receiving application.
    Delivered,
    /// Its lifetime ended before it was delivered.
    Expired,
    /// The receiver will not deliver it.
    Refused,
    /// Its lifetime ended and nobody said what became of it.
    Unconfirmed,
}

impl SendState {
    /// Whether nothing more will be heard of the message.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Stored)
    }
}
