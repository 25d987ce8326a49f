//! The node in a data directory, as commands talk to it: over its IPC socket.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use waymesh_node::ipc::{IpcClient, SOCKET_NAME};
use waymesh_proto::api::{
    AgentRecord, Detail, NetworkStatus, PeerState, PeerStatus, SendState, Via,
};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::{Name, SkillName};
use waymesh_proto::ipc::{Agents, Attach, Event, Hello, Outcome, Pong, RequestId, Route, Verb};
use waymesh_proto::{Code, Fault};

use crate::commands::Context;
use crate::settings::Home;

/// How much longer than asked a node may take to say that the time is over. Chosen: it
/// only turns a node that hangs into an error.
const GRACE: Duration = Duration::from_secs(2);

/// A connection to a running node.
#[derive(Debug)]
pub(crate) struct Sidecar {
    client: IpcClient,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Sending {
    id: RequestId,
    to: Option<Name>,
}

/// When a message has got far enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// It is durable in the receiver's mailbox, or delivered.
    Stored,
    /// The receiving program has it.
    Delivered,
}

/// The answer to a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) payload: Payload,
    pub(crate) route: Route,
}

impl Sidecar {
    /// Connects to the node whose data directory the command line names.
    pub(crate) async fn of(context: &Context) -> Result<Self, Fault> {
        Self::attach(&context.data_dir(Home::Node)?, context.timeout).await
    }

    /// Connects to the node of a data directory.
    pub(crate) async fn attach(data_dir: &Path, limit: Duration) -> Result<Self, Fault> {
        let path = data_dir.join(SOCKET_NAME);
        let client = within(limit, IpcClient::connect(&path)).await?;
        Ok(Self { client })
    }

    /// Who the node says it is.
    pub(crate) const fn hello(&self) -> &Hello {
        self.client.hello()
    }

    /// Asks for the peers.
    pub(crate) async fn peers(&mut self, limit: Duration) -> Result<Vec<PeerStatus>, Fault> {
        self.list_peers(Detail::Now, limit).await
    }

    /// Asks for the peers and the last attempts to make links to them.
    pub(crate) async fn attempts(&mut self, limit: Duration) -> Result<Vec<PeerStatus>, Fault> {
        self.list_peers(Detail::Attempts, limit).await
    }

    async fn list_peers(
        &mut self,
        attempts: Detail,
        limit: Duration,
    ) -> Result<Vec<PeerStatus>, Fault> {
        match self.request(Verb::ListPeers { attempts }, limit).await? {
            Event::PeerList { peers, .. } => Ok(peers),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the registry for agents, through the node.
    pub(crate) async fn agents(
        &mut self,
        name: Option<Name>,
        skill: Option<SkillName>,
        limit: Duration,
    ) -> Result<Vec<AgentRecord>, Fault> {
        let found: Agents = self.result(Verb::FindAgents { name, skill }, limit).await?;
        Ok(found.agents)
    }

    /// Asks what the network gives: servers that have not answered after `servers` are not
    /// waited for.
    pub(crate) async fn network(
        &mut self,
        servers: Duration,
        limit: Duration,
    ) -> Result<NetworkStatus, Fault> {
        self.result(Verb::Network { timeout: servers }, limit).await
    }

    /// Makes a link now.
    pub(crate) async fn connect(&mut self, to: &Name, limit: Duration) -> Result<(), Fault> {
        let verb = Verb::Connect {
            to: to.clone(),
            timeout: limit,
        };
        self.request(verb, limit).await.map(drop)
    }

    /// Measures a round trip.
    pub(crate) async fn ping(
        &mut self,
        to: &Name,
        via: Via,
        limit: Duration,
    ) -> Result<Pong, Fault> {
        let verb = Verb::Ping {
            to: to.clone(),
            timeout: limit,
            via,
        };
        self.result(verb, limit).await
    }

    /// Sends what `verb` says and waits until the message has got far enough, or has failed.
    pub(crate) async fn send(
        &mut self,
        verb: Verb,
        until: Until,
        limit: Duration,
    ) -> Result<Outcome, Fault> {
        let sending = self.start_send(verb).await?;
        self.followed(&sending, until, limit).await
    }

    /// Hands over the message that `verb` sends; [`Sidecar::followed`] says what becomes of it.
    pub(crate) async fn start_send(&mut self, verb: Verb) -> Result<Sending, Fault> {
        let to = receiver(&verb);
        let id = self.client.submit(verb).await?;
        Ok(Sending { id, to })
    }

    /// Waits until a message has got far enough, or has failed.
    pub(crate) async fn followed(
        &mut self,
        sending: &Sending,
        until: Until,
        limit: Duration,
    ) -> Result<Outcome, Fault> {
        let id = &sending.id;
        let mut known = SendState::Queued;
        let far_enough = async {
            loop {
                match self.client.event().await? {
                    Event::Error {
                        id: Some(of),
                        fault,
                    } if of == *id => return Err(fault),
                    Event::State {
                        id: Some(of),
                        outcome,
                        last,
                    } if of == *id => {
                        known = outcome.state;
                        // A lossy message: more is not to be known.
                        if last && known == SendState::Queued {
                            return Ok(outcome);
                        }
                        if let Some(outcome) = settled(outcome, until)? {
                            return Ok(outcome);
                        }
                    }
                    _ => {}
                }
            }
        };
        match timeout(limit, far_enough).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.still_waiting(sending.to.as_ref(), known, limit).await),
        }
    }

