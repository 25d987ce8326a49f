//! How long a client may be behind with reading.
//!
//! A client is behind from the moment its out-buffer is full until half of it
//! is read. Meanwhile it must read a part of the buffer's size again and again,
//! each within the patience; reading a byte now and then buys no time.

use std::time::Duration;

use tokio::time::Instant;

/// The part of a full buffer that a client that is behind must read within the
/// patience. Chosen: 26 kB/s with the default limits.
const PROGRESS_PART: usize = 16;

/// Since when a client has been behind, or has made enough progress.
#[derive(Debug)]
pub(super) struct Patience {
    full_bytes: usize,
    patience: Duration,
    behind: Option<Behind>,
}

#[derive(Debug)]
struct Behind {
    since: Instant,
    /// What had been written in all by then, bytes.
    written: u64,
}

impl Patience {
    pub(super) const fn new(full_bytes: usize, patience: Duration) -> Self {
        Self {
            full_bytes,
            patience,
            behind: None,
        }
    }

    /// Notes what waits and what has been written in all; says whether the client is given up.
    pub(super) fn is_over(&mut self, now: Instant, waiting: usize, written: u64) -> bool {
        let progress = (self.full_bytes / PROGRESS_PART).max(1) as u64;
        let begin = match &self.behind {
            Some(_) if waiting <= self.full_bytes / 2 => {
                self.behind = None;
                return false;
            }
            Some(behind) => written - behind.written >= progress,
            None => waiting >= self.full_bytes,
        };
        if begin {
            let since = now;
            self.behind = Some(Behind { since, written });
        }
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Waits until the client is given up unless it reads. Cancel safe.
    pub(super) async fn wait(&self) {
        match self.deadline() {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.behind.as_ref()?.since + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 1_600;
    const PATIENCE: Duration = Duration::from_secs(10);
    const MOMENT: Duration = Duration::from_millis(1);

    fn behind() -> (Patience, Instant) {
        let (mut patience, now) = (Patience::new(FULL, PATIENCE), Instant::now());
        assert!(!patience.is_over(now, FULL - 1, 0));
        assert_eq!(patience.deadline(), None);
        assert!(!patience.is_over(now, FULL, 0));
        assert_eq!(patience.deadline(), Some(now + PATIENCE));
        (patience, now)
    }

    #[test]
    fn a_client_that_reads_nothing_is_given_up_when_the_patience_is_over() {
        let (mut patience, now) = behind();
        assert!(!patience.is_over(now + PATIENCE - MOMENT, FULL, 0));
        assert!(patience.is_over(now + PATIENCE, FULL, 0));
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time_even_when_it_makes_room() {
        let (mut patience, now) = behind();
        for second in 1..10 {
            let at = now + Duration::from_secs(second);
            assert!(!patience.is_over(at, FULL - 9, second * 9));
        }
        assert!(patience.is_over(now + PATIENCE, FULL - 9, 99));
    }

    #[test]
    fn a_client_that_reads_steadily_is_kept_however_long_it_is_behind() {
        let (mut patience, mut now) = behind();
        for turn in 1..100 {
            now += PATIENCE - MOMENT;
            assert!(!patience.is_over(now, FULL, turn * 100));
        }
    }

    #[test]
    fn a_client_that_has_read_half_is_forgiven() {
        let (mut patience, now) = behind();
        assert!(!patience.is_over(now + MOMENT, FULL / 2, 50));
        assert_eq!(patience.deadline(), None);
        assert!(!patience.is_over(now + PATIENCE, FULL, 60));
        assert_eq!(patience.deadline(), Some(now + PATIENCE + PATIENCE));
    }
}
