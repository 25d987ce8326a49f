//! What applications and core say to each other.
//!
//! An application is a *client* of its node: an IPC connection, or a Rust
//! program's handle. It owns what it claims (the inbox, skills) until it ends.

use std::time::Duration;

use waymesh_proto::api::{AgentRecord, PeerStatus, SendState, SkillSpec};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{AgentId, MessageId, Name, SkillName};
use waymesh_proto::link::Path;

/// One client of this node, made by the program; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// This node's handle of one inbound message or call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId(pub u64);

/// What a client wants. Every id is new; answers carry it.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Send a message; answered by one or more [`Event::State`].
    Send {
        /// The message's id.
        id: MessageId,
        /// The receiver.
        to: Name,
        /// The delivery class.
        class: Class,
        /// How urgent it is.
        priority: Priority,
        /// How long it may take.
        ttl: Duration,
        /// What it carries.
        payload: Payload,
    },
    /// Call a skill; answered by one [`Event::Answer`].
    Call {
        /// The call's id.
        id: MessageId,
        /// The peer.
        to: Name,
        /// The skill.
        skill: SkillName,
        /// How urgent it is.
        priority: Priority,
        /// How long the answer may take.
        timeout: Duration,
        /// Whether it may be repeated when the peer restarts.
        idempotent: bool,
        /// The arguments.
        payload: Payload,
    },
    /// Withdraw a call of this client; answered by its [`Event::Answer`].
    Cancel {
        /// The call.
        id: MessageId,
    },
    /// Answer an [`Event::Call`].
    Reply {
        /// The call.
        call: InboundId,
        /// The result, or what went wrong.
        outcome: Result<Payload, Fault>,
    },
    /// Acknowledge an [`Event::Message`].
    Consumed {
        /// The message.
        message: InboundId,
    },
    /// Become the owner of the message inbox; answered by [`Event::Done`].
    ClaimInbox {
        /// The command's id.
        id: MessageId,
    },
    /// See copies of the messages that the inbox's owner gets; answered by [`Event::Done`].
    Observe {
        /// The command's id.
        id: MessageId,
    },
    /// Become the owner of a skill; answered by [`Event::Done`].
    OfferSkill {
        /// The command's id.
        id: MessageId,
        /// The skill.
        spec: SkillSpec,
    },
    /// Give a skill up; answered by [`Event::Done`].
    WithdrawSkill {
        /// The command's id.
        id: MessageId,
        /// The skill.
        skill: SkillName,
    },
    /// Make a link now; answered by [`Event::Done`] when it is up or cannot be made.
    Connect {
        /// The command's id.
        id: MessageId,
        /// The peer.
        to: Name,
        /// How long it may take.
        timeout: Duration,
    },
    /// Measure a round trip; answered by [`Event::Pong`].
    Ping {
        /// The command's id.
        id: MessageId,
        /// The peer.
        to: Name,
        /// How long it may take.
        timeout: Duration,
    },
    /// Ask for the peers; answered by [`Event::Peers`].
    ListPeers {
        /// The command's id.
        id: MessageId,
    },
    /// Ask the registry for agents; answered by [`Event::Agents`].
    FindAgents {
        /// The command's id.
        id: MessageId,
        /// Only this name.
        name: Option<Name>,
        /// Only those with this skill.
        skill: Option<SkillName>,
    },
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A command without a result of its own is done, or failed.
    Done {
        /// The command.
        id: MessageId,
        /// What became of it.
        outcome: Result<(), Fault>,
    },
    /// What is known of a message; the last is final.
    State {
        /// The message.
        id: MessageId,
        /// What is known.
        state: SendState,
        /// The path it took, once known.
        path: Option<Path>,
        /// Why it was not delivered.
        fault: Option<Fault>,
    },
    /// The answer to a call.
    Answer {
        /// The call.
        id: MessageId,
        /// The result, or what went wrong.
        outcome: Result<Payload, Fault>,
        /// The path of the reply.
        path: Option<Path>,
        /// The path of the request.
        request_path: Option<Path>,
        /// From the command to the answer.
        elapsed: Duration,
    },
    /// A message; the inbox's owner must acknowledge it with [`Command::Consumed`].
    Message {
        /// The handle to acknowledge; `None` for an observer's copy.
        inbound: Option<InboundId>,
        /// The sender's id of it.
        id: MessageId,
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
    /// A call of one of the client's skills; answer it with [`Command::Reply`].
    Call {
        /// The handle to answer.
        call: InboundId,
        /// The caller's id of it.
        id: MessageId,
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
        /// The arguments; not validated.
        payload: Payload,
    },
    /// The caller no longer waits; an answer is ignored.
    CallCancelled {
        /// The call.
        call: InboundId,
        /// Why.
        reason: Fault,
    },
    /// The answer to a ping.
    Pong {
        /// The command.
        id: MessageId,
        /// Path and round trip, or what went wrong.
        outcome: Result<(Path, Duration), Fault>,
    },
    /// The peers.
    Peers {
        /// The command.
        id: MessageId,
        /// One a peer.
        peers: Vec<PeerStatus>,
    },
    /// The agents that the registry knows.
    Agents {
        /// The command.
        id: MessageId,
        /// The agents, or what went wrong.
        outcome: Result<Vec<AgentRecord>, Fault>,
    },
    /// A link to a peer is up. Told to every client.
    PeerConnected {
        /// The peer.
        peer: PeerStatus,
    },
    /// The last link to a peer is gone. Told to every client.
    PeerDisconnected {
        /// The peer.
        peer: PeerStatus,
    },
    /// Traffic to a peer moved to another path. Told to every client.
    PathChanged {
        /// The peer.
        peer: PeerStatus,
    },
    /// Messages of an ordered class were skipped: they expired or were lost.
    /// Told to the inbox's owner.
    Gap {
        /// The sender.
        from: Name,
        /// The class.
        class: Class,
        /// How many were skipped.
        missing: u64,
    },
}

