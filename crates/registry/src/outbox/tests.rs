//! Limits of the queues, and what goes first.

use waymesh_proto::mailbox::PART_BYTES;

use super::*;

const NOTE: Note = Note {
    again: false,
    dwell_ms: 0,
};

fn item(bytes: usize) -> Arc<Item> {
    Arc::new(Item {
        header: vec![1],
        sealed: vec![7; bytes],
    })
}

#[test]
fn as_many_messages_as_the_limit_wait_and_one_more_is_too_slow() {
    let (outbox, _queue, _cut) = outbox();
    for _ in 0..DRIVER_TO_CONNECTION_CAP {
        assert!(outbox.ping().is_ok());
    }
    assert!(outbox.ping().is_err());
}

#[test]
fn half_of_either_limit_is_no_more_than_half_full_and_one_more_is() {
    let (messages, _queue, _cut) = outbox();
    for _ in 0..DRIVER_TO_CONNECTION_CAP / 2 {
        assert!(messages.ping().is_ok());
    }
    assert!(!messages.is_over_half_full());
    assert!(messages.ping().is_ok());
    assert!(messages.is_over_half_full());
    let (bytes, _queue, _cut) = outbox();
    let half = Utf8Bytes::from("x".repeat(DRIVER_TO_CONNECTION_MAX_BYTES / 2));
    assert!(bytes.send(half).is_ok());
    assert!(!bytes.is_over_half_full());
    assert!(bytes.send(Utf8Bytes::from_static("x")).is_ok());
    assert!(bytes.is_over_half_full());
}

#[tokio::test]
async fn whoever_waits_for_room_hears_once_when_enough_was_read() {
    let (outbox, mut queue, _cut) = outbox();
    assert!(outbox.await_room());
    let part = Utf8Bytes::from("x".repeat(ROOM_BELOW_BYTES / 2));
    for _ in 0..3 {
        assert!(outbox.send(part.clone()).is_ok());
    }
    assert!(!queue.has_awaited_room(), "nobody waits");
    assert!(!outbox.await_room());
    assert!(queue.next().await.is_some());
    assert!(!queue.has_awaited_room(), "too little was read");
    assert!(queue.next().await.is_some());
    assert!(queue.has_awaited_room());
    assert!(!queue.has_awaited_room());
}

#[tokio::test]
async fn as_many_bytes_as_the_limit_wait_and_one_more_is_too_slow() {
    let (outbox, mut queue, _cut) = outbox();
    let half = Utf8Bytes::from("x".repeat(DRIVER_TO_CONNECTION_MAX_BYTES / 2));
    assert!(outbox.send(half.clone()).is_ok());
    assert!(outbox.send(half.clone()).is_ok());
    assert!(queue.next().await.is_some());
    assert!(outbox.send(half).is_ok());
    assert!(outbox.send(Utf8Bytes::from_static("x")).is_err());
}

#[test]
fn a_whole_window_of_items_takes_no_room_from_control_messages() {
    let (outbox, _queue, _cut) = outbox();
    for _ in 0..PUSH_WINDOW_ITEMS {
        assert!(outbox.push(NOTE, item(PART_BYTES)).is_ok());
    }
    assert!(!outbox.is_over_half_full());
    for _ in 0..FORWARDED_CAP {
        assert!(outbox.push(NOTE, item(1)).is_ok());
    }
    assert!(outbox.push(NOTE, item(1)).is_err());
}

#[tokio::test]
async fn as_many_forwarded_items_as_the_limits_wait_and_one_more_does_not() {
    let (outbox, mut queue, _cut) = outbox();
    for _ in 0..FORWARDED_CAP {
        assert!(outbox.has_room_to_forward(&item(1)));
        assert!(outbox.forward(NOTE, item(1)).is_ok());
    }
    assert!(!outbox.has_room_to_forward(&item(1)));
    assert!(queue.next().await.is_some());
    assert!(outbox.has_room_to_forward(&item(1)));

    let (outbox, _queue, _cut) = super::outbox();
    assert!(outbox.has_room_to_forward(&item(2 * FORWARDED_MAX_BYTES)));
    assert!(outbox.forward(NOTE, item(FORWARDED_MAX_BYTES - 1)).is_ok());
    assert!(outbox.has_room_to_forward(&item(1)));
    assert!(!outbox.has_room_to_forward(&item(2)));
}

#[tokio::test]
async fn a_control_message_waits_for_no_more_than_one_part_of_an_item() {
    let (outbox, mut queue, _cut) = outbox();
    assert!(outbox.push(NOTE, item(3 * PART_BYTES)).is_ok());
    assert!(matches!(queue.next().await, Some(Outgoing::Binary(_))));
    assert!(outbox.ping().is_ok());
    assert!(matches!(queue.next().await, Some(Outgoing::Ping)));
    for _ in 0..2 {
        assert!(matches!(queue.next().await, Some(Outgoing::Binary(_))));
    }
    drop(outbox);
    assert!(queue.next().await.is_none());
}
