//! Wakes links at their deadlines: one heap for all, stale entries skipped.
//!
//! A deadline that moves later leaves its old entry in place; when that comes
//! up, the link is asked again. So a busy link, whose deadline moves with every
//! packet, costs no heap operation a packet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use waymesh_proto::ids::LinkId;

/// Deadlines farther away than this mean "never"; str0m says never with years.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

/// The deadlines of all links.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, LinkId)>>,
}

/// One link's own view of its deadline.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Alarm {
    /// When the link wants to run.
    wanted: Option<Instant>,
    /// The earliest entry of this link in the heap.
    armed: Option<Instant>,
}

impl Timers {
    /// Sets the time at which `link` wants to run.
    pub(super) fn arm(&mut self, link: LinkId, alarm: &mut Alarm, now: Instant, at: Instant) {
        if at > now + HORIZON {
            alarm.wanted = None;
            return;
        }
        alarm.wanted = Some(at);
        if alarm.armed.is_none_or(|armed| at < armed) {
            alarm.armed = Some(at);
            self.heap.push(Reverse((at, link)));
        }
    }

    /// The next time at which [`Timers::poll_due`] may return a link.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a link whose heap entry is due; [`Timers::ring`] says whether it means it.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<(Instant, LinkId)> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Handles the link's entry for `at`: true when the link must run now,
    /// otherwise the entry was stale and the real deadline is armed.
    pub(super) fn ring(
        &mut self,
        link: LinkId,
        alarm: &mut Alarm,
        at: Instant,
        now: Instant,
    ) -> bool {
        if alarm.armed != Some(at) {
            return false;
        }
        alarm.armed = None;
        match alarm.wanted {
            Some(wanted) if wanted <= now => true,
            Some(wanted) => {
                self.arm(link, alarm, now, wanted);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_moved_later_rings_once_at_the_later_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        let link = LinkId::new(1);
        timers.arm(link, &mut alarm, start, at(10));
        timers.arm(link, &mut alarm, start, at(50));
        let (entry, _) = timers.poll_due(at(20)).expect("the first entry is due");
        assert!(!timers.ring(link, &mut alarm, entry, at(20)));
        assert_eq!(timers.poll_timeout(), Some(at(50)));
        let (entry, _) = timers.poll_due(at(50)).expect("the real deadline is due");
        assert!(timers.ring(link, &mut alarm, entry, at(50)));
        assert_eq!(timers.poll_timeout(), None);
    }

    #[test]
    fn a_deadline_that_moved_earlier_rings_early_and_its_old_entry_is_stale() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        let link = LinkId::new(1);
        timers.arm(link, &mut alarm, start, at(50));
        timers.arm(link, &mut alarm, start, at(10));
        let (entry, _) = timers.poll_due(at(10)).expect("the early entry is due");
        assert!(timers.ring(link, &mut alarm, entry, at(10)));
        let (entry, _) = timers
            .poll_due(at(50))
            .expect("the old entry is still there");
        assert!(!timers.ring(link, &mut alarm, entry, at(50)));
    }

    #[test]
    fn a_deadline_years_away_is_no_deadline() {
        let now = Instant::now();
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        timers.arm(LinkId::new(1), &mut alarm, now, now + 300 * HORIZON);
        assert_eq!(timers.poll_timeout(), None);
    }
}
