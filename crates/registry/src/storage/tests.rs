//! What is written is there after a restart, whole or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waymesh_core::registry::{
    Decision, Gone, ItemSeq, Revoked, StoredAgent, StoredItem, StoredJoin, StoredRevocation, Write,
};
use waymesh_proto::control::{MeshKey, PairingCode, PeerRules};
use waymesh_proto::mailbox::{Item, ItemHeader, Keep};
use waymesh_proto::{AgentId, Class, Incarnation, InviteId, ItemId, KeyId};

use super::*;

fn clock() -> Clock {
    Clock {
        now: Instant::now(),
        unix_ms: 1_800_000_000_000,
    }
}

fn open(dir: &TempDir) -> Result<Storage, StorageError> {
    Storage::open(&dir.path().join("db"))
}

fn agent(name: &str, key: u8, incarnation: u64) -> StoredAgent {
    let id = AgentId::from_bytes([key; 32]);
    StoredAgent {
        name: name.parse().expect("a name"),
        agent_id: id,
        incarnation: Incarnation::new(incarnation),
        keys: vec![id, AgentId::from_bytes([99; 32])],
        roles: vec!["worker".parse().expect("a role")],
        invite: Some(InviteId::from_bytes([5; 16])),
        certificate: "a.certificate".parse().expect("a token"),
        sealing: "a.statement".parse().expect("a token"),
        skills: Vec::new(),
        rules: PeerRules {
            deny_names: vec!["eve".parse().expect("a name")],
            ..PeerRules::default()
        },
    }
}

fn write_agent(name: &str, key: u8, incarnation: u64) -> Write {
    Write::Agent(Box::new(agent(name, key, incarnation)))
}

fn join(clock: Clock, request: &str, decision: Option<Decision>) -> StoredJoin {
    StoredJoin {
        request: request.parse().expect("a request"),
        name: "carol".parse().expect("a name"),
        agent_id: AgentId::from_bytes([7; 32]),
        join_request: "a.request".parse().expect("a token"),
        address: "192.0.2.1".parse().expect("an address"),
        invite: Some(InviteId::from_bytes([5; 16])),
        delegation: Some("a.delegation".parse().expect("a token")),
        since: clock.now,
        waited: Duration::from_secs(3),
        decision,
    }
}

/// An item and the write that stores it.
fn item(clock: Clock, seq: u64, sealed: &[u8]) -> (Arc<Item>, Write) {
    let header = ItemHeader {
        item: ItemId::from_bytes([u8::try_from(seq).expect("small"); 16]),
        from: AgentId::from_bytes([1; 32]),
        to: AgentId::from_bytes([2; 32]),
        class: Class::Tasks,
        keep: Keep::Store,
        life_ms: 60_000,
        key: KeyId::from_bytes([3; 16]),
    };
    let item = Arc::new(Item {
        header: header.encode(),
        sealed: sealed.to_vec(),
    });
    let stored = StoredItem {
        seq: ItemSeq(seq),
        bytes: item.header.len() + sealed.len(),
        header,
        since: clock.now,
        dwelt: Duration::from_secs(1),
        pushed: false,
    };
    let bytes = Arc::clone(&item);
    (
        item,
        Write::Item {
            stored,
            item: bytes,
        },
    )
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = clock();
    let mesh = MeshKey::from_bytes([9; 32]);
    let agents = vec![agent("a", 1, u64::MAX), agent("b", 2, 3)];
    let invite = InviteId::from_bytes([5; 16]);
    let revocation = StoredRevocation {
        target: Revoked::Invite(invite),
        revocation: "a.revocation".parse().expect("a token"),
    };
    let certificate = "b.certificate".parse().expect("a token");
    let joins = vec![
        join(clock, "aaaaaa", None),
        join(clock, "bbbbbb", Some(Decision::Approved(certificate))),
        join(clock, "cccccc", Some(Decision::Rejected(Some("no".into())))),
        join(clock, "dddddd", Some(Decision::Rejected(None))),
    ];
    let code = PairingCode::from_number(42);
    let ends = clock.now + Duration::from_secs(60);
    let admission = Write::Admission {
        invite,
        agent_id: agents[0].agent_id,
    };
    let (bytes, write_item) = item(clock, 7, b"sealed");
    let mut writes = vec![
        Write::Mesh(mesh),
        admission.clone(),
        admission,
        Write::Revocation(revocation.clone()),
        Write::Code { code, ends },
        write_item,
    ];
    let boxed = agents.iter().cloned().map(Box::new);
    writes.extend(boxed.map(Write::Agent));
    writes.extend(joins.iter().cloned().map(Box::new).map(Write::Join));
    let mut first = open(&dir).expect("a database");
    first.write(&writes, clock).expect("a write");
    first.end_run().expect("an end");
    drop(first);

    let second = open(&dir).expect("a database");
    let stored = second.load(clock).expect("everything");
    assert_eq!(stored.mesh, Some(mesh));
    assert_eq!(stored.agents, agents);
    assert_eq!(stored.admissions, [(invite, agents[0].agent_id)]);
    assert_eq!(stored.revocations, [revocation]);
    assert_eq!(stored.joins, joins);
    assert_eq!(stored.codes.get(&code), Some(&ends));
    let [item] = stored.items.as_slice() else {
        panic!("{:?}", stored.items);
    };
    assert_eq!((item.seq, item.pushed), (ItemSeq(7), false));
    assert_eq!(item.bytes, bytes.header.len() + bytes.sealed.len());
    assert_eq!(item.dwelt, Duration::from_secs(1));
    let read = second.item(ItemSeq(7)).expect("a read");
    assert_eq!(read.as_ref(), Some(&*bytes));
}

