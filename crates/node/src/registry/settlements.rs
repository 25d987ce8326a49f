//! What became of pushed items, on its way to the registry.
//!
//! An item whose mark must be written first waits for it; the others go at
//! once. Both go in batches.

use std::collections::VecDeque;

use tokio::sync::watch;
use waymesh_core::app::Mark;
use waymesh_proto::control::{Outcome, SETTLED_MAX, Settle};
use waymesh_proto::ids::{AgentId, ItemId};
use waymesh_proto::limits::MAILBOX_MAX_ITEMS;

use crate::marks::{MarkBook, Ticket};

/// Items that may wait for their mark to be written, and as many to be told;
/// one more is not settled on this connection, and comes again on the next.
/// Chosen: a whole mailbox.
const WAITING_MAX: usize = MAILBOX_MAX_ITEMS;

/// Items that were not settled, because too many waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// The settlements of one connection.
#[derive(Debug)]
pub(super) struct Settlements<'a> {
    marks: &'a MarkBook,
    written: watch::Receiver<Ticket>,
    waiting: VecDeque<(Ticket, Settle)>,
    ready: VecDeque<Settle>,
}

impl<'a> Settlements<'a> {
    pub(super) fn new(marks: &'a MarkBook) -> Self {
        Self {
            marks,
            written: marks.written(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    /// Takes a settlement in.
    ///
    /// # Errors
    /// The mark, if there is one, is being written, but the registry will not
    /// be told of it: it pushes more than it may and does not read.
    pub(super) fn add(
        &mut self,
        (item, from): (ItemId, AgentId),
        outcome: Outcome,
        mark: Option<Mark>,
    ) -> Result<(), TooMany> {
        let settle = Settle {
            item,
            from,
            outcome,
        };
        let Some(mark) = mark else {
            if self.ready.len() >= WAITING_MAX {
                return Err(TooMany);
            }
            self.ready.push_back(settle);
            return Ok(());
        };
        let ticket = self.marks.add(mark);
        if self.waiting.len() >= WAITING_MAX {
            return Err(TooMany);
        }
        self.waiting.push_back((ticket, settle));
        Ok(())
    }

    /// Waits until [`Settlements::take`] has something to give. Cancel safe.
    pub(super) async fn wait(&mut self) {
        if !self.ready.is_empty() {
            return;
        }
        let Some((first, _)) = self.waiting.front() else {
            return std::future::pending().await;
        };
        if self
            .written
            .wait_for(|written| written >= first)
            .await
            .is_err()
        {
            // Marks are no longer written, so nothing that waits becomes true.
            std::future::pending().await
        }
    }

    /// The next batch; empty when there is nothing to tell.
    pub(super) fn take(&mut self) -> Vec<Settle> {
        let written = *self.written.borrow_and_update();
        while let Some((_, settle)) = self.waiting.pop_front_if(|(ticket, _)| *ticket <= written) {
            self.ready.push_back(settle);
        }
        let count = self.ready.len().min(SETTLED_MAX);
        self.ready.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use std::time::Duration;
    use waymesh_proto::class::Stream;
    use waymesh_proto::ids::Incarnation;
    use waymesh_proto::seqset::SeqSet;

    /// A test that waits longer than this has failed.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn item(n: usize) -> (ItemId, AgentId) {
        let id = ItemId::from_bytes((n as u128).to_be_bytes());
        (id, AgentId::from_bytes([1; 32]))
    }

    fn mark() -> Option<Mark> {
        Some(Mark {
            from: AgentId::from_bytes([1; 32]),
            incarnation: Incarnation::new(1),
            stream: Stream::Control,
            consumed: SeqSet::default(),
        })
    }

    fn book() -> (tempfile::TempDir, MarkBook) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("a home");
        let book = MarkBook::open(&home).expect("marks");
        (dir, book)
    }

    #[tokio::test]
    async fn what_is_taken_is_told_after_its_mark_is_written_and_holds_up_nothing_else() {
        let (_dir, book) = book();
        let mut settlements = Settlements::new(&book);
        assert_eq!(settlements.add(item(1), Outcome::Taken, mark()), Ok(()));
        assert_eq!(settlements.add(item(2), Outcome::Kept, None), Ok(()));
        let told: Vec<_> = settlements
            .take()
            .iter()
            .map(|settle| settle.item)
            .collect();
        assert_eq!(told, [item(2).0]);
        let wait = tokio::time::timeout(PATIENCE, settlements.wait());
        wait.await.expect("the mark is written in time");
        let told: Vec<_> = settlements
            .take()
            .iter()
            .map(|settle| settle.item)
            .collect();
        assert_eq!(told, [item(1).0]);
        assert_eq!(settlements.take(), []);
        book.close().await;
    }

    #[tokio::test]
    async fn a_batch_is_as_large_as_the_limit_and_not_larger() {
        let (_dir, book) = book();
        let mut settlements = Settlements::new(&book);
        for n in 0..=SETTLED_MAX {
            assert_eq!(settlements.add(item(n), Outcome::Kept, None), Ok(()));
        }
        assert_eq!(settlements.take().len(), SETTLED_MAX);
        assert_eq!(settlements.take().len(), 1);
        book.close().await;
    }

    #[tokio::test]
    async fn as_many_as_the_limit_wait_for_their_marks_and_one_more_comes_again_later() {
        let (dir, book) = book();
        // Nothing can be written, so everything waits.
        std::fs::remove_dir(dir.path().join("marks")).expect("an empty folder");
        let mut settlements = Settlements::new(&book);
        for n in 0..WAITING_MAX {
            assert_eq!(settlements.add(item(n), Outcome::Taken, mark()), Ok(()));
        }
        let refused = settlements.add(item(WAITING_MAX), Outcome::Taken, mark());
        assert_eq!(refused, Err(TooMany));
        book.close().await;
    }

    #[tokio::test]
    async fn as_many_as_the_limit_wait_to_be_told_to_a_registry_that_does_not_read() {
        let (_dir, book) = book();
        let mut settlements = Settlements::new(&book);
        for n in 0..WAITING_MAX {
            assert_eq!(settlements.add(item(n), Outcome::Unreadable, None), Ok(()));
        }
        let refused = settlements.add(item(WAITING_MAX), Outcome::Unreadable, None);
        assert_eq!(refused, Err(TooMany));
        book.close().await;
    }
}
