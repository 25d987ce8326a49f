//! Frames through a real registry: sealed, stored, pushed, opened, settled.

use waymesh_core::app::{Kept, Mark, Opened, Post};
use waymesh_proto::class::{Class, Stream};
use waymesh_proto::control::Outcome;
use waymesh_proto::ids::ItemId;
use waymesh_proto::limits::MESSAGE_MAX_BYTES;
use waymesh_proto::mailbox::Keep;
use waymesh_proto::seqset::SeqSet;

use super::*;

fn item(n: usize) -> ItemId {
    ItemId::from_bytes((n as u128).to_be_bytes())
}

fn post(to: &Seat, n: usize, frame: Vec<u8>) -> RegistryCommand {
    RegistryCommand::Post(Post {
        item: item(n),
        to: to.id(),
        to_incarnation: None,
        class: Class::Control,
        keep: Keep::Store,
        life_ms: 60_000,
        frame,
    })
}

/// Hands a command over as soon as there is room.
async fn order(link: &mut RegistryLink, command: RegistryCommand) {
    while link.place().is_none() {
        timeout(PATIENCE, link.wait()).await.expect("room in time");
    }
    tell(link, command);
}

async fn posted(link: &mut RegistryLink, n: usize) -> Result<Kept, Code> {
    until(link, |news| match news {
        News::Event(RegistryEvent::Posted { item: of, outcome }) if of == item(n) => Some(outcome),
        _ => None,
    })
    .await
    .map_err(|fault| fault.code)
}

async fn pushed(link: &mut RegistryLink) -> Opened {
    until(link, |news| match news {
        News::Event(RegistryEvent::Item(opened)) => Some(opened),
        _ => None,
    })
    .await
}

/// Two members, connected; the first knows the second.
struct Pair {
    _dir: TempDir,
    _registry: Registry,
    alice: Seat,
    bob: Seat,
    to_alice: RegistryLink,
    to_bob: RegistryLink,
}

async fn pair() -> Pair {
    let (dir, registry) = fresh().await;
    let (mut alice, mut bob) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    let (mut to_alice, mut to_bob) = (alice.open(), bob.open());
    connected(&mut to_bob).await;
    connected(&mut to_alice).await;
    tell(&mut to_alice, resolve("bob"));
    known(&mut to_alice).await;
    Pair {
        _dir: dir,
        _registry: registry,
        alice,
        bob,
        to_alice,
        to_bob,
    }
}

async fn known(link: &mut RegistryLink) {
    until(link, |news| match news {
        News::Event(RegistryEvent::Record { .. }) => Some(()),
        _ => None,
    })
    .await;
}

fn mark(from: &Seat, up_to: u64) -> Mark {
    let mut consumed = SeqSet::default();
    consumed.insert_up_to(up_to);
    Mark {
        from: from.id(),
        incarnation: Incarnation::new(1),
        stream: Stream::Control,
        consumed,
    }
}

#[tokio::test]
async fn a_frame_of_any_size_is_stored_and_pushed_and_its_sender_can_be_answered() {
    let mut all = pair().await;
    for (n, size) in [0, 1, 65_535, 65_536, 200_000, MESSAGE_MAX_BYTES]
        .into_iter()
        .enumerate()
    {
        let frame = vec![u8::try_from(n).expect("small"); size];
        order(&mut all.to_alice, post(&all.bob, n, frame.clone())).await;
        let opened = pushed(&mut all.to_bob).await;
        assert_eq!(
            (opened.item, opened.frame == frame),
            (item(n), true),
            "{size} bytes"
        );
        assert_eq!(
            (opened.from.name.as_str(), opened.from.id),
            ("alice", all.alice.id())
        );
        assert!(!opened.again);
        assert_eq!(posted(&mut all.to_alice, n).await, Ok(Kept::Stored));
    }
    // Bob never asked for alice: what she wrote says how to seal to her.
    order(&mut all.to_bob, post(&all.alice, 99, b"hello".to_vec())).await;
    assert_eq!(pushed(&mut all.to_alice).await.frame, b"hello");
}

