//! A token bucket.

use std::time::{Duration, Instant};

/// Tokens that come back with time, up to a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// When it will be full again.
    full_at: Instant,
}

/// How fast tokens come back, and how many are there at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) per_second: u64,
    pub(super) burst: u64,
}

impl Bucket {
    pub(super) const fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes tokens if there are as many.
    pub(super) fn take(&mut self, now: Instant, rate: Rate, tokens: u64) -> bool {
        let full_at = self.after(now, rate, tokens);
        if let Some(full_at) = full_at {
            self.full_at = full_at;
        }
        full_at.is_some()
    }

    /// Whether there is one.
    pub(super) fn has_one(&self, now: Instant, rate: Rate) -> bool {
        self.after(now, rate, 1).is_some()
    }

    /// Whether all are there.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    fn after(&self, now: Instant, rate: Rate, tokens: u64) -> Option<Instant> {
        let full_at = self.full_at.max(now) + rate.time_of(tokens);
        (full_at <= now + rate.time_of(rate.burst)).then_some(full_at)
    }
}

/// Time that is never over, and can still be added to an [`Instant`]: a century.
const LONGEST_NANOS: u64 = 100 * 365 * 24 * 3_600 * 1_000_000_000;

impl Rate {
    /// How long tokens take to come back.
    fn time_of(self, tokens: u64) -> Duration {
        let nanos = u128::from(tokens) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(
            u64::try_from(nanos)
                .unwrap_or(LONGEST_NANOS)
                .min(LONGEST_NANOS),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_one_more_does_not_and_time_brings_tokens_back() {
        let start = Instant::now();
        let rate = Rate {
            per_second: 10,
            burst: 3,
        };
        let mut bucket = Bucket::full(start);
        for _ in 0..3 {
            assert!(bucket.take(start, rate, 1));
        }
        assert!(!bucket.take(start, rate, 1));
        let later = start + Duration::from_millis(100);
        assert!(bucket.take(later, rate, 1));
        assert!(!bucket.take(later, rate, 1));
        let rested = later + Duration::from_secs(60);
        assert!(bucket.is_full(rested));
        assert!(bucket.take(rested, rate, 3));
        assert!(!bucket.take(rested, rate, 1));
        assert!(!bucket.is_full(rested));
    }
}
