//! `waymesh doctor` and relays with the real binary: whom it asks for servers, whether it
//! logs in, and what it says where something is in the way.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::proxy::{Mood, Proxy};
use support::{Mesh, Ran, Way, run, run_behind};

/// A registry on this machine relays on it only where it is told to.
const RELAYS: [&str; 2] = ["--relay-allow", "127.0.0.0/8"];

fn check<'a>(ran: &'a Ran, name: &str) -> &'a Value {
    &ran.last()["checks"][name]
}

/// How far doctor got with each TURN server: `UDP`, `TCP` and `TLS` in this order.
fn reach(ran: &Ran) -> Vec<&str> {
    let turn = check(ran, "turn").as_array().expect("a list");
    turn.iter()
        .map(|turn| turn["reach"].as_str().expect("a word"))
        .collect()
}

fn advice(ran: &Ran) -> String {
    ran.last()["advice"].to_string()
}

#[test]
fn a_member_logs_in_to_every_relay_whether_its_node_runs_or_not() {
    let mesh = Mesh::start_with(Way::Tls, &RELAYS);
    let alice = mesh.node("alice");
    let ran = mesh.at("alice", &["doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found = &check(&ran, "servers")["found"];
    assert_eq!(found["source"], "node");
    assert_eq!(
        (&found["agent"], &found["urls"]),
        (&"alice".into(), &4.into())
    );
    let tried = found["tried"].as_array().expect("a list");
    assert!(
        tried
            .iter()
            .any(|tried| tried["outcome"]["state"] == "gave")
    );
    assert!(
        found["candidates"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
    assert_eq!(reach(&ran), ["allocated"; 3], "{ran:?}");
    for secret in ["\"credential\"", "\"username\""] {
        assert!(!ran.last().to_string().contains(secret), "{secret}");
    }

    alice.kill();
    let ran = mesh.at("alice", &["doctor"]);
    assert_eq!(
        check(&ran, "servers")["found"]["source"],
        "registry",
        "{ran:?}"
    );
    assert_eq!(reach(&ran), ["allocated"; 3], "{ran:?}");
    // The next life goes on where the last one ended.
    mesh.node("alice");
}

#[test]
fn a_stranger_reaches_relays_and_is_told_how_to_try_them() {
    let mesh = Mesh::start_with(Way::Tls, &RELAYS);
    let stranger = [
        "doctor",
        "--registry",
        &mesh.url,
        "--data-dir",
        "/nonexistent",
    ];
    let ran = run(stranger);
    assert_eq!(
        check(&ran, "servers")["found"]["source"],
        "nobody",
        "{ran:?}"
    );
    // Without a pin it is not known whose TLS key it is, and nothing is told there.
    assert_eq!(reach(&ran), ["answered", "answered", "nothing"], "{ran:?}");
    let turn = check(&ran, "turn").as_array().expect("a list");
    assert!(turn.iter().all(|turn| turn["state"] == "unknown"));
    assert_eq!(turn[2]["error"]["code"], "untrusted_tls");
    assert!(advice(&ran).contains("--data-dir"), "{ran:?}");
}

#[test]
fn a_registry_without_servers_is_asked_and_not_guessed_at() {
    let mesh = Mesh::start_with(Way::Tls, &["--no-turn"]);
    let _alice = mesh.node("alice");
    let ran = mesh.at("alice", &["doctor"]);
    assert_eq!(
        (ran.code, &check(&ran, "servers")["found"]["urls"]),
        (Some(0), &0.into())
    );
    assert!(reach(&ran).is_empty(), "{ran:?}");
    assert_eq!(check(&ran, "udp")["state"], "skipped");
    assert!(advice(&ran).contains("--no-turn"), "{ran:?}");
}

#[test]
fn relays_are_logged_in_to_through_a_proxy() {
    let mesh = Mesh::start_with(Way::Tls, &RELAYS);
    let _alice = mesh.node("alice");
    let proxy = Proxy::start(Mood::Connects);
    let dir = mesh.data_dir("alice");
    let dir = dir.to_str().expect("a path");
    let ran = run_behind(&proxy.url, ["doctor", "--data-dir", dir]);
    assert_eq!(check(&ran, "proxy")["state"], "passed", "{ran:?}");
    assert_eq!(reach(&ran), ["allocated"; 3], "{ran:?}");
    let registry = mesh.url.trim_start_matches("https://");
    let tunnels = proxy.targets();
    // Proxy, WebSocket, long-poll, and TURN by TCP and TLS.
    assert!(tunnels.len() >= 5, "{tunnels:?}");
    assert!(
        tunnels.iter().all(|target| target == registry),
        "{tunnels:?}"
    );
}

#[test]
fn a_proxy_that_refuses_is_named_with_what_to_do() {
    let mesh = Mesh::start_with(Way::Tls, &RELAYS);
    let _alice = mesh.node("alice");
    let proxy = Proxy::start(Mood::Refuses);
    let dir = mesh.data_dir("alice");
    let dir = dir.to_str().expect("a path");
    let ran = run_behind(&proxy.url, ["doctor", "--data-dir", dir]);
    let error = &check(&ran, "proxy")["error"];
    assert_eq!(error["code"], "registry_unreachable", "{ran:?}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.contains("403")),
        "{error}"
    );
    assert!(advice(&ran).contains("NO_PROXY"), "{ran:?}");
    assert_eq!(reach(&ran), ["allocated", "nothing", "nothing"], "{ran:?}");
    let hint = &check(&ran, "turn")[2]["error"]["hint"];
    assert!(
        hint.as_str().is_some_and(|hint| hint.contains("CONNECT")),
        "{hint}"
    );
}

#[test]
fn a_relay_behind_an_interceptor_is_told_as_such() {
    let mesh = Mesh::start_with(Way::Tls, &RELAYS);
    let _alice = mesh.node("alice");
    // Another server with a key of its own stands in for whoever opens TLS on the way.
    let other = Mesh::unfounded(Way::Tls);
    let url = format!("turns:{}", other.url.trim_start_matches("https://"));
    let ran = mesh.at("alice", &["doctor", "--turn-url", &url]);
    let turn = check(&ran, "turn").as_array().expect("a list");
    let last = turn.last().expect("a server");
    assert_eq!(last["error"]["code"], "untrusted_tls", "{ran:?}");
    let hint = last["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("--ca"), "{hint}");
}

#[test]
fn names_that_nobody_has_are_named() {
    let ran = run([
        "doctor",
        "--registry",
        "https://registry.invalid",
        "--stun-url",
        "stun:stun.invalid",
        "--data-dir",
        "/nonexistent",
        "--timeout",
        "3s",
    ]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let error = &check(&ran, "dns")["error"];
    assert_eq!(error["code"], "registry_unreachable", "{ran:?}");
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains("registry.invalid"), "{message}");
    let error = &check(&ran, "udp")["error"];
    assert_eq!(error["code"], "path_unavailable", "{ran:?}");
    let message = error["message"].as_str().expect("a text");
    assert!(
        message.contains("stun.invalid does not resolve"),
        "{message}"
    );
    assert!(advice(&ran).contains("DNS"), "{ran:?}");
}

#[test]
fn the_time_limit_holds_for_servers_that_do_not_answer() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let stun = format!("stun:{}", silent.local_addr().expect("an address"));
    let args = ["doctor", "--data-dir", "/nonexistent", "--timeout", "200ms"];
    let ran = run(args.into_iter().chain(["--stun-url", &stun]));
    assert_eq!(check(&ran, "udp")["state"], "failed", "{ran:?}");
    let took = check(&ran, "udp")["took_ms"].as_f64().expect("a time");
    assert!(took >= 200.0, "{took}");
    // However slow this machine is: a question that is asked to its end, for 1.6 s, is sent
    // four times, and the third time is at 450 ms.
    let mut times = BTreeMap::<Vec<u8>, usize>::new();
    let mut datagram = [0; 2_048];
    silent.set_nonblocking(true).expect("a socket");
    while let Ok(length) = silent.recv(&mut datagram) {
        let transaction = datagram[8..20.min(length)].to_vec();
        *times.entry(transaction).or_default() += 1;
    }
    assert!(!times.is_empty());
    assert!(times.values().all(|times| *times < 4), "{times:?}");
}

#[test]
fn a_node_that_is_not_registered_does_not_say_that_there_are_no_servers() {
    let mut mesh = Mesh::start_with(Way::Tls, &RELAYS);
    mesh.node("alice").kill();
    mesh.kill_registry();
    let alice = mesh.begin_node(&mesh.data_dir("alice"), &[]);
    alice.told("ready");
    let ran = mesh.at("alice", &["doctor"]);
    let servers = check(&ran, "servers");
    assert_eq!(servers["state"], "unknown", "{ran:?}");
    assert_eq!(servers["found"]["source"], "nobody", "{ran:?}");
    assert_eq!(reach(&ran), ["nothing"; 3], "{ran:?}");
    assert!(!advice(&ran).contains("--no-turn"), "{ran:?}");
}
