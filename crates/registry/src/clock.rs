//! The two clocks side by side: rules count on the steady one, certificates
//! and what is stored on the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// On the steady clock.
    pub(crate) now: Instant,
    /// Unix time, milliseconds.
    pub(crate) unix_ms: u64,
}

impl Clock {
    pub(crate) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            now: Instant::now(),
            unix_ms: unix.map_or(0, millis),
        }
    }

    /// A Unix time on the steady clock; long past times are now.
    pub(crate) fn instant(&self, unix_ms: u64) -> Instant {
        match unix_ms.checked_sub(self.unix_ms) {
            Some(ahead) => self
                .now
                .checked_add(Duration::from_millis(ahead))
                .unwrap_or(self.now + FAR),
            None => self
                .now
                .checked_sub(Duration::from_millis(self.unix_ms - unix_ms))
                .unwrap_or(self.now),
        }
    }

    /// A time of the steady clock as Unix time, milliseconds.
    pub(crate) fn unix_ms(&self, at: Instant) -> u64 {
        let ahead = millis(at.saturating_duration_since(self.now));
        let behind = millis(self.now.saturating_duration_since(at));
        self.unix_ms.saturating_add(ahead).saturating_sub(behind)
    }

    /// How long ago a Unix time was.
    pub(crate) fn since(&self, unix_ms: u64) -> Duration {
        Duration::from_millis(self.unix_ms.saturating_sub(unix_ms))
    }
}

/// Further ahead than anything here is planned.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_from_the_other_clock_and_extremes_do_not_panic() {
        let clock = Clock {
            now: Instant::now(),
            unix_ms: 1_800_000_000_000,
        };
        for unix_ms in [1_800_000_000_000, 1_800_000_005_000, 1_799_999_999_000] {
            assert_eq!(clock.unix_ms(clock.instant(unix_ms)), unix_ms);
        }
        assert!(clock.instant(u64::MAX) > clock.now);
        assert!(clock.instant(0) <= clock.now);
        assert_eq!(clock.since(u64::MAX), Duration::ZERO);
    }
}
