//! When the next connection to the registry is made.

use std::time::{Duration, Instant};

use rand::Rng;
use waymesh_core::backoff::{Backoff, REGISTRY_PAUSE_MAX};

/// How long a session must last before its end counts as a new trouble, and the
/// pauses begin short again. Chosen: a login may cost the registry a listing of
/// all members, so who is thrown out again and again comes ever more slowly.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// The pauses between connections.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    /// The next attempt follows without a pause.
    is_hurried: bool,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            backoff: Backoff::new(REGISTRY_PAUSE_MAX),
            is_hurried: false,
            not_before: None,
        }
    }

    /// A session is over. Where it was in doubt the network has changed: that is
    /// no trouble of the registry's, and must not slow the next change down.
    pub(super) fn handle_session(&mut self, lasted: Duration, was_in_doubt: bool) {
        if lasted >= STEADY_AFTER {
            self.backoff.reset();
        }
        self.is_hurried = was_in_doubt;
    }

    /// An attempt is over, with or without a session.
    pub(super) fn handle_end(&mut self, now: Instant, rng: &mut impl Rng) {
        self.not_before = match std::mem::take(&mut self.is_hurried) {
            true => None,
            false => {
                self.backoff.handle_failure(now, rng);
                self.backoff.not_before()
            }
        };
    }

    /// When the next attempt may start; `None` is at once.
    pub(super) const fn not_before(&self) -> Option<Instant> {
        self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_core::backoff::FIRST_PAUSE;

    const SHORT: Duration = Duration::from_millis(4_999);

    fn pause(pace: &mut Pace) -> Duration {
        let now = Instant::now();
        pace.handle_end(now, &mut rand::rng());
        pace.not_before().map_or(Duration::ZERO, |at| at - now)
    }

    #[test]
    fn who_is_thrown_out_at_once_comes_ever_more_slowly_and_after_a_while_soon() {
        let mut pace = Pace::new();
        for _ in 0..6 {
            pace.handle_session(SHORT, false);
            pause(&mut pace);
        }
        pace.handle_session(SHORT, false);
        assert!(pause(&mut pace) >= REGISTRY_PAUSE_MAX / 2);
        pace.handle_session(STEADY_AFTER, false);
        assert!(pause(&mut pace) <= FIRST_PAUSE);
    }

    #[test]
    fn a_network_that_changes_again_and_again_makes_no_pause_and_none_longer() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace.handle_session(Duration::ZERO, true);
            assert_eq!(pause(&mut pace), Duration::ZERO);
        }
        // The attempt after it fails: once only is it hurried.
        let first = pause(&mut pace);
        assert!(first >= FIRST_PAUSE / 2 && first <= FIRST_PAUSE);
    }
}
