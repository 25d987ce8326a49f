//! A member whose node does not run asks its registry for STUN and TURN servers.

mod support;

use support::{Host, PATIENCE, any_port, config, host, name, registry_with};
use waymesh_net::control::TlsTrust;
use waymesh_node::{Node, ProxyEnvironment, SendOptions, Topology, Visit, Wait};
use waymesh_proto::Code;
use waymesh_proto::envelope::Payload;
use waymesh_registry::{IceConfig, Registry, TurnConfig};

fn visit(dir: &std::path::Path) -> Visit {
    Visit {
        data_dir: dir.to_owned(),
        registry: None,
        authorities: TlsTrust::default(),
        proxies: ProxyEnvironment::default(),
    }
}

/// A registry on loopback has a relay only where it may relay there.
fn with_relay() -> IceConfig {
    IceConfig {
        turn: Some(TurnConfig {
            relay_allow: vec!["127.0.0.0/8".into()],
            ..TurnConfig::default()
        }),
        ..IceConfig::default()
    }
}

async fn member(who: &str, registry: &Registry) -> Host {
    let mut host = host(who, registry, Topology::MailboxOnly).await;
    host.node.registered().await.expect("a member");
    host
}

#[tokio::test]
async fn a_visit_gets_credentials_and_takes_nothing_that_is_for_the_next_life() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry_with(&dir, any_port(), with_relay()).await;
    let bob = member("bob", &registry).await;
    let alice = member("alice", &registry).await;
    let (dir, life) = (alice.dir, alice.node.info().incarnation);
    alice.node.stop().await;
    let options = SendOptions {
        wait: Wait::Stored,
        ..SendOptions::default()
    };
    let letter = Payload::json("\"wait for me\"");
    let to = name("alice");
    let sent = bob.agent.send(&to, letter.clone(), options).await;
    let mut sent = sent.expect("a letter that is stored");

    let servers = visit(dir.path()).servers().await.expect("servers").servers;
    assert!(servers.iter().any(|server| server.credential.is_some()));

    let node = Node::start(config("alice", &registry, &dir)).await;
    let node = node.expect("the next life");
    assert!(node.info().incarnation > life);
    let agent = node.agent();
    let mut inbox = agent.inbox().await.expect("an inbox");
    let message = inbox.next().await.expect("the letter");
    assert_eq!(message.payload, letter);
    message.ack().await.expect("a node");
    let delivered = tokio::time::timeout(PATIENCE, sent.until(Wait::Delivered)).await;
    delivered.expect("soon").expect("it is delivered");
}

#[tokio::test]
async fn while_a_node_runs_nobody_else_logs_in_as_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry_with(&dir, any_port(), with_relay()).await;
    let alice = member("alice", &registry).await;
    let refused = visit(alice.dir.path()).servers().await;
    assert_eq!(refused.expect_err("it runs").code, Code::IdentityInUse);
}

#[tokio::test]
async fn who_is_no_member_asks_for_no_servers_and_nothing_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let none = dir.path().join("none");
    let refused = visit(&none).servers().await.expect_err("no member");
    assert_eq!(refused.code, Code::InviteRequired);
    assert!(!none.exists());
}
