//! How batches are made, and what becomes of failures.

use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::mpsc;
use waymesh_core::registry::{Gone, Registry as Rules, Stored, StoredItem};
use waymesh_proto::mailbox::{ItemHeader, Keep};
use waymesh_proto::{AgentId, Class, ItemId, KeyId};

use super::*;

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn item(seq: u64, bytes: usize) -> Write {
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
        sealed: vec![7; bytes],
    });
    let stored = StoredItem {
        seq: ItemSeq(seq),
        bytes: item.header.len() + bytes,
        header,
        since: Instant::now(),
        dwelt: Duration::ZERO,
        pushed: false,
    };
    Write::Item { stored, item }
}

fn forget(seq: u64) -> Write {
    Write::ForgetItem {
        seq: ItemSeq(seq),
        why: Gone::Taken,
    }
}

/// A ticket can be had from the rules only: of a pairing code that is to be stored.
fn ticket() -> Ticket {
    use waymesh_core::registry::{Effect, Order, OrderTicket};
    let mut rules = Rules::new(Stored::default());
    let life = Duration::from_secs(60);
    let order = Order::PairingCode { life };
    rules.handle_order(Instant::now(), OrderTicket(1), order, 1);
    match rules.poll_effect() {
        Some(Effect::Store {
            ticket: Some(ticket),
            ..
        }) => ticket,
        other => panic!("{other:?}"),
    }
}

fn database(dir: &TempDir) -> Storage {
    Storage::open(&dir.path().join("db")).expect("a database")
}

/// The items that a database holds, and whether each counts as pushed.
fn held(storage: &Storage) -> Vec<(u64, bool)> {
    let items = storage.load(Clock::now()).expect("everything").items;
    items.iter().map(|i| (i.seq.0, i.pushed)).collect()
}

fn desk<'a>(storage: Storage, metrics: &'a Metrics) -> Desk<'a> {
    Desk {
        storage,
        leftover: Leftover::default(),
        is_failing: false,
        metrics,
    }
}

#[test]
fn an_item_that_is_forgotten_before_it_was_written_is_never_written_nor_answered() {
    let mut backlog = Backlog::default();
    backlog.store(vec![item(1, 10)], Some(ticket()));
    backlog.store(vec![item(2, 10)], Some(ticket()));
    backlog.store(vec![forget(1)], None);
    let batch = backlog.take(0);
    assert_eq!((batch.writes.len(), batch.tickets.len()), (1, 1));
    assert!(matches!(&batch.writes[0], Write::Item { stored, .. } if stored.seq == ItemSeq(2)));
    // What has been taken is being written: now it must be deleted.
    backlog.store(vec![forget(2)], None);
    assert_eq!(backlog.take(0).writes, [forget(2)]);
    assert!(backlog.is_empty());
}

#[test]
fn an_item_that_is_pushed_before_it_was_written_is_written_with_that_mark() {
    let mut backlog = Backlog::default();
    backlog.store(vec![item(1, 10)], Some(ticket()));
    backlog.store(vec![Write::Pushed(ItemSeq(1))], None);
    let batch = backlog.take(0);
    assert_eq!(batch.writes.len(), 1);
    assert!(matches!(&batch.writes[0], Write::Item { stored, .. } if stored.pushed));
}

#[test]
fn a_batch_takes_as_many_loads_as_it_is_asked_to_in_order() {
    let mut backlog = Backlog::default();
    for seq in 0..5 {
        backlog.load(ConnId(1), ItemSeq(seq));
    }
    let loads = |batch: Batch| -> Vec<u64> { batch.loads.iter().map(|(_, s)| s.0).collect() };
    assert_eq!(loads(backlog.take(3)), [0, 1, 2]);
    assert!(!backlog.is_empty());
    assert_eq!(loads(backlog.take(3)), [3, 4]);
    assert!(backlog.is_empty());
}

#[test]
fn what_fails_is_refused_or_tried_again_and_what_comes_later_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Metrics::default();
    let mut storage = database(&dir);
    let stored = [item(1, 10), item(2, 10)];
    storage.write(&stored, Clock::now()).expect("room");
    storage.end_run().expect("room");
    storage.fill(2);
    let mut desk = desk(storage, &metrics);
    let mut backlog = Backlog::default();
    backlog.store(vec![item(3, 1_000_000)], Some(ticket()));
    backlog.store(vec![Write::Pushed(ItemSeq(1))], None);
    backlog.store(vec![forget(2)], None);
    let reports = desk.carry_out(backlog.take(0));
    assert!(
        matches!(&reports[..], [Report::Written { tickets, outcome: Err(fault) }]
            if tickets.len() == 1 && fault.code == Code::Storage)
    );
    assert_eq!(held(&desk.storage), [(1, false), (2, false)]);
    // A small one fits, and what nobody waited for is done before it.
    backlog.store(vec![item(4, 10)], Some(ticket()));
    let reports = desk.carry_out(backlog.take(0));
    assert!(matches!(
        &reports[..],
        [Report::Written {
            outcome: Ok(()),
            ..
        }]
    ));
    assert_eq!(held(&desk.storage), [(1, true), (4, false)]);
    assert!(desk.leftover.is_empty());
}