    /// Takes the messages of this agent from now on.
    pub(crate) async fn attach_inbox(&mut self, limit: Duration) -> Result<(), Fault> {
        let verb = Verb::Attach(Attach::Own);
        self.request(verb, limit).await.map(drop)
    }

    /// Waits for a message and acknowledges it; gives what it carries.
    pub(crate) async fn take_message(&mut self, limit: Duration) -> Result<Payload, Fault> {
        loop {
            if let Event::Message {
                delivery: Some(delivery),
                payload,
                ..
            } = within(limit, self.client.event()).await?
            {
                self.request(Verb::Ack { delivery }, limit).await?;
                return Ok(payload);
            }
        }
    }

    /// Why a message has not got far enough yet, as far as the node knows.
    async fn still_waiting(
        &mut self,
        to: Option<&Name>,
        known: SendState,
        limit: Duration,
    ) -> Fault {
        let peers = self.peers(Duration::ZERO).await.unwrap_or_default();
        let peer = peers.iter().find(|peer| Some(&peer.agent) == to);
        let (why, hint) = match peer {
            Some(peer) if peer.state == PeerState::Linked => (
                format!(": {} is linked, but no program there took it", peer.agent),
                "attach a program to the peer's inbox; the node keeps the message until --ttl is over",
            ),
            Some(peer) if known == SendState::Stored => (
                format!(
                    ": it is in the mailbox of {}, who has not taken it",
                    peer.agent
                ),
                "it waits there until --ttl is over; start the peer's node, or attach a program to its inbox",
            ),
            Some(peer) => (
                format!(": {}", peer.reason),
                "the node goes on trying until --ttl is over; to wait longer, use --timeout",
            ),
            None => (String::new(), "to wait longer, use --timeout"),
        };
        let known = crate::output::word(&known);
        let message = format!("the message is only {known} after {limit:?}{why}");
        Fault::new(Code::Timeout, message).with_hint(hint)
    }

    /// Calls a skill as `verb` says.
    pub(crate) async fn call(&mut self, verb: Verb, limit: Duration) -> Result<Answer, Fault> {
        answer(self.request(verb, limit).await?)
    }

    /// Starts a call as `verb` says; [`Sidecar::next_answer`] has its answer.
    pub(crate) async fn start_call(&mut self, verb: Verb) -> Result<RequestId, Fault> {
        self.client.submit(verb).await
    }

    /// The answer to any call that was started.
    ///
    /// # Errors
    ///
    /// What the call failed with, or `timeout` when there is none in time.
    pub(crate) async fn next_answer(
        &mut self,
        limit: Duration,
    ) -> Result<(RequestId, Answer), Fault> {
        loop {
            match within(limit, self.client.event()).await? {
                Event::Error { fault, .. } => return Err(fault),
                Event::Result {
                    id: Some(id),
                    payload,
                    route: Some(route),
                } => return Ok((id, Answer { payload, route })),
                _ => {}
            }
        }
    }

    async fn request(&mut self, verb: Verb, limit: Duration) -> Result<Event, Fault> {
        within(limit, self.client.request(verb)).await
    }

    async fn result<T: serde::de::DeserializeOwned>(
        &mut self,
        verb: Verb,
        limit: Duration,
    ) -> Result<T, Fault> {
        match self.request(verb, limit).await? {
            Event::Result { payload, .. } => serde_json::from_slice(&payload.bytes)
                .map_err(|error| Fault::new(Code::Internal, error.to_string())),
            other => Err(unexpected(&other)),
        }
    }
}

/// What became of a message, once that is what was waited for.
fn settled(outcome: Outcome, until: Until) -> Result<Option<Outcome>, Fault> {
    let code = match outcome.state {
        SendState::Queued => return Ok(None),
        SendState::Stored => return Ok((until == Until::Stored).then_some(outcome)),
        SendState::Delivered => return Ok(Some(outcome)),
        SendState::Expired => Code::Expired,
        SendState::Refused => Code::Unauthorized,
        SendState::Unconfirmed => Code::Unconfirmed,
    };
    Err(outcome.error.unwrap_or_else(|| {
        Fault::new(
            code,
            format!(
                "{} did not get the message within its lifetime",
                outcome.peer_id
            ),
        )
        .with_hint("give it longer with --ttl, or see waymesh peers for why")
    }))
}

fn receiver(verb: &Verb) -> Option<Name> {
    match verb {
        Verb::Send { to, .. } => Some(to.clone()),
        _ => None,
    }
}

fn answer(event: Event) -> Result<Answer, Fault> {
    match event {
        Event::Result {
            payload,
            route: Some(route),
            ..
        } => Ok(Answer { payload, route }),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(event: &Event) -> Fault {
    tracing::debug!(?event, "an answer of another kind");
    Fault::new(Code::Internal, "the node gave an answer of another kind")
        .with_hint("use a node and a program of the same version")
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit + GRACE, work).await.unwrap_or_else(|_| {
        Err(Fault::new(
            Code::Timeout,
            format!("the node did not answer within {limit:?}"),
        )
        .with_hint("give it longer with --timeout, or look at the node's log"))
    })
}
