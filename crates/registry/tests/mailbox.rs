//! Items through a running registry: posted, stored, pushed and settled over
//! real connections.

mod support;

use futures_util::StreamExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use waymesh_proto::control::{
    ClientMessage, Outcome, Posted, PostedState, Returned, ServerMessage, Settle,
};
use waymesh_proto::limits::{
    CERTIFICATE_LIFE_MS, CLOCK_LEEWAY_MS, ITEM_MAX_BYTES, MAILBOX_MAX_BYTES, MAILBOX_SENDER_PARTS,
};
use waymesh_proto::mailbox::{Assembly, Item, ItemHeader, Keep, Note, PART_BYTES, encode_post};
use waymesh_proto::{AgentId, Class, Code, ItemId, KeyId};
use waymesh_trust::Keypair;
use waymesh_trust::certificate;

use support::{House, Member, PATIENCE, Raw, mesh, mesh_key, now_ms};

fn id(key: u8) -> AgentId {
    Keypair::from_seed(&[key; 32]).agent_id()
}

/// An item of so many sealed bytes from the agent of one key to that of another.
fn item(number: u8, from: u8, to: u8, bytes: usize) -> Item {
    let header = ItemHeader {
        item: ItemId::from_bytes([number; 16]),
        from: id(from),
        to: id(to),
        class: Class::Tasks,
        keep: Keep::Store,
        life_ms: 60_000,
        key: KeyId::from_bytes([0; 16]),
    };
    Item {
        header: header.encode(),
        sealed: (0..bytes).map(|n| (n % 251) as u8).collect(),
    }
}

