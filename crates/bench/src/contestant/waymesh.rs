//! waymesh: nodes that are linked directly, encrypted and acknowledged.
//!
//! The round trip is a call of a peer's `echo` by a Rust program that embeds its
//! node. One way, two processes of one node each; the receiving program takes in every
//! message, and the sender has it confirmed for each that it was taken in.

mod embedded;
pub(crate) mod far;
mod processes;

use std::path::Path;

use waymesh_node::NodeConfig;
use waymesh_proto::Name;

pub(crate) use self::embedded::Embedded;
pub(crate) use self::processes::{Crowd, Registry, Sidecar};
use crate::error::BenchError;
use crate::role::{Until, When};
use crate::settings::Settings;

/// The measuring side.
pub(crate) struct Near {
    node: Embedded,
    echo: Crowd,
    sender: Option<Crowd>,
    registry: Registry,
    settings: Settings,
}

impl Near {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, BenchError> {
        let registry = Registry::start(settings).await?;
        let node = Embedded::start(&registry).await?;
        let echo = Crowd::start(settings, &registry, 1, When::OnDemand).await?;
        node.connect(&echo.names()[0]).await?;
        Ok(Self {
            node,
            echo,
            sender: None,
            registry,
            settings: settings.clone(),
        })
    }

    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        self.node
            .echo(&self.echo.names()[0], message)
            .await
            .map(drop)
    }

    /// The sending side is a process of its own, so that its memory is its own.
    pub(crate) async fn one_way(&mut self, size: u32, count: u32) -> Result<(), BenchError> {
        let sender = match &mut self.sender {
            Some(sender) => sender,
            none => {
                none.insert(Crowd::start(&self.settings, &self.registry, 1, When::OnDemand).await?)
            }
        };
        let to = &self.echo.names()[0];
        sender.send(to, (size, count), Until::Delivered).await
    }

    pub(crate) fn one_way_pids(&self) -> Result<Option<(u32, u32)>, BenchError> {
        match &self.sender {
            Some(sender) => Ok(Some((sender.pid()?, self.echo.pid()?))),
            None => Ok(None),
        }
    }
}

/// How a node of the benchmark joins.
pub(crate) fn member_config(
    name: &Name,
    registry: &str,
    invite: Option<&str>,
    folder: &Path,
) -> Result<NodeConfig, BenchError> {
    let mut config = NodeConfig::new(name.clone(), folder.join(name.as_str()));
    config.registry = Some(registry.to_owned());
    let invite = invite.map(str::parse).transpose();
    config.invite = invite.map_err(|error| BenchError::contestant("waymesh", error))?;
    Ok(config)
}

/// Reads the name of a node of the benchmark.
pub(crate) fn name(text: &str) -> Result<Name, BenchError> {
    text.parse()
        .map_err(|error| BenchError::contestant("waymesh", error))
}
