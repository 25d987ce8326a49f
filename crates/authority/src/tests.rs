//! Behaviour of the authority on disk and towards those who ask it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use waymesh_proto::control::Nonce;
use waymesh_proto::membership::JoinRequest;
use waymesh_proto::{Code, InviteId, Name, RequestId, Role};
use waymesh_trust::join::{Ask, request};
use waymesh_trust::revocation::{self, Target};
use waymesh_trust::{Keypair, certificate, invite};

use crate::*;

const NOW_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

fn registry() -> Keypair {
    Keypair::from_seed(&[101; 32])
}

fn alice() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn role(text: &str) -> Role {
    text.parse().expect("a role")
}

fn request_id() -> RequestId {
    "r1".parse().expect("a request id")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn found(dir: &Path) -> Authority {
    Authority::open_or_create(dir, NOW_MS).expect("an authority")
}

fn new_invite() -> NewInvite {
    NewInvite {
        url: "http://127.0.0.1:4455".parse().expect("an origin"),
        registry: registry().registry_key(),
        tls_pin: None,
        names: Some(vec![name("alice")]),
        roles: vec![role("worker")],
        count: std::num::NonZeroU32::new(1),
        pre_approved: false,
        ttl_ms: HOUR_MS,
        renew_ms: RENEW_DEFAULT_MS,
    }
}

fn join_request(
    authority: &Authority,
    who: &str,
    invite: Option<&invite::InviteSecret>,
) -> JoinRequest {
    let ask = Ask {
        name: name(who),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
        mesh: authority.mesh_key(),
        registry: registry().registry_key(),
        nonce: Nonce::from_bytes([3; 32]),
        tls_key: None,
    };
    request(&alice(), &ask, invite.map(|i| &i.keypair), NOW_MS).expect("a request")
}

fn approval<'a>(request: &'a RequestId, join: &'a JoinRequest) -> Approval<'a> {
    Approval {
        request,
        join,
        registry: registry().registry_key(),
        invite: None,
        roles: Some(vec![role("reader")]),
        renew_ms: RENEW_DEFAULT_MS,
    }
}

#[test]
fn the_mesh_key_is_kept_and_only_its_owner_can_read_what_is_there() {
    let dir = folder();
    let path = dir.path().join("authority");
    let first = found(&path).mesh_key();
    assert_eq!(found(&path).mesh_key(), first);
    let mode = |file: &Path| fs::metadata(file).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["mesh.key", "audit.log", "audit.head", "authority.lock"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
}

#[test]
fn an_authority_that_is_not_there_is_not_made_by_opening_it() {
    let dir = folder();
    let path = dir.path().join("authority");
    let error = Authority::open(&path, NOW_MS).expect_err("nothing there");
    assert_eq!(error.code(), Code::NoAuthority);
    assert!(!path.exists());
    let other = found(&dir.path().join("other")).mesh_key();
    let error = found(&path).expect_mesh(&other).expect_err("another mesh");
    assert_eq!(error.code(), Code::NoAuthority);
}

#[test]
fn a_key_that_is_damaged_or_open_to_others_is_refused() {
    let dir = folder();
    found(dir.path());
    let path = dir.path().join("mesh.key");
    let code = || {
        Authority::open(dir.path(), NOW_MS)
            .map(|_| ())
            .map_err(|e| e.code())
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    assert_eq!(code(), Err(Code::Storage));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(code(), Ok(()));
    fs::write(&path, [0; 31]).expect("a write");
    assert_eq!(code(), Err(Code::Storage));
}

#[test]
fn a_second_command_waits_until_the_first_is_done() {
    let dir = folder();
    let first = found(dir.path());
    let (begun, begins) = std::sync::mpsc::sync_channel(1);
    let path = dir.path().to_owned();
    let second = std::thread::spawn(move || {
        begun.send(()).expect("somebody waits");
        Authority::open(&path, NOW_MS).map(|authority| authority.mesh_key())
    });
    begins.recv().expect("it has begun");
    let mesh = first.mesh_key();
    drop(first);
    let second = second.join().expect("no panic").expect("its turn");
    assert_eq!(second, mesh);
}

#[test]
fn an_invite_allows_what_was_asked_for_and_reads_back_from_its_text() {
    let dir = folder();
    let mut authority = found(dir.path());
    let secret = authority.invite(&new_invite(), NOW_MS).expect("an invite");
    let text = secret.encode().expect("it fits");
    let read = invite::InviteSecret::parse(&text).expect("its own text");
    assert_eq!(read.grant.names, Some(vec![name("alice")]));
    assert_eq!(read.grant.expires_ms, NOW_MS + HOUR_MS);
    assert_eq!(read.grant.renew_until_ms, NOW_MS + RENEW_DEFAULT_MS);
    let Act::Invite { invite, .. } = &authority.entries()[1].act else {
        panic!("the second line is the invite's");
    };
    assert_eq!(*invite, read.grant.invite);
}

#[test]
fn an_approved_joiner_gets_a_certificate_of_the_mesh() {
    let dir = folder();
    let mut authority = found(dir.path());
    let (id, join) = (request_id(), join_request(&authority, "alice", None));
    let made = authority
        .approve(&approval(&id, &join), NOW_MS)
        .expect("a certificate");
    let verified = certificate::verify(&made, &authority.mesh_key(), NOW_MS).expect("good");
    assert_eq!(
        (verified.name, verified.key),
        (name("alice"), alice().agent_id())
    );
    assert_eq!(verified.roles, vec![role("reader")]);
    assert_eq!(verified.renew_until_ms, NOW_MS + RENEW_DEFAULT_MS);
    assert_eq!(verified.invite, None);
}

#[test]
fn with_an_invite_its_roles_are_given_and_its_limits_hold() {
    let dir = folder();
    let mut authority = found(dir.path());
    let secret = authority.invite(&new_invite(), NOW_MS).expect("an invite");
    let id = request_id();
    let join = join_request(&authority, "alice", Some(&secret));
    let mut with_invite = approval(&id, &join);
    (with_invite.invite, with_invite.roles) = (Some(&secret.delegation), None);
    let made = authority
        .approve(&with_invite, NOW_MS)
        .expect("a certificate");
    let verified = certificate::verify(&made, &authority.mesh_key(), NOW_MS).expect("good");
    assert_eq!(verified.roles, vec![role("worker")]);

    let other_name = join_request(&authority, "mallory", Some(&secret));
    with_invite.join = &other_name;
    let code = authority
        .approve(&with_invite, NOW_MS)
        .map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadInvite));

    let unsigned = join_request(&authority, "alice", None);
    with_invite.join = &unsigned;
    let code = authority
        .approve(&with_invite, NOW_MS)
        .map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadInvite));
}