/// What core wants of the registry's connection.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryCommand {
    /// Publish the skills of this agent, all of them.
    Skills(Vec<SkillSpec>),
    /// Look a name up and report every change of it from now on.
    Resolve {
        /// The name.
        name: Name,
    },
    /// Report every agent and every change from now on.
    WatchAll,
    /// Ask for agents.
    Find {
        /// Comes back with the answer.
        id: MessageId,
        /// Only this name.
        name: Option<Name>,
        /// Only those with this skill.
        skill: Option<SkillName>,
    },
    /// Pass a signal to a peer. The program adds mesh, sender and time, and signs it.
    Signal {
        /// The receiver.
        to: AgentId,
        /// The receiver's incarnation as core knows it.
        to_incarnation: waymesh_proto::Incarnation,
        /// The attempt.
        session: waymesh_proto::SessionId,
        /// The position in the attempt.
        seq: u64,
        /// What to say. The program fills `offer_hash` of an answer.
        signal: waymesh_proto::signaling::Signal,
    },
}

/// What the registry's connection reports. Signals are verified.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryEvent {
    /// Logged in. Everything that was asked or watched before must be asked again.
    Connected,
    /// The connection is gone; the program reconnects by itself.
    Disconnected,
    /// An agent's record, asked for or changed.
    Record(AgentRecord),
    /// No agent has this name.
    Unknown {
        /// The name.
        name: Name,
    },
    /// The answer to a find.
    Found {
        /// The id of the find.
        id: MessageId,
        /// The agents, or what went wrong.
        outcome: Result<Vec<AgentRecord>, Fault>,
    },
    /// A signal of a peer whose signature verified, for this agent and mesh.
    Signal {
        /// The sender's name as the registry says.
        from_name: Name,
        /// The verified body.
        body: waymesh_proto::signaling::SignalBody,
    },
    /// A signal could not be passed on: the peer is not connected.
    Undeliverable {
        /// The peer.
        to: AgentId,
        /// The attempt.
        session: waymesh_proto::SessionId,
    },
}
