//! What applications and core say to each other.
//!
//! An application is a *client* of its node: an IPC connection, or a Rust
//! program's handle. It owns what it claims (the inbox, skills) until it ends.

use std::time::{Duration, Instant};

use waymesh_proto::api::{
    AgentRecord, Detail, NetworkStatus, PeerStatus, SendState, SkillSpec, Via,
};
use waymesh_proto::class::{Class, Stream};
use waymesh_proto::control::Outcome;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{AgentId, Incarnation, ItemId, MessageId, Name, Role, SkillName};
use waymesh_proto::link::Path;
use waymesh_proto::mailbox::Keep;
use waymesh_proto::membership::Revocation;
use waymesh_proto::seqset::SeqSet;

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
        /// When it goes into the mailbox.
        storing: Storing,
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
        /// On which path. One that does not exist is told as `path_unavailable`.
        via: Via,
    },
    /// Ask for the peers; answered by [`Event::Peers`].
    ListPeers {
        /// The command's id.
        id: MessageId,
        /// Whether with the last attempts to make links.
        attempts: Detail,
    },
    /// Ask what the network gives, as STUN and TURN servers tell it; answered by
    /// [`Event::Network`]. Core knows no servers: its driver answers.
    Network {
        /// The command's id.
        id: MessageId,
        /// How long servers that have not answered are waited for.
        timeout: Duration,
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

/// When a message goes into its receiver's mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storing {
    /// When no link works.
    #[default]
    WithoutLink,
    /// Also when a link works but the receiving program has not taken it soon:
    /// the sender wants to know it durable.
    UnlessTaken,
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
    /// What the network gives.
    Network {
        /// The command.
        id: MessageId,
        /// What STUN and TURN servers gave up to now.
        status: NetworkStatus,
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
    /// The node's certificate ends soon and was not extended. Told to every client.
    CertificateExpiring {
        /// How long it still lives.
        remaining: Duration,
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
        to_incarnation: Incarnation,
        /// The attempt.
        session: waymesh_proto::SessionId,
        /// The position in the attempt.
        seq: u64,
        /// What to say. The program fills `offer_hash` of an answer.
        signal: waymesh_proto::signaling::Signal,
    },
    /// Seal a frame and post it to a peer's mailbox; answered by [`RegistryEvent::Posted`],
    /// unless the connection ends first.
    Post(Post),
    /// Say what became of an item that was pushed.
    Settle {
        /// The item.
        item: ItemId,
        /// Its sender.
        from: AgentId,
        /// What became of it.
        outcome: Outcome,
        /// To be written down before the registry is told.
        mark: Option<Mark>,
    },
    /// Write down what was consumed; there is nothing to tell the registry.
    Mark(Mark),
    /// Items that were put off may come again.
    Resume,
    /// An own item need not be delivered any more.
    Withdraw {
        /// The item.
        item: ItemId,
    },
}

/// A frame for a peer's mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// The item's id; the same when it is posted again.
    pub item: ItemId,
    /// The receiver.
    pub to: AgentId,
    /// The receiver's incarnation that acknowledgements in the frame are about:
    /// the newest one that proved itself by writing or on a link.
    pub to_incarnation: Option<Incarnation>,
    /// The class of what is in it.
    pub class: Class,
    /// What the registry is to do with it.
    pub keep: Keep,
    /// How long it lives, milliseconds.
    pub life_ms: u64,
    /// The frame (`spec/frames.md`), of any length up to one whole message.
    pub frame: Vec<u8>,
}

/// What an application has acknowledged of one stream, kept over restarts: the
/// mailbox hands out again what was pushed before, but not what is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The sender.
    pub from: AgentId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The stream.
    pub stream: Stream,
    /// What was consumed.
    pub consumed: SeqSet,
}

/// A member of the mesh as its certificate proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Its identity.
    pub id: AgentId,
    /// Its roles.
    pub roles: Vec<Role>,
    /// When its certificate ends, leeway for clocks included.
    pub expires: Instant,
}

/// An item that was opened: who sealed it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The item's id.
    pub item: ItemId,
    /// Who sealed it. The program knows a key to seal answers with.
    pub from: Member,
    /// The sender's incarnation.
    pub from_incarnation: Incarnation,
    /// The incarnation of this node that the sender knew of.
    pub to_incarnation: Option<Incarnation>,
    /// How long the item was on its way, as the registry says.
    pub dwell: Duration,
    /// Whether it was pushed before, as the registry says.
    pub again: bool,
    /// The frame; not validated.
    pub frame: Vec<u8>,
}

/// What the registry's connection reports. Records, signals, items and
/// revocations are verified.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryEvent {
    /// Logged in. Everything that was asked or watched before must be asked
    /// again; of items that were posted and not answered, nothing is known.
    Connected,
    /// The connection is gone; the program reconnects by itself.
    Disconnected,
    /// An agent's record, asked for or changed. The program can seal to it.
    Record {
        /// What the registry says; name and identity are the member's.
        record: AgentRecord,
        /// What is proved.
        member: Member,
    },
    /// The papers of a name that is being looked up were at hand. The program can
    /// seal to it; what the registry says of it is still to come.
    Introduced {
        /// What is proved.
        member: Member,
    },
    /// What the registry or a peer of this name says of itself does not hold.
    Distrusted {
        /// The name.
        name: Name,
        /// Whose papers they are, where that is known: the name may be
        /// another's by now.
        id: Option<AgentId>,
        /// What happened.
        fault: Fault,
    },
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
        /// The sender.
        from: Member,
        /// The verified body.
        body: waymesh_proto::signaling::SignalBody,
    },
    /// A signal could not be passed on.
    Undeliverable {
        /// The peer.
        to: AgentId,
        /// The attempt.
        session: waymesh_proto::SessionId,
        /// Why: `peer_offline` or `unauthorized`.
        code: waymesh_proto::Code,
    },
    /// What became of a posted item.
    Posted {
        /// The item.
        item: ItemId,
        /// What the registry did with it, or why not.
        outcome: Result<Kept, Fault>,
    },
    /// A stored item will not be delivered.
    Returned {
        /// The item.
        item: ItemId,
        /// `expired`, `unreadable` or `unauthorized`, as the registry says.
        code: waymesh_proto::Code,
    },
    /// An item for this agent.
    Item(Opened),
    /// These members are revoked.
    Revoked {
        /// The members.
        ids: Vec<AgentId>,
        /// The authority's statements of it, and of revoked invites: to be passed on to peers.
        revocations: Vec<Revocation>,
    },
    /// This node's own certificate ends then, leeway for clocks included.
    Membership {
        /// When.
        expires: Instant,
    },
}

/// What the registry did with a posted item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is durable.
    Stored,
    /// It was handed on and is not stored.
    Forwarded,
}