/// The item that is pushed next, whatever else is told in between.
async fn pushed(raw: &mut Raw) -> (Note, Item) {
    let mut assembly = Assembly::default();
    loop {
        match timeout(PATIENCE, raw.ws.next()).await.expect("an item") {
            Some(Ok(Message::Binary(bytes))) => {
                assert!(bytes.len() <= PART_BYTES + 256, "a part is too large");
                match assembly.handle(&bytes).expect("a mailbox message") {
                    Some((Some(note), item)) => return (note, item),
                    Some((None, _)) => panic!("the registry posts nothing"),
                    None => {}
                }
            }
            Some(Ok(Message::Text(_) | Message::Ping(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn post(raw: &mut Raw, item: &Item) {
    for part in encode_post(item) {
        raw.say_raw(Message::Binary(part.into())).await;
    }
}

/// What became of the next posted item.
async fn answer(raw: &mut Raw) -> PostedState {
    match raw.next().await {
        ServerMessage::Posted { items } => match items.as_slice() {
            [Posted { state, .. }] => state.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn settle(raw: &mut Raw, number: u8, from: u8, outcome: Outcome) {
    let items = vec![Settle {
        item: ItemId::from_bytes([number; 16]),
        from: id(from),
        outcome,
    }];
    raw.say(&ClientMessage::Settled { items }).await;
}

#[tokio::test]
async fn an_item_of_the_largest_size_is_pushed_whole_and_stored_until_it_is_withdrawn() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let mut bob = house.log_in("bob", 2, 1).await;
    let large = item(7, 1, 2, ITEM_MAX_BYTES);
    post(&mut alice, &large).await;
    let (note, got) = pushed(&mut bob).await;
    assert!(!note.again && got == large);
    assert_eq!(answer(&mut alice).await, PostedState::Stored);
    assert_eq!(house.metric("waymesh_registry_mailbox_items").await, 1);
    settle(&mut bob, 7, 1, Outcome::Unreadable).await;
    let returned = ServerMessage::Returned {
        items: vec![Returned {
            item: ItemId::from_bytes([7; 16]),
            code: Code::Unreadable,
        }],
    };
    assert_eq!(alice.next().await, returned);
    // It stays until its sender has said that it knows.
    assert_eq!(house.metric("waymesh_registry_mailbox_items").await, 1);
    let item_id = ItemId::from_bytes([7; 16]);
    alice.say(&ClientMessage::Withdraw { item: item_id }).await;
    post(&mut alice, &item(8, 1, 2, 1)).await;
    assert_eq!(answer(&mut alice).await, PostedState::Stored);
    assert_eq!(house.metric("waymesh_registry_mailbox_items").await, 1);
}

#[tokio::test]
async fn an_item_for_somebody_who_is_away_outlives_the_registry() {
    let house = House::start().await;
    let bob = house.log_in("bob", 2, 1).await;
    drop(bob);
    let mut alice = house.log_in("alice", 1, 1).await;
    let posted = item(7, 1, 2, 3 * PART_BYTES);
    post(&mut alice, &posted).await;
    assert_eq!(answer(&mut alice).await, PostedState::Stored);
    let house = house.restart().await;
    let mut bob = house.log_in("bob", 2, 2).await;
    let (note, got) = pushed(&mut bob).await;
    assert!(!note.again && got == posted);
    // What was pushed and not settled comes again, and says so.
    let mut bob = house.log_in("bob", 2, 3).await;
    let (note, got) = pushed(&mut bob).await;
    assert!(note.again && got == posted);
    settle(&mut bob, 7, 1, Outcome::Taken).await;
    let mut alice = house.log_in("alice", 1, 2).await;
    let next = item(8, 1, 2, 1);
    post(&mut alice, &next).await;
    let mut bob = house.log_in("bob", 2, 4).await;
    assert_eq!(pushed(&mut bob).await.1, next);
}

#[tokio::test]
async fn more_items_than_a_window_come_in_order_and_do_not_cut_off_a_slow_reader() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let mut bob = house.log_in("bob", 2, 1).await;
    // More than a window, while bob does not read.
    for number in 0..6 {
        post(&mut alice, &item(number, 1, 2, 1_000_000)).await;
        assert_eq!(answer(&mut alice).await, PostedState::Stored);
    }
    for number in 0..6 {
        let (_, got) = pushed(&mut bob).await;
        assert!(got == item(number, 1, 2, 1_000_000), "in order");
        settle(&mut bob, number, 1, Outcome::Taken).await;
    }
    let cut_off = house.metric("waymesh_registry_closed_slow_reader_total");
    assert_eq!(cut_off.await, 0);
}

#[tokio::test]
async fn one_member_that_floods_fills_its_share_and_others_keep_their_service() {
    let house = House::start().await;
    drop(house.log_in("carol", 3, 1).await);
    let mut eve = house.log_in("eve", 9, 1).await;
    let share = MAILBOX_MAX_BYTES / MAILBOX_SENDER_PARTS;
    let count = u8::try_from(share / 1_000_000 + 5).expect("small");
    let flood = async {
        let mut refused = 0;
        for number in 0..count {
            post(&mut eve, &item(number, 9, 3, 1_000_000)).await;
        }
        let mut answered = 0;
        while answered < usize::from(count) {
            let ServerMessage::Posted { items } = eve.next().await else {
                continue;
            };
            answered += items.len();
            let is_refused = |p: &&Posted| matches!(p.state, PostedState::Refused { .. });
            refused += items.iter().filter(is_refused).count();
        }
        refused
    };
    let others = async {
        let mut alice = house.log_in("alice", 1, 1).await;
        let mut bob = house.log_in("bob", 2, 1).await;
        for number in 0..50 {
            post(&mut alice, &item(number, 1, 2, 1_000)).await;
            pushed(&mut bob).await;
            settle(&mut bob, number, 1, Outcome::Taken).await;
            let state = answer(&mut alice).await;
            assert!(!matches!(state, PostedState::Refused { .. }));
        }
    };
    let (refused, ()) = tokio::join!(flood, others);
    assert!(refused >= 5, "{refused}");
}

#[tokio::test]
async fn parts_of_an_item_before_the_login_are_refused() {
    let house = House::start().await;
    let mut raw = Raw::connect(&house.registry).await;
    post(&mut raw, &item(7, 1, 2, 10)).await;
    assert_eq!(raw.error().await, Code::Unauthorized);
    raw.closed().await;
}

/// A member whose certificate ends then, and may be extended for a year.
fn renewable(house: &House, name: &str, key: u8, expires_ms: u64) -> Member {
    let registry = house.registry.key();
    let claims = certificate::Member {
        renew_until_ms: now_ms() + 52 * CERTIFICATE_LIFE_MS,
        ..support::member::claims(name, key, registry, expires_ms)
    };
    let certificate = certificate::issue(&mesh(), &claims).expect("a certificate");
    Member {
        certificate,
        ..Member::new(name, key, registry)
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_or_has_ended_is_extended_at_the_login() {
    let house = House::start().await;
    let day = 24 * 3_600_000;
    for (key, expires_ms) in [(1, now_ms() + day), (2, now_ms() - day)] {
        let member = renewable(&house, &format!("m{key}"), key, expires_ms);
        let mut raw = Raw::log_in(&house.registry, &member, 1).await;
        let ServerMessage::Extended { extension } = raw.next_of_any_kind().await else {
            panic!("it is not extended");
        };
        let longer = certificate::with_extension(&member.certificate, &extension);
        let longer = longer.expect("an extension of this certificate");
        let verified = certificate::verify(&longer, &mesh_key(), now_ms());
        let expires_ms = verified.expect("a certificate").expires_ms;
        assert!(expires_ms > now_ms() + CERTIFICATE_LIFE_MS - day);
        raw.say(&ClientMessage::WatchAll).await;
        let ServerMessage::Records { agents } = raw.next().await else {
            panic!("no records");
        };
        assert!(agents.iter().any(|record| record.certificate == longer));
    }
}

#[tokio::test]
async fn a_member_is_closed_when_its_certificate_ends() {
    let house = House::start().await;
    let ends_ms = now_ms() - CLOCK_LEEWAY_MS + 1_500;
    let member = Member::until("alice", 1, house.registry.key(), ends_ms);
    let mut raw = Raw::log_in(&house.registry, &member, 1).await;
    assert_eq!(raw.error().await, Code::CertificateExpired);
    raw.closed().await;
}
