//! What waits to be sent on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{mpsc, oneshot};
use waymesh_proto::control::AGENTS_PART_BYTES;

/// Messages that may wait on one connection; one more and it is cut off as too slow.
pub(crate) const DRIVER_TO_CONNECTION_CAP: usize = 1_024;

/// Bytes that may wait on one connection; more and it is cut off as too slow.
/// Chosen: changes of thirty of the largest records; answers come part by part.
pub(crate) const DRIVER_TO_CONNECTION_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that wait below which there is room for the next part of an answer.
/// Chosen: four parts, which keep a fast reader busy.
pub(crate) const ROOM_BELOW_BYTES: usize = 4 * AGENTS_PART_BYTES;

/// One thing to send.
#[derive(Debug)]
pub(crate) enum Out {
    /// A control message.
    Text(Utf8Bytes),
    /// A WebSocket ping.
    Ping,
}

/// What both ends know of the queue.
#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    /// The driver wants to hear when there is room.
    room_awaited: AtomicBool,
}

impl Level {
    /// Whether the driver waits for room and there is; only one of the two
    /// ends gets a yes, and one of them does: each has changed its own part of
    /// the level before it asks.
    fn ends_wait(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) < ROOM_BELOW_BYTES
            && self.room_awaited.swap(false, Ordering::SeqCst)
    }
}

/// The connection does not read what it is sent.
#[derive(Debug)]
pub(crate) struct TooSlow;

/// The driver's end. Dropping it closes the connection once all is sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Out>,
    level: Arc<Level>,
    cut: oneshot::Sender<()>,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct Queue {
    queue: mpsc::Receiver<Out>,
    level: Arc<Level>,
}

/// Tells the connection that it is cut off.
pub(crate) type Cut = oneshot::Receiver<()>;

pub(crate) fn outbox() -> (Outbox, Queue, Cut) {
    let (sender, receiver) = mpsc::channel(DRIVER_TO_CONNECTION_CAP);
    let (cut, cut_off) = oneshot::channel();
    let level = Arc::<Level>::default();
    let outbox = Outbox {
        queue: sender,
        level: Arc::clone(&level),
        cut,
    };
    let queue = Queue {
        queue: receiver,
        level,
    };
    (outbox, queue, cut_off)
}

impl Outbox {
    /// Queues a message, or says that the connection is too slow.
    pub(crate) fn send(&self, text: Utf8Bytes) -> Result<(), TooSlow> {
        let len = text.len();
        let waiting = self.level.bytes.fetch_add(len, Ordering::SeqCst);
        if waiting + len > DRIVER_TO_CONNECTION_MAX_BYTES {
            return Err(TooSlow);
        }
        self.push(Out::Text(text))
    }

    /// Queues a ping, or says that the connection is too slow.
    pub(crate) fn ping(&self) -> Result<(), TooSlow> {
        self.push(Out::Ping)
    }

    /// Whether there is room for a part of an answer; if not, [`Queue::has_awaited_room`] tells when.
    pub(crate) fn await_room(&self) -> bool {
        self.level.room_awaited.store(true, Ordering::SeqCst);
        self.level.ends_wait()
    }

    /// Whether more than half of the messages or bytes wait that may.
    pub(crate) fn is_over_half_full(&self) -> bool {
        self.queue.capacity() < DRIVER_TO_CONNECTION_CAP / 2
            || self.level.bytes.load(Ordering::SeqCst) > DRIVER_TO_CONNECTION_MAX_BYTES / 2
    }

    fn push(&self, out: Out) -> Result<(), TooSlow> {
        match self.queue.try_send(out) {
            // A connection that has just ended says so by itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(TooSlow),
        }
    }

    /// Ends the connection without sending what waits.
    pub(crate) fn cut_off(self) {
        // A connection that has ended needs no cutting.
        let _ = self.cut.send(());
    }
}

impl Queue {
    /// The next thing to send; `None` when the driver has dropped its end.
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Out> {
        let out = self.queue.recv().await?;
        if let Out::Text(text) = &out {
            self.level.bytes.fetch_sub(text.len(), Ordering::SeqCst);
        }
        Some(out)
    }

    /// Whether the driver is to be told that there is room; to be asked after [`Queue::next`].
    pub(crate) fn has_awaited_room(&self) -> bool {
        self.level.ends_wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
