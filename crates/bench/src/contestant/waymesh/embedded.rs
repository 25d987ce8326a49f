//! A node in the measuring process, as a Rust program embeds it.

use std::time::Duration;

use tempfile::TempDir;
use waymesh_node::{Agent, Client, Node, Topology};
use waymesh_proto::Name;
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::SkillName;
use waymesh_proto::link::Path;

use super::{Registry, member_config, name};
use crate::error::BenchError;

/// How long a link or a call may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running node and its agent.
pub(crate) struct Embedded {
    node: Node,
    agent: Agent,
    echo: SkillName,
    _folder: TempDir,
}

impl Embedded {
    /// Starts a node and waits until it is registered.
    pub(crate) async fn start(registry: &Registry) -> Result<Self, BenchError> {
        Self::named("measurer", registry, Topology::OnDemand).await
    }

    /// Starts a node of another name and waits until it is registered.
    pub(crate) async fn named(
        text: &str,
        registry: &Registry,
        topology: Topology,
    ) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::io("making a folder"))?;
        let (name, invite) = (name(text)?, Some(registry.invite()));
        let mut config = member_config(&name, registry.url(), invite, folder.path())?;
        config.topology = topology;
        let mut node = Node::start(config).await.map_err(failed)?;
        node.registered().await?;
        Ok(Self {
            agent: node.agent(),
            node,
            echo: "echo".parse().map_err(failed)?,
            _folder: folder,
        })
    }

    /// A client of the node that sees its events.
    pub(crate) fn client(&self) -> Client {
        self.node.client()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Name {
        &self.node.info().name
    }

    /// Makes a link.
    pub(crate) async fn connect(&self, to: &Name) -> Result<(), BenchError> {
        Ok(self.agent.connect(to, PATIENCE).await?)
    }

    /// Calls the `echo` of a peer; gives the path of the answer.
    pub(crate) async fn echo(&self, to: &Name, message: &[u8]) -> Result<Option<Path>, BenchError> {
        let payload = Payload::bytes("application/octet-stream", message);
        let answer = self.agent.call(to, &self.echo, payload, PATIENCE).await?;
        match answer.payload.bytes == message {
            true => Ok(answer.path),
            false => Err(failed("the echo is not what was sent")),
        }
    }

    /// Says goodbye.
    pub(crate) async fn stop(self) {
        self.node.stop().await;
    }
}

fn failed(error: impl ToString) -> BenchError {
    BenchError::contestant("waymesh", error)
}