#[test]
fn what_is_forgotten_is_gone_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = clock();
    let code = PairingCode::from_number(42);
    let asked = join(clock, "aaaaaa", None);
    let mut storage = open(&dir).expect("a database");
    let made = [
        write_agent("a", 1, 1),
        Write::Join(Box::new(asked.clone())),
        Write::Code {
            code,
            ends: clock.now,
        },
        item(clock, 7, b"sealed").1,
    ];
    let gone = [
        Write::ForgetAgent("a".parse().expect("a name")),
        Write::ForgetJoin(asked.request),
        Write::ForgetCode(code),
        Write::ForgetItem {
            seq: ItemSeq(7),
            why: Gone::Taken,
        },
        // The name is free for another key now.
        write_agent("a", 2, 1),
    ];
    storage.write(&made, clock).expect("a write");
    storage.write(&gone, clock).expect("a write");
    let stored = storage.load(clock).expect("everything");
    assert_eq!(stored.agents, [agent("a", 2, 1)]);
    assert!(stored.joins.is_empty() && stored.codes.is_empty() && stored.items.is_empty());
    assert_eq!(storage.item(ItemSeq(7)).expect("a read"), None);
}

#[test]
fn items_of_a_run_that_was_cut_off_count_as_pushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = clock();
    let mut storage = open(&dir).expect("a database");
    let writes = [item(clock, 1, b"x").1, item(clock, 2, b"y").1];
    storage.write(&writes, clock).expect("a write");
    storage
        .write(&[Write::Pushed(ItemSeq(2))], clock)
        .expect("a write");
    let pushed = |storage: &Storage| {
        let items = storage.load(clock).expect("everything").items;
        items.iter().map(|item| item.pushed).collect::<Vec<_>>()
    };
    assert_eq!(pushed(&storage), [true, true]);
    storage.end_run().expect("an end");
    assert_eq!(pushed(&storage), [false, true]);
    storage.begin_run().expect("a beginning");
    assert_eq!(pushed(&storage), [true, true]);
}

#[test]
fn the_binding_of_a_name_cannot_be_overwritten_and_nothing_of_the_batch_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut storage = open(&dir).expect("a database");
    let clock = clock();
    storage
        .write(&[write_agent("a", 1, 1)], clock)
        .expect("a write");
    let batch = [write_agent("b", 2, 1), write_agent("a", 2, 9)];
    assert!(storage.write(&batch, clock).is_err());
    let stored = storage.load(clock).expect("everything");
    assert_eq!(stored.agents, [agent("a", 1, 1)]);
}

#[test]
fn a_full_disk_refuses_a_batch_and_harms_nothing_that_is_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = clock();
    let mut storage = open(&dir).expect("a database");
    storage
        .write(&[item(clock, 1, b"small").1], clock)
        .expect("a write");
    storage.fill(2);
    let large = item(clock, 2, &[7; 1_000_000]).1;
    assert!(storage.write([&large], clock).is_err());
    assert_eq!(storage.load(clock).expect("everything").items.len(), 1);
    storage
        .write(&[item(clock, 3, b"small").1], clock)
        .expect("room for a small one");
    storage.fill(1_000);
    storage.write([&large], clock).expect("room again");
    drop(storage);
    let storage = open(&dir).expect("a whole database");
    let check: String = storage
        .db
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .expect("a check");
    assert_eq!(check, "ok");
    assert_eq!(storage.load(clock).expect("everything").items.len(), 3);
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date_without_its_unproven_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Connection::open(dir.path().join("db")).expect("a database");
    let old = "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
        CREATE TABLE agents (name TEXT PRIMARY KEY, agent_id BLOB NOT NULL,
            incarnation INTEGER NOT NULL, skills TEXT NOT NULL) STRICT;
        INSERT INTO meta VALUES ('mesh', x'01');
        INSERT INTO agents VALUES ('a', x'02', 1, '[]');
        PRAGMA user_version = 1;";
    db.execute_batch(old).expect("an old database");
    drop(db);
    let stored = open(&dir).expect("a database").load(clock());
    let stored = stored.expect("everything");
    assert_eq!((stored.mesh, stored.agents), (None, Vec::new()));
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = open(&dir).expect("a database");
    storage
        .db
        .pragma_update(None, "user_version", schema::VERSION + 1)
        .expect("a version");
    drop(storage);
    assert!(matches!(open(&dir), Err(StorageError::Newer { .. })));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("db"), [7; 4096]).expect("a write");
    assert!(matches!(open(&dir), Err(StorageError::Sqlite(_))));
}
