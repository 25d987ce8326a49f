//! How long the registry may be silent: its pings come often, and where the
//! network has changed it is asked something and has a few round trips to answer.

use std::time::Duration;

use tokio::time::Instant;
use waymesh_proto::control::SILENCE_MAX_MS;

/// Silence after which the registry is gone; it pings twice as often.
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// Round trips in which the registry answers when its connection is in doubt.
/// Chosen: what was lost once is sent again and answered.
const DOUBT_ROUND_TRIPS: u32 = 4;

/// The least time for that. Chosen: TCP sends again after 200 ms at the
/// earliest (RFC 6298 asks for a second, Linux takes a fifth), and a busy
/// registry takes its time.
const DOUBT_MIN: Duration = Duration::from_millis(500);

/// The longest. Chosen: a node that has lost its registry is better off with a
/// new connection than with a second question.
const DOUBT_MAX: Duration = Duration::from_millis(1_500);

/// When the registry was heard, and whether its connection is in doubt.
#[derive(Debug)]
pub(super) struct Silence {
    until: Instant,
    patience: Duration,
    is_in_doubt: bool,
}

impl Silence {
    /// The registry was heard just now; an answer to the login took `round_trip`.
    pub(super) fn new(now: Instant, round_trip: Duration) -> Self {
        Self {
            until: now + SILENCE_MAX,
            patience: (DOUBT_ROUND_TRIPS * round_trip).clamp(DOUBT_MIN, DOUBT_MAX),
            is_in_doubt: false,
        }
    }

    /// When the registry is gone unless it is heard.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// Whether it was asked whether it is there and was not heard since.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// The registry was heard.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.until = now + SILENCE_MAX;
        self.is_in_doubt = false;
    }

    /// The connection may carry nothing any more; the registry was asked something.
    pub(super) fn handle_doubt(&mut self, now: Instant) {
        self.until = self.until.min(now + self.patience);
        self.is_in_doubt = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the registry may take to answer after a login that took so long.
    fn patience(round_trip_ms: u64) -> Duration {
        let now = Instant::now();
        let mut silence = Silence::new(now, Duration::from_millis(round_trip_ms));
        silence.handle_doubt(now);
        silence.until() - now
    }

    #[test]
    fn a_connection_in_doubt_has_four_round_trips_within_its_bounds() {
        assert_eq!(patience(0), DOUBT_MIN);
        assert_eq!(patience(125), DOUBT_MIN);
        assert_eq!(patience(200), Duration::from_millis(800));
        assert_eq!(patience(375), DOUBT_MAX);
        assert_eq!(patience(10_000), DOUBT_MAX);
    }

    #[test]
    fn whatever_is_heard_ends_the_doubt_and_more_doubt_gives_no_more_time() {
        let now = Instant::now();
        let mut silence = Silence::new(now, Duration::ZERO);
        assert!(!silence.is_in_doubt());
        silence.handle_doubt(now);
        silence.handle_doubt(now + DOUBT_MIN / 2);
        assert_eq!(silence.until(), now + DOUBT_MIN);
        assert!(silence.is_in_doubt());
        silence.handle_heard(now + DOUBT_MIN / 2);
        assert!(!silence.is_in_doubt());
        assert_eq!(silence.until(), now + DOUBT_MIN / 2 + SILENCE_MAX);
    }
}
