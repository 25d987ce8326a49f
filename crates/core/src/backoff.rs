//! How long to wait before the next attempt at something that failed.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

/// The pause after the first failure. Chosen: long enough for a process to
/// open its port, too short to be noticed.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between attempts at a link. Chosen.
pub const LINK_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The longest pause between attempts at the registry. Chosen: all nodes are
/// back soon after its restart, and a refused connection costs little.
pub const REGISTRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Exponential back-off with jitter: the first attempt is immediate; the pause
/// after each failure is drawn between half of and the whole of a time that
/// doubles from [`FIRST_PAUSE`] to the longest one.
#[derive(Debug, Clone)]
pub struct Backoff {
    whole: Duration,
    longest: Duration,
    not_before: Option<Instant>,
}

impl Backoff {
    /// No failure yet; no pause is ever longer than `longest`.
    pub const fn new(longest: Duration) -> Self {
        Self {
            whole: FIRST_PAUSE,
            longest,
            not_before: None,
        }
    }

    /// When the next attempt may start; `None` is at once.
    pub const fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// An attempt failed. The randomness spreads nodes that fail at the same moment.
    pub fn handle_failure(&mut self, now: Instant, rng: &mut impl Rng) {
        let whole = self.whole.min(self.longest);
        self.whole = whole * 2;
        self.not_before = Some(now + rng.random_range(whole / 2..=whole));
    }

    /// Forgets the failures: the next attempt is immediate again.
    pub const fn reset(&mut self) {
        self.whole = FIRST_PAUSE;
        self.not_before = None;
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn the_first_attempt_is_immediate_and_again_after_a_success() {
        let now = Instant::now();
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::new(LINK_PAUSE_MAX);
        assert_eq!(backoff.not_before(), None);
        backoff.handle_failure(now, &mut rng);
        assert!(backoff.not_before().expect("a pause") <= now + FIRST_PAUSE);
        backoff.reset();
        assert_eq!(backoff.not_before(), None);
    }

    proptest! {
        #[test]
        fn pauses_double_within_their_jitter_and_never_pass_the_longest(
            seed: u64,
            failures in 1usize..40,
            longest_ms in 1u64..60_000,
        ) {
            let now = Instant::now();
            let longest = Duration::from_millis(longest_ms);
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(longest);
            let mut whole = FIRST_PAUSE.min(longest);
            for _ in 0..failures {
                backoff.handle_failure(now, &mut rng);
                let pause = backoff.not_before().expect("a pause") - now;
                prop_assert!(pause >= whole / 2 && pause <= whole);
                whole = (whole * 2).min(longest);
            }
        }
    }
}
