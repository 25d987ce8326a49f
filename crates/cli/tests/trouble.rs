//! Registries and nodes that die and come back, with the real binary.

mod support;

use std::net::TcpListener;

use serde_json::json;
use support::Mesh;

#[test]
fn links_live_on_without_the_registry_and_all_register_when_it_is_back() {
    let mut mesh = Mesh::start();
    let (_alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
    assert_eq!(mesh.at("alice", &["ping", "bob"]).code, Some(0));
    mesh.kill_registry();
    let ran = mesh.at("alice", &["call", "bob", "echo", "--data", "1"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    mesh.start_registry();
    let carol = mesh.node("carol");
    for peer in ["alice", "bob"] {
        let ran = mesh.at("carol", &["call", peer, "echo", "--data", "2"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    drop(carol);
}

#[test]
fn a_node_that_was_killed_is_reachable_at_once_when_it_is_back() {
    let mesh = Mesh::start();
    let _alice = mesh.node("alice");
    for life in 0..3 {
        let bob = mesh.node("bob");
        let call = ["call", "bob", "echo", "--data", "1", "--idempotent"];
        let ran = mesh.at("alice", &call);
        assert_eq!(ran.code, Some(0), "life {life}: {ran:?}");
        bob.kill();
    }
}

#[test]
fn a_call_in_hand_fails_when_its_worker_is_killed() {
    let mesh = Mesh::start();
    let (_alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    let mut program = mesh.program("bob");
    program.tell(&json!({"type": "register_skill", "id": "1", "skill": {"name": "hang"}}));
    program.told("ok");
    let call = mesh.begin("alice", &["call", "bob", "hang"]);
    program.told("call");
    bob.kill();
    let ran = call.ended();
    assert_eq!(
        (ran.code, ran.error_code()),
        (Some(1), "peer_lost"),
        "{ran:?}"
    );
    assert_eq!(ran.last()["error"]["executed"], "unknown");
}

#[test]
fn a_node_waits_for_a_registry_that_is_not_there_yet() {
    let mut mesh = Mesh::start();
    mesh.kill_registry();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port();
    mesh.url = format!("http://127.0.0.1:{port}");
    let invite = mesh.invite_source();
    let args = [
        "--name",
        "alice",
        "--invite",
        &invite,
        "--registry",
        &mesh.url,
    ];
    let alice = mesh.begin_node(&mesh.data_dir("alice"), &args);
    let ready = alice.told("ready");
    assert!(ready["ipc"].is_string());
    mesh.start_registry();
    alice.told("registered");
}
