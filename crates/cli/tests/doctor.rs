//! `waymesh doctor` and the reasons for paths with the real binary: what is told where all
//! works, and where something is in the way.

mod support;

use std::net::{TcpListener, UdpSocket};

use serde_json::Value;
use support::{Mesh, Ran, Way, run};

/// What a check found, whichever way it ended.
fn check<'a>(ran: &'a Ran, name: &str) -> &'a Value {
    let check = &ran.last()["checks"][name];
    for key in ["state", "found", "what", "took_ms"] {
        assert!(check.get(key).is_some(), "{key} of {name}: {ran:?}");
    }
    check
}

fn state<'a>(ran: &'a Ran, name: &str) -> &'a str {
    check(ran, name)["state"].as_str().expect("a state")
}

#[test]
fn a_registry_on_this_machine_is_reached_and_its_carriers_pass() {
    let mesh = Mesh::start();
    let ran = run([
        "doctor",
        "--registry",
        &mesh.url,
        "--data-dir",
        "/nonexistent",
    ]);
    assert_eq!((ran.code, ran.lines.len()), (Some(0), 1), "{ran:?}");
    assert_eq!(ran.last()["ok"], true);
    assert_eq!(ran.last()["registry"], mesh.url.as_str());
    for passed in ["dns", "tcp", "websocket", "long_poll"] {
        assert_eq!(state(&ran, passed), "passed", "{ran:?}");
    }
    // Plain HTTP, and no proxy.
    assert_eq!(
        (state(&ran, "tls"), state(&ran, "proxy")),
        ("skipped", "skipped")
    );
    let paths = ran.last()["paths"].as_array().expect("paths");
    assert_eq!(paths.len(), 3);
    for key in ["peer", "path", "otherwise", "reason"] {
        assert!(paths.iter().all(|path| path.get(key).is_some()), "{key}");
    }
}

#[test]
fn a_member_knows_the_key_of_its_registry_and_a_stranger_does_not() {
    let mesh = Mesh::start_by(Way::Tls);
    let _alice = mesh.node("alice");
    let ran = mesh.at("alice", &["doctor"]);
    assert_eq!(
        (ran.code, state(&ran, "tls")),
        (Some(0), "passed"),
        "{ran:?}"
    );
    let ran = run([
        "doctor",
        "--registry",
        &mesh.url,
        "--data-dir",
        "/nonexistent",
    ]);
    assert_eq!(
        (ran.code, state(&ran, "tls")),
        (Some(0), "unknown"),
        "{ran:?}"
    );
    assert_eq!(check(&ran, "tls")["found"]["intercepted"], false);
    assert_eq!(state(&ran, "websocket"), "passed");
}

#[test]
fn another_key_than_the_pinned_one_is_an_interception() {
    let mesh = Mesh::start_by(Way::Tls);
    mesh.node("alice").kill();
    // Another registry with a key of its own stands in for whoever opens TLS on the way.
    let other = Mesh::unfounded(Way::Tls);
    let ran = mesh.at("alice", &["doctor", "--registry", &other.url]);
    assert_eq!(
        (ran.code, state(&ran, "tls")),
        (Some(1), "failed"),
        "{ran:?}"
    );
    let found = &check(&ran, "tls")["found"];
    assert_eq!(found["intercepted"], true);
    assert!(found["key"].is_string() && found["key"] != found["pin"]);
    let advice = ran.last()["advice"].to_string();
    assert!(advice.contains("--ca"), "{advice}");
}

#[test]
fn where_nothing_answers_there_is_no_path() {
    let refused = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = refused.local_addr().expect("an address");
    drop(refused);
    let url = format!("http://{address}");
    let ran = run([
        "doctor",
        "--registry",
        &url,
        "--data-dir",
        "/nonexistent",
        "--timeout",
        "3s",
    ]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.last()["ok"], false);
    assert_eq!(state(&ran, "tcp"), "failed");
    let what = check(&ran, "tcp")["what"].as_str().expect("words");
    assert!(what.contains("refuses"), "{what}");
    assert!(ran.last()["paths"][0]["path"].is_null());
}

#[test]
fn silent_servers_are_given_up_in_time_and_udp_is_said_to_be_blocked() {
    let mesh = Mesh::start();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let stun = format!("stun:{}", silent.local_addr().expect("an address"));
    let turn = format!(
        "turn:{}?transport=tcp",
        tcp.local_addr().expect("an address")
    );
    let args = ["doctor", "--data-dir", "/nonexistent", "--timeout", "2s"];
    let named = ["--stun-url", stun.as_str(), "--turn-url", turn.as_str()];
    let ran = run([&args[..], &named[..]].concat());
    // Without a registry nothing more is known than that nobody answers.
    assert_eq!(
        (ran.code, state(&ran, "udp")),
        (Some(1), "failed"),
        "{ran:?}"
    );
    assert_eq!(ran.last()["checks"]["turn"][0]["state"], "failed");
    assert_eq!(state(&ran, "tcp"), "skipped");
    drop(mesh);
}

#[test]
fn nothing_to_reach_and_bad_urls_are_wrong_usage() {
    for args in [
        &["doctor", "--data-dir", "/nonexistent"][..],
        &["doctor", "--registry", "mesh.example"],
        &["doctor", "--stun-url", "http://x"],
        &["doctor", "--stun-url", "turn:x"],
        &["doctor", "--turn-url", "turn:x", "--turn-username", "me"],
        &["ping", "bob", "--via", "air"],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.error_code()), (Some(2), "usage"), "{args:?}");
    }
}

#[test]
fn a_peer_is_shown_with_what_was_tried() {
    let mesh = Mesh::start();
    let (_alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    let ran = mesh.at("alice", &["ping", "bob"]);
    assert_eq!((ran.code, ran.lines.len()), (Some(0), 2), "{ran:?}");
    let trips: Vec<_> = ran.lines.iter().map(|trip| &trip["path"]).collect();
    assert_eq!(trips, ["mailbox", "direct"], "{ran:?}");
    assert_eq!(ran.last()["local_candidate"], "host");
    let ran = mesh.at("alice", &["ping", "bob", "--via", "link"]);
    assert_eq!(ran.done()["path"], "direct");

    let ran = mesh.at("alice", &["peers"]);
    assert!(ran.done()["attempts"].is_null());
    let ran = mesh.at("alice", &["peers", "-v", "bob"]);
    let attempt = &ran.done()["attempts"][0];
    assert_eq!(attempt["outcome"], "linked", "{ran:?}");
    assert_eq!(attempt["path"], "direct");
    assert!(attempt["tried"]["pairs"].is_array(), "{ran:?}");
    let ran = mesh.at("alice", &["peers", "-v", "carol"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "unknown_peer"));

    // A ping does not wait for somebody to come.
    let ran = mesh.at("alice", &["ping", "carol", "--timeout", "1h"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "unknown_peer"));
    bob.interrupted();
    // A message that waits in the mailbox is no link.
    let ran = mesh.at("alice", &["send", "bob", "--text", "later"]);
    assert_eq!(ran.done()["state"], "stored");
    let ran = mesh.at("alice", &["ping", "bob", "--timeout", "1h"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "peer_offline"));
}

#[test]
fn whoever_pings_itself_is_told_once_that_it_cannot() {
    let mesh = Mesh::start();
    let _alice = mesh.node("alice");
    let ran = mesh.at("alice", &["ping", "alice"]);
    assert_eq!((ran.code, ran.lines.len()), (Some(1), 1), "{ran:?}");
    assert_eq!(ran.error_code(), "bad_request");
}
