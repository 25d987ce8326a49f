//! Requests: what a program asks of its node.
//!
//! The words only; `read` and `write` turn them from and into lines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RequestId;
use crate::api::{Detail, SendState, SkillSpec, Via};
use crate::class::Class;
use crate::envelope::{Payload, Priority};
use crate::error::Fault;
use crate::ids::{Name, SkillName};

mod read;
mod write;

/// One request of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Comes back in every answer. Without one, only results and bad news come back.
    pub id: Option<RequestId>,
    /// What to do.
    pub verb: Verb,
}

/// When a `send` or `broadcast` counts as answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// When the node holds the message.
    #[default]
    Queued,
    /// When the message is durable in the receiver's mailbox, or its fate is known.
    Stored,
    /// When nothing more will be heard of the message.
    Delivered,
}

impl Wait {
    /// Whether a message in this state has what was waited for.
    pub const fn is_over(self, state: SendState) -> bool {
        match self {
            Self::Queued => true,
            Self::Stored => !matches!(state, SendState::Queued),
            Self::Delivered => state.is_final(),
        }
    }
}

/// What a client is told of a message after its request is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Follow {
    /// That it failed.
    #[default]
    Failures,
    /// Every state.
    States,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Send a message to a peer; answered by [`super::Event::State`].
    Send {
        /// The receiver.
        to: Name,
        /// What to send.
        payload: Payload,
        /// The delivery class.
        class: Class,
        /// How urgent it is.
        priority: Priority,
        /// How long it may take.
        ttl: Duration,
        /// When to answer.
        wait: Wait,
        /// What to tell after the answer.
        follow: Follow,
    },
    /// Send a message to every peer that is reached now; answered by
    /// [`super::Event::Result`] with [`super::Outcomes`].
    Broadcast {
        /// What to send.
        payload: Payload,
        /// The delivery class.
        class: Class,
        /// How urgent it is.
        priority: Priority,
        /// How long it may take.
        ttl: Duration,
        /// When to answer.
        wait: Wait,
        /// What to tell after the answer.
        follow: Follow,
    },
    /// Ask for the peers; answered by [`super::Event::PeerList`].
    ListPeers {
        /// Whether with the last attempts to make links.
        attempts: Detail,
    },
    /// Make a link now; answered by [`super::Event::Ok`].
    Connect {
        /// The peer.
        to: Name,
        /// How long it may take.
        timeout: Duration,
    },
    /// Call a skill; answered by [`super::Event::Result`].
    Call {
        /// The peer.
        to: Name,
        /// The skill.
        skill: SkillName,
        /// The arguments.
        payload: Payload,
        /// How long the answer may take.
        timeout: Duration,
        /// Whether it may be repeated when the peer restarts.
        idempotent: bool,
        /// How urgent it is.
        priority: Priority,
    },
    /// Withdraw a call.
    Cancel {
        /// The id of the call's request.
        call: RequestId,
    },
    /// Own a skill.
    RegisterSkill(SkillSpec),
    /// Give a skill up.
    UnregisterSkill {
        /// The skill.
        skill: SkillName,
    },
    /// Answer a [`super::Event::Call`].
    Reply {
        /// The call's number.
        call_id: u64,
        /// The result, or what went wrong.
        outcome: Result<Payload, Fault>,
    },
    /// Acknowledge a [`super::Event::Message`].
    Ack {
        /// The message's number.
        delivery: u64,
    },
    /// Own the message inbox, or watch what its owner gets.
    Attach(Attach),
    /// Ask the registry for agents; answered by [`super::Event::Result`] with [`super::Agents`].
    FindAgents {
        /// Only this name.
        name: Option<Name>,
        /// Only those with this skill.
        skill: Option<SkillName>,
    },
    /// Measure a round trip; answered by [`super::Event::Result`] with [`super::Pong`].
    Ping {
        /// The peer.
        to: Name,
        /// How long it may take.
        timeout: Duration,
        /// Which way it takes.
        via: Via,
    },
    /// Ask STUN and TURN servers what the network gives, as for a link, and for what they
    /// gave; answered by [`super::Event::Result`] with [`crate::api::NetworkStatus`].
    Network {
        /// How long servers that have not answered are waited for.
        timeout: Duration,
    },
    /// Ask for what `hello` told; answered by [`super::Event::Result`] with [`super::Hello`].
    Info,
}

/// How a client takes part in the message inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// Gets every message and must acknowledge it.
    Own,
    /// Gets copies of what the owner gets.
    Observe,
}
