//! Nodes and a registry in one process.

#![allow(dead_code, reason = "each test binary uses another part")]

pub(crate) mod rogue;

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use waymesh_node::skills::Builtin;
use waymesh_node::{Agent, EndpointConfig, Node, NodeConfig, Topology};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::{Name, SkillName};
use waymesh_registry::{Registry, RegistryConfig};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn skill(text: &str) -> SkillName {
    text.parse().expect("a skill name")
}

pub(crate) async fn registry(dir: &TempDir, listen: SocketAddr) -> Registry {
    let config = RegistryConfig {
        listen,
        data_dir: dir.path().to_owned(),
        public_url: None,
    };
    Registry::start(config).await.expect("a registry")
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) agent: Agent,
    pub(crate) dir: TempDir,
}

pub(crate) async fn host(who: &str, url: &str, topology: Topology) -> Host {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = NodeConfig::new(name(who), url, dir.path());
    config.topology = topology;
    config.builtins = Builtin::ALL.into();
    config.ipc = false;
    config.endpoint = EndpointConfig {
        loopback_only: true,
        ..EndpointConfig::default()
    };
    let node = Node::start(config).await.expect("a node");
    let agent = node.agent();
    Host { node, agent, dir }
}

pub(crate) async fn echo(from: &Host, to: &str) {
    let payload = Payload::json("\"hello\"");
    let answer = from
        .agent
        .call(&name(to), &skill("echo"), payload.clone(), PATIENCE)
        .await;
    assert_eq!(answer.expect("an answer").payload, payload);
}
