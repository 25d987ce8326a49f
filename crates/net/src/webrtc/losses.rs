//! When to tell that relayed addresses were lost: at once, but not all the time.

use std::time::{Duration, Instant};

/// Least pause between two such notices: each has all links of the node looked
/// after. Chosen.
const PAUSE: Duration = Duration::from_secs(1);

/// Losses that were told, and that are to be told.
#[derive(Debug, Default)]
pub(super) struct Losses {
    told: Option<Instant>,
    due: Option<Instant>,
}

impl Losses {
    /// A relayed address is gone.
    pub(super) fn note(&mut self, now: Instant) {
        let earliest = self.told.map_or(now, |told| now.max(told + PAUSE));
        self.due.get_or_insert(earliest);
    }

    /// When [`Losses::take_due`] is due.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a loss is to be told now; once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.take_if(|due| *due <= now).is_some();
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_in_a_row_are_told_once_a_pause_and_none_is_forgotten() {
        let start = Instant::now();
        let mut losses = Losses::default();
        losses.note(start);
        assert!(losses.take_due(start));
        assert!(!losses.take_due(start));
        losses.note(start + PAUSE / 4);
        losses.note(start + PAUSE / 2);
        assert!(!losses.take_due(start + PAUSE / 2));
        assert_eq!(losses.poll_timeout(), Some(start + PAUSE));
        assert!(losses.take_due(start + PAUSE));
        assert_eq!(losses.poll_timeout(), None);
    }
}
