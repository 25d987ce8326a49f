//! What senders were told and receivers were given, and whether all of it can be true.
//!
//! Programs write down what they do before they do it and what they hear when they hear it.
//! The ledger demands no more than a program can know: what a killed sender had not heard
//! of as stored may arrive or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use waymesh_proto::api::SendState;
use waymesh_proto::{Class, Code};

use super::letter::{Actor, Letter, Life};

/// Violations that are kept; of more only the number. Chosen: what a person reads.
const VIOLATIONS_KEPT: usize = 50;

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Messages that their senders saw as stored.
    pub(crate) stored: u64,
    /// Messages that their senders saw as delivered.
    pub(crate) delivered: u64,
    /// Messages with another last state, by its code.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Messages whose senders were killed before their last state.
    pub(crate) orphaned: u64,
    /// The same, when they had been seen as stored.
    pub(crate) orphaned_stored: u64,
    /// Messages that were given to a program, again or for the first time.
    pub(crate) given: u64,
    /// The same, to a later life, marked as redelivered.
    pub(crate) redelivered: u64,
    /// The same, although their sender had seen them as delivered.
    pub(crate) redelivered_after_delivered: u64,
    /// Messages that receivers were told to be missing.
    pub(crate) gaps: u64,
    /// Stored messages that never came.
    pub(crate) lost: u64,
    /// Messages given twice to one life of a receiver.
    pub(crate) given_twice: u64,
    pub(crate) violations: u64,
}

#[derive(Debug, Default)]
struct Entry {
    stored: bool,
    last: Option<SendState>,
    /// Its sender was killed before the last state.
    orphaned: bool,
    /// The receiver's lives that got it.
    given: BTreeSet<Life>,
    acknowledged: bool,
}

impl Entry {
    /// Whether something is still to happen to it.
    const fn is_open(&self) -> bool {
        match self.last {
            Some(_) => false,
            None if self.orphaned => self.stored && !self.acknowledged,
            None => true,
        }
    }
}

/// Everything that is known; behind a lock.
#[derive(Debug, Default)]
struct Book {
    entries: BTreeMap<Letter, Entry>,
    open: BTreeSet<Letter>,
    /// The last ordered message of a sender's life that a receiver's life was given.
    order: BTreeMap<(Actor, Life, Actor, Life), u64>,
    counts: Counts,
    violations: Vec<String>,
    /// Things that happened to messages.
    events: u64,
    ending: bool,
}

/// The ledger of one run, shared by all programs.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
    changed: Condvar,
}

/// What the ledger says when all is over.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<String>,
}

