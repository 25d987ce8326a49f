//! A child process of waymesh nodes: each offers `echo`, takes in every message, says
//! when a link comes up, and does what the parent orders.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use waymesh_node::skills::Builtin;
use waymesh_node::{Client, Command, Event, Node, NodeConfig, Storing, Topology, new_id};
use waymesh_proto::api::SendState;
use waymesh_proto::envelope::Payload;
use waymesh_proto::limits::{OUTBOX_MAX_BYTES, OUTBOX_MAX_MESSAGES};
use waymesh_proto::{Class, Name, Priority};

use crate::error::BenchError;
use crate::role::{Orders, Said, Told, Until, say};

use super::member_config;

/// Orders that wait for one node; the process reads no more when full.
const ORDERS_TO_NODE_CAP: usize = 1;

/// How long a link may take, and a message may live, before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages above this size go as `bulk`, others as `control`.
const CONTROL_MAX_BYTES: u32 = 1024;

/// The nodes of a child.
pub(crate) struct Crowd<'a> {
    pub(crate) registry: &'a str,
    pub(crate) invite: Option<&'a str>,
    pub(crate) data_dir: &'a Path,
    pub(crate) names: &'a [Name],
    pub(crate) topology: Topology,
}

impl Crowd<'_> {
    fn config(&self, name: &Name) -> Result<NodeConfig, BenchError> {
        let mut config = member_config(name, self.registry, self.invite, self.data_dir)?;
        config.builtins.insert(Builtin::Echo);
        config.topology = self.topology;
        Ok(config)
    }

    /// Runs the nodes until the parent goes away.
    pub(crate) async fn run(self, orders: Orders) -> Result<(), BenchError> {
        let configs = self.names.iter().map(|name| self.config(name));
        let configs = configs.collect::<Result<Vec<_>, _>>()?;
        let nodes = try_join_all(configs.into_iter().map(Node::start));
        serve(nodes.await.map_err(failed)?, self.names, orders).await
    }
}

async fn serve(mut nodes: Vec<Node>, names: &[Name], mut orders: Orders) -> Result<(), BenchError> {
    let mut members = JoinSet::new();
    let mut to_members = Vec::new();
    for (node, name) in nodes.iter().zip(names) {
        let (to_member, ordered) = mpsc::channel(ORDERS_TO_NODE_CAP);
        to_members.push(to_member);
        members.spawn(member(name.clone(), node.client(), ordered));
    }
    try_join_all(nodes.iter_mut().map(Node::registered)).await?;
    say(&Said::Registered)?;
    let ended = loop {
        tokio::select! {
            told = orders.recv() => match told {
                Some(told) => for to_member in &to_members {
                    let _ = to_member.send(told.clone()).await;
                },
                None => break Ok(()),
            },
            Some(ended) = members.join_next() => {
                break ended.map_err(failed).and_then(|ended| ended);
            }
        }
    };
    futures_util::future::join_all(nodes.into_iter().map(Node::stop)).await;
    ended
}

/// One node's client: takes in messages, obeys orders.
async fn member(
    name: Name,
    mut client: Client,
    mut orders: mpsc::Receiver<Told>,
) -> Result<(), BenchError> {
    tell(&client, Command::ClaimInbox { id: new_id() }).await?;
    loop {
        tokio::select! {
            told = orders.recv() => match told {
                Some(Told::Connect { to }) => {
                    let (id, timeout) = (new_id(), PATIENCE);
                    tell(&client, Command::Connect { id, to, timeout }).await?;
                }
                Some(Told::Send { to, size, count, until }) => {
                    send(&mut client, &name, &to, (size, count), until).await?;
                    say(&Said::Sent)?;
                }
                None => return Ok(()),
            },
            event = client.recv() => handle(&client, &name, event).await?,
        }
    }
}

/// What is done with an event that nobody waits for.
async fn handle(client: &Client, name: &Name, event: Option<Event>) -> Result<(), BenchError> {
    match event {
        Some(Event::Message {
            inbound: Some(message),
            ..
        }) => tell(client, Command::Consumed { message }).await,
        Some(Event::PeerConnected { peer }) => say(&Said::Up {
            node: name.clone(),
            peer: peer.agent,
        }),
        Some(Event::Done {
            outcome: Err(fault),
            ..
        }) => Err(fault.into()),
        Some(_) => Ok(()),
        None => Err(failed("the node has stopped")),
    }
}

/// Sends messages, half an outbox of them under way at a time, until all are there. One that
/// is stored stays in the outbox until it is delivered, so as many must fit.
async fn send(
    client: &mut Client,
    name: &Name,
    to: &Name,
    (size, count): (u32, u32),
    until: Until,
) -> Result<(), BenchError> {
    let reached = |state: SendState| match until {
        Until::Stored => matches!(state, SendState::Stored | SendState::Delivered),
        Until::Delivered => state == SendState::Delivered,
    };
    let class = match size {
        0..=CONTROL_MAX_BYTES => Class::Control,
        _ => Class::Bulk,
    };
    let window = OUTBOX_MAX_MESSAGES.min(OUTBOX_MAX_BYTES / size as usize) / 2;
    let bytes = vec![b'x'; size as usize];
    let (mut sent, mut delivered) = (0, 0);
    while delivered < count {
        while sent < count && ((sent - delivered) as usize) < window {
            let command = Command::Send {
                id: new_id(),
                to: to.clone(),
                class,
                priority: Priority::Normal,
                ttl: PATIENCE,
                storing: Storing::default(),
                payload: Payload::bytes("application/octet-stream", bytes.clone()),
            };
            tell(client, command).await?;
            sent += 1;
        }
        match client.recv().await {
            Some(Event::State { state, .. }) if reached(state) => delivered += 1,
            Some(Event::State { state, fault, .. }) if state.is_final() => {
                return Err(fault.map_or_else(
                    || failed(format!("a message is {state:?}")),
                    BenchError::from,
                ));
            }
            event => handle(client, name, event).await?,
        }
    }
    Ok(())
}

async fn tell(client: &Client, command: Command) -> Result<(), BenchError> {
    client.send(command).await.map_err(failed)
}

fn failed(error: impl ToString) -> BenchError {
    BenchError::contestant("waymesh", error)
}
