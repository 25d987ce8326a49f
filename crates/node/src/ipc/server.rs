//! Accepts connections and owns their tasks.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use waymesh_core::app::{Command, Event};
use waymesh_net::local::{self, BindError};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::MessageId;
use waymesh_proto::ipc::Hello;

use super::SOCKET_NAME;
use super::connection::{self, Limits};

/// Connections at a time; one more is told `rate_limited` and closed. Chosen:
/// an agent has one, and tools come and go.
const CONNECTIONS_MAX: usize = 128;

/// How long to wait when the system cannot give a descriptor for a connection. Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Makes a client of the node for each connection.
pub trait Clients: Send + 'static {
    /// Where the client's commands go.
    type Commands: Commands;
    /// Where the client's events come from.
    type Events: Events;

    /// A new client, which ends when both halves are dropped.
    fn open(&self) -> (Self::Commands, Self::Events);
}

/// The half of a client that tells the node what to do.
pub trait Commands: Send + Sync + 'static {
    /// A new id.
    fn new_id(&self) -> MessageId;

    /// Hands a command over; waits while the node is busy. False when the node is gone.
    fn send(&self, command: Command) -> impl Future<Output = bool> + Send;
}

/// The half of a client that hears what happened.
pub trait Events: Send + 'static {
    /// The next event; `None` when the node stopped or gave the client up for
    /// not taking its events. Cancel safe.
    fn recv(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// The listening socket of a node. The file goes when this is dropped.
#[derive(Debug)]
pub struct IpcServer {
    listener: UnixListener,
    path: PathBuf,
}

impl IpcServer {
    /// Listens on [`super::SOCKET_NAME`] in `data_dir`, whose lock the caller holds.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the file cannot be made.
    pub fn bind(data_dir: &Path) -> Result<Self, BindError> {
        let path = data_dir.join(SOCKET_NAME);
        let listener = local::bind(&path)?;
        Ok(Self { listener, path })
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until it is dropped; every connection ends with it. A client is
    /// greeted, and told when it asks, with what `hello` says then.
    pub async fn run(self, clients: impl Clients, hello: watch::Receiver<Hello>, limits: Limits) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let refusal = refusal(&stream, connections.len());
                        let (commands, events) = clients.open();
                        let hello = hello.clone();
                        connections.spawn(async move {
                            match refusal {
                                Some(fault) => connection::refuse(stream, fault, limits).await,
                                None => {
                                    connection::run(stream, commands, events, hello, limits).await;
                                }
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an IPC connection failed; please report this");
                    }
                }
            }
        }
    }
}

impl Drop for IpcServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn refusal(stream: &UnixStream, open: usize) -> Option<Fault> {
    if !local::is_allowed(stream) {
        return Some(
            Fault::new(Code::Unauthorized, "the socket belongs to another user")
                .with_hint("run the program as the user that runs the node"),
        );
    }
    (open >= CONNECTIONS_MAX).then(|| {
        Fault::new(
            Code::RateLimited,
            format!("the node has {CONNECTIONS_MAX} connections already"),
        )
        .with_hint("use one connection for many requests, and close it when done")
    })
}