/// How a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Reached,
    TimeUp,
    Violated,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, happened: impl FnOnce(&mut Book)) {
        let mut book = self.book();
        book.events += 1;
        happened(&mut book);
        self.changed.notify_all();
    }

    /// A sender is about to send it.
    pub(crate) fn sending(&self, letter: Letter) {
        self.note(|book| {
            book.counts.sent += 1;
            book.open.insert(letter);
            book.entries.insert(letter, Entry::default());
        });
    }

    /// Its sender was told a state.
    pub(crate) fn told(&self, letter: Letter, state: SendState, code: Option<Code>) {
        self.note(|book| book.tell(letter, state, code));
    }

    /// A life of its receiver was given it.
    pub(crate) fn given(&self, letter: Letter, life: Life, marked: bool) {
        self.note(|book| book.give(letter, life, marked));
    }

    /// Its receiver is about to acknowledge it.
    pub(crate) fn acknowledging(&self, letter: Letter) {
        self.note(|book| {
            if let Some(entry) = book.entries.get_mut(&letter) {
                entry.acknowledged = true;
            }
            book.close(letter);
        });
    }

    /// A receiver was told of messages that will not come.
    pub(crate) fn gap(&self, missing: u64) {
        self.note(|book| book.counts.gaps += missing);
    }

    /// A life of a sender was ended; nobody will be told more of what it sent.
    pub(crate) fn sender_killed(&self, from: Actor) {
        self.note(|book| book.orphan(from));
    }

    /// Something that must not be.
    pub(crate) fn violated(&self, what: String) {
        self.note(|book| book.violated(what));
    }

    /// From now on senders send nothing new.
    pub(crate) fn stop_sending(&self) {
        self.note(|book| book.ending = true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.book().ending
    }

    /// Waits until so much more has happened.
    pub(crate) fn wait_for_events(&self, more: u64, limit: Duration) -> Waited {
        let goal = self.book().events + more;
        self.wait(limit, |book| book.events >= goal)
    }

    /// Waits until nothing is open; `limit` is how long nothing may happen.
    pub(crate) fn wait_for_rest(&self, limit: Duration) -> Waited {
        loop {
            let seen = self.book().events;
            let waited = self.wait(limit, |book| book.open.is_empty() || book.events > seen);
            if waited != Waited::Reached || self.book().open.is_empty() {
                return waited;
            }
        }
    }

    fn wait(&self, limit: Duration, is_reached: impl Fn(&Book) -> bool) -> Waited {
        let deadline = Instant::now() + limit;
        let mut book = self.book();
        loop {
            if book.counts.violations > 0 {
                return Waited::Violated;
            }
            if is_reached(&book) {
                return Waited::Reached;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimeUp;
            }
            let waited = self.changed.wait_timeout(book, left);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says what came of everything: whatever is open now is a violation.
    pub(crate) fn end(&self) -> Verdict {
        let mut book = self.book();
        for letter in std::mem::take(&mut book.open) {
            book.leave_open(letter);
        }
        Verdict {
            counts: book.counts.clone(),
            violations: std::mem::take(&mut book.violations),
        }
    }
}

impl Book {
    fn violated(&mut self, what: String) {
        self.counts.violations += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(what);
        }
    }

    fn close(&mut self, letter: Letter) {
        if self
            .entries
            .get(&letter)
            .is_some_and(|entry| !entry.is_open())
        {
            self.open.remove(&letter);
        }
    }

    fn tell(&mut self, letter: Letter, state: SendState, code: Option<Code>) {
        let Some(entry) = self.entries.get_mut(&letter) else {
            return self.violated(format!("{}: a state of what nobody sent", letter.text()));
        };
        let said = entry.last;
        match state {
            SendState::Queued => {}
            SendState::Stored => entry.stored = true,
            last => entry.last = Some(last),
        }
        let (acknowledged, given) = (entry.acknowledged, !entry.given.is_empty());
        if let Some(said) = said {
            self.violated(format!("{}: {state:?} after {said:?}", letter.text()));
        }
        match state {
            SendState::Queued => {}
            SendState::Stored => self.counts.stored += 1,
            SendState::Delivered => {
                self.counts.delivered += 1;
                if !acknowledged {
                    self.violated(format!("{}: delivered, not acknowledged", letter.text()));
                }
            }
            SendState::Expired | SendState::Refused | SendState::Unconfirmed => {
                let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
                *self.counts.failed.entry(code).or_default() += 1;
                let is_true = match state {
                    SendState::Expired => !acknowledged,
                    SendState::Refused => !given,
                    _ => true,
                };
                if !is_true {
                    self.violated(format!("{}: {state:?}, but given", letter.text()));
                }
            }
        }
        self.close(letter);
    }

    fn give(&mut self, letter: Letter, life: Life, marked: bool) {
        self.counts.given += 1;
        let Some(entry) = self.entries.get_mut(&letter) else {
            return self.violated(format!("{}: given, never sent", letter.text()));
        };
        let (last, came_before) = (entry.last, !entry.given.is_empty());
        let is_new = entry.given.insert(life);
        if !is_new {
            self.counts.given_twice += 1;
            self.violated(format!("{}: given twice to life {life}", letter.text()));
        } else if came_before {
            self.counts.redelivered += 1;
            if !marked {
                self.violated(format!("{}: came again, not marked", letter.text()));
            }
            if last == Some(SendState::Delivered) {
                self.counts.redelivered_after_delivered += 1;
            }
        }
        if matches!(last, Some(SendState::Refused | SendState::Expired)) {
            self.violated(format!("{}: given after {last:?}", letter.text()));
        }
        if letter.class() == Class::Control {
            self.keep_order(letter, life);
        }
    }

    fn keep_order(&mut self, letter: Letter, life: Life) {
        let stream = (letter.to, life, letter.from, letter.life);
        let before = self.order.insert(stream, letter.number);
        if let Some(before) = before.filter(|before| *before > letter.number) {
            self.violated(format!("{}: given after {before}", letter.text()));
        }
    }

    fn orphan(&mut self, from: Actor) {
        let open: Vec<_> = self.open.iter().copied().collect();
        for letter in open.into_iter().filter(|letter| letter.from == from) {
            if let Some(entry) = self.entries.get_mut(&letter)
                && !entry.orphaned
            {
                entry.orphaned = true;
                self.counts.orphaned += 1;
                self.counts.orphaned_stored += u64::from(entry.stored);
                self.close(letter);
            }
        }
    }

    fn leave_open(&mut self, letter: Letter) {
        let Some(entry) = self.entries.get(&letter) else {
            return;
        };
        let what = match (entry.stored, entry.given.is_empty()) {
            (true, true) => {
                self.counts.lost += 1;
                "stored, never given"
            }
            (true, false) => "stored, given, not acknowledged",
            (false, true) => "no last state, never given",
            (false, false) => "no last state, given",
        };
        self.violated(format!("{}: {what}", letter.text()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, and what has happened.
    type Lie = (&'static str, fn(&Ledger));

    const LETTER: Letter = Letter {
        from: 0,
        to: 0,
        number: 1,
        life: 1,
    };

    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        ledger.sending(LETTER);
        ledger
    }

    #[test]
    fn a_message_that_was_delivered_is_in_order() {
        let ledger = ledger();
        ledger.told(LETTER, SendState::Stored, None);
        ledger.given(LETTER, 1, false);
        ledger.acknowledging(LETTER);
        ledger.told(LETTER, SendState::Delivered, None);
        let verdict = ledger.end();
        assert_eq!(verdict.violations, [""; 0]);
        assert_eq!((verdict.counts.stored, verdict.counts.delivered), (1, 1));
    }

    #[test]
    fn a_stored_message_that_never_comes_is_lost_even_when_its_sender_is_gone() {
        let ledger = ledger();
        ledger.told(LETTER, SendState::Stored, None);
        ledger.sender_killed(0);
        assert_eq!(ledger.end().counts.lost, 1);
    }

    #[test]
    fn what_a_killed_sender_did_not_see_as_stored_need_not_come() {
        let ledger = ledger();
        ledger.sender_killed(0);
        assert_eq!(ledger.end().counts.violations, 0);
    }

    #[test]
    fn each_lie_is_found() {
        let lies: [Lie; 6] = [
            ("given twice", |ledger| {
                ledger.given(LETTER, 1, false);
                ledger.given(LETTER, 1, true);
            }),
            ("came again, not marked", |ledger| {
                ledger.given(LETTER, 1, false);
                ledger.given(LETTER, 2, false);
            }),
            ("delivered, not acknowledged", |ledger| {
                ledger.told(LETTER, SendState::Delivered, None);
            }),
            ("given after Some(Refused)", |ledger| {
                ledger.told(LETTER, SendState::Refused, Some(Code::QueueFull));
                ledger.given(LETTER, 1, false);
            }),
            ("given, never sent", |ledger| {
                ledger.given(
                    Letter {
                        number: 9,
                        ..LETTER
                    },
                    1,
                    false,
                );
            }),
            ("given after 2", |ledger| {
                let second = Letter {
                    number: 2,
                    ..LETTER
                };
                ledger.sending(second);
                ledger.given(second, 1, false);
                ledger.given(LETTER, 1, false);
            }),
        ];
        for (what, lie) in lies {
            let ledger = ledger();
            lie(&ledger);
            assert_eq!(ledger.wait_for_rest(Duration::ZERO), Waited::Violated);
            let found = ledger.end().violations;
            assert!(found[0].contains(what), "{what}: {found:?}");
        }
    }
}
