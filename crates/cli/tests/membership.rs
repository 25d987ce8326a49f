//! How nodes get into a mesh and out of it, with the real binary.

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{Mesh, Ran, Running, Way, run};
use waymesh_authority::{Authority, NewInvite, RENEW_DEFAULT_MS};

/// How soon connected nodes must have heard of a revocation.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

const HOUR_MS: u64 = 3_600_000;

fn refused(node: Running) -> (Option<i32>, String) {
    let ran = node.ended();
    (ran.code, ran.error_code().to_owned())
}

fn failure(code: &str) -> (Option<i32>, String) {
    (Some(1), code.to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn the_only(ran: &Ran) -> &Value {
    assert_eq!(ran.lines.len(), 1, "{ran:?}");
    ran.last()
}

#[test]
fn a_node_needs_its_invite_once_and_keeps_its_name() {
    let mesh = Mesh::start();
    mesh.joining("alice", &mesh.invite_source())
        .told("registered");
    let alice = mesh.begin_node(&mesh.data_dir("alice"), &[]);
    assert_eq!(alice.told("ready")["name"], "alice");
    alice.told("registered");
    // The invite of the mesh that it belongs to changes nothing.
    drop(alice);
    mesh.node("alice");
}

#[test]
fn an_invite_is_read_from_standard_input_which_may_end_the_node_then() {
    let mesh = Mesh::start();
    let args = ["--name", "bob", "--invite", "-", "--stdin-guard"];
    let mut bob = mesh.begin_node(&mesh.data_dir("bob"), &args);
    bob.say(&mesh.invite(&["--auto-approve"]));
    bob.told("registered");
    assert_eq!(bob.stdin_closed().code, Some(0));
}

#[test]
fn who_has_no_invite_is_told_that_one_is_needed() {
    let mesh = Mesh::start();
    let dir = mesh.data_dir("eve");
    let eve = mesh.begin_node(&dir, &["--name", "eve", "--registry", &mesh.url]);
    assert_eq!(refused(eve), failure("invite_required"));
    let ran = run([
        "node".as_ref(),
        "--data-dir".as_ref(),
        mesh.data_dir("nobody").as_os_str(),
    ]);
    assert_eq!((ran.code, ran.error_code()), (Some(2), "usage"));
}

#[test]
fn an_admin_sees_who_waits_and_lets_in_or_turns_away() {
    let mesh = Mesh::start();
    let asking = mesh.invite(&["--role", "ops", "--count", "2"]);
    let carol = mesh.joining("carol", &asking);
    let told = carol.told("pending");
    let listed = mesh.admin(&["pending"]);
    let listed = the_only(&listed);
    for key in ["request", "name", "fingerprint", "mesh_fingerprint"] {
        assert!(told[key].is_string(), "{key}: {told}");
        assert_eq!(told[key], listed[key], "{key}");
    }
    assert_eq!(listed["with"], "invite");
    let request = text(&told["request"]);
    let other = mesh.admin(&["approve", request, "--fingerprint", "aaaa-bbbb-cccc-dddd"]);
    assert_eq!(other.error_code(), "identity_changed");
    let approved = mesh.admin(&[
        "approve",
        request,
        "--fingerprint",
        text(&told["fingerprint"]),
    ]);
    assert_eq!(approved.done()["roles"], json!(["ops"]));
    carol.told("registered");
    assert_eq!(mesh.agent("carol")["roles"], json!(["ops"]));

    let dave = mesh.joining("dave", &asking);
    let told = dave.told("pending");
    let reason = "we do not know you";
    let rejected = mesh.admin(&["reject", text(&told["request"]), "--reason", reason]);
    assert_eq!(rejected.done()["name"], "dave");
    let ran = dave.ended();
    assert_eq!(ran.error_code(), "rejected");
    assert!(
        text(&ran.last()["error"]["message"]).contains(reason),
        "{ran:?}"
    );

    assert!(mesh.admin(&["pending"]).lines.is_empty());
    let ran = mesh.admin(&["approve", text(&told["request"])]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "unknown_id"));
}

#[test]
fn six_digits_let_one_node_ask() {
    let mesh = Mesh::start();
    let made = mesh.admin(&["invite", "--code"]);
    let made = made.done();
    let code = text(&made["code"]);
    assert_eq!(code.len(), 6, "{made}");
    assert_eq!(made["invite"], Value::Null);
    let join = |name: &str| {
        let args = ["--name", name, "--invite", code, "--registry", &mesh.url];
        mesh.begin_node(&mesh.data_dir(name), &args)
    };
    let bob = join("bob");
    let told = bob.told("pending");
    assert_eq!(told["mesh_fingerprint"], made["mesh_fingerprint"]);
    assert_eq!(mesh.admin(&["pending"]).last()["with"], "code");
    // Somebody who overheard the digits comes too late.
    assert_eq!(refused(join("eve")), failure("bad_pairing_code"));
    let request = text(&told["request"]);
    mesh.admin(&["approve", request, "--role", "guest"]).done();
    bob.told("registered");
    assert_eq!(mesh.agent("bob")["roles"], json!(["guest"]));
}

#[test]
fn an_invite_that_was_stolen_or_used_up_lets_nobody_in() {
    let mesh = Mesh::start();
    let invite = mesh.invite(&["--auto-approve"]);
    mesh.joining("bob", &invite).told("registered");
    assert_eq!(
        refused(mesh.joining("eve", &invite)),
        failure("invite_exhausted")
    );
    // Who used it may come back by it all the same.
    mesh.joining("bob", &invite).told("registered");
    let invite = mesh.invite(&["--auto-approve", "--name", "carol", "--name", "dave"]);
    assert_eq!(
        refused(mesh.joining("erin", &invite)),
        failure("bad_invite")
    );
    for name in ["carol", "dave"] {
        mesh.joining(name, &invite).told("registered");
    }
}

/// An invite for an hour, made that long ago, whose members may stay for so long.
fn invite_of(mesh: &mut Mesh, ago_ms: u64, renew_ms: u64) -> String {
    mesh.stop_registry();
    let ready = mesh.start_registry();
    let new = NewInvite {
        url: mesh.url.parse().expect("a URL"),
        registry: text(&ready["registry"]).parse().expect("a key"),
        tls_pin: None,
        names: None,
        roles: Vec::new(),
        count: None,
        pre_approved: true,
        ttl_ms: HOUR_MS,
        renew_ms,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = u64::try_from(now.expect("a time").as_millis()).expect("a time");
    let dir = mesh.data_dir("registry").join("authority");
    let mut authority = Authority::open(&dir, now_ms - ago_ms).expect("the authority");
    let invite = authority.invite(&new, now_ms - ago_ms).expect("an invite");
    invite.encode().expect("a text").to_string()
}

#[test]
fn an_invite_that_is_over_lets_nobody_in() {
    let mut mesh = Mesh::start();
    let invite = invite_of(&mut mesh, 2 * HOUR_MS, RENEW_DEFAULT_MS);
    assert_eq!(
        refused(mesh.joining("late", &invite)),
        failure("invite_expired")
    );
}

#[test]
fn an_invite_is_over_at_its_end_and_not_later() {
    let mut mesh = Mesh::start();
    let invite = invite_of(&mut mesh, HOUR_MS + 1_000, RENEW_DEFAULT_MS);
    assert_eq!(
        refused(mesh.joining("late", &invite)),
        failure("invite_expired")
    );
}

#[test]
fn who_soon_is_no_member_any_more_is_told_so() {
    let mut mesh = Mesh::start();
    let invite = invite_of(&mut mesh, 0, 2 * HOUR_MS);
    let guest = mesh.joining("guest", &invite);
    let told = guest.told("certificate_expiring");
    let left_ms = told["remaining_ms"].as_u64().expect("a number");
    assert!((HOUR_MS..24 * HOUR_MS).contains(&left_ms), "{told}");
    assert!(told["expires"].is_string());
}

#[test]
fn an_invite_of_another_mesh_is_refused_on_both_sides() {
    let (mesh, other) = (Mesh::start(), Mesh::start());
    let foreign = other.invite(&["--auto-approve"]);
    let args = [
        "--name",
        "eve",
        "--invite",
        &foreign,
        "--registry",
        &mesh.url,
    ];
    let eve = mesh.begin_node(&mesh.data_dir("eve"), &args);
    assert_eq!(refused(eve), failure("wrong_registry"));
    mesh.node("alice").interrupted();
    assert_eq!(
        refused(mesh.joining("alice", &foreign)),
        failure("bad_invite")
    );
    let nonsense = mesh.joining("mallory", "bm90IGFuIGludml0ZQ");
    assert_eq!(refused(nonsense), failure("bad_invite"));
}

#[test]
fn a_revoked_member_is_cut_off_within_a_second_and_for_ever() {
    let mesh = Mesh::start();
    let (_alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    assert_eq!(mesh.at("alice", &["ping", "bob"]).code, Some(0));
    let mut program = mesh.program("alice");
    program.tell(&json!({"type": "list_peers", "id": "1"}));
    program.told("peer_list");
    let began = Instant::now();
    let revoked = mesh.admin(&["revoke", "bob"]);
    assert_eq!(revoked.done()["name"], "bob");
    let lost = program.told("peer_disconnected");
    let took = began.elapsed();
    assert_eq!(lost["agent"], "bob");
    assert!(took < REVOKED_WITHIN, "{took:?}");
    assert_eq!(refused(bob), failure("revoked"));
    let ran = mesh.at("alice", &["call", "bob", "echo", "--timeout", "2s"]);
    assert_eq!((ran.code, ran.lines.len()), (Some(1), 1), "{ran:?}");
    assert_eq!(
        refused(mesh.starting("bob", &mesh.data_dir("bob"))),
        failure("revoked")
    );
    let ran = mesh.admin(&["revoke", "nobody"]);
    assert_eq!(ran.error_code(), "unknown_peer");
}

#[test]
fn a_revoked_invite_takes_those_with_it_whom_it_let_in() {
    let mesh = Mesh::start();
    let made = mesh.admin(&["invite", "--auto-approve", "--reusable"]);
    let made = made.done();
    let invite = text(&made["invite"]);
    let bob = mesh.joining("bob", invite);
    bob.told("registered");
    mesh.admin(&["revoke", "--invite", text(&made["id"])])
        .done();
    assert_eq!(refused(bob), failure("revoked"));
    assert_eq!(refused(mesh.joining("carol", invite)), failure("revoked"));
}

#[test]
fn an_agent_with_a_new_key_is_the_same_agent() {
    let mesh = Mesh::start();
    let (_alice, bob) = (mesh.node("alice"), mesh.node("bob"));
    let call = ["call", "bob", "echo", "--data", "1"];
    assert_eq!(mesh.at("alice", &call).code, Some(0));
    let ran = mesh.at("bob", &["identity", "rotate"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "identity_in_use"));
    bob.interrupted();
    let before = mesh.at("bob", &["identity", "show"]);
    let rotated = mesh.at("bob", &["identity", "rotate"]);
    let rotated = rotated.done();
    assert_eq!(rotated["agent_id"], before.done()["agent_id"]);
    assert_ne!(rotated["key"], before.last()["key"]);
    let _bob = mesh.node("bob");
    let ran = mesh.at("alice", &call);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let after = mesh.at("bob", &["identity", "show"]);
    assert_eq!(after.done()["key"], rotated["key"]);
    assert_eq!(after.last()["rotations"], 1);
    assert_eq!(mesh.agent("bob")["agent_id"], rotated["agent_id"]);
}

#[test]
fn a_registry_with_another_tls_key_than_the_pinned_one_is_not_trusted() {
    let (mesh, other) = (Mesh::start_by(Way::Tls), Mesh::start_by(Way::Tls));
    mesh.node("alice").interrupted();
    let invite = mesh.invite_source();
    let args = [
        "--name",
        "bob",
        "--invite",
        &invite,
        "--registry",
        &other.url,
    ];
    let bob = mesh.begin_node(&mesh.data_dir("bob"), &args);
    assert_eq!(refused(bob), failure("untrusted_tls"));
}

#[test]
fn a_denied_peer_is_unauthorized_and_others_are_not() {
    let mesh = Mesh::start();
    let invite = mesh.invite_source();
    let args = [
        "--name",
        "bob",
        "--invite",
        &invite,
        "--skill",
        "echo",
        "--skill",
        "wordcount",
        "--allow",
        "alice/echo",
        "--allow",
        "carol",
        "--deny",
        "mallory",
    ];
    let bob = mesh.begin_node(&mesh.data_dir("bob"), &args);
    bob.told("registered");
    let _nodes: Vec<_> = ["alice", "carol", "mallory"]
        .map(|name| mesh.node(name))
        .into();
    let call = |from, skill| {
        let data = r#"{"text":"a"}"#;
        mesh.at(from, &["call", "bob", skill, "--data", data])
    };
    assert_eq!(call("alice", "echo").code, Some(0));
    assert_eq!(call("alice", "wordcount").error_code(), "unauthorized");
    assert_eq!(call("carol", "wordcount").code, Some(0));
    assert_eq!(call("mallory", "echo").error_code(), "unauthorized");
}