#[test]
fn what_is_tried_again_never_undoes_what_came_later() {
    let name = || "a".parse().expect("a name");
    let code = waymesh_proto::control::PairingCode::from_number(7);
    let ends = Instant::now();
    let mut leftover = Leftover::default();
    leftover.keep(
        [
            Write::ForgetAgent(name()),
            Write::ForgetCode(code),
            forget(3),
        ]
        .iter(),
    );
    leftover.outdate(&[Write::Code { code, ends }, Write::ForgetAgent(name())]);
    let left: Vec<_> = leftover.writes().cloned().collect();
    assert_eq!(left, [forget(3)]);
}

#[test]
fn items_are_read_in_order_after_what_was_to_be_written_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Metrics::default();
    let mut desk = desk(database(&dir), &metrics);
    let mut backlog = Backlog::default();
    backlog.store(vec![item(1, 10)], Some(ticket()));
    for seq in [1, 9] {
        backlog.load(ConnId(3), ItemSeq(seq));
    }
    let reports = desk.carry_out(backlog.take(LOADS_AT_ONCE));
    let [Report::Written { .. }, Report::Loaded(loaded)] = &reports[..] else {
        panic!("{reports:?}");
    };
    let seen: Vec<_> = loaded.iter().map(|l| (l.seq.0, l.item.is_some())).collect();
    assert_eq!(seen, [(1, true), (9, false)]);
}

#[test]
fn loads_are_reported_in_parts_of_bounded_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Metrics::default();
    let mut desk = desk(database(&dir), &metrics);
    let mut backlog = Backlog::default();
    for seq in 1..=9 {
        backlog.store(vec![item(seq, 1_000_000)], None);
        backlog.load(ConnId(3), ItemSeq(seq));
    }
    let reports = desk.carry_out(backlog.take(LOADS_AT_ONCE));
    let sizes: Vec<_> = reports
        .iter()
        .map(|report| match report {
            Report::Loaded(loaded) => loaded.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [5, 4]);
}

#[test]
fn everything_that_waits_is_written_before_the_end_and_the_end_is_noted() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = database(&dir);
    storage.begin_run().expect("a beginning");
    let writer = Writer::default();
    let (reports, mut reported) = mpsc::channel(WRITER_TO_DRIVER_CAP);
    writer.store(vec![item(1, 10)], Some(ticket()));
    writer.end();
    writer.run(storage, &reports, &Metrics::default());
    assert!(matches!(
        reported.try_recv(),
        Ok(Report::Written {
            outcome: Ok(()),
            ..
        })
    ));
    assert_eq!(held(&database(&dir)), [(1, false)]);
}

#[test]
fn the_last_state_of_an_agent_is_written_and_a_free_name_may_get_another_agent() {
    use waymesh_core::registry::{ConnId, Effect, VerifiedLogin};
    use waymesh_proto::Incarnation;
    use waymesh_proto::control::InstanceId;
    let mut rules = Rules::new(Stored::default());
    let mut backlog = Backlog::default();
    let far = Instant::now() + Duration::from_secs(3_600);
    for incarnation in 1..=3u64 {
        let conn = ConnId(incarnation);
        let login = VerifiedLogin {
            name: "a".parse().expect("a name"),
            agent_id: AgentId::from_bytes([1; 32]),
            incarnation: Incarnation::new(incarnation),
            instance: InstanceId::from_bytes([1; 16]),
            roles: Vec::new(),
            keys: vec![AgentId::from_bytes([1; 32])],
            expires: far,
            renewable_until: None,
            invite: None,
            certificate: "certificate".parse().expect("a token"),
            sealing: "sealing".parse().expect("a token"),
            introduce: false,
        };
        rules.handle_connected(Instant::now(), conn, HERE);
        rules.handle_login(Instant::now(), conn, login);
        while let Some(effect) = rules.poll_effect() {
            if let Effect::Store { writes, ticket } = effect {
                if let Some(ticket) = &ticket {
                    rules.handle_stored(Instant::now(), ticket.clone(), Ok(()));
                }
                backlog.store(writes, ticket);
            }
        }
    }
    backlog.store(vec![Write::ForgetAgent("a".parse().expect("a name"))], None);
    let batch = backlog.take(0);
    let incarnations: Vec<_> = batch
        .writes
        .iter()
        .map(|write| match write {
            Write::Agent(agent) => Some(agent.incarnation.number()),
            _ => None,
        })
        .collect();
    assert_eq!(incarnations, [Some(1), Some(3), None]);
}
