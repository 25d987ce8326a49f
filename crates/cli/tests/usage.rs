//! What a user gets told who uses the command line wrongly.

mod support;

use std::process::Command;

use support::{Mesh, Running, run};

#[test]
fn wrong_usage_is_an_error_in_json_with_exit_status_2() {
    let cases: [&[&str]; 18] = [
        &[],
        &["fly"],
        &["call", "bob"],
        &["call", "NO SUCH NAME", "echo"],
        &[
            "node",
            "--name",
            "bob",
            "--registry",
            "http://x",
            "--skill",
            "none",
        ],
        &["peers", "--timeout", "soon"],
        &["invite", "--reusable", "--count", "2"],
        &["invite", "--count", "0"],
        &["invite", "--ttl", "31d"],
        &["invite", "--code", "--auto-approve"],
        &["approve", "NO ID"],
        &["revoke"],
        &[
            "revoke",
            "bob",
            "--invite",
            "00000000000000000000000000000000",
        ],
        &["registry", "--tls-cert", "mesh.pem"],
        &["registry", "--no-turn", "--relay-ports", "1-2"],
        &["registry", "--turn-username", "all"],
        &["node", "--name", "bob", "--allow", "Bob"],
        &["send", "bob", "--data", "1", "--text", "2"],
    ];
    for args in cases {
        let ran = run(args);
        assert_eq!(ran.code, Some(2), "{args:?}");
        assert_eq!(ran.error_code(), "usage", "{args:?}");
        let error = &ran.last()["error"];
        for key in ["code", "number", "message", "hint", "retry"] {
            assert!(error.get(key).is_some(), "{key} of {args:?}");
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let ran = run(["call", "bob"]);
    let message = ran.last()["error"]["message"].as_str().expect("a text");
    assert!(message.contains("<SKILL>"), "{message}");
    let ran = run::<&str>([]);
    assert_eq!(ran.last()["error"]["message"], "a command is missing");
}

#[test]
fn everything_that_is_wrong_with_the_servers_of_a_registry_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("registry");
    let ran = run([
        "registry",
        "--data-dir",
        dir.to_str().expect("UTF-8"),
        "--relay-ports",
        "9-1",
        "--relay-allow",
        "10.0.0.0/33",
        "--turn-url",
        "stun:h",
    ]);
    assert_eq!((ran.code, ran.error_code()), (Some(2), "usage"));
    let message = ran.last()["error"]["message"].as_str().expect("a text");
    for wrong in ["9-1", "10.0.0.0/33", "stun:h", "need a secret"] {
        assert!(message.contains(wrong), "{message}");
    }
    assert!(!dir.exists(), "a file was made");
}

#[test]
fn a_registry_says_at_which_urls_it_relays_and_on_loopback_that_there_are_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("UTF-8");
    let registry = ["registry", "--listen", "127.0.0.1:0", "--data-dir", dir];
    let relaying = [&registry[..], &["--relay-allow", "127.0.0.1"]].concat();
    for (args, count) in [(&registry[..], 0), (&relaying, 3)] {
        let running = Running::start(args);
        let ready = running.told("ready");
        assert_eq!(
            ready["turn"].as_array().map(Vec::len),
            Some(count),
            "{ready}"
        );
        running.interrupted();
    }
}

#[test]
fn a_message_without_content_is_wrong_usage() {
    let ran = run(["send", "bob"]);
    assert_eq!((ran.code, ran.error_code()), (Some(2), "usage"));
}

#[test]
fn a_command_without_a_node_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("UTF-8");
    for args in [
        ["peers", "--data-dir", dir].as_slice(),
        &["agents", "--data-dir", dir],
        &["call", "bob", "echo", "--data-dir", dir],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.error_code()), (Some(1), "node_not_running"));
    }
    let ran = run(["identity", "show", "--data-dir", dir]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "storage"));
}

#[test]
fn a_registry_that_is_not_there_is_unreachable() {
    let mut mesh = Mesh::start();
    mesh.node("alice").interrupted();
    mesh.kill_registry();
    let ran = mesh.at("alice", &["agents"]);
    assert_eq!(
        (ran.code, ran.error_code()),
        (Some(1), "registry_unreachable")
    );
}

#[test]
fn what_is_wrong_with_an_address_is_told_with_what_to_give() {
    for (args, told) in [
        (
            &["registry", "--listen", "127.0.0.1:99999"][..],
            "0.0.0.0:7700",
        ),
        (&["registry", "--listen", "127.0.0.1"], "0.0.0.0:7700"),
        (&["registry", "--turn-other", "nowhere"], "0.0.0.0:7700"),
        (
            &["node", "--turn-url", "turn:y:99999"],
            "turn:mesh.example:3478",
        ),
        (
            &["doctor", "--stun-url", "stun:x:0"],
            "turn:mesh.example:3478",
        ),
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.error_code()), (Some(2), "usage"), "{args:?}");
        let message = ran.last()["error"]["message"].as_str().expect("a text");
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn an_address_of_another_machine_is_no_matter_of_ports() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a path");
    let ran = run(["registry", "--listen", "203.0.113.7:0", "--data-dir", dir]);
    assert_eq!(
        (ran.code, ran.error_code()),
        (Some(1), "bind_failed"),
        "{ran:?}"
    );
    let hint = ran.last()["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("no such address"), "{hint}");
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in [
        "demo", "registry", "invite", "pending", "approve", "reject", "revoke", "audit", "node",
        "agents", "peers", "send", "call", "ping", "doctor",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_waymesh"))
            .args([command, "--help"])
            .output()
            .expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success());
        assert!(text.contains(&format!("waymesh {command}")), "{text}");
        assert!(text.contains("Examples:"), "{text}");
    }
}