#[tokio::test]
async fn a_frame_for_whom_nobody_knows_or_that_is_too_large_is_refused_here() {
    let mut all = pair().await;
    order(&mut all.to_bob, post(&all.alice, 1, Vec::new())).await;
    assert_eq!(posted(&mut all.to_bob, 1).await, Err(Code::NoSealingKey));
    let large = vec![0; 2 * MESSAGE_MAX_BYTES];
    order(&mut all.to_alice, post(&all.bob, 2, large)).await;
    assert_eq!(
        posted(&mut all.to_alice, 2).await,
        Err(Code::MessageTooLarge)
    );
    assert_eq!(all.to_alice.counters().snapshot().items_unsealed, 1);
}

#[tokio::test]
async fn what_was_taken_does_not_come_again_and_its_mark_is_written_before() {
    let mut all = pair().await;
    for n in 0..2 {
        order(&mut all.to_alice, post(&all.bob, n, vec![1])).await;
        pushed(&mut all.to_bob).await;
    }
    let settle = RegistryCommand::Settle {
        item: item(0),
        from: all.alice.id(),
        outcome: Outcome::Taken,
        mark: Some(mark(&all.alice, 1)),
    };
    let ticket_before = *all.bob.marks.written().borrow();
    order(&mut all.to_bob, settle).await;
    let mut written = all.bob.marks.written();
    let reached = written.wait_for(|written| *written > ticket_before);
    timeout(PATIENCE, reached)
        .await
        .expect("in time")
        .expect("it is written");
    // The mark is there, whatever becomes of the connection; then the registry hears of it.
    let taken = async {
        loop {
            all.bob.incarnation += 1;
            all.to_bob = all.bob.open();
            let opened = pushed(&mut all.to_bob).await;
            assert!(opened.again);
            if opened.item == item(1) {
                return;
            }
        }
    };
    timeout(PATIENCE, taken)
        .await
        .expect("the registry hears of it");
}

#[tokio::test]
async fn what_is_put_off_comes_again_however_soon_there_is_room() {
    let mut pair = pair().await;
    order(&mut pair.to_alice, post(&pair.bob, 1, vec![7; 10])).await;
    for _ in 0..20 {
        let opened = pushed(&mut pair.to_bob).await;
        let later = RegistryCommand::Settle {
            item: opened.item,
            from: pair.alice.id(),
            outcome: Outcome::Later,
            mark: None,
        };
        order(&mut pair.to_bob, later).await;
        order(&mut pair.to_bob, RegistryCommand::Resume).await;
    }
}

#[tokio::test]
async fn a_letter_to_who_was_away_comes_when_it_is_back() {
    let mut all = pair().await;
    all.to_bob.close().await;
    order(&mut all.to_alice, post(&all.bob, 1, b"later".to_vec())).await;
    assert_eq!(posted(&mut all.to_alice, 1).await, Ok(Kept::Stored));
    all.bob.incarnation += 1;
    all.to_bob = all.bob.open();
    let opened = pushed(&mut all.to_bob).await;
    assert_eq!(opened.frame, b"later");
    assert!(!opened.again);
}

#[tokio::test]
async fn a_peer_that_the_policy_denies_does_not_get_past_the_registry() {
    let (_dir, registry) = fresh().await;
    let (mut alice, mut bob) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    bob.policy.deny = vec!["alice".parse().expect("a rule")];
    let (mut to_alice, mut to_bob) = (alice.open(), bob.open());
    connected(&mut to_bob).await;
    connected(&mut to_alice).await;
    tell(&mut to_alice, resolve("bob"));
    known(&mut to_alice).await;
    // The rules go first on bob's connection; whoever sees what he says next comes after them.
    tell(&mut to_bob, RegistryCommand::Skills(Vec::new()));
    tell(&mut to_bob, resolve("alice"));
    known(&mut to_bob).await;
    order(&mut to_alice, post(&bob, 1, Vec::new())).await;
    assert_eq!(posted(&mut to_alice, 1).await, Err(Code::Unauthorized));
    let sdp = "v=0".into();
    tell(&mut to_alice, signal_to(&bob, Signal::Offer { sdp }));
    let code = until(&mut to_alice, |news| match news {
        News::Event(RegistryEvent::Undeliverable { code, .. }) => Some(code),
        _ => None,
    });
    assert_eq!(code.await, Code::Unauthorized);
}