#[test]
fn a_joiner_that_means_another_mesh_or_registry_is_not_admitted() {
    let (dir, other) = (folder(), folder());
    let (mut authority, other) = (found(dir.path()), found(other.path()));
    let id = request_id();
    let foreign = join_request(&other, "alice", None);
    let code = authority
        .approve(&approval(&id, &foreign), NOW_MS)
        .map_err(|e| e.code());
    assert_eq!(code, Err(Code::WrongRegistry));
    let join = join_request(&authority, "alice", None);
    let mut elsewhere = approval(&id, &join);
    elsewhere.registry = alice().registry_key();
    let code = authority.approve(&elsewhere, NOW_MS).map_err(|e| e.code());
    assert_eq!(code, Err(Code::WrongRegistry));
    assert_eq!(authority.entries().len(), 1, "nothing was done");
}

#[test]
fn revocations_are_the_meshs_and_can_be_had_again() {
    let dir = folder();
    let mut authority = found(dir.path());
    let (agent_id, invite) = (alice().agent_id(), InviteId::from_bytes([7; 16]));
    let alice_name = name("alice");
    let of_alice = authority
        .revoke_member(agent_id, Some(&alice_name), NOW_MS)
        .expect("done");
    authority.revoke_invite(invite, NOW_MS).expect("done");
    authority
        .revoke_member(agent_id, None, NOW_MS)
        .expect("done again");
    let mesh = authority.mesh_key();
    assert_eq!(
        revocation::verify(&of_alice, &mesh),
        Ok(Target::Member(agent_id))
    );
    drop(authority);
    let all = Authority::open(dir.path(), NOW_MS + 1)
        .expect("it is there")
        .revocations();
    let targets: Vec<_> = all.iter().map(|r| revocation::verify(r, &mesh)).collect();
    assert_eq!(
        targets,
        [Ok(Target::Member(agent_id)), Ok(Target::Invite(invite))]
    );
    assert_eq!(all[0], of_alice);
}

