//! The registry's disk: jobs wait in order, are carried out in batches, and
//! what was not written when the process dies is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waymesh_core::registry::{ConnId, Disk as Written, ItemSeq, Stored, StoredItem, Ticket, Write};
use waymesh_proto::control::MeshKey;
use waymesh_proto::mailbox::Item;

use super::model::MailKey;

/// How long a batch takes on a good day.
pub(super) const COMMIT_TAKES: Duration = Duration::from_millis(2);

/// One thing that the rules want of the disk.
#[derive(Debug)]
pub(super) enum Job {
    Write(Vec<Write>, Option<Ticket>),
    Load(ConnId, ItemSeq),
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Done {
    /// The writes of a ticket are durable, or cannot be.
    Written(Ticket, bool),
    Loaded(ConnId, ItemSeq, Option<Arc<Item>>),
    /// An item is durable.
    Durable(StoredItem),
}

/// What is written, and what is to be.
#[derive(Debug)]
pub(super) struct Disk {
    written: Written,
    /// What each position was given to; those that were not written are given out anew.
    names: BTreeMap<ItemSeq, MailKey>,
    queue: Vec<Job>,
    batch: Option<Vec<Job>>,
    /// How long a batch takes.
    pub(super) takes: Duration,
    /// Nothing can be written.
    pub(super) is_full: bool,
}

impl Disk {
    pub(super) fn new(mesh: MeshKey) -> Self {
        let mut written = Written::default();
        written.write(Write::Mesh(mesh));
        Self {
            written,
            names: BTreeMap::new(),
            queue: Vec::new(),
            batch: None,
            takes: COMMIT_TAKES,
            is_full: false,
        }
    }

    /// Notes which item has a position.
    pub(super) fn name(&mut self, seq: ItemSeq, key: MailKey) {
        self.names.insert(seq, key);
    }

    /// Which item has a position.
    pub(super) fn named(&self, seq: ItemSeq) -> Option<MailKey> {
        self.names.get(&seq).copied()
    }

    /// Adds a job; says whether a batch is to be begun.
    pub(super) fn add(&mut self, job: Job) -> bool {
        self.queue.push(job);
        self.batch.is_none()
    }

    /// Begins a batch of all that waits; says whether there is any.
    pub(super) fn begin(&mut self) -> bool {
        if self.batch.is_none() && !self.queue.is_empty() {
            self.batch = Some(std::mem::take(&mut self.queue));
            return true;
        }
        false
    }

    /// The batch that was begun is over.
    pub(super) fn finish(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        let mut again = Vec::new();
        for job in self.batch.take().unwrap_or_default() {
            match job {
                Job::Load(conn, seq) => {
                    let item = self.written.item(seq);
                    done.push(Done::Loaded(conn, seq, item));
                }
                Job::Write(_, Some(ticket)) if self.is_full => {
                    done.push(Done::Written(ticket, false));
                }
                // Nobody waits for it, so it is tried again.
                Job::Write(writes, None) if self.is_full => again.push(Job::Write(writes, None)),
                Job::Write(writes, ticket) => {
                    for write in writes {
                        if let Write::Item { stored, .. } = &write {
                            done.push(Done::Durable(stored.clone()));
                        }
                        self.written.write(write);
                    }
                    done.extend(ticket.map(|ticket| Done::Written(ticket, true)));
                }
            }
        }
        again.append(&mut self.queue);
        self.queue = again;
        done
    }

    /// The process dies; a batch that is under way may have reached the disk
    /// although nobody has heard of it.
    pub(super) fn crash(&mut self, batch_is_whole: bool) -> Vec<Done> {
        let done = if batch_is_whole {
            self.finish()
        } else {
            Vec::new()
        };
        self.batch = None;
        self.queue.clear();
        done
    }

    /// What a new process finds.
    pub(super) fn load(&self, now: Instant) -> Stored {
        let mut stored = self.written.stored();
        for item in &mut stored.items {
            item.dwelt += now.saturating_duration_since(item.since);
            item.since = now;
        }
        stored
    }

    /// The items that are written.
    pub(super) fn items(&self) -> Vec<StoredItem> {
        self.written.stored().items
    }

    /// Whether something waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.batch.is_none() && self.queue.is_empty()
    }
}
