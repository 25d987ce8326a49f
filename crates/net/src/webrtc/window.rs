//! How many bytes SCTP may hold for a link: one bandwidth-delay product, and
//! never less than what keeps a short path busy.
//!
//! What SCTP holds cannot be overtaken, and its work a packet grows with it, so
//! everything beyond one product waits in core, where it can still be ordered.
//! A *round* measures: it begins with a write and ends when all bytes written
//! up to then are acknowledged. The product is the rate of the round times the
//! shortest round seen; a link that was limited by its window in a round may
//! hold twice the product next, so that a long path opens up within some rounds.

use std::time::{Duration, Instant};

use waymesh_proto::limits::FRAME_MAX_BYTES;

/// The least window, bytes (measured: `cargo run --release -p waymesh-net --example link_bench`).
pub(super) const WINDOW_MIN_BYTES: usize = 32 * 1024;

/// The largest window, bytes: the receive buffer that the other side has.
pub(super) const WINDOW_MAX_BYTES: usize = 1024 * 1024;

/// How long the shortest round is believed in; after that the path may have changed.
const SHORTEST_ROUND_AGE: Duration = Duration::from_secs(30);

/// The window of one link.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    written: u64,
    round: Option<Round>,
    shortest: Option<(Duration, Instant)>,
    /// A sender may wait to be told of room.
    starved: bool,
}

#[derive(Debug)]
struct Round {
    began: Instant,
    acked_before: u64,
    ends_at: u64,
    was_limited: bool,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            limit: WINDOW_MIN_BYTES,
            written: 0,
            round: None,
            shortest: None,
            starved: false,
        }
    }

    /// Bytes that may be written now, given what SCTP holds.
    pub(super) fn room(&self, held: usize) -> usize {
        self.limit.saturating_sub(held)
    }

    /// Forgets what was measured: the path is another one.
    pub(super) fn forget_path(&mut self) {
        self.round = None;
        self.shortest = None;
    }

    /// Notes a write; `held` is what SCTP holds with it.
    pub(super) fn note_written(&mut self, now: Instant, bytes: usize, held: usize) {
        self.written += bytes as u64;
        let written = self.written;
        self.round.get_or_insert_with(|| Round {
            began: now,
            acked_before: written.saturating_sub(held as u64),
            ends_at: written,
            was_limited: false,
        });
        if self.room(held) < FRAME_MAX_BYTES {
            self.note_refused();
        }
    }

    /// Notes that the window, not the application, holds a write back.
    pub(super) fn note_refused(&mut self) {
        self.starved = true;
        if let Some(round) = &mut self.round {
            round.was_limited = true;
        }
    }

    /// Notes what SCTP still holds, and ends the round if it is over. Says
    /// whether a sender that waits is to be told of room: half the window is free.
    pub(super) fn note_held(&mut self, now: Instant, held: usize) -> bool {
        self.end_round(now, held);
        // The window may have shrunk below what is held: nobody was refused,
        // and still the room is gone.
        self.starved |= self.room(held) < FRAME_MAX_BYTES;
        let is_half_free = held <= self.limit / 2;
        is_half_free && std::mem::take(&mut self.starved)
    }

    fn end_round(&mut self, now: Instant, held: usize) {
        let acked = self.written.saturating_sub(held as u64);
        let Some(round) = self.round.take_if(|round| acked >= round.ends_at) else {
            return;
        };
        let took = now
            .saturating_duration_since(round.began)
            .max(Duration::from_micros(1));
        let shortest = self.shortest_with(now, took);
        if round.was_limited {
            let delivered = u128::from(acked - round.acked_before);
            let product = delivered * shortest.as_nanos() / took.as_nanos();
            let product = usize::try_from(product).unwrap_or(WINDOW_MAX_BYTES);
            self.limit = product
                .saturating_mul(2)
                .clamp(WINDOW_MIN_BYTES, WINDOW_MAX_BYTES);
        }
    }

    fn shortest_with(&mut self, now: Instant, took: Duration) -> Duration {
        let believed = self
            .shortest
            .filter(|(_, seen)| now.saturating_duration_since(*seen) < SHORTEST_ROUND_AGE);
        match believed {
            Some((shortest, _)) if shortest < took => shortest,
            _ => {
                self.shortest = Some((took, now));
                took
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a saturating sender over a path of fixed rate and delay and returns the window it ends with.
    fn window_after(rate_bytes_per_us: usize, rtt: Duration, rounds: usize) -> usize {
        let mut window = Window::new();
        let mut now = Instant::now();
        for round in 0..rounds {
            // The handshake of any application is small.
            let burst = if round == 0 { 100 } else { window.room(0) };
            window.note_written(now, burst, burst);
            window.note_refused();
            now += rtt + Duration::from_micros((burst / rate_bytes_per_us) as u64);
            window.note_held(now, 0);
        }
        window.limit
    }

    #[test]
    fn a_short_path_keeps_the_least_window() {
        assert_eq!(
            window_after(100, Duration::from_micros(50), 20),
            WINDOW_MIN_BYTES
        );
    }

    #[test]
    fn a_long_fast_path_opens_the_window_to_its_limit() {
        assert_eq!(
            window_after(100, Duration::from_millis(100), 20),
            WINDOW_MAX_BYTES
        );
    }

    #[test]
    fn a_window_that_shrinks_below_what_is_held_tells_of_room_later_though_nobody_was_refused() {
        let (mut window, now) = (Window::new(), Instant::now());
        window.limit = WINDOW_MAX_BYTES;
        window.note_written(now, 100, 100);
        window.note_refused();
        assert!(window.note_held(now, 100));
        let held = 4 * WINDOW_MIN_BYTES;
        window.note_written(now, held, held + 100);
        let later = now + Duration::from_secs(1);
        assert!(!window.note_held(later, held));
        assert_eq!(window.room(held), 0, "{window:?}");
        assert!(!window.note_held(later, window.limit / 2 + 1));
        assert!(window.note_held(later, window.limit / 2));
        assert!(!window.note_held(later, 0));
    }

    #[test]
    fn a_path_of_a_small_product_gets_about_twice_that() {
        let product = 2_000 * 50;
        let window = window_after(2, Duration::from_millis(50), 40);
        assert!((product..=product * 4).contains(&window), "{window}");
    }
}