/// An authority that has done some acts, and the text of its log.
fn with_history() -> (TempDir, Authority, String) {
    let dir = folder();
    let mut authority = found(dir.path());
    let join = join_request(&authority, "alice", None);
    authority.pairing_code(300_000, NOW_MS).expect("done");
    authority
        .approve(&approval(&request_id(), &join), NOW_MS + 1)
        .expect("done");
    authority
        .reject(&request_id(), &join, NOW_MS + 2)
        .expect("done");
    authority
        .revoke_invite(InviteId::from_bytes([7; 16]), NOW_MS + 3)
        .expect("done");
    let log = fs::read_to_string(dir.path().join("audit.log")).expect("a log");
    (dir, authority, log)
}

#[test]
fn the_log_has_every_act_and_verifies() {
    let (dir, authority, log) = with_history();
    let entries = verify_audit(dir.path(), &authority.mesh_key()).expect("untouched");
    assert_eq!(entries.unsigned, None);
    let entries = entries.entries;
    assert_eq!(entries, authority.entries());
    assert_eq!((entries.len(), log.lines().count()), (5, 5));
    let times: Vec<_> = entries.iter().map(|entry| entry.time_ms - NOW_MS).collect();
    assert_eq!(times, [0, 0, 1, 2, 3]);
    let approved: serde_json::Value =
        serde_json::from_str(log.lines().nth(2).expect("a line")).expect("JSON");
    assert_eq!(
        (&approved["act"], &approved["request"]),
        (&"approve".into(), &"r1".into())
    );
    assert_eq!(approved["name"], "alice");
}

#[test]
fn a_log_that_was_edited_or_cut_shows_and_stops_every_act() {
    let (dir, authority, log) = with_history();
    let mesh = authority.mesh_key();
    drop(authority);
    let lines: Vec<&str> = log.lines().collect();
    let text = |lines: &[&str]| lines.join("\n") + "\n";
    let swapped = [lines[0], lines[2], lines[1], lines[3], lines[4]];
    let doubled = [&lines[..], &lines[4..]].concat();
    for (changed, expected) in [
        (log.replacen("alice", "carol", 1), AuditError::Edited(4)),
        (text(&swapped), AuditError::Edited(2)),
        (
            text(&[&lines[..2], &lines[3..]].concat()),
            AuditError::Edited(3),
        ),
        (text(&doubled), AuditError::Edited(6)),
        (text(&lines[1..]), AuditError::Edited(1)),
        (
            text(&lines[..4]),
            AuditError::Cut {
                lines: 4,
                expected: 5,
            },
        ),
        (log.replacen("{", "[", 1), AuditError::Malformed(1)),
        (
            String::new(),
            AuditError::Cut {
                lines: 0,
                expected: 5,
            },
        ),
    ] {
        fs::write(dir.path().join("audit.log"), changed).expect("a write");
        assert_eq!(verify_audit(dir.path(), &mesh), Err(expected));
        let code = Authority::open(dir.path(), NOW_MS)
            .map(|_| ())
            .map_err(|e| e.code());
        assert_eq!(code, Err(Code::Storage));
    }
}

