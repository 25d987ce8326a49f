//! The far side of a measurement: what a child process does, and what it and its
//! parent say to each other in JSON lines.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use waymesh_node::Topology;
use waymesh_proto::Name;

use crate::contestant::waymesh::far;
use crate::contestant::{grpc, tcp, udp, websocket};
use crate::error::BenchError;

/// Orders that wait for a child; reading its standard input waits when full.
const STDIN_TO_ROLE_CAP: usize = 16;

/// What a child process is. Written as JSON in one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Role {
    /// Echoes datagrams.
    Udp,
    /// Answers framed messages over TCP.
    Tcp,
    /// Answers messages of a WebSocket.
    Websocket,
    /// Answers gRPC calls and streams.
    Grpc,
    /// Waymesh nodes with an `echo` skill that take in every message.
    Nodes {
        /// The URL of the registry.
        registry: String,
        /// Where they keep their state, a folder each.
        data_dir: PathBuf,
        /// Their names.
        names: Vec<Name>,
        /// When they make links.
        topology: When,
    },
}

/// When nodes make links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// On first use.
    OnDemand,
    /// With every other node, by themselves.
    FullMesh,
    /// Never.
    MailboxOnly,
}

impl From<When> for Topology {
    fn from(when: When) -> Self {
        match when {
            When::OnDemand => Self::OnDemand,
            When::FullMesh => Self::FullMesh,
            When::MailboxOnly => Self::MailboxOnly,
        }
    }
}

/// Where a child finds the invite of the mesh: not among its arguments, which everybody can read.
pub(crate) const INVITE_VARIABLE: &str = "WAYMESH_INVITE";

/// What a child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Said {
    /// It listens, and says where.
    Ready {
        /// The address or URL, if it has one.
        #[serde(alias = "url", default)]
        address: Option<String>,
    },
    /// Its nodes are registered.
    Registered,
    /// All messages that one of its nodes was told to send are where they should be.
    Sent,
    /// A node's link to a peer is up.
    Up {
        /// The node.
        node: Name,
        /// The peer.
        peer: Name,
    },
}

/// What a child is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Told {
    /// Every node of the child makes a link to this one.
    Connect {
        /// The name of the node.
        to: Name,
    },
    /// Every node of the child sends messages and says when all are there.
    Send {
        /// The receiver.
        to: Name,
        /// The size of each, bytes.
        size: u32,
        /// How many.
        count: u32,
        /// What they wait for.
        until: Until,
    },
}

/// What a sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Until {
    /// The word that all are durable in the mailbox.
    Stored,
    /// The word that all were taken in.
    Delivered,
}

impl FromStr for Role {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl Role {
    /// Plays the role until standard input closes.
    ///
    /// # Errors
    ///
    /// [`BenchError`] when the role cannot be played on.
    pub async fn run(self) -> Result<(), BenchError> {
        let mut orders = orders_from_stdin();
        match self {
            Self::Udp => until_stdin_closes(udp::serve(), &mut orders).await,
            Self::Tcp => until_stdin_closes(tcp::serve(), &mut orders).await,
            Self::Websocket => until_stdin_closes(websocket::serve(), &mut orders).await,
            Self::Grpc => until_stdin_closes(grpc::serve(), &mut orders).await,
            Self::Nodes {
                registry,
                data_dir,
                names,
                topology,
            } => {
                let invite = std::env::var(INVITE_VARIABLE).ok();
                let crowd = far::Crowd {
                    registry: &registry,
                    invite: invite.as_deref(),
                    data_dir: &data_dir,
                    names: &names,
                    topology: topology.into(),
                };
                crowd.run(orders).await
            }
        }
    }

    /// A word for error messages.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Websocket => "WebSocket",
            Self::Grpc => "gRPC",
            Self::Nodes { .. } => "waymesh nodes",
        }
    }
}

async fn until_stdin_closes(
    play: impl Future<Output = Result<(), BenchError>>,
    orders: &mut Orders,
) -> Result<(), BenchError> {
    tokio::select! {
        done = play => done,
        () = async { while orders.recv().await.is_some() {} } => Ok(()),
    }
}

/// What the parent orders; ends when standard input closes.
pub(crate) type Orders = mpsc::Receiver<Told>;

/// Reads orders on a thread: tokio's own standard input would hold up the end of the
/// runtime. A line that is no order ends the reading as if the input had closed.
fn orders_from_stdin() -> Orders {
    let (orders, queue) = mpsc::channel(STDIN_TO_ROLE_CAP);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(told) = serde_json::from_str(&line) else {
                break;
            };
            if orders.blocking_send(told).is_err() {
                break;
            }
        }
    });
    queue
}

/// Tells the parent something.
pub(crate) fn say(said: &Said) -> Result<(), BenchError> {
    let mut line = serde_json::to_vec(said).map_err(|error| BenchError::Child {
        role: "this child",
        why: error.to_string(),
    })?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&line)
        .and_then(|()| stdout.flush())
        .map_err(BenchError::io("writing to the parent"))
}

/// Tells the parent on which address this child listens.
pub(crate) fn announce(address: SocketAddr) -> Result<(), BenchError> {
    say(&Said::Ready {
        address: Some(address.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_from_its_argument() {
        let role = Role::Nodes {
            registry: "http://127.0.0.1:1".into(),
            data_dir: "/tmp/x".into(),
            names: vec!["a".parse().expect("a name")],
            topology: When::FullMesh,
        };
        let text = serde_json::to_string(&role).expect("JSON");
        assert_eq!(text.parse::<Role>().expect("a role"), role);
        assert!("{}".parse::<Role>().is_err());
    }
}
