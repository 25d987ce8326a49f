//! The one thread that uses the disk, so that nobody else waits for it.
//!
//! What the driver wants written waits in a [`Backlog`] until the thread takes
//! all of it at once: many logins and items at the same moment cost one
//! `fsync`. Between two such batches the thread reads the items that are to be
//! pushed again.
//!
//! A batch that fails is refused to whoever waits for a part of it. Its other
//! writes, nearly all of which make room, are tried again.

mod backlog;
mod leftover;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use waymesh_core::registry::{ConnId, ItemSeq, Ticket, Write};
use waymesh_proto::mailbox::Item;
use waymesh_proto::{Code, Fault};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::storage::{Storage, StorageError};
use backlog::{Backlog, Batch};
use leftover::Leftover;

/// Reports that the driver has not taken yet; when it is full, the writer
/// waits and the next batch grows, up to what the rules let wait
/// ([`waymesh_core::registry::UNWRITTEN_MAX_BYTES`]).
pub(crate) const WRITER_TO_DRIVER_CAP: usize = 16;

/// Items that are read before it is looked again for what is to be written. Chosen.
const LOADS_AT_ONCE: usize = 64;

/// The same in bytes. Chosen: all reports that may wait hold few such parts.
const LOADED_AT_ONCE_BYTES: usize = 4 * 1024 * 1024;

/// Between two tries of what could not be written. Chosen.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the thread tells the driver.
#[derive(Debug)]
pub(crate) enum Report {
    /// What became of one batch.
    Written {
        /// Who waited for it.
        tickets: Vec<Ticket>,
        /// Whether it is durable.
        outcome: Result<(), Fault>,
    },
    /// Items that were asked for, in that order.
    Loaded(Vec<Loaded>),
}

/// An item that was asked for; `None` when it cannot be had.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) conn: ConnId,
    pub(crate) seq: ItemSeq,
    pub(crate) item: Option<Arc<Item>>,
}

#[derive(Debug, Default)]
struct Waiting {
    backlog: Backlog,
    ended: bool,
}

/// The driver's end: what waits for the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
}

impl Writer {
    /// Has all of these written, or none.
    pub(crate) fn store(&self, writes: Vec<Write>, ticket: Option<Ticket>) {
        self.lock().backlog.store(writes, ticket);
        self.shared.1.notify_one();
    }

    /// Has an item read once everything before it is written.
    pub(crate) fn load(&self, conn: ConnId, seq: ItemSeq) {
        self.lock().backlog.load(conn, seq);
        self.shared.1.notify_one();
    }

    /// Lets [`Writer::run`] write what waits and return.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.shared.1.notify_one();
    }

    /// Writes until [`Writer::end`]; blocks its thread.
    pub(crate) fn run(&self, storage: Storage, reports: &mpsc::Sender<Report>, metrics: &Metrics) {
        let mut desk = Desk {
            storage,
            leftover: Leftover::default(),
            is_failing: false,
            metrics,
        };
        while let Some(batch) = self.next_batch(!desk.leftover.is_empty()) {
            for report in desk.carry_out(batch) {
                // The driver is gone only when nobody waits any more.
                let _ = reports.blocking_send(report);
            }
        }
        desk.end();
    }

    /// Waits for something to do; `None` at the end. Does not wait for ever
    /// when something is to be tried again.
    fn next_batch(&self, retries: bool) -> Option<Batch> {
        let mut waiting = self.lock();
        while waiting.backlog.is_empty() {
            if waiting.ended {
                return None;
            }
            if retries {
                let paused = self.shared.1.wait_timeout(waiting, RETRY_PAUSE);
                let (mut waiting, _) = paused.unwrap_or_else(PoisonError::into_inner);
                return Some(waiting.backlog.take(LOADS_AT_ONCE));
            }
            waiting = self
                .shared
                .1
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Some(waiting.backlog.take(LOADS_AT_ONCE))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread itself owns.
#[derive(Debug)]
struct Desk<'a> {
    storage: Storage,
    leftover: Leftover,
    is_failing: bool,
    metrics: &'a Metrics,
}

impl Desk<'_> {
    fn carry_out(&mut self, batch: Batch) -> Vec<Report> {
        self.retry();
        let mut reports = Vec::new();
        if !batch.writes.is_empty() {
            let written = self.storage.write(&batch.writes, Clock::now());
            let outcome = self.judge(written);
            if outcome.is_ok() {
                self.leftover.outdate(&batch.writes);
            } else {
                self.leftover.keep(batch.unawaited());
            }
            if !batch.tickets.is_empty() {
                let tickets = batch.tickets;
                reports.push(Report::Written { tickets, outcome });
            }
        }
        let mut loads = batch.loads.into_iter().peekable();
        while loads.peek().is_some() {
            reports.push(Report::Loaded(self.load(&mut loads)));
        }
        reports
    }

    /// Tries again what nobody waits for.
    fn retry(&mut self) {
        if self.leftover.is_empty() {
            return;
        }
        let written = self.storage.write(self.leftover.writes(), Clock::now());
        if self.judge(written).is_ok() {
            self.leftover = Leftover::default();
        }
    }

    /// Counts and tells failures; only the first of a row is for a person.
    fn judge(&mut self, written: Result<(), StorageError>) -> Result<(), Fault> {
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        match written {
            Ok(()) if was_failing => tracing::info!("the registry can write to its disk again"),
            Ok(()) => {}
            Err(error) => {
                self.metrics.storage_failures.add();
                if was_failing {
                    tracing::debug!(%error, "a batch could not be stored");
                } else {
                    tracing::error!(%error, "a batch could not be stored");
                }
                return Err(Fault::new(Code::Storage, "the registry could not store it")
                    .with_hint("look at the registry's log and its disk"));
            }
        }
        Ok(())
    }

    fn load(&self, loads: &mut impl Iterator<Item = (ConnId, ItemSeq)>) -> Vec<Loaded> {
        let mut loaded = Vec::new();
        let mut bytes = 0;
        while bytes < LOADED_AT_ONCE_BYTES
            && let Some((conn, seq)) = loads.next()
        {
            let item = self.storage.item(seq).unwrap_or_else(|error| {
                self.metrics.storage_failures.add();
                tracing::error!(%error, seq = seq.0, "an item could not be read");
                None
            });
            bytes += item.as_ref().map_or(0, |item| item.sealed.len());
            let item = item.map(Arc::new);
            loaded.push(Loaded { conn, seq, item });
        }
        loaded
    }

    /// Writes what is left, and that the run has ended in order.
    fn end(mut self) {
        self.retry();
        if self.leftover.is_empty()
            && let Err(error) = self.storage.end_run()
        {
            tracing::warn!(%error, "the end of the run could not be stored");
        }
    }
}