#[test]
fn a_changed_last_line_and_a_forged_head_show() {
    let (dir, authority, log) = with_history();
    let mesh = authority.mesh_key();
    let log_path = dir.path().join("audit.log");
    fs::write(&log_path, log.replacen("0707", "0807", 1)).expect("a write");
    let outcome = verify_audit(dir.path(), &mesh);
    assert_eq!(outcome, Err(AuditError::Edited(6)));
    fs::write(&log_path, log).expect("a write");
    let head_path = dir.path().join("audit.head");
    let head = fs::read_to_string(&head_path).expect("a head");
    fs::write(&head_path, head.replacen("\"lines\":5", "\"lines\":4", 1)).expect("a write");
    assert_eq!(verify_audit(dir.path(), &mesh), Err(AuditError::Head));
    fs::remove_file(&head_path).expect("a removal");
    assert_eq!(verify_audit(dir.path(), &mesh), Err(AuditError::Head));
    let other = alice().mesh_key();
    fs::write(&head_path, head).expect("a write");
    assert_eq!(
        verify_audit(dir.path(), &other),
        Err(AuditError::OtherMesh(mesh))
    );
}

#[test]
fn what_a_crash_has_left_undone_is_dropped_at_the_next_start() {
    let (dir, authority, log) = with_history();
    let mesh = authority.mesh_key();
    drop(authority);
    let (log_path, head_path) = (dir.path().join("audit.log"), dir.path().join("audit.head"));
    let head = fs::read_to_string(&head_path).expect("a head");

    // Killed while it wrote a line: the act never took effect.
    fs::write(&log_path, format!("{log}{{\"seq\":6,\"ti")).expect("a write");
    let length = verify_audit(dir.path(), &mesh).map(|audit| audit.entries.len());
    assert_eq!(length, Ok(5));
    let mut authority = Authority::open(dir.path(), NOW_MS).expect("a crash is no edit");
    assert_eq!(fs::read_to_string(&log_path).expect("a log"), log);

    // Killed between a line and the head: nothing was handed out.
    authority
        .revoke_member(alice().agent_id(), None, NOW_MS)
        .expect("done");
    drop(authority);
    fs::write(&head_path, head).expect("a write");
    let audit = verify_audit(dir.path(), &mesh).expect("a crash is no edit");
    assert_eq!(audit.entries.len(), 5);
    assert!(matches!(
        audit.unsigned.map(|entry| entry.act),
        Some(Act::RevokeMember { .. })
    ));
    let authority = Authority::open(dir.path(), NOW_MS).expect("a crash is no edit");
    let revoked: Vec<_> = authority.revocations();
    assert_eq!(revoked.len(), 1, "that of the invite");
    let last = authority.entries().last().expect("a note");
    assert!(matches!(last.act, Act::Dropped { .. }), "{last:?}");
    let audit = verify_audit(dir.path(), &mesh).expect("it holds");
    assert_eq!((audit.entries.len(), audit.unsigned), (6, None));
}

#[test]
fn a_line_that_somebody_else_wrote_behind_the_head_is_never_signed() {
    let (dir, authority, log) = with_history();
    let mesh = authority.mesh_key();
    let mut forged = authority.entries().last().expect("an entry").clone();
    drop(authority);
    let last = log.lines().last().expect("a line");
    forged.seq = 6;
    forged.prev = waymesh_trust::keys::sha256_hex(last.as_bytes());
    forged.act = Act::RevokeMember {
        agent_id: alice().agent_id(),
        name: None,
    };
    let line = serde_json::to_string(&forged).expect("JSON");
    let log_path = dir.path().join("audit.log");
    fs::write(&log_path, format!("{log}{line}\n")).expect("a write");
    let audit = verify_audit(dir.path(), &mesh).expect("the head holds");
    assert_eq!(
        (audit.entries.len(), audit.unsigned),
        (5, Some(forged.clone()))
    );
    let authority = Authority::open(dir.path(), NOW_MS).expect("the head holds");
    assert!(!authority.entries().contains(&forged));
    assert_eq!(
        authority.entries().last().map(|entry| &entry.act),
        Some(&Act::Dropped {
            sha256: waymesh_trust::keys::sha256_hex(line.as_bytes())
        })
    );
    // Two lines are more than any crash leaves.
    drop(authority);
    let log = fs::read_to_string(&log_path).expect("a log");
    let last = log.lines().last().expect("a line");
    forged.seq = 7;
    forged.prev = waymesh_trust::keys::sha256_hex(last.as_bytes());
    let seventh = serde_json::to_string(&forged).expect("JSON");
    forged.seq = 8;
    forged.prev = waymesh_trust::keys::sha256_hex(seventh.as_bytes());
    let eighth = serde_json::to_string(&forged).expect("JSON");
    fs::write(&log_path, format!("{log}{seventh}\n{eighth}\n")).expect("a write");
    assert_eq!(verify_audit(dir.path(), &mesh), Err(AuditError::Edited(7)));
}

