//! Whole nodes and a real registry in one process, in trouble.

mod support;

use std::time::Duration;

use support::{PATIENCE, any_port, config, echo, host, name, registry, skill};
use waymesh_node::{Node, SendOptions, Topology, Wait};
use waymesh_proto::api::{PeerState, SendState, SkillSpec};
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Executed};
use waymesh_proto::limits::NODE_INBOX_MAX_BYTES;

#[tokio::test]
async fn ten_nodes_started_at_the_same_moment_are_all_linked() {
    const NODES: usize = 10;
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    let mut hosts = Vec::new();
    for at in 0..NODES {
        hosts.push(host(&format!("node-{at}"), &registry, Topology::FullMesh).await);
    }
    for host in &hosts {
        for to in 0..NODES {
            let to = name(&format!("node-{to}"));
            if to != host.node.info().name {
                host.agent.connect(&to, PATIENCE).await.expect("a link");
            }
        }
        let peers = host.agent.peers().await.expect("peers");
        let linked = peers.iter().filter(|peer| peer.state == PeerState::Linked);
        assert_eq!(linked.count(), NODES - 1);
    }
}

#[tokio::test]
async fn both_sides_offering_at_the_same_moment_end_with_one_link_that_works() {
    const PAIRS: usize = 20;
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    for pair in 0..PAIRS {
        let (left, right) = (format!("left-{pair}"), format!("right-{pair}"));
        let mut a = host(&left, &registry, Topology::OnDemand).await;
        let mut b = host(&right, &registry, Topology::OnDemand).await;
        a.node.registered().await.expect("registered");
        b.node.registered().await.expect("registered");
        // Each first call makes an offer; which one comes first is up to the machine.
        tokio::join!(echo(&a, &right), echo(&b, &left));
        let (right, left) = (name(&right), name(&left));
        let links = tokio::join!(
            a.agent.connect(&right, PATIENCE),
            b.agent.connect(&left, PATIENCE)
        );
        assert_eq!(links, (Ok(()), Ok(())));
        for host in [&a, &b] {
            let peers = host.agent.peers().await.expect("peers");
            assert_eq!(peers.len(), 1);
            assert_eq!(peers[0].state, PeerState::Linked, "{}", peers[0].reason);
        }
    }
}

#[tokio::test]
async fn links_live_on_without_a_registry_that_comes_back_after_any_pause() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut keeper = registry(&dir, any_port()).await;
    let listen = keeper.local_addr();
    let (a, b) = (
        host("a", &keeper, Topology::OnDemand).await,
        host("b", &keeper, Topology::OnDemand).await,
    );
    a.agent.connect(&name("b"), PATIENCE).await.expect("a link");
    for (round, pause_ms) in [0, 1, 5, 20, 50, 120, 300, 700, 1_500, 2_500]
        .into_iter()
        .enumerate()
    {
        keeper.stop().await;
        let mut pause = std::pin::pin!(tokio::time::sleep(Duration::from_millis(pause_ms)));
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = echo(&a, "b") => {}
            }
        }
        keeper = registry(&dir, listen).await;
        // A newcomer finds both, so both are registered again.
        let newcomer = host(&format!("newcomer-{round}"), &keeper, Topology::OnDemand).await;
        echo(&newcomer, "a").await;
        echo(&newcomer, "b").await;
        let status = a.agent.peers().await.expect("peers");
        let b = status
            .iter()
            .find(|peer| peer.agent == name("b"))
            .expect("b");
        assert_eq!(b.state, PeerState::Linked);
    }
    drop((a, b));
}

#[tokio::test]
async fn a_reader_that_stops_holds_up_nobody_and_costs_bounded_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    let a = host("a", &registry, Topology::OnDemand).await;
    let b = host("b", &registry, Topology::OnDemand).await;
    let mut inbox = b.agent.inbox().await.expect("the inbox");
    let mut accepted = 0u32;
    let full = loop {
        let payload = Payload::json(vec![b'1'; 20_000]);
        match a
            .agent
            .send(&name("b"), payload, SendOptions::default())
            .await
        {
            Ok(_) => accepted += 1,
            Err(fault) => break fault,
        }
        echo(&a, "b").await;
    };
    assert_eq!(full.code, Code::QueueFull);
    echo(&b, "a").await;
    assert!(b.node.metrics().inbox_bytes < NODE_INBOX_MAX_BYTES as u64 / 16);
    // The reader goes on, and everything that was accepted arrives.
    for _ in 0..accepted {
        let message = tokio::time::timeout(PATIENCE, inbox.next())
            .await
            .expect("in time");
        message.expect("a message").ack().await.expect("the node");
    }
}

#[tokio::test]
async fn arguments_are_checked_and_a_handler_that_panics_fails_its_call_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    let a = host("a", &registry, Topology::OnDemand).await;
    let b = host("b", &registry, Topology::OnDemand).await;
    let spec = SkillSpec {
        name: skill("fragile"),
        description: None,
        schema: Some(serde_json::json!({"type": "integer"})),
        idempotent: false,
    };
    let handler = |call: waymesh_node::Call| async move {
        assert!(call.payload.bytes != b"13", "thirteen");
        Ok(call.payload)
    };
    b.agent.offer(spec, handler).await.expect("the skill");
    let call = async |args: &str| {
        let payload = Payload::json(args);
        let answer = a
            .agent
            .call(&name("b"), &skill("fragile"), payload, PATIENCE)
            .await;
        answer.map(|answer| answer.payload.bytes)
    };
    assert_eq!(call("12").await, Ok(b"12".to_vec()));
    let refused = call("\"twelve\"").await.expect_err("not an integer");
    assert_eq!(
        (refused.code, refused.executed),
        (Code::InvalidArguments, Some(Executed::No))
    );
    let failed = call("13").await.expect_err("a panic");
    assert_eq!(
        (failed.code, failed.executed),
        (Code::HandlerFailed, Some(Executed::Unknown))
    );
    assert_eq!(call("14").await, Ok(b"14".to_vec()));
}

#[tokio::test]
async fn a_restarted_node_is_reached_by_a_plain_call_and_gets_what_it_had_not_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    let a = host("a", &registry, Topology::OnDemand).await;
    let b = host("b", &registry, Topology::OnDemand).await;
    echo(&a, "b").await;
    let options = SendOptions {
        wait: Wait::Delivered,
        ..SendOptions::default()
    };
    let to = name("b");
    let sent = a.agent.send(&to, Payload::json("1"), options);
    let restart = async {
        let config = config("b", &registry, &b.dir);
        b.node.stop().await;
        let again = Node::start(config).await.expect("the node again");
        let agent = again.agent();
        let mut inbox = agent.inbox().await.expect("the inbox");
        let message = tokio::time::timeout(PATIENCE, inbox.next())
            .await
            .expect("in time");
        message.expect("the message").ack().await.expect("the node");
        echo(&a, "b").await;
        (again, agent)
    };
    let (sent, _again) = tokio::join!(sent, restart);
    assert_eq!(sent.expect("delivered").state, SendState::Delivered);
}
