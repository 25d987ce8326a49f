//! Whether to stay awake for a moment before sleeping.
//!
//! A processor that has gone to sleep takes tens of microseconds to wake, longer
//! than a peer on the same machine takes to answer. So while events follow each
//! other closely the driver looks again for a moment before it sleeps. Each time
//! that was in vain, it takes twice as many close events until the next try:
//! staying awake happens only as long as it pays.

use std::time::{Duration, Instant};

/// How long to stay awake. Chosen: what a sleeping processor takes to wake.
const MOMENT: Duration = Duration::from_micros(50);
/// Events that are this close count towards staying awake. Chosen: a moment and
/// what it takes to wake on both sides.
const CLOSE: Duration = Duration::from_micros(150);
/// Most close events that one try costs. Chosen: one in vain costs 1 % then.
const PRICE_MAX: u32 = 256;

/// Decides whether to stay awake.
#[derive(Debug)]
pub(crate) struct Linger {
    close: u32,
    price: u32,
}

impl Default for Linger {
    fn default() -> Self {
        Self { close: 0, price: 2 }
    }
}

impl Linger {
    /// Until when to stay awake, if at all.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        (self.close >= self.price).then(|| now + MOMENT)
    }

    /// Something happened after this wait.
    pub(crate) fn handle_event(&mut self, waited: Duration) {
        if waited > CLOSE {
            self.close = 0;
        } else {
            self.close = self.close.saturating_add(1);
            if self.close > self.price {
                self.price = (self.price / 2).max(2);
            }
        }
    }

    /// Nothing happened while awake.
    pub(crate) fn handle_vain(&mut self) {
        self.close = 0;
        self.price = (self.price * 2).min(PRICE_MAX);
    }
}

/// Stays awake, and lets others run and the network be looked at in between.
pub(crate) async fn stay_awake(until: Option<Instant>) {
    let Some(until) = until else {
        return std::future::pending().await;
    };
    while Instant::now() < until {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Duration = Duration::from_micros(20);

    #[test]
    fn close_events_keep_it_awake_and_a_pause_ends_that() {
        let now = Instant::now();
        let mut linger = Linger::default();
        assert_eq!(linger.until(now), None);
        linger.handle_event(NEAR);
        linger.handle_event(NEAR);
        assert_eq!(linger.until(now), Some(now + MOMENT));
        linger.handle_event(CLOSE * 2);
        assert_eq!(linger.until(now), None);
    }

    #[test]
    fn each_vain_try_makes_the_next_dearer_up_to_a_bound() {
        let now = Instant::now();
        let mut linger = Linger::default();
        let mut needed = Vec::new();
        for _ in 0..10 {
            let mut events = 0;
            while linger.until(now).is_none() {
                linger.handle_event(NEAR);
                events += 1;
            }
            needed.push(events);
            linger.handle_vain();
        }
        assert!(needed.is_sorted());
        assert_eq!(needed.last(), Some(&PRICE_MAX));
    }
}
