//! What whole nodes keep over restarts, changed keys, revocations and rules.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use support::{Host, PATIENCE, any_port, config, echo, host, mesh, name, order, registry, skill};
use tempfile::TempDir;
use waymesh_node::{Inbox, Node, NodeConfig, SendOptions, Topology, Wait, rotate_identity};
use waymesh_proto::Code;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::envelope::Payload;
use waymesh_registry::Registry;
use waymesh_registry::admin::Order;
use waymesh_trust::revocation::{Target, revoke};

/// Two nodes and their registry.
struct Scene {
    a: Host,
    b: Host,
    registry: Registry,
    house: TempDir,
}

async fn scene(topology: Topology) -> Scene {
    let house = tempfile::tempdir().expect("a directory");
    let registry = registry(&house, any_port()).await;
    let mut a = host("a", &registry, topology).await;
    let mut b = host("b", &registry, topology).await;
    a.node.registered().await.expect("registered");
    b.node.registered().await.expect("registered");
    Scene {
        a,
        b,
        registry,
        house,
    }
}

async fn write(from: &Host, to: &str, text: &str, wait: Wait) {
    let options = SendOptions {
        wait,
        ..SendOptions::default()
    };
    let payload = Payload::json(text);
    let sent = from.agent.send(&name(to), payload, options).await;
    sent.expect("it gets as far as that");
}

/// The next message's text, and whether it may have been there before; acknowledged.
async fn read(inbox: &mut Inbox) -> (String, bool) {
    let message = tokio::time::timeout(PATIENCE, inbox.next()).await;
    let message = message.expect("in time").expect("a message");
    let text = String::from_utf8(message.payload.bytes.clone()).expect("text");
    let redelivered = message.redelivered;
    message.ack().await.expect("the node");
    (text, redelivered)
}

/// Stops a node as its user does; gives its directory.
async fn stopped(host: Host) -> TempDir {
    drop(host.agent);
    host.node.stop().await;
    host.dir
}

/// Ends a node in the middle of what it does; gives its directory.
fn killed(host: Host) -> TempDir {
    drop((host.agent, host.node));
    host.dir
}

/// Starts a node on a directory whose last node may still be dying.
async fn started(config: NodeConfig, dir: TempDir) -> Host {
    let node = loop {
        match Node::start(config.clone()).await {
            Ok(node) => break node,
            Err(error) => {
                let fault = waymesh_proto::Fault::from(error);
                assert_eq!(fault.code, Code::IdentityInUse, "{fault}");
                tokio::task::yield_now().await;
            }
        }
    };
    let agent = node.agent();
    Host { node, agent, dir }
}

