//! What the rules want done.

use std::sync::Arc;
use std::time::Instant;

use waymesh_proto::control::{MeshKey, PairingCode, ServerMessage};
use waymesh_proto::mailbox::{Item, Note};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Fault, InviteId, Name, RequestId};

use super::{
    ConnId, ItemSeq, OrderTicket, Reply, StoredAgent, StoredItem, StoredJoin, StoredRevocation,
    Waits,
};

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
    /// Send a message on each of these connections of which no more than half of
    /// the queue is full; the others do without.
    Introduce {
        /// The connections.
        to: Vec<ConnId>,
        /// Who is introduced.
        message: ServerMessage,
    },
    /// Push an item. It fits: what is unanswered on a connection is at most
    /// [`super::PUSH_WINDOW_ITEMS`] and [`super::PUSH_WINDOW_BYTES`].
    Push {
        /// The connection of the receiver.
        conn: ConnId,
        /// What the receiver is told beside it.
        note: Note,
        /// The item.
        item: Arc<Item>,
    },
    /// Push an item that is not stored and tell its sender so, if few such
    /// items wait for the receiver; else send the other message to the sender.
    Forward {
        /// The connection of the receiver.
        to: ConnId,
        /// What the receiver is told beside it.
        note: Note,
        /// The item.
        item: Arc<Item>,
        /// The connection of the sender.
        from: ConnId,
        /// That the item was handed on.
        forwarded: ServerMessage,
        /// That it was not.
        otherwise: ServerMessage,
    },
    /// Read the bytes of an item from the disk, after all writes before this,
    /// and call `handle_loaded`, in the order of these effects.
    Load {
        /// The connection that they are for.
        conn: ConnId,
        /// The item.
        seq: ItemSeq,
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
    /// Sign a statement that the certificate lives longer, if it is this
    /// registry that may, and call `handle_extended`.
    Extend {
        /// The connection of the member.
        conn: ConnId,
        /// The certificate.
        certificate: Certificate,
    },
    /// Send the member its STUN and TURN servers, with credentials of its own.
    Servers {
        /// The connection of the member.
        conn: ConnId,
        /// The member.
        agent_id: AgentId,
        /// When the credentials end.
        until: Instant,
    },
    /// An agent is a member no more: end what it has without a connection, and
    /// believe no credentials that it has of this registry.
    Expelled {
        /// The agent.
        agent_id: AgentId,
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
    /// Remember over restarts: all of these writes or none.
    Store {
        /// What, in this order.
        writes: Vec<Write>,
        /// To be given to `handle_stored` when all of it is durable, or none
        /// can be; without one nobody waits, and the writes must be tried
        /// again when they fail.
        ticket: Option<Ticket>,
    },
    /// The registry serves this mesh from now on.
    Founded {
        /// The mesh's public key.
        mesh: MeshKey,
    },
    /// Give an admin the answer.
    Answer {
        /// What was asked.
        ticket: OrderTicket,
        /// The answer.
        outcome: Result<Reply, Fault>,
    },
}

/// Who waits for something to be durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket(pub(super) Waits);

/// One change of what is remembered over restarts.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The mesh that the registry serves.
    Mesh(MeshKey),
    /// An agent, in place of what was remembered under its name. The name
    /// never changes its agent but by [`Write::ForgetAgent`].
    Agent(Box<StoredAgent>),
    /// A name is free again.
    ForgetAgent(Name),
    /// An invite has admitted an agent.
    Admission {
        /// The invite.
        invite: InviteId,
        /// The agent.
        agent_id: AgentId,
    },
    /// A member or an invite is revoked.
    Revocation(StoredRevocation),
    /// A request to join, in place of what was remembered under its id.
    Join(Box<StoredJoin>),
    /// A request to join is settled.
    ForgetJoin(RequestId),
    /// A pairing code holds until then.
    Code {
        /// The code.
        code: PairingCode,
        /// When it ends.
        ends: Instant,
    },
    /// A pairing code was used or is too old.
    ForgetCode(PairingCode),
    /// An item with its bytes.
    Item {
        /// What is remembered of it.
        stored: StoredItem,
        /// The bytes.
        item: Arc<Item>,
    },
    /// An item was pushed.
    Pushed(ItemSeq),
    /// An item is not needed any more; it may not have been written yet.
    ForgetItem {
        /// The item.
        seq: ItemSeq,
        /// Why, for the counters.
        why: Gone,
    },
}

/// Why an item is in no mailbox any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gone {
    /// Its receiver has it.
    Taken,
    /// Its receiver cannot open it or does not want it.
    Refused,
    /// Its life is over.
    Expired,
    /// Its sender does not need it delivered any more.
    Withdrawn,
    /// A newer one of the same sender is there in its place.
    Replaced,
    /// Its sender or receiver is a member no more.
    Revoked,
    /// The disk does not have it any more.
    Damaged,
}

/// Why the rules closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Its login, its request to join, or the connection itself was refused.
    Refused,
    /// No login came in time.
    LoginTimeout,
    /// It has waited for an admin as long as it may.
    JoinTimeout,
    /// A newer connection speaks for the agent.
    Replaced,
    /// Nothing was heard of it, not even a pong.
    Silent,
    /// It sent too many messages that had to be refused.
    Abuse,
    /// The member's certificate has ended.
    Expired,
    /// The member was revoked.
    Revoked,
}
