//! The last attempts to make a link to one peer, and what came of them: the
//! record that a failure leaves.

mod words;

use std::collections::VecDeque;
use std::time::Instant;

use waymesh_proto::api::{Attempt, AttemptOutcome, AttemptPurpose, AttemptRole};
use waymesh_proto::ice::millis;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{Path, Tried};

pub(crate) use words::words;

/// Attempts that are remembered of each peer; older ones are forgotten. Chosen:
/// the story of some minutes of trouble.
pub(crate) const ATTEMPTS_MAX: usize = 8;

#[derive(Debug)]
struct Record {
    link: LinkId,
    began: Instant,
    role: AttemptRole,
    purpose: AttemptPurpose,
    ended: Option<Instant>,
    outcome: AttemptOutcome,
    path: Option<Path>,
    reason: String,
    tried: Option<Tried>,
    /// Its time was over before net told what was tried.
    is_vague: bool,
}

/// The last attempts, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    records: VecDeque<Record>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) outcome: AttemptOutcome,
    pub(crate) path: Option<Path>,
    pub(crate) reason: String,
}

impl Attempts {
    /// An attempt begins.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        link: LinkId,
        role: AttemptRole,
        purpose: AttemptPurpose,
    ) {
        if self.records.len() == ATTEMPTS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(Record {
            link,
            began: now,
            role,
            purpose,
            ended: None,
            outcome: AttemptOutcome::Trying,
            path: None,
            reason: "no link yet".into(),
            tried: None,
            is_vague: false,
        });
    }

    fn find(&mut self, link: LinkId) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.link == link)
    }

    /// What an attempt is for; `None` when it is forgotten.
    pub(crate) fn purpose(&self, link: LinkId) -> Option<AttemptPurpose> {
        let record = self.records.iter().find(|record| record.link == link);
        record.map(|record| record.purpose)
    }

    /// Its link is up, on this path, but not in use.
    pub(crate) fn note_path(&mut self, link: LinkId, path: Path) {
        if let Some(record) = self.find(link).filter(|r| r.ended.is_none()) {
            record.path = Some(path);
            record.reason = match path {
                Path::Relay => "a relayed link is up and not needed so far".into(),
                _ => "a link is up and not needed so far".into(),
            };
        }
    }

    /// What came of an attempt; only the first word of it counts.
    pub(crate) fn end(&mut self, now: Instant, link: LinkId, end: End) {
        if let Some(record) = self.find(link).filter(|r| r.ended.is_none()) {
            record.ended = Some(now);
            record.outcome = end.outcome;
            record.path = end.path.or(record.path);
            record.reason = end.reason;
        }
    }

    /// It took too long; net will tell what was tried.
    pub(crate) fn end_late(&mut self, now: Instant, link: LinkId, reason: String) {
        let tried = self.find(link).and_then(|record| record.tried.as_ref());
        let is_vague = tried.is_none();
        let end = End {
            outcome: AttemptOutcome::Failed,
            path: None,
            reason: tried.map_or(reason, words),
        };
        self.end(now, link, end);
        if let Some(record) = self.find(link) {
            record.is_vague = is_vague;
        }
    }

    /// What was tried, in words; `None` when net has not told.
    pub(crate) fn words(&mut self, link: LinkId) -> Option<String> {
        self.find(link)?.tried.as_ref().map(words)
    }

    /// Net tells what was tried. Gives the reason of the last attempt when it is clearer now.
    pub(crate) fn handle_tried(&mut self, link: LinkId, tried: Tried) -> Option<&str> {
        let newest = self.records.back().map(|record| record.link);
        let record = self.find(link)?;
        let clearer = std::mem::take(&mut record.is_vague);
        if clearer {
            record.reason = words(&tried);
        }
        record.tried = Some(tried);
        (clearer && newest == Some(link)).then_some(record.reason.as_str())
    }

    /// All of them as a client is told, newest first.
    pub(crate) fn list(&self, now: Instant) -> Vec<Attempt> {
        let told = |record: &Record| {
            let until = record.ended.unwrap_or(now);
            Attempt {
                age_ms: millis(now.saturating_duration_since(record.began)),
                took_ms: millis(until.saturating_duration_since(record.began)),
                role: record.role,
                purpose: record.purpose,
                outcome: record.outcome,
                path: record.path,
                reason: record.reason.clone(),
                tried: record.tried.clone(),
            }
        };
        self.records.iter().rev().map(told).collect()
    }
}

#[cfg(test)]
mod tests;