#[test]
fn what_was_shown_of_a_request_is_told_from_anything_else() {
    let dir = folder();
    let mut authority = found(dir.path());
    let id = request_id();
    let (join, other) = (
        join_request(&authority, "alice", None),
        join_request(&authority, "carol", None),
    );
    let seen = |authority: &Authority, join| authority.seen(&id, join).expect("it reads");
    assert_eq!(seen(&authority, &join), Seen::Never);
    authority.remember_shown(&[(&id, &join)]).expect("kept");
    assert_eq!(seen(&authority, &join), Seen::Same);
    assert_eq!(seen(&authority, &other), Seen::Other);
    let path = dir.path().join("pending.shown");
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Shown twice, as two.
    let both = [(&id, &join), (&id, &other)];
    authority.remember_shown(&both).expect("kept");
    assert_eq!(seen(&authority, &join), Seen::Other);
    assert_eq!(seen(&authority, &other), Seen::Other);

    // What was shown before is not what the admin looks at now.
    authority.remember_shown(&[]).expect("kept");
    assert_eq!(seen(&authority, &join), Seen::Never);
    fs::write(&path, "[{").expect("a write");
    assert_eq!(seen(&authority, &join), Seen::Never, "damaged");
}

#[test]
fn as_many_requests_are_remembered_as_may_wait_and_no_more() {
    let dir = folder();
    let mut authority = found(dir.path());
    let join = join_request(&authority, "alice", None);
    let ids: Vec<RequestId> = (0..=SHOWN_MAX)
        .map(|n| format!("{n:063}").parse().expect("a request id"))
        .collect();
    let shown: Vec<_> = ids.iter().map(|id| (id, &join)).collect();
    authority.remember_shown(&shown).expect("kept");
    let seen = |n: usize| authority.seen(&ids[n], &join).expect("it reads");
    assert_eq!(seen(SHOWN_MAX - 1), Seen::Same);
    assert_eq!(seen(SHOWN_MAX), Seen::Never);
}

#[test]
fn whom_it_has_approved_under_a_name_it_knows_until_they_are_revoked() {
    let dir = folder();
    let mut authority = found(dir.path());
    let join = join_request(&authority, "alice", None);
    assert!(authority.approved(&name("alice")).is_empty());
    for _ in 0..2 {
        authority
            .approve(&approval(&request_id(), &join), NOW_MS)
            .expect("done");
    }
    assert_eq!(authority.approved(&name("alice")), [alice().agent_id()]);
    assert!(authority.approved(&name("carol")).is_empty());
    authority
        .revoke_member(alice().agent_id(), None, NOW_MS)
        .expect("done");
    assert!(authority.approved(&name("alice")).is_empty());
}

#[test]
fn a_log_that_was_put_away_is_begun_anew() {
    let (dir, authority, _) = with_history();
    drop(authority);
    for file in ["audit.log", "audit.head"] {
        fs::remove_file(dir.path().join(file)).expect("a removal");
    }
    let authority = Authority::open(dir.path(), NOW_MS + 9).expect("a new log");
    let [begun] = authority.entries() else {
        panic!("one line");
    };
    assert_eq!(
        begun.act,
        Act::Begin {
            mesh: authority.mesh_key()
        }
    );
}

#[test]
fn an_act_that_cannot_be_written_down_is_not_done() {
    let dir = folder();
    let path = dir.path().join("authority");
    let mut authority = found(&path);
    fs::remove_dir_all(&path).expect("a removal");
    let outcome = authority
        .invite(&new_invite(), NOW_MS)
        .map(|_| ())
        .map_err(|e| e.code());
    assert_eq!(outcome, Err(Code::Storage), "its head cannot be replaced");
    assert_eq!(authority.entries().len(), 1);
}
