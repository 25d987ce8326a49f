//! What comes to an agent: messages and calls.

use std::time::Duration;

use tokio::sync::mpsc;
use waymesh_core::app::{Command, InboundId};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{AgentId, Name};
use waymesh_proto::link::Path;

use super::Agent;
use crate::client::{ClientSender, NodeGone, new_id};

/// Messages that wait for [`Inbox::next`]; core hands out no more than this at a time.
const INBOX_CAP: usize = waymesh_core::inbox::OWNER_MESSAGES;

/// A call of a skill of this agent.
#[derive(Debug)]
pub struct Call {
    /// The caller's name.
    pub from: Name,
    /// The caller's identity.
    pub agent_id: AgentId,
    /// The arguments, checked against the skill's schema.
    pub payload: Payload,
    /// How long the caller still waits.
    pub remaining: Duration,
    /// Whether an earlier life of this node may have run it.
    pub redelivered: bool,
}

/// A message to this agent. Dropping it without [`Message::ack`] leaves it unacknowledged.
#[derive(Debug)]
pub struct Message {
    /// The sender's name.
    pub from: Name,
    /// The sender's identity.
    pub agent_id: AgentId,
    /// The class it came in.
    pub class: Class,
    /// What it carries.
    pub payload: Payload,
    /// Whether an earlier life of this node may have had it.
    pub redelivered: bool,
    /// The path it took.
    pub path: Path,
    pub(super) inbound: InboundId,
    pub(super) sender: ClientSender,
}

impl Message {
    /// Tells the sender that it was delivered.
    ///
    /// # Errors
    ///
    /// [`NodeGone`].
    pub async fn ack(&self) -> Result<(), NodeGone> {
        let message = self.inbound;
        self.sender.send(Command::Consumed { message }).await
    }
}

/// The messages to this agent, in order.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Message>);

impl Inbox {
    /// The next message; `None` when the node is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.recv().await
    }
}

impl Agent {
    /// Claims the message inbox.
    ///
    /// # Errors
    ///
    /// `already_owned` when another client has it.
    pub async fn inbox(&self) -> Result<Inbox, Fault> {
        let (inbox, messages) = mpsc::channel(INBOX_CAP);
        self.shared.waiting.with(|desk| desk.inbox = Some(inbox));
        let id = new_id();
        let claimed = self.done(id, Command::ClaimInbox { id }).await;
        if claimed.is_err() {
            self.shared.waiting.with(|desk| desk.inbox = None);
        }
        claimed.map(|()| Inbox(messages))
    }
}
