//! A client of the node inside the node's process: an IPC connection or a Rust program.
//!
//! Commands go out through one bounded queue that all clients share; events
//! come back through a bounded queue of the client's own. A client that does
//! not take its events is given up (`slow_consumer`): it costs the node a full
//! queue and nobody else anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use waymesh_core::app::{ClientId, Command, Event, Storing};
use waymesh_proto::ids::MessageId;
use waymesh_proto::ipc::Wait;

use crate::ipc::{Clients, Commands, Events};

/// Commands of all clients that wait for the driver; a client that finds it full waits.
pub(crate) const CLIENTS_TO_CORE_CAP: usize = 1_024;
/// Events that wait for one client; one more and the client is given up.
/// Chosen: above what a client can be owed at a time in calls and messages.
const CORE_TO_CLIENT_CAP: usize = 8_192;
/// Clients of a node at a time; one more gets no events and hears of its end at once.
const CLIENTS_MAX: usize = 1_024;

/// When a message goes into the mailbox whose sender waits for this.
pub(crate) const fn storing(wait: Wait) -> Storing {
    match wait {
        Wait::Stored => Storing::UnlessTaken,
        Wait::Queued | Wait::Delivered => Storing::WithoutLink,
    }
}

/// The node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct NodeGone;

/// A client came or went.
#[derive(Debug)]
pub(crate) enum Change {
    Came(ClientId, mpsc::Sender<Event>),
    Went(ClientId),
}

/// The driver's ends of what all clients share.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) commands: mpsc::Receiver<(ClientId, Command)>,
    pub(crate) changes: mpsc::Receiver<Change>,
}

/// Makes clients. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    commands: mpsc::Sender<(ClientId, Command)>,
    changes: mpsc::Sender<Change>,
    next: Arc<AtomicU64>,
}

/// The two sides of the clients' entrance.
pub(crate) fn entrance() -> (Door, Hall) {
    let (commands, commands_out) = mpsc::channel(CLIENTS_TO_CORE_CAP);
    // Each client holds a place for its coming and one for its going.
    let (changes, changes_out) = mpsc::channel(2 * CLIENTS_MAX);
    let next = Arc::new(AtomicU64::new(1));
    let door = Door {
        commands,
        changes,
        next,
    };
    let hall = Hall {
        commands: commands_out,
        changes: changes_out,
    };
    (door, hall)
}

impl Door {
    /// A new client; when there are too many, or the node is gone, its events end at once.
    pub(crate) fn open(&self) -> Client {
        let id = ClientId(self.next.fetch_add(1, Ordering::Relaxed));
        let (events, events_out) = mpsc::channel(CORE_TO_CLIENT_CAP);
        let came = self.changes.clone().try_reserve_owned();
        let went = self.changes.clone().try_reserve_owned();
        let guard = match (came, went) {
            (Ok(came), Ok(went)) => {
                came.send(Change::Came(id, events));
                Some(went)
            }
            _ => None,
        };
        Client {
            sender: ClientSender {
                id,
                commands: self.commands.clone(),
                _guard: Arc::new(Guard(id, guard)),
            },
            events: events_out,
        }
    }
}

/// Tells the driver when the last half of a client is dropped.
#[derive(Debug)]
struct Guard(ClientId, Option<mpsc::OwnedPermit<Change>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(place) = self.1.take() {
            place.send(Change::Went(self.0));
        }
    }
}

/// A client of the node. Dropping it releases all that it claimed.
#[derive(Debug)]
pub struct Client {
    sender: ClientSender,
    events: mpsc::Receiver<Event>,
}

/// The half of a client that commands. A cheap clone.
#[derive(Debug, Clone)]
pub struct ClientSender {
    id: ClientId,
    commands: mpsc::Sender<(ClientId, Command)>,
    _guard: Arc<Guard>,
}

impl Client {
    /// The half that commands; the client lives until both are dropped.
    pub fn sender(&self) -> ClientSender {
        self.sender.clone()
    }

    /// The two halves.
    pub fn split(self) -> (ClientSender, mpsc::Receiver<Event>) {
        (self.sender, self.events)
    }

    /// Hands a command over; waits while the node is busy.
    ///
    /// # Errors
    ///
    /// [`NodeGone`].
    pub async fn send(&self, command: Command) -> Result<(), NodeGone> {
        self.sender.send(command).await
    }

    /// The next event; `None` when the node stopped or gave the client up. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl ClientSender {
    /// Hands a command over; waits while the node is busy.
    ///
    /// # Errors
    ///
    /// [`NodeGone`].
    pub async fn send(&self, command: Command) -> Result<(), NodeGone> {
        let sent = self.commands.send((self.id, command)).await;
        sent.map_err(|_| NodeGone)
    }
}

/// A new message id, a UUIDv7 of this moment.
pub fn new_id() -> MessageId {
    let random: [u8; 10] = rand::random();
    MessageId::new(unix_ms(), random)
}

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Makes a client for each IPC connection.
pub(crate) struct IpcClients(pub(crate) Door);

impl Clients for IpcClients {
    type Commands = ClientSender;
    type Events = mpsc::Receiver<Event>;

    fn open(&self) -> (Self::Commands, Self::Events) {
        self.0.open().split()
    }
}

impl Commands for ClientSender {
    fn new_id(&self) -> MessageId {
        new_id()
    }

    async fn send(&self, command: Command) -> bool {
        Self::send(self, command).await.is_ok()
    }
}

impl Events for mpsc::Receiver<Event> {
    async fn recv(&mut self) -> Option<Event> {
        Self::recv(self).await
    }
}
