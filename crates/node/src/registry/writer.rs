//! The half of a session that sends: control messages first, and at most one
//! part of an item before the next of them.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use waymesh_net::control::{ControlSender, Message};
use waymesh_proto::mailbox::PART_BYTES;

use super::dialog::SEND_TIMEOUT;
use super::trouble::Trouble;

/// Control messages that wait to be sent; the session takes no more commands
/// while they are so many. Chosen.
const TEXTS_CAP: usize = 64;

/// Sealed items that wait to be sent; no more are sealed while they are so
/// many. Chosen: core has a few MiB on their way at most.
const ITEMS_CAP: usize = 16;

/// Control messages that go out together. Chosen.
const TEXTS_A_BATCH: usize = 32;

/// The session's ends of what waits to be sent.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) texts: mpsc::Sender<String>,
    pub(super) items: mpsc::Sender<Parts>,
}

/// The binary messages of one item, in order.
pub(super) type Parts = VecDeque<Vec<u8>>;

/// Takes what waits and sends it.
#[derive(Debug)]
pub(super) struct Writer {
    texts: mpsc::Receiver<String>,
    items: mpsc::Receiver<Parts>,
    /// What is left of items that have been begun or come next.
    parts: Parts,
}

impl Lanes {
    /// Whether items wait for the writer, which has not got rid of others.
    pub(super) fn holds_items(&self) -> bool {
        self.items.capacity() < self.items.max_capacity()
    }
}

pub(super) fn lanes() -> (Lanes, Writer) {
    let (texts, texts_out) = mpsc::channel(TEXTS_CAP);
    let (items, items_out) = mpsc::channel(ITEMS_CAP);
    let writer = Writer {
        texts: texts_out,
        items: items_out,
        parts: Parts::new(),
    };
    (Lanes { texts, items }, writer)
}

impl Writer {
    /// Sends until the connection breaks.
    pub(super) async fn run(mut self, sender: &mut ControlSender) -> Trouble {
        loop {
            let batch = self.batch().await;
            if let Err(error) = sender.send_all(batch, SEND_TIMEOUT).await {
                return error.into();
            }
        }
    }

    /// What goes out next, together.
    async fn batch(&mut self) -> Vec<Message> {
        let mut batch = Vec::new();
        if self.parts.is_empty() {
            tokio::select! {
                biased;
                Some(text) = self.texts.recv() => batch.push(Message::Text(text)),
                Some(parts) = self.items.recv() => self.parts = parts,
                else => std::future::pending().await,
            }
        }
        while batch.len() < TEXTS_A_BATCH
            && let Ok(text) = self.texts.try_recv()
        {
            batch.push(Message::Text(text));
        }
        let mut bytes = 0;
        while let Some(part) = self.next_part(PART_BYTES.saturating_sub(bytes)) {
            bytes += part.len();
            batch.push(Message::Binary(part));
            if bytes >= PART_BYTES {
                break;
            }
        }
        batch
    }

    /// The next part, if it fits or nothing is in the batch yet.
    fn next_part(&mut self, room: usize) -> Option<Vec<u8>> {
        if self.parts.is_empty() {
            self.parts = self.items.try_recv().unwrap_or_default();
        }
        let len = self.parts.front()?.len();
        if len > room && room < PART_BYTES {
            return None;
        }
        self.parts.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> String {
        n.to_string()
    }

    fn item(parts: usize, bytes: usize) -> Parts {
        (0..parts).map(|_| vec![0; bytes]).collect()
    }

    fn sizes(batch: &[Message]) -> Vec<Option<usize>> {
        let size = |message: &Message| match message {
            Message::Text(_) => None,
            Message::Binary(bytes) => Some(bytes.len()),
        };
        batch.iter().map(size).collect()
    }

    #[tokio::test]
    async fn a_control_message_waits_for_one_part_of_an_item_at_most() {
        let (lanes, mut writer) = lanes();
        lanes.items.try_send(item(3, PART_BYTES)).expect("room");
        assert!(lanes.holds_items());
        assert_eq!(sizes(&writer.batch().await), [Some(PART_BYTES)]);
        assert!(!lanes.holds_items());
        lanes.texts.try_send(text(1)).expect("room");
        assert_eq!(sizes(&writer.batch().await), [None, Some(PART_BYTES)]);
        assert_eq!(sizes(&writer.batch().await), [Some(PART_BYTES)]);
    }

    #[tokio::test]
    async fn small_items_go_out_together_as_far_as_they_fit_into_one_part() {
        let (lanes, mut writer) = lanes();
        for _ in 0..3 {
            lanes.items.try_send(item(1, PART_BYTES / 2)).expect("room");
        }
        assert_eq!(writer.batch().await.len(), 2);
        assert_eq!(writer.batch().await.len(), 1);
    }

    #[tokio::test]
    async fn as_many_control_messages_as_the_limit_wait_and_one_more_finds_no_room() {
        let (lanes, mut writer) = lanes();
        for n in 0..TEXTS_CAP {
            lanes.texts.try_send(text(n)).expect("room");
        }
        assert!(lanes.texts.try_send(text(TEXTS_CAP)).is_err());
        assert_eq!(writer.batch().await.len(), TEXTS_A_BATCH);
        assert!(lanes.texts.try_send(text(TEXTS_CAP)).is_ok());
    }
}
