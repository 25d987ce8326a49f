//! Messages to agents that are not there, with the real binary.

mod support;

use serde_json::json;
use support::{Mesh, Program};

/// Takes the messages of a node, and acknowledges the first one that comes.
fn take_one(mesh: &Mesh, node: &str) -> serde_json::Value {
    let mut program: Program = mesh.program(node);
    program.tell(&json!({"type": "attach", "id": "1"}));
    let message = program.told("message");
    program.tell(&json!({"type": "ack", "id": "2", "delivery": message["delivery"]}));
    program.told("ok");
    message
}

#[test]
fn a_message_to_an_agent_that_is_away_is_stored_and_delivered_when_it_is_back() {
    let mesh = Mesh::start();
    let (_alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    bob.interrupted();
    let send = ["send", "bob", "--text", "hello"];
    let stored = mesh.at("alice", &send);
    let stored = stored.done();
    assert_eq!(
        (&stored["ok"], &stored["state"]),
        (&true.into(), &"stored".into())
    );
    assert_eq!(stored["path"], "mailbox");
    assert!(stored["id"].is_string());
    let peers = mesh.at("alice", &["peers"]);
    let peer = peers.done();
    assert_eq!(
        (&peer["state"], &peer["path"]),
        (&"mailbox".into(), &"mailbox".into())
    );
    assert!(peer["reason"].is_string());
    let _bob = mesh.node("bob");
    let message = take_one(&mesh, "bob");
    assert_eq!(message["message"], "hello");
    assert_eq!(message["message_id"], stored["id"]);
}

#[test]
fn a_sender_that_waits_learns_that_its_message_was_delivered_later() {
    let mesh = Mesh::start();
    let (_alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    bob.interrupted();
    let waiting = mesh.begin("alice", &["send", "bob", "--text", "hello", "--wait"]);
    let _bob = mesh.node("bob");
    take_one(&mesh, "bob");
    assert_eq!(waiting.ended().done()["state"], "delivered");
}

#[test]
fn what_is_stored_outlives_its_sender_and_the_registry() {
    let mut mesh = Mesh::start();
    let (alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    bob.interrupted();
    let stored = mesh.at("alice", &["send", "bob", "--text", "hello"]);
    assert_eq!(stored.done()["state"], "stored");
    alice.kill();
    mesh.kill_registry();
    mesh.start_registry();
    let _bob = mesh.node("bob");
    assert_eq!(take_one(&mesh, "bob")["message"], "hello");
}

#[test]
fn a_message_that_no_program_takes_expires() {
    let mesh = Mesh::start();
    let (_alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
    let send = ["send", "bob", "--text", "hello", "--wait", "--ttl", "1s"];
    let ran = mesh.at("alice", &send);
    assert_eq!(
        (ran.code, ran.error_code()),
        (Some(1), "expired"),
        "{ran:?}"
    );
}

#[test]
fn a_message_to_a_name_that_nobody_has_fails_in_time() {
    let mesh = Mesh::start();
    let _alice = mesh.node("alice");
    let send = ["send", "nobody", "--text", "hello", "--ttl", "1s", "--wait"];
    let ran = mesh.at("alice", &send);
    assert_eq!(
        (ran.code, ran.error_code()),
        (Some(1), "unknown_peer"),
        "{ran:?}"
    );
}