#[tokio::test]
async fn a_flood_of_items_does_not_hold_up_a_command() {
    const FLOOD: usize = 200;
    let mut all = pair().await;
    for n in 0..FLOOD {
        order(&mut all.to_alice, post(&all.bob, n, vec![0; 20_000])).await;
    }
    for n in 0..FLOOD {
        assert_eq!(posted(&mut all.to_alice, n).await, Ok(Kept::Stored));
    }
    tell(&mut all.to_bob, resolve("nobody"));
    let mut items_before = 0;
    until(&mut all.to_bob, |news| match news {
        News::Event(RegistryEvent::Item(_)) => {
            items_before += 1;
            None
        }
        News::Event(RegistryEvent::Unknown { .. }) => Some(()),
        _ => None,
    })
    .await;
    assert!(items_before <= FLOOD, "{items_before}");
}

#[tokio::test]
async fn a_frame_that_nobody_needs_any_more_is_taken_back() {
    let mut all = pair().await;
    all.to_bob.close().await;
    order(&mut all.to_alice, post(&all.bob, 1, b"one".to_vec())).await;
    order(&mut all.to_alice, post(&all.bob, 2, b"two".to_vec())).await;
    for n in 1..=2 {
        assert_eq!(posted(&mut all.to_alice, n).await, Ok(Kept::Stored));
    }
    order(
        &mut all.to_alice,
        RegistryCommand::Withdraw { item: item(1) },
    )
    .await;
    // An answer to what is asked after it says that it was heard.
    tell(&mut all.to_alice, resolve("nobody"));
    until(&mut all.to_alice, |news| match news {
        News::Event(RegistryEvent::Unknown { .. }) => Some(()),
        _ => None,
    })
    .await;
    all.bob.incarnation += 1;
    all.to_bob = all.bob.open();
    assert_eq!(pushed(&mut all.to_bob).await.frame, b"two");
}

#[tokio::test]
async fn a_letter_sealed_to_a_key_that_was_replaced_meanwhile_is_still_read() {
    const EIGHT_DAYS_MS: u64 = 8 * 24 * 3_600_000;
    let mut all = pair().await;
    all.to_bob.close().await;
    let now_ms = crate::client::unix_ms();
    let seal_to = |seat: &Seat, to: &Seat| {
        let known = seat.members.seal_to(&to.id(), now_ms).expect("he was met");
        known.expect("a key that holds").id
    };
    let old = seal_to(&all.alice, &all.bob);
    order(&mut all.to_alice, post(&all.bob, 1, b"old".to_vec())).await;
    assert_eq!(posted(&mut all.to_alice, 1).await, Ok(Kept::Stored));
    let mut keys: serde_json::Value = all
        .bob
        .home
        .load("sealing.json")
        .expect("a file")
        .expect("keys");
    let made_ms = keys[0]["made_ms"].as_u64().expect("a time");
    keys[0]["made_ms"] = (made_ms - EIGHT_DAYS_MS).into();
    all.bob.home.store("sealing.json", &keys).expect("room");
    all.bob.incarnation += 1;
    all.to_bob = all.bob.open();
    assert_eq!(pushed(&mut all.to_bob).await.frame, b"old");
    known(&mut all.to_alice).await;
    assert_ne!(seal_to(&all.alice, &all.bob), old);
    order(&mut all.to_alice, post(&all.bob, 2, b"new".to_vec())).await;
    assert_eq!(pushed(&mut all.to_bob).await.frame, b"new");
}
