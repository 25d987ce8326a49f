//! How often somebody may do something.

use std::time::{Duration, Instant};

/// A token bucket, kept as the time when it is full again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    paid: Instant,
}

impl Bucket {
    pub(super) const fn full(now: Instant) -> Self {
        Self { paid: now }
    }

    /// Takes `cost` out, the time that it takes to flow in again; false, and
    /// nothing is taken, when `burst` does not cover it.
    pub(super) fn pay(&mut self, now: Instant, cost: Duration, burst: Duration) -> bool {
        let paid = self.paid.max(now) + cost;
        let may = paid <= now + burst;
        if may {
            self.paid = paid;
        }
        may
    }
}

/// What one of `per_second` costs.
pub(super) const fn share_of_second(per_second: u32) -> Duration {
    Duration::from_nanos(1_000_000_000 / per_second as u64)
}