fn mailbox_only(who: &str, registry: &Registry, dir: &TempDir) -> NodeConfig {
    NodeConfig {
        topology: Topology::MailboxOnly,
        ..config(who, registry, dir)
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_death_and_says_so() {
    let Scene {
        a,
        b,
        registry,
        house: _house,
    } = scene(Topology::MailboxOnly).await;
    let mut inbox = b.agent.inbox().await.expect("the inbox");
    write(&a, "b", "1", Wait::Stored).await;
    write(&a, "b", "2", Wait::Stored).await;
    assert_eq!(read(&mut inbox).await, ("1".into(), false));
    let unread = tokio::time::timeout(PATIENCE, inbox.next()).await;
    let unread = unread.expect("in time").expect("a message");
    drop((unread, inbox));
    let dir = killed(b);
    let b = started(mailbox_only("b", &registry, &dir), dir).await;
    let mut inbox = b.agent.inbox().await.expect("the inbox");
    write(&a, "b", "3", Wait::Stored).await;
    let mut texts = Vec::new();
    while texts.last().is_none_or(|(text, _)| text != "3") {
        texts.push(read(&mut inbox).await);
    }
    assert!(texts.contains(&("2".into(), true)), "{texts:?}");
    // Acknowledged a moment before the death, "1" may come again too, if it says so.
    assert!(!texts.contains(&("1".into(), false)), "{texts:?}");
}

#[tokio::test]
async fn a_node_that_was_stopped_hands_nothing_out_twice() {
    let Scene {
        a,
        b,
        registry,
        house: _house,
    } = scene(Topology::MailboxOnly).await;
    let mut inbox = b.agent.inbox().await.expect("the inbox");
    write(&a, "b", "1", Wait::Stored).await;
    assert_eq!(read(&mut inbox).await.0, "1");
    drop(inbox);
    let dir = stopped(b).await;
    let b = started(mailbox_only("b", &registry, &dir), dir).await;
    let mut inbox = b.agent.inbox().await.expect("the inbox");
    write(&a, "b", "2", Wait::Stored).await;
    // Whether the stopped node may have had it is another question.
    assert_eq!(read(&mut inbox).await.0, "2");
}

#[tokio::test]
async fn a_node_with_a_new_key_keeps_its_mail_its_pins_and_what_others_allow_it() {
    let Scene {
        a,
        b,
        registry,
        house: _house,
    } = scene(Topology::OnDemand).await;
    echo(&a, "b").await;
    echo(&b, "a").await;
    let id = b.node.info().agent_id;
    // To who is away goes a letter under the old key.
    let dir_a = stopped(a).await;
    write(&b, "a", "\"old\"", Wait::Stored).await;
    let dir_b = stopped(b).await;
    let rotated = rotate_identity(dir_b.path()).expect("another key");
    assert_eq!(rotated.agent_id, id);
    assert_ne!(rotated.key, id);
    let mut b = started(config("b", &registry, &dir_b), dir_b).await;
    b.node.registered().await.expect("believed");
    let mut config = config("a", &registry, &dir_a);
    config.policy.allow = vec!["b".parse().expect("a rule")];
    let a = started(config, dir_a).await;
    let mut inbox = a.agent.inbox().await.expect("the inbox");
    assert_eq!(read(&mut inbox).await.0, "\"old\"");
    let new = async { assert_eq!(read(&mut inbox).await.0, "\"new\"") };
    tokio::join!(write(&b, "a", "\"new\"", Wait::Delivered), new);
    let (to_b, link) = (name("b"), a.agent.clone());
    link.connect(&to_b, PATIENCE).await.expect("a link");
    echo(&a, "b").await;
    echo(&b, "a").await;
}

#[tokio::test]
async fn a_revoked_peer_loses_its_links_and_is_called_no_more() {
    let Scene {
        a,
        mut b,
        registry: _registry,
        house,
    } = scene(Topology::OnDemand).await;
    let to_b = name("b");
    a.agent.connect(&to_b, PATIENCE).await.expect("a link");
    let target = Target::Member(b.node.info().agent_id);
    let revocations = vec![revoke(&mesh(), target, support::now_ms())];
    order(&house, Order::Revoke { revocations }).await;
    let why = tokio::time::timeout(PATIENCE, b.node.stopped()).await;
    let why = why.expect("in time").expect("a reason");
    assert_eq!(why.code, Code::Revoked);
    let (echo, payload) = (skill("echo"), Payload::json("1"));
    let call = a.agent.call(&to_b, &echo, payload, PATIENCE).await;
    assert_eq!(call.expect_err("revoked").code, Code::Revoked);
}

/// A member that lets `a` call `echo` and nobody anything else.
async fn guarded(registry: &Registry, topology: Topology, calls: Arc<AtomicU32>) -> Host {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config("guarded", registry, &dir);
    config.topology = topology;
    config.policy.allow = vec!["a/echo".parse().expect("a rule")];
    let mut host = started(config, dir).await;
    host.node.registered().await.expect("registered");
    let spec = SkillSpec {
        name: skill("other"),
        description: None,
        schema: None,
        idempotent: false,
    };
    let handler = move |call: waymesh_node::Call| {
        calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok(call.payload) }
    };
    host.agent.offer(spec, handler).await.expect("the skill");
    host
}

#[tokio::test]
async fn whom_the_policy_denies_gets_that_answer_by_every_way() {
    for topology in [Topology::OnDemand, Topology::MailboxOnly] {
        let Scene {
            a,
            b,
            registry,
            house: _house,
        } = scene(topology).await;
        let calls = Arc::<AtomicU32>::default();
        let _guarded = guarded(&registry, topology, Arc::clone(&calls)).await;
        let to = name("guarded");
        let call = async |from: &Host, what: &str| {
            let (what, payload) = (skill(what), Payload::json("1"));
            let answer = from.agent.call(&to, &what, payload, PATIENCE).await;
            answer.map(drop).map_err(|fault| fault.code)
        };
        assert_eq!(call(&a, "echo").await, Ok(()));
        assert_eq!(call(&a, "other").await, Err(Code::Unauthorized));
        assert_eq!(call(&b, "echo").await, Err(Code::Unauthorized));
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        let options = SendOptions {
            wait: Wait::Delivered,
            ..SendOptions::default()
        };
        let sent = a.agent.send(&to, Payload::json("1"), options).await;
        assert_eq!(sent.expect_err("it is denied").code, Code::Unauthorized);
    }
}

#[tokio::test]
async fn what_no_program_has_taken_stays_in_the_mailbox_over_restarts() {
    const COUNT: usize = 20;
    let Scene {
        a,
        mut b,
        registry,
        house: _house,
    } = scene(Topology::MailboxOnly).await;
    for n in 0..COUNT {
        write(&a, "b", &n.to_string(), Wait::Stored).await;
    }
    for _ in 0..3 {
        let dir = killed(b);
        b = started(mailbox_only("b", &registry, &dir), dir).await;
        b.node.registered().await.expect("registered");
    }
    let mut inbox = b.agent.inbox().await.expect("the inbox");
    for n in 0..COUNT {
        assert_eq!(read(&mut inbox).await.0, n.to_string());
    }
}
