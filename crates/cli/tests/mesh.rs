//! Agents of a mesh with the real binary: what commands tell, and what goes wrong how.

mod support;

use serde_json::json;
use support::Mesh;

#[test]
fn a_call_tells_its_result_and_the_way_it_took() {
    let mesh = Mesh::start();
    let (_alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
    let ran = mesh.at(
        "alice",
        &["call", "bob", "echo", "--data", r#"{"a":[1,null]}"#],
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let answer = ran.last();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["result"]["a"][0], 1);
    // Without waiting for the link, which is made meanwhile.
    assert_eq!(answer["request_path"], "mailbox");
    assert!(answer["path"].is_string());
    assert!(answer["elapsed_ms"].is_f64());
    assert!(answer["id"].is_string());

    let ran = mesh.at("alice", &["ping", "bob"]);
    assert_eq!(ran.last()["path"], "direct");

    let ran = mesh.at("alice", &["call", "bob", "echo", "--text", "7"]);
    let answer = ran.last();
    assert_eq!(answer["result"], "7");
    assert_eq!(answer["request_path"], "direct");
    assert_eq!(answer["path"], "direct");

    let ran = mesh.at("alice", &["peers"]);
    let peer = ran.last();
    assert_eq!(
        (&peer["agent"], &peer["state"]),
        (&"bob".into(), &"linked".into())
    );
    for key in [
        "agent_id",
        "path",
        "transport",
        "local_candidate",
        "remote_candidate",
        "protocol",
        "rtt_ms",
        "reason",
    ] {
        assert!(!peer[key].is_null(), "{key}: {peer}");
    }

    let ran = mesh.at("alice", &["identity", "show"]);
    assert_eq!(ran.last()["name"], "alice");
    assert_eq!(ran.last()["agent_id"], mesh.agent("alice")["agent_id"]);

    let ran = mesh.at("alice", &["agents", "--skill", "echo"]);
    assert_eq!(ran.lines.len(), 2, "{ran:?}");
}

#[test]
fn a_call_waits_for_a_peer_that_is_not_there_yet() {
    let mesh = Mesh::start();
    let _alice = mesh.node("alice");
    let call = mesh.begin("alice", &["call", "bob", "echo", "--data", "1"]);
    let _bob = mesh.node("bob");
    assert_eq!(call.ended().done()["result"], 1);
}

#[test]
fn a_message_is_delivered_when_the_receiving_program_says_so() {
    let mesh = Mesh::start();
    let (_alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
    assert_eq!(mesh.at("alice", &["ping", "bob"]).code, Some(0));
    let ran = mesh.at(
        "alice",
        &["send", "bob", "--text", "1", "--timeout", "300ms"],
    );
    assert_eq!((ran.code, ran.error_code()), (Some(1), "timeout"));
    let message = ran.last()["error"]["message"].as_str().expect("a text");
    assert!(
        message.ends_with("bob is linked, but no program there took it"),
        "{message}"
    );
    let mut program = mesh.program("bob");
    program.tell(&json!({"type": "attach", "id": "1"}));
    let first = program.told("message");
    program.tell(&json!({"type": "ack", "delivery": first["delivery"]}));
    let send = mesh.begin("alice", &["send", "bob", "--text", "2", "--wait"]);
    let second = program.told("message");
    assert_eq!(second["message"], "2");
    program.tell(&json!({"type": "ack", "delivery": second["delivery"]}));
    let ran = send.ended();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.last()["state"], "delivered");
    assert_eq!(ran.last()["path"], "direct");
}

#[test]
fn of_a_lossy_message_no_more_is_known_than_that_it_was_queued() {
    let mesh = Mesh::start();
    let (_alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
    for class in ["events", "telemetry", "live"] {
        let ran = mesh.at("alice", &["send", "bob", "--text", "1", "--class", class]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.last()["state"], "queued");
    }
}

#[test]
fn what_a_peer_cannot_do_is_a_coded_error() {
    let mesh = Mesh::start();
    let (_alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
    let cases: [(&[&str], &str); 4] = [
        (&["call", "bob", "fly"], "unknown_skill"),
        (
            &["call", "bob", "wordcount", "--data", "{}"],
            "invalid_arguments",
        ),
        (
            &["call", "nobody", "echo", "--timeout", "1s"],
            "unknown_peer",
        ),
        (
            &[
                "call",
                "bob",
                "sleep",
                "--data",
                r#"{"seconds":60}"#,
                "--timeout",
                "500ms",
            ],
            "timeout",
        ),
    ];
    for (args, code) in cases {
        let ran = mesh.at("alice", args);
        assert_eq!((ran.code, ran.error_code()), (Some(1), code), "{ran:?}");
    }
}

#[test]
fn a_node_that_is_asked_to_stop_says_goodbye() {
    let mesh = Mesh::start();
    let (alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    assert_eq!(mesh.at("alice", &["ping", "bob"]).code, Some(0));
    let ran = bob.interrupted();
    assert_eq!((ran.code, ran.lines.len()), (Some(0), 0), "{ran:?}");
    assert_eq!(mesh.agent("bob")["online"], false);
    assert_eq!(alice.interrupted().code, Some(0));
}

#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let mesh = Mesh::start();
    let _alice = mesh.node("alice");
    let second = mesh.starting("alice", &mesh.data_dir("alice")).ended();
    assert_eq!(
        (second.code, second.error_code()),
        (Some(1), "identity_in_use")
    );
}

#[test]
fn of_two_copies_of_a_data_directory_the_newer_life_wins() {
    let mesh = Mesh::start();
    let first = mesh.node("alice");
    let copy = mesh.copy("alice", "copy");
    let second = mesh.starting("alice", &copy);
    second.told("registered");
    let first = first.ended();
    assert_eq!(
        (first.code, first.error_code()),
        (Some(1), "identity_in_use")
    );
}

#[test]
fn a_name_belongs_to_the_first_key_that_took_it() {
    let mesh = Mesh::start();
    mesh.node("alice").kill();
    let other = mesh.starting("alice", &mesh.data_dir("other")).ended();
    assert_eq!((other.code, other.error_code()), (Some(1), "name_taken"));
}
