//! A host's file of marks: what its applications have acknowledged of streams,
//! kept over its node's lives. Writing takes a while, and what is not written
//! when the node is killed is lost.

use waymesh_core::app::Mark;

/// The marks of one host.
#[derive(Debug, Default)]
pub(super) struct Marks {
    written: Vec<Mark>,
    pending: Vec<(u64, Mark)>,
    last: u64,
    /// How far a write that is under way will get.
    writing: Option<u64>,
    done: u64,
}

impl Marks {
    /// Takes a mark in; it is written once [`Marks::is_written`] says so of the ticket.
    pub(super) fn add(&mut self, mark: Mark) -> u64 {
        self.last += 1;
        self.pending.push((self.last, mark));
        self.last
    }

    /// Begins to write what is pending, unless that is under way or there is nothing.
    pub(super) fn begin(&mut self) -> Option<u64> {
        if self.writing.is_some() || self.pending.is_empty() {
            return None;
        }
        self.writing = Some(self.last);
        self.writing
    }

    /// The write that was begun is done.
    pub(super) fn finish(&mut self) {
        let Some(done) = self.writing.take() else {
            return;
        };
        self.done = done;
        let written = self.pending.extract_if(.., |(ticket, _)| *ticket <= done);
        self.written.extend(written.map(|(_, mark)| mark));
    }

    pub(super) const fn is_written(&self, ticket: u64) -> bool {
        ticket <= self.done
    }

    /// The node stops and writes everything first.
    pub(super) fn close(&mut self) {
        self.writing = Some(self.last);
        self.finish();
    }

    /// The node is killed: what was not written is lost.
    pub(super) fn kill(&mut self) {
        self.pending.clear();
        self.writing = None;
        self.done = self.last;
    }

    /// All marks that are written, one a stream.
    pub(super) fn known(&self) -> Vec<Mark> {
        let mut known: Vec<Mark> = Vec::new();
        for mark in &self.written {
            let same = |old: &&mut Mark| {
                (old.from, old.incarnation, old.stream)
                    == (mark.from, mark.incarnation, mark.stream)
            };
            match known.iter_mut().find(same) {
                Some(old) => old.consumed.merge(&mark.consumed),
                None => known.push(mark.clone()),
            }
        }
        known
    }
}
