//! Nodes that may use relays only, through the TURN server of their registry.

mod support;

use std::time::Duration;

use support::{Host, PATIENCE, any_port, config, echo, name, registry_with};
use waymesh_net::webrtc::{CandidatePolicy, EndpointConfig};
use waymesh_node::Node;
use waymesh_proto::ice::{ServerOutcome, ServerTried};
use waymesh_proto::link::{CandidateKind, Path};
use waymesh_registry::{IceConfig, Registry, TurnConfig};

/// How often it is looked for what nobody tells. Chosen.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
async fn a_program_learns_what_servers_gave_and_logs_in_to_them_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry_with(&dir, any_port(), on_loopback()).await;
    let alice = relayed_host("alice", &registry).await;
    // The servers are told behind the login: until then there is none to wait for.
    let told = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let status = alice.agent.network(PATIENCE).await.expect("an answer");
            if !status.servers.is_empty() {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, told).await;
    let status = status.expect("the servers in time");
    assert!(status.is_settled(), "{status:?}");
    let relayed: Vec<_> = status.tried.iter().filter_map(gave).collect();
    assert_eq!(relayed.len(), 1, "one transport is enough: {status:?}");
    let [candidate] = status.candidates[..] else {
        panic!("relays alone count: {status:?}");
    };
    assert_eq!(candidate.kind, CandidateKind::Relay);
    assert_eq!(candidate.address, relayed[0]);
    let turn = status
        .servers
        .iter()
        .find(|server| server.username.is_some());
    assert!(turn.is_some_and(|server| server.credential.is_some()));
}

fn gave(tried: &ServerTried) -> Option<std::net::SocketAddr> {
    match tried.outcome {
        ServerOutcome::Gave { address } => Some(address),
        _ => None,
    }
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
