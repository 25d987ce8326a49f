//! One URL of a TURN server, and what came of it: the record that users are shown.

use std::time::{Duration, Instant};

use waymesh_proto::ice::{IceUrl, ServerOutcome, ServerTried, millis};

/// One URL of the server, and what came of it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) url: IceUrl,
    pub(super) outcome: ServerOutcome,
    began: Option<Instant>,
    took: Duration,
}

impl Way {
    pub(super) const fn new(url: IceUrl) -> Self {
        Self {
            url,
            outcome: ServerOutcome::Waiting,
            began: None,
            took: Duration::ZERO,
        }
    }

    /// It is asked.
    pub(super) fn begin(&mut self, now: Instant) {
        self.outcome = ServerOutcome::Waiting;
        self.began = Some(now);
    }

    /// This came of it.
    pub(super) fn end(&mut self, now: Instant, outcome: ServerOutcome) {
        self.outcome = outcome;
        self.took = self
            .began
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
    }

    pub(super) fn tried(&self, now: Instant) -> ServerTried {
        ServerTried {
            url: self.url.clone(),
            outcome: self.outcome.clone(),
            took_ms: millis(match (&self.outcome, self.began) {
                (ServerOutcome::Waiting, Some(began)) => now.saturating_duration_since(began),
                _ => self.took,
            }),
        }
    }
}

pub(super) fn failed(why: String) -> ServerOutcome {
    ServerOutcome::Failed { why }
}
