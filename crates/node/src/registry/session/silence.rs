//! How long the registry may be silent: its pings come often, and where the
//! network has changed it is asked something and has a few round trips to answer.

use std::time::Duration;

use tokio::time::Instant;
use waymesh_proto::control::SILENCE_MAX_MS;

/// Silence after which the registry is gone; it pings twice as often.
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// Round trips in which the registry answers when its connection is in doubt.
/// Chosen: what was lost once is sent again and answered.
const DOUBT_ROUND_TRIPS: u32 = 4;

/// The least time for that. Chosen: TCP sends again after 200 ms at the
/// earliest (RFC 6298 asks for a second, Linux takes a fifth), and a busy
/// registry takes its time.
const DOUBT_MIN: Duration = Duration::from_millis(500);

/// The longest, and for whoever has much under way or hears other things
/// meanwhile. Chosen: a node that has lost its registry is better off with a
/// new connection than with a second question.
const DOUBT_MAX: Duration = Duration::from_millis(1_500);

/// What a slow line carries in a second, bytes: the question waits behind items
/// that were handed over before it. Chosen: 1 Mbit/s.
const SLOW_LINE_BYTES: u32 = 125_000;

/// When the registry was heard, and whether its connection is in doubt.
#[derive(Debug)]
pub(super) struct Silence {
    until: Instant,
    patience: Duration,
    /// When a slow line has carried the items that were handed over.
    carried: Instant,
    /// The connection is in doubt, and ends then unless the question is answered.
    doubt: Option<Instant>,
}

impl Silence {
    /// The registry was heard just now; an answer to the login took `round_trip`.
    pub(super) fn new(now: Instant, round_trip: Duration) -> Self {
        Self {
            until: now + SILENCE_MAX,
            patience: (DOUBT_ROUND_TRIPS * round_trip).clamp(DOUBT_MIN, DOUBT_MAX),
            carried: now,
            doubt: None,
        }
    }

    /// When the registry is gone unless it is heard.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// Whether it was asked whether it is there and has not answered since.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// The registry was heard. In doubt that proves little: it may have been on
    /// its way, or here, before the network changed.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.until = match self.doubt {
            None => now + SILENCE_MAX,
            Some(latest) => self.until.max((now + self.patience).min(latest)),
        };
    }

    /// The registry has answered what it was asked.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        self.doubt = None;
        self.until = now + SILENCE_MAX;
    }

    /// So many bytes of items were handed over to be sent.
    pub(super) fn handle_sent(&mut self, now: Instant, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let takes = Duration::from_secs(1) * bytes / SLOW_LINE_BYTES;
        self.carried = self.carried.max(now) + takes;
    }

    /// Items wait because those before them have not left.
    pub(super) fn handle_backlog(&mut self, now: Instant) {
        self.carried = self.carried.max(now + DOUBT_MAX);
    }

    /// The connection may carry nothing any more; the registry was asked something.
    pub(super) fn handle_doubt(&mut self, now: Instant) {
        let under_way = self.carried.saturating_duration_since(now);
        let patience = (self.patience + under_way).min(DOUBT_MAX);
        self.until = self.until.min(now + patience);
        self.doubt.get_or_insert(now + DOUBT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the registry may take to answer after a login that took so long.
    fn patience(round_trip_ms: u64) -> Duration {
        let now = Instant::now();
        let mut silence = Silence::new(now, Duration::from_millis(round_trip_ms));
        silence.handle_doubt(now);
        silence.until() - now
    }

    #[test]
    fn a_connection_in_doubt_has_four_round_trips_within_its_bounds() {
        assert_eq!(patience(0), DOUBT_MIN);
        assert_eq!(patience(125), DOUBT_MIN);
        assert_eq!(patience(200), Duration::from_millis(800));
        assert_eq!(patience(375), DOUBT_MAX);
        assert_eq!(patience(10_000), DOUBT_MAX);
    }

    #[test]
    fn an_answer_ends_the_doubt_and_more_doubt_gives_no_more_time() {
        let now = Instant::now();
        let mut silence = Silence::new(now, Duration::ZERO);
        assert!(!silence.is_in_doubt());
        silence.handle_doubt(now);
        silence.handle_doubt(now + DOUBT_MIN / 2);
        assert_eq!(silence.until(), now + DOUBT_MIN);
        assert!(silence.is_in_doubt());
        silence.handle_answer(now + DOUBT_MIN / 2);
        assert!(!silence.is_in_doubt());
        assert_eq!(silence.until(), now + DOUBT_MIN / 2 + SILENCE_MAX);
    }

    #[test]
    fn what_else_is_heard_leaves_the_doubt_and_gives_time_up_to_its_end() {
        let now = Instant::now();
        let mut silence = Silence::new(now, Duration::ZERO);
        silence.handle_doubt(now);
        // It was in the buffer.
        silence.handle_heard(now);
        assert!(silence.is_in_doubt());
        assert_eq!(silence.until(), now + DOUBT_MIN);
        silence.handle_heard(now + DOUBT_MIN / 2);
        assert_eq!(silence.until(), now + DOUBT_MIN * 3 / 2);
        silence.handle_heard(now + DOUBT_MAX - DOUBT_MIN / 2);
        silence.handle_heard(now + DOUBT_MAX);
        assert_eq!(silence.until(), now + DOUBT_MAX);
        assert!(silence.is_in_doubt());
    }

    #[test]
    fn whoever_has_much_under_way_gives_the_answer_the_time_that_it_takes() {
        let now = Instant::now();
        let patience = |bytes: &[usize]| {
            let mut silence = Silence::new(now, Duration::ZERO);
            for bytes in bytes {
                silence.handle_sent(now, *bytes);
            }
            silence.handle_doubt(now);
            silence.until() - now
        };
        let tenth = SLOW_LINE_BYTES as usize / 10;
        assert_eq!(
            patience(&[tenth; 3]),
            DOUBT_MIN + Duration::from_millis(300)
        );
        assert_eq!(patience(&[tenth; 10]), DOUBT_MAX);
        assert_eq!(patience(&[usize::MAX]), DOUBT_MAX);
    }

    #[test]
    fn what_was_carried_long_ago_gives_no_time_and_what_waits_gives_all() {
        let now = Instant::now();
        let mut silence = Silence::new(now, Duration::ZERO);
        silence.handle_sent(now, SLOW_LINE_BYTES as usize);
        let later = now + Duration::from_secs(1);
        silence.handle_doubt(later);
        assert_eq!(silence.until(), later + DOUBT_MIN);
        silence.handle_answer(later);
        silence.handle_backlog(later);
        silence.handle_doubt(later);
        assert_eq!(silence.until(), later + DOUBT_MAX);
    }
}
