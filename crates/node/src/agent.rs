//! What a Rust program does with a node: call, send, offer skills, read messages.

mod desk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use waymesh_core::app::{Command, Event, InboundId};
use waymesh_proto::api::{AgentRecord, PeerStatus, SendState, SkillSpec};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, MessageId, Name, SkillName};
use waymesh_proto::link::Path;

use self::desk::{Handler, SendWait, Waiting, read};
use crate::client::{Client, ClientSender, NodeGone, new_id};

/// Messages that wait for [`Inbox::next`]; core hands out no more than this at a time.
const INBOX_CAP: usize = waymesh_core::inbox::OWNER_MESSAGES;

/// An agent's interface to its node. A cheap clone; the node releases what it
/// claimed when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sender: ClientSender,
    waiting: Waiting,
    reader: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What [`Agent::send`] waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wait {
    /// The node has it.
    #[default]
    Queued,
    /// Its fate is known.
    Settled,
}

/// How a message is sent.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// The delivery class.
    pub class: Class,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it may take.
    pub ttl: Duration,
    /// What to wait for.
    pub wait: Wait,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            class: Class::Control,
            priority: Priority::Normal,
            ttl: Duration::from_millis(waymesh_proto::limits::TTL_DEFAULT_MS),
            wait: Wait::Queued,
        }
    }
}

/// What is known of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// What is known.
    pub state: SendState,
    /// The path it took, once known.
    pub path: Option<Path>,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The result.
    pub payload: Payload,
    /// The path of the reply.
    pub path: Option<Path>,
    /// From the call to the answer, inside the node.
    pub elapsed: Duration,
}

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
    inbound: InboundId,
    sender: ClientSender,
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
    pub(crate) fn new(client: Client) -> Self {
        let waiting = Waiting::default();
        let (sender, events) = client.split();
        let reader = read(events, sender.clone(), waiting.clone());
        #[expect(clippy::disallowed_methods, reason = "the handle is owned by Shared")]
        let reader = tokio::spawn(reader);
        Self {
            shared: Arc::new(Shared {
                sender,
                waiting,
                reader,
            }),
        }
    }

    /// Calls a peer's skill.
    ///
    /// # Errors
    ///
    /// The peer's error, or `unknown_peer`, `peer_offline`, `timeout`,
    /// `peer_lost`, `queue_full`, `message_too_large`.
    pub async fn call(
        &self,
        to: &Name,
        skill: &SkillName,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        let id = new_id();
        let command = Command::Call {
            id,
            to: to.clone(),
            skill: skill.clone(),
            priority: Priority::Normal,
            timeout,
            idempotent: false,
            payload,
        };
        match self.ask(id, command).await? {
            Event::Answer {
                outcome,
                path,
                elapsed,
                ..
            } => outcome.map(|payload| Answer {
                payload,
                path,
                elapsed,
            }),
            _ => Err(gone()),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// `queue_full`, `message_too_large`, `unknown_peer` and the like; with
    /// [`Wait::Settled`] also why it was not delivered.
    pub async fn send(
        &self,
        to: &Name,
        payload: Payload,
        options: SendOptions,
    ) -> Result<Sent, Fault> {
        let id = new_id();
        let (answer, answered) = oneshot::channel();
        let wanted = if options.class.is_reliable() {
            options.wait
        } else {
            Wait::Queued
        };
        self.shared
            .waiting
            .with(|desk| desk.states.insert(id, SendWait { wanted, answer }));
        let command = Command::Send {
            id,
            to: to.clone(),
            class: options.class,
            priority: options.priority,
            ttl: options.ttl,
            payload,
        };
        self.tell(command).await?;
        match answered.await {
            Ok(Event::State {
                state, path, fault, ..
            }) => match fault {
                Some(fault) => Err(fault),
                None => Ok(Sent { id, state, path }),
            },
            _ => Err(gone()),
        }
    }

    /// Offers a skill. The handler runs once a call, many at a time; when the
    /// caller no longer waits its answer is dropped.
    ///
    /// # Errors
    ///
    /// `already_owned`, `bad_request` for a schema that is none.
    pub async fn offer<F, H>(&self, spec: SkillSpec, handler: H) -> Result<(), Fault>
    where
        F: Future<Output = Result<Payload, Fault>> + Send + 'static,
        H: Fn(Call) -> F + Send + Sync + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        let name = spec.name.clone();
        self.shared
            .waiting
            .with(|desk| desk.skills.insert(name.clone(), handler));
        let id = new_id();
        let outcome = self.done(id, Command::OfferSkill { id, spec }).await;
        if outcome.is_err() {
            self.shared.waiting.with(|desk| desk.skills.remove(&name));
        }
        outcome
    }

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

    /// Makes a link to a peer now, unless there is one.
    ///
    /// # Errors
    ///
    /// `link_failed`, `unknown_peer`, `peer_offline`.
    pub async fn connect(&self, to: &Name, timeout: Duration) -> Result<(), Fault> {
        let id = new_id();
        let to = to.clone();
        self.done(id, Command::Connect { id, to, timeout }).await
    }

    /// Measures a round trip to a peer.
    ///
    /// # Errors
    ///
    /// As [`Agent::connect`], and `timeout`.
    pub async fn ping(&self, to: &Name, timeout: Duration) -> Result<(Path, Duration), Fault> {
        let id = new_id();
        let to = to.clone();
        match self.ask(id, Command::Ping { id, to, timeout }).await? {
            Event::Pong { outcome, .. } => outcome,
            _ => Err(gone()),
        }
    }

    /// The peers and how they are reached.
    ///
    /// # Errors
    ///
    /// `shutting_down` when the node is gone.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, Fault> {
        let id = new_id();
        match self.ask(id, Command::ListPeers { id }).await? {
            Event::Peers { peers, .. } => Ok(peers),
            _ => Err(gone()),
        }
    }

    /// The agents that the registry knows.
    ///
    /// # Errors
    ///
    /// `registry_unreachable`.
    pub async fn find(
        &self,
        name: Option<Name>,
        skill: Option<SkillName>,
    ) -> Result<Vec<AgentRecord>, Fault> {
        let id = new_id();
        match self
            .ask(id, Command::FindAgents { id, name, skill })
            .await?
        {
            Event::Agents { outcome, .. } => outcome,
            _ => Err(gone()),
        }
    }

    async fn done(&self, id: MessageId, command: Command) -> Result<(), Fault> {
        match self.ask(id, command).await? {
            Event::Done { outcome, .. } => outcome,
            _ => Err(gone()),
        }
    }

    async fn ask(&self, id: MessageId, command: Command) -> Result<Event, Fault> {
        let (answer, answered) = oneshot::channel();
        self.shared
            .waiting
            .with(|desk| desk.answers.insert(id, answer));
        self.tell(command).await?;
        answered.await.map_err(|_| gone())
    }

    async fn tell(&self, command: Command) -> Result<(), Fault> {
        self.shared
            .sender
            .send(command)
            .await
            .map_err(|NodeGone| gone())
    }
}

fn gone() -> Fault {
    Fault::new(
        Code::ShuttingDown,
        "the node has stopped, or gave this client up as too slow",
    )
}
