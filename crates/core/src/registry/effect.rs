//! What the rules want done.

use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::ServerMessage;
use waymesh_proto::{AgentId, Incarnation, Name};

use super::ConnId;

/// One thing that the program must do, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a message on each of these connections. Where a queue is full, the
    /// connection is too slow: close it and call `handle_closed`.
    Send {
        /// The connections.
        to: Vec<ConnId>,
        /// The message.
        message: ServerMessage,
    },
    /// Pass a signal on, unless more than half of the receiver's queue is
    /// full: then send the other message to the sender, so that no sender can
    /// have a slow receiver cut off.
    Relay {
        /// The connection of the receiver.
        to: ConnId,
        /// The signal.
        signal: ServerMessage,
        /// The connection of the sender.
        from: ConnId,
        /// That the signal is undeliverable.
        otherwise: ServerMessage,
    },
    /// Call `handle_room` when little waits on the connection, at once if that is so now.
    AwaitRoom {
        /// The connection.
        conn: ConnId,
    },
    /// Send the signed welcome that belongs to the connection's login.
    Welcome {
        /// The connection.
        conn: ConnId,
    },
    /// Send a WebSocket ping (RFC 6455 §5.5.2).
    Ping {
        /// The connection.
        conn: ConnId,
    },
    /// Close the connection once what was sent before is out.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why, for the counters.
        reason: CloseReason,
    },
    /// Remember an agent over restarts, in place of what was remembered under its name.
    Store {
        /// The agent.
        agent: StoredAgent,
        /// To be given to `handle_stored` when the agent is durable; without
        /// one, nobody waits.
        ticket: Option<StoreTicket>,
    },
}

/// Who waits for an agent to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreTicket {
    pub(super) conn: ConnId,
    pub(super) name: Name,
}

/// What is remembered of an agent over restarts.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAgent {
    /// Its name.
    pub name: Name,
    /// The identity that the name is bound to.
    pub agent_id: AgentId,
    /// The newest incarnation that logged in.
    pub incarnation: Incarnation,
    /// The skills that it published last.
    pub skills: Vec<SkillSpec>,
}

/// Why the rules closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Its login, or the connection itself, was refused.
    Refused,
    /// No login came in time.
    LoginTimeout,
    /// A newer connection speaks for the agent.
    Replaced,
    /// Nothing was heard of it, not even a pong.
    Silent,
    /// It sent too many messages that had to be refused.
    Abuse,
}
