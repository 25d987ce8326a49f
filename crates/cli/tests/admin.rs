//! Admin commands beside a registry that runs, and one that is stopped, with the real binary.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use support::{Mesh, Way, run};

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn the_first_invite_founds_a_mesh() {
    let mut mesh = Mesh::unfounded(Way::Plain);
    let ran = mesh.admin(&["revoke", "--invite", &"0".repeat(32)]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "no_mesh"));
    let invited = mesh.admin(&["invite"]);
    let invited = invited.done();
    mesh.stop_registry();
    let ready = mesh.start_registry();
    assert_eq!(ready["mesh"], invited["mesh"]);
    let authority = mesh.data_dir("registry").join("authority");
    let mode = |path: &str| {
        let meta = fs::metadata(authority.join(path)).expect("a file");
        meta.permissions().mode() & 0o777
    };
    assert_eq!((mode("."), mode("mesh.key")), (0o700, 0o600));
}

#[test]
fn a_pairing_code_is_good_for_five_minutes_and_no_longer() {
    let mesh = Mesh::unfounded(Way::Plain);
    mesh.admin(&["invite", "--code", "--ttl", "5m"]).done();
    let ran = mesh.admin(&["invite", "--code", "--ttl", "301s"]);
    assert_eq!((ran.code, ran.error_code()), (Some(2), "usage"));
}

#[test]
fn where_no_registry_ever_was_there_is_nothing_to_administer() {
    let mesh = Mesh::unfounded(Way::Plain);
    for command in ["invite", "pending", "audit"] {
        let ran = mesh.at("nowhere", &[command]);
        assert_eq!(ran.error_code(), "registry_unreachable");
    }
    assert!(!mesh.data_dir("nowhere").exists());
}

#[test]
fn without_the_authority_nobody_is_let_in() {
    let mesh = Mesh::start();
    let (at, aside) = (
        mesh.data_dir("registry").join("authority"),
        mesh.data_dir("aside"),
    );
    fs::rename(&at, &aside).expect("it moves");
    for args in [
        &["invite"][..],
        &["invite", "--code"],
        &["revoke", "--invite", &"0".repeat(32)],
    ] {
        let ran = mesh.admin(args);
        assert_eq!((ran.code, ran.error_code()), (Some(1), "no_authority"));
    }
    assert!(!at.exists());
    let aside = aside.to_str().expect("UTF-8");
    mesh.invite(&["--authority-dir", aside]);
    let other = Mesh::start();
    let ran = other.admin(&["invite", "--authority-dir", aside]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "no_authority"));
}

#[test]
fn a_stopped_registry_is_administered_through_its_database() {
    let mut mesh = Mesh::start();
    mesh.node("alice").interrupted();
    mesh.stop_registry();
    let invite = mesh.invite(&["--auto-approve"]);
    assert_eq!(mesh.agent("alice")["online"], false);
    mesh.admin(&["revoke", "alice"]).done();
    mesh.start_registry();
    mesh.joining("bob", &invite).told("registered");
    let alice = mesh.starting("alice", &mesh.data_dir("alice")).ended();
    assert_eq!(alice.error_code(), "revoked");
}

#[test]
fn the_agents_are_listed_by_the_registry_a_node_and_a_node_that_does_not_run() {
    for way in [Way::Plain, Way::Tls] {
        let mesh = Mesh::start_by(way);
        let (alice, _bob) = (mesh.node("alice"), mesh.node("bob"));
        let names = |dir: &str| -> Vec<String> {
            let ran = mesh.at(dir, &["agents", "--skill", "echo"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let names = ran.lines.iter().map(|line| line["name"].to_string());
            names.collect()
        };
        let expected = [r#""alice""#, r#""bob""#];
        assert_eq!(names("registry"), expected);
        assert_eq!(names("alice"), expected);
        alice.interrupted();
        assert_eq!(names("alice"), expected);
    }
    let ran = run(["agents", "--data-dir", "/no/such/folder"]);
    assert_eq!(ran.error_code(), "node_not_running");
}

#[test]
fn every_act_is_in_the_log_and_an_edit_of_it_shows() {
    let mesh = Mesh::start();
    let invite = mesh.invite(&["--name", "bob"]);
    let bob = mesh.joining("bob", &invite);
    let request = bob.told("pending")["request"].clone();
    let request = request.as_str().expect("an id");
    mesh.admin(&["pending"]);
    mesh.admin(&["approve", request]).done();
    bob.told("registered");
    mesh.admin(&["revoke", "bob"]).done();
    let audit = mesh.admin(&["audit"]);
    let acts: Vec<_> = audit.lines.iter().map(|line| line["act"].clone()).collect();
    let expected = ["begin", "invite", "invite", "approve", "revoke_member"];
    assert_eq!(acts, expected, "{audit:?}");
    assert!(audit.lines.iter().all(|line| line["time"].is_string()));
    let log = mesh.data_dir("registry").join("authority/audit.log");
    let text = fs::read_to_string(&log).expect("the log");
    fs::write(&log, text.replace("\"bob\"", "\"eve\"")).expect("the log");
    let ran = mesh.admin(&["audit"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "storage"));
}

#[test]
fn no_key_is_ever_absent() {
    let mesh = Mesh::start();
    let invites = [
        &["invite"][..],
        &["invite", "--code"],
        &["invite", "--reusable", "--role", "a"],
    ];
    let invites: Vec<_> = invites.iter().map(|args| mesh.admin(args)).collect();
    for invite in &invites {
        assert_eq!(keys(invite.done()), keys(invites[0].done()));
    }
    let _alice = mesh.node("alice");
    fs::create_dir(mesh.data_dir("bare")).expect("a folder");
    let key = mesh.data_dir("bare").join("identity.key");
    fs::write(&key, [7; 32]).expect("a key");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    let (alice, bare) = (
        mesh.at("alice", &["identity", "show"]),
        mesh.at("bare", &["identity", "show"]),
    );
    assert_eq!(keys(alice.done()), keys(bare.done()));
    for key in ["mesh", "certificate_expires", "registry", "incarnation"] {
        assert!(!alice.last()[key].is_null(), "{key}");
        assert!(bare.last()[key].is_null(), "{key}");
    }
}
