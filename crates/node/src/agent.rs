//! What a Rust program does with a node: call, send, offer skills, read messages.

mod desk;
mod events;
mod inbox;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use waymesh_core::app::{Command, Event};
use waymesh_proto::api::{AgentRecord, Detail, NetworkStatus, PeerStatus, SkillSpec, Via};
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{MessageId, Name, SkillName};
use waymesh_proto::link::Path;

pub use waymesh_proto::ipc::Wait;

use self::desk::{Handler, Waiting, read};
pub use self::events::Events;
pub use self::inbox::{Call, Inbox, Message};
pub use self::sending::{SendOptions, Sent};
use crate::client::{Client, ClientSender, NodeGone, new_id};

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
        self.ping_via(to, Via::InUse, timeout).await
    }

    /// Measures a round trip to a peer on one of its paths.
    ///
    /// # Errors
    ///
    /// As [`Agent::connect`], `timeout`, and `path_unavailable`.
    pub async fn ping_via(
        &self,
        to: &Name,
        via: Via,
        timeout: Duration,
    ) -> Result<(Path, Duration), Fault> {
        let id = new_id();
        let to = to.clone();
        let command = Command::Ping {
            id,
            to,
            timeout,
            via,
        };
        match self.ask(id, command).await? {
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
        self.list_peers(Detail::Now).await
    }

    /// The peers, how they are reached, and the last attempts to make a link to each.
    ///
    /// # Errors
    ///
    /// `shutting_down` when the node is gone.
    pub async fn attempts(&self) -> Result<Vec<PeerStatus>, Fault> {
        self.list_peers(Detail::Attempts).await
    }

    async fn list_peers(&self, attempts: Detail) -> Result<Vec<PeerStatus>, Fault> {
        let id = new_id();
        match self.ask(id, Command::ListPeers { id, attempts }).await? {
            Event::Peers { peers, .. } => Ok(peers),
            _ => Err(gone()),
        }
    }

    /// What the network gives, as STUN and TURN servers tell it. They are asked as for a
    /// link, and `timeout` is how long those are waited for that do not answer.
    ///
    /// # Errors
    ///
    /// `shutting_down` when the node is gone.
    pub async fn network(&self, timeout: Duration) -> Result<NetworkStatus, Fault> {
        let id = new_id();
        match self.ask(id, Command::Network { id, timeout }).await? {
            Event::Network { status, .. } => Ok(status),
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
