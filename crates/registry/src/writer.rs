//! The one thread that writes to the disk, so that nobody else waits for it.
//!
//! What the driver wants stored is kept by name until the thread takes all of
//! it at once: many logins at the same moment cost one `fsync`, and the wait
//! is bounded by the number of names.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use waymesh_core::registry::{StoreTicket, StoredAgent};
use waymesh_proto::{Code, Fault, Name};

use crate::metrics::Metrics;
use crate::storage::Storage;

/// Batches whose outcome the driver has not taken yet; when it is full, the
/// writer waits and the next batch grows.
pub(crate) const WRITER_TO_DRIVER_CAP: usize = 16;

/// What became of one batch.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Who waited for it.
    pub(crate) tickets: Vec<StoreTicket>,
    /// Whether it is durable.
    pub(crate) outcome: Result<(), Fault>,
}

#[derive(Debug)]
struct Entry {
    agent: StoredAgent,
    tickets: Vec<StoreTicket>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: BTreeMap<Name, Entry>,
    ended: bool,
}

/// The driver's end: what waits to be written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
}

impl Writer {
    /// Has an agent stored, in place of what waits under its name.
    pub(crate) fn store(&self, agent: StoredAgent, ticket: Option<StoreTicket>) {
        let mut waiting = self.lock();
        match waiting.entries.get_mut(&agent.name) {
            Some(entry) => {
                entry.agent = agent;
                entry.tickets.extend(ticket);
            }
            None => {
                let tickets = Vec::from_iter(ticket);
                let name = agent.name.clone();
                waiting.entries.insert(name, Entry { agent, tickets });
            }
        }
        self.shared.1.notify_one();
    }

    /// Lets [`Writer::run`] write what waits and return.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.shared.1.notify_one();
    }

    /// Writes until [`Writer::end`]; blocks its thread.
    pub(crate) fn run(
        &self,
        mut storage: Storage,
        stored: &mpsc::Sender<Stored>,
        metrics: &Metrics,
    ) {
        while let Some(entries) = self.next_batch() {
            let (agents, tickets): (Vec<_>, Vec<_>) = entries
                .into_values()
                .map(|entry| (entry.agent, entry.tickets))
                .unzip();
            let outcome = storage.store(&agents).map_err(|error| {
                metrics.storage_failures.add();
                tracing::error!(%error, "agents could not be stored");
                Fault::new(Code::Storage, "the registry could not store the agent")
                    .with_hint("look at the registry's log and its disk")
            });
            let tickets: Vec<_> = tickets.into_iter().flatten().collect();
            if !tickets.is_empty() {
                // The driver is gone only when nobody waits any more.
                let _ = stored.blocking_send(Stored { tickets, outcome });
            }
        }
    }

    /// Waits for something to write; `None` at the end.
    fn next_batch(&self) -> Option<BTreeMap<Name, Entry>> {
        let mut waiting = self.lock();
        while waiting.entries.is_empty() {
            if waiting.ended {
                return None;
            }
            waiting = self
                .shared
                .1
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut waiting.entries))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
