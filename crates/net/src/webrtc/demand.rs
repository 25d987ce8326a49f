//! How long what servers gave is kept: while links are wanted, and some minutes more.

use std::time::{Duration, Instant};

/// How long mappings and allocations are kept after the last link. Chosen: an
/// agent that spoke a moment ago speaks again.
const KEPT_AFTER: Duration = Duration::from_secs(300);

/// Whether an endpoint has links, or ones that are being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Some,
    None,
}

/// What servers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Mappings and allocations are made, and kept.
    Kept,
    /// What is open is ended; nothing new is asked for.
    Idle,
}

/// Since when nobody wants links any more.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// `None` when nothing is kept.
    until: Option<Instant>,
}

impl Demand {
    /// A link is wanted, or there is one.
    pub(super) fn renew(&mut self, now: Instant) {
        self.until = Some(now + KEPT_AFTER);
    }

    pub(super) const fn upkeep(&self) -> Upkeep {
        match self.until {
            Some(_) => Upkeep::Kept,
            None => Upkeep::Idle,
        }
    }

    /// When [`Demand::take_end`] is due.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    /// Whether this is the end of it; once.
    pub(super) fn take_end(&mut self, now: Instant, links: Links) -> bool {
        if links == Links::Some {
            self.renew(now);
        }
        self.until.take_if(|until| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_gave_is_kept_for_minutes_after_the_last_link_and_its_end_is_told_once() {
        let start = Instant::now();
        let mut demand = Demand::default();
        assert_eq!(demand.upkeep(), Upkeep::Idle);
        demand.renew(start);
        let end = start + KEPT_AFTER;
        assert_eq!(demand.poll_timeout(), Some(end));
        assert!(!demand.take_end(end, Links::Some));
        let end = end + KEPT_AFTER;
        assert!(!demand.take_end(end - Duration::from_millis(1), Links::None));
        assert_eq!(demand.upkeep(), Upkeep::Kept);
        assert!(demand.take_end(end, Links::None));
        assert!(!demand.take_end(end, Links::None));
        assert_eq!(demand.upkeep(), Upkeep::Idle);
    }
}
