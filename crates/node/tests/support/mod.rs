//! Nodes and a registry in one process.

#![allow(dead_code, reason = "each test binary uses another part")]

pub(crate) mod rogue;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use waymesh_node::skills::Builtin;
use waymesh_node::{Agent, EndpointConfig, Invitation, Node, NodeConfig, Topology};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::{InviteId, Name, SkillName};
use waymesh_registry::admin::{Client, Order, Reply, Request};
use waymesh_registry::{IceConfig, Registry, RegistryConfig};
use waymesh_trust::Keypair;
use waymesh_trust::invite::{Grant, InviteSecret};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const DAY_MS: u64 = 24 * 3_600_000;

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn skill(text: &str) -> SkillName {
    text.parse().expect("a skill name")
}

/// The key of every mesh here.
pub(crate) fn mesh() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// A registry that serves the mesh.
pub(crate) async fn registry(dir: &TempDir, listen: SocketAddr) -> Registry {
    registry_with(dir, listen, IceConfig::default()).await
}

/// The same with these STUN and TURN servers.
pub(crate) async fn registry_with(dir: &TempDir, listen: SocketAddr, ice: IceConfig) -> Registry {
    let config = RegistryConfig {
        listen,
        data_dir: dir.path().to_owned(),
        public_url: None,
        tls: None,
        ice,
    };
    let registry = Registry::start(config).await.expect("a registry");
    let mesh = mesh().mesh_key();
    order(dir, Order::Found { mesh }).await;
    registry
}

/// Gives the registry an admin's order.
pub(crate) async fn order(dir: &TempDir, order: Order) -> Reply {
    let mut admin = Client::open(dir.path()).await.expect("an admin");
    let answer = admin.ask(Request::Order(order)).await;
    answer.expect("an order that is carried out")
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What an invite to the mesh allows, as long as nothing of it is changed.
pub(crate) fn grant(registry: &Registry) -> Grant {
    let now_ms = now_ms();
    Grant {
        invite: InviteId::from_bytes([3; 16]),
        names: None,
        roles: Vec::new(),
        count: None,
        pre_approved: true,
        issued_ms: now_ms,
        expires_ms: now_ms + DAY_MS,
        renew_until_ms: now_ms + 8 * DAY_MS,
        registry: registry.key(),
    }
}

/// An invite of these limits.
pub(crate) fn invite(registry: &Registry, grant: &Grant) -> Invitation {
    let url = registry.url().clone();
    let invite = InviteSecret::make(&mesh(), grant, url, None, [6; 32]);
    Invitation::Invite(Box::new(invite.expect("an invite")))
}

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) agent: Agent,
    pub(crate) dir: TempDir,
}

/// How a node of the mesh is set up.
pub(crate) fn config(who: &str, registry: &Registry, dir: &TempDir) -> NodeConfig {
    NodeConfig {
        invite: Some(invite(registry, &grant(registry))),
        builtins: Builtin::ALL.into(),
        ipc: false,
        endpoint: EndpointConfig {
            loopback_only: true,
            ..EndpointConfig::default()
        },
        ..NodeConfig::new(name(who), dir.path())
    }
}

pub(crate) async fn host(who: &str, registry: &Registry, topology: Topology) -> Host {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(who, registry, &dir);
    config.topology = topology;
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
