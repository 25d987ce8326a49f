//! What waits to be sent on one connection: control messages, and behind them
//! the parts of items.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use tokio::sync::{mpsc, oneshot};
use waymesh_core::registry::PUSH_WINDOW_ITEMS;
use waymesh_proto::control::AGENTS_PART_BYTES;
use waymesh_proto::mailbox::{Item, Note, encode_push};

use crate::carrier::Outgoing;

/// Control messages that may wait on one connection; one more and it is cut off as too slow.
pub(crate) const DRIVER_TO_CONNECTION_CAP: usize = 1_024;

/// Bytes of control messages that may wait on one connection; more and it is
/// cut off as too slow. Chosen: changes of thirty of the largest records;
/// answers come part by part.
pub(crate) const DRIVER_TO_CONNECTION_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that wait below which there is room for the next part of an answer.
/// Chosen: four parts, which keep a fast reader busy.
pub(crate) const ROOM_BELOW_BYTES: usize = 4 * AGENTS_PART_BYTES;

/// Items that are not stored and may wait on one connection; one more is
/// refused with `queue_full`. Chosen: a moment of a telemetry stream.
pub(crate) const FORWARDED_CAP: usize = 64;

/// Bytes of items that are not stored and may wait on one connection. Chosen:
/// less than one item of the largest size; the first always fits.
pub(crate) const FORWARDED_MAX_BYTES: usize = 1024 * 1024;

/// Items that may wait on one connection. The rules leave at most a window
/// unanswered; whoever answers what it has not read is cut off.
pub(crate) const ITEMS_CAP: usize = PUSH_WINDOW_ITEMS + FORWARDED_CAP;

/// An item on its way to the connection.
#[derive(Debug)]
struct Parcel {
    note: Note,
    item: Arc<Item>,
    is_forwarded: bool,
}

#[derive(Debug)]
enum Waiting {
    Text(Utf8Bytes),
    Ping,
}

/// What both ends know of the queues.
#[derive(Debug, Default)]
struct Level {
    /// Of control messages.
    bytes: AtomicUsize,
    forwarded: AtomicUsize,
    forwarded_bytes: AtomicUsize,
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

/// The driver's end. Dropping it closes the connection once all control
/// messages are sent; items that still wait are not lost, only not sent here.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Waiting>,
    items: mpsc::Sender<Parcel>,
    level: Arc<Level>,
    cut: oneshot::Sender<()>,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: mpsc::Receiver<Waiting>,
    items: mpsc::Receiver<Parcel>,
    /// What is left of the item that was begun.
    parts: VecDeque<Bytes>,
    level: Arc<Level>,
}

/// Tells the connection that it is cut off.
pub(crate) type Cut = oneshot::Receiver<()>;

pub(crate) fn outbox() -> (Outbox, Queue, Cut) {
    let (messages, waiting_messages) = mpsc::channel(DRIVER_TO_CONNECTION_CAP);
    let (items, waiting_items) = mpsc::channel(ITEMS_CAP);
    let (cut, cut_off) = oneshot::channel();
    let level = Arc::<Level>::default();
    let outbox = Outbox {
        messages,
        items,
        level: Arc::clone(&level),
        cut,
    };
    let queue = Queue {
        messages: waiting_messages,
        items: waiting_items,
        parts: VecDeque::new(),
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
        push(&self.messages, Waiting::Text(text))
    }

    /// Queues a ping, or says that the connection is too slow.
    pub(crate) fn ping(&self) -> Result<(), TooSlow> {
        push(&self.messages, Waiting::Ping)
    }

    /// Queues an item, or says that the connection has answered what it has not read.
    pub(crate) fn push(&self, note: Note, item: Arc<Item>) -> Result<(), TooSlow> {
        let is_forwarded = false;
        let parcel = Parcel {
            note,
            item,
            is_forwarded,
        };
        push(&self.items, parcel)
    }

    /// Whether an item that is not stored would be queued behind few others.
    pub(crate) fn has_room_to_forward(&self, item: &Item) -> bool {
        let bytes = self.level.forwarded_bytes.load(Ordering::SeqCst);
        self.level.forwarded.load(Ordering::SeqCst) < FORWARDED_CAP
            && (bytes == 0 || bytes + item.sealed.len() <= FORWARDED_MAX_BYTES)
    }

    /// Queues an item that is not stored, or says that the connection is too slow.
    pub(crate) fn forward(&self, note: Note, item: Arc<Item>) -> Result<(), TooSlow> {
        let level = &self.level;
        level.forwarded.fetch_add(1, Ordering::SeqCst);
        level
            .forwarded_bytes
            .fetch_add(item.sealed.len(), Ordering::SeqCst);
        let is_forwarded = true;
        let parcel = Parcel {
            note,
            item,
            is_forwarded,
        };
        push(&self.items, parcel)
    }

    /// Whether there is room for a part of an answer; if not, [`Queue::has_awaited_room`] tells when.
    pub(crate) fn await_room(&self) -> bool {
        self.level.room_awaited.store(true, Ordering::SeqCst);
        self.level.ends_wait()
    }

    /// Whether more than half of the control messages or their bytes wait that may.
    pub(crate) fn is_over_half_full(&self) -> bool {
        self.messages.capacity() < DRIVER_TO_CONNECTION_CAP / 2
            || self.level.bytes.load(Ordering::SeqCst) > DRIVER_TO_CONNECTION_MAX_BYTES / 2
    }

    /// Ends the connection without sending what waits.
    pub(crate) fn cut_off(self) {
        // A connection that has ended needs no cutting.
        let _ = self.cut.send(());
    }
}

fn push<T>(queue: &mpsc::Sender<T>, thing: T) -> Result<(), TooSlow> {
    match queue.try_send(thing) {
        // A connection that has just ended says so by itself.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        Err(mpsc::error::TrySendError::Full(_)) => Err(TooSlow),
    }
}

impl Queue {
    /// The next thing to send: control messages first, so that none waits for
    /// more than one part of an item. `None` when the driver has dropped its
    /// end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        match self.messages.try_recv() {
            Ok(message) => return Some(self.message(message)),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        if let Some(part) = self.parts.pop_front() {
            return Some(Outgoing::Binary(part));
        }
        tokio::select! {
            biased;
            message = self.messages.recv() => message.map(|message| self.message(message)),
            Some(parcel) = self.items.recv() => Some(self.begin(&parcel)),
        }
    }

    fn message(&self, message: Waiting) -> Outgoing {
        match message {
            Waiting::Text(text) => {
                self.level.bytes.fetch_sub(text.len(), Ordering::SeqCst);
                Outgoing::Text(text)
            }
            Waiting::Ping => Outgoing::Ping,
        }
    }

    fn begin(&mut self, parcel: &Parcel) -> Outgoing {
        let Parcel { note, item, .. } = parcel;
        if parcel.is_forwarded {
            self.level.forwarded.fetch_sub(1, Ordering::SeqCst);
            self.level
                .forwarded_bytes
                .fetch_sub(item.sealed.len(), Ordering::SeqCst);
        }
        let mut parts = encode_push(*note, item).map(Bytes::from);
        let first = parts.next().unwrap_or_default();
        self.parts.extend(parts);
        Outgoing::Binary(first)
    }

    /// Whether the driver is to be told that there is room; to be asked after [`Queue::next`].
    pub(crate) fn has_awaited_room(&self) -> bool {
        self.level.ends_wait()
    }
}

#[cfg(test)]
mod tests;
