//! What applications have consumed, kept over restarts.
//!
//! The registry pushes an item again until it is told `taken`; it is told so
//! only when the item's mark is in its file, so that a node that dies in
//! between neither loses a message nor gives one twice to an application that
//! has acknowledged it. A task of its own writes, so that nobody waits for the
//! disk: marks that come close together are written together, and a number
//! says how far it has got.
//!
//! ```text
//!  session ──add──▶ pending ──▶ writer ──▶ marks/AGENT_ID.json
//!          ◀──────── written up to ticket ──┘
//! ```
//!
//! A mark is on disk when its number is told, so not even a crash of the machine
//! makes an ordered stream wait for what was consumed and deleted.

mod shelf;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use waymesh_core::app::Mark;
use waymesh_proto::class::Stream;
use waymesh_proto::ids::{AgentId, Incarnation};
use waymesh_proto::seqset::SeqSet;

use crate::client::unix_ms;
use crate::home::{Home, HomeError, RETRY_PAUSE};
use shelf::Shelf;

/// How long a mark waits for others to be written with. Chosen: as long as an
/// acknowledgement waits.
const MARK_DELAY: Duration = Duration::from_millis(5);

/// The position of a mark in the order of writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Marks that are not written yet: one a stream, so bounded by what core marks.
#[derive(Debug, Default)]
pub(super) struct Pending {
    marks: BTreeMap<(AgentId, Incarnation, Stream), SeqSet>,
    last: Ticket,
    closing: bool,
}

#[derive(Debug, Default)]
struct Desk {
    pending: Mutex<Pending>,
    changed: Notify,
}

impl Desk {
    fn with<R>(&self, work: impl FnOnce(&mut Pending) -> R) -> R {
        work(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The marks and the task that writes them.
#[derive(Debug)]
pub(crate) struct MarkBook {
    desk: Arc<Desk>,
    written: watch::Receiver<Ticket>,
    known: Vec<Mark>,
    writer: Option<JoinHandle<()>>,
}

impl MarkBook {
    /// Reads the marks of earlier lives and starts the task.
    ///
    /// # Errors
    ///
    /// [`HomeError`]; a damaged file of one sender is only said in the log.
    pub(crate) fn open(home: &Home) -> Result<Self, HomeError> {
        let shelf = Shelf::open(home.dir(), unix_ms())?;
        let known = shelf.marks();
        let desk = Arc::<Desk>::default();
        let (progress, written) = watch::channel(Ticket::default());
        #[expect(
            clippy::disallowed_methods,
            reason = "MarkBook keeps the handle and awaits it in close"
        )]
        let writer = tokio::spawn(write(Arc::clone(&desk), shelf, progress));
        Ok(Self {
            desk,
            written,
            known,
            writer: Some(writer),
        })
    }

    /// The marks of earlier lives.
    pub(crate) fn known(&self) -> &[Mark] {
        &self.known
    }

    /// Takes a mark in; it is written once [`MarkBook::written`] has come to the ticket.
    pub(crate) fn add(&self, mark: Mark) -> Ticket {
        let key = (mark.from, mark.incarnation, mark.stream);
        let ticket = self.desk.with(|pending| {
            pending.marks.entry(key).or_default().merge(&mark.consumed);
            pending.last.0 += 1;
            pending.last
        });
        self.desk.changed.notify_one();
        ticket
    }

    /// How far the task has got.
    pub(crate) fn written(&self) -> watch::Receiver<Ticket> {
        self.written.clone()
    }

    /// Waits until everything is written that can be.
    pub(crate) async fn close(mut self) {
        self.end();
        if let Some(writer) = self.writer.take() {
            let _ = writer.await;
        }
    }

    fn end(&self) {
        self.desk.with(|pending| pending.closing = true);
        self.desk.changed.notify_one();
    }
}

impl Drop for MarkBook {
    /// The task writes what it has and ends.
    fn drop(&mut self) {
        self.end();
    }
}

async fn write(desk: Arc<Desk>, mut shelf: Shelf, progress: watch::Sender<Ticket>) {
    loop {
        if !desk.with(|pending| pending.closing) {
            desk.changed.notified().await;
            tokio::time::sleep(MARK_DELAY).await;
        }
        let (marks, ticket, closing) = desk.with(|pending| {
            let marks = std::mem::take(&mut pending.marks);
            (marks, pending.last, pending.closing)
        });
        let written = tokio::task::spawn_blocking(move || {
            let outcome = shelf.put(marks, unix_ms());
            (shelf, outcome)
        });
        let outcome;
        (shelf, outcome) = match written.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "marks are no longer written");
                return;
            }
        };
        match outcome {
            Ok(()) => {
                progress.send_replace(ticket);
            }
            Err(error) => {
                tracing::error!(%error, "marks cannot be written; the registry keeps their items");
                if !closing {
                    desk.changed.notify_one();
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        if closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
