//! Nodes that may use relays only, through the TURN server of their registry.

mod support;

use support::{Host, PATIENCE, any_port, config, echo, name, registry_with};
use waymesh_net::webrtc::{CandidatePolicy, EndpointConfig};
use waymesh_node::Node;
use waymesh_proto::link::Path;
use waymesh_registry::{IceConfig, Registry, TurnConfig};

/// A relay on loopback that relays on loopback.
fn on_loopback() -> IceConfig {
    IceConfig {
        turn: Some(TurnConfig {
            relay_allow: vec!["127.0.0.0/8".into()],
            ..TurnConfig::default()
        }),
        ..IceConfig::default()
    }
}

async fn relayed_host(who: &str, registry: &Registry) -> Host {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(who, registry, &dir);
    config.endpoint = EndpointConfig {
        candidates: CandidatePolicy::RelayOnly,
        ..config.endpoint
    };
    let node = Node::start(config).await.expect("a node");
    let agent = node.agent();
    Host { node, agent, dir }
}

#[tokio::test]
async fn two_nodes_that_may_only_be_relayed_talk_through_their_registry() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry_with(&dir, any_port(), on_loopback()).await;
    let alice = relayed_host("alice", &registry).await;
    let bob = relayed_host("bob", &registry).await;
    alice
        .agent
        .connect(&name("bob"), PATIENCE)
        .await
        .expect("a link");
    echo(&alice, "bob").await;
    echo(&bob, "alice").await;
    let peers = alice.agent.peers().await.expect("peers");
    assert_eq!(peers[0].path, Some(Path::Relay), "{}", peers[0].reason);
}
