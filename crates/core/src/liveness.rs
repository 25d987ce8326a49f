//! Whether the peer at the other end of a link is still there, and how far away.
//!
//! Any frame counts as a sign of life. The transport's own detection takes 20 s
//! and more, so this one decides.

use std::time::{Duration, Instant};

/// Silence after which unanswered data is asked about, at least.
pub const SUSPECT_MIN: Duration = Duration::from_millis(500);
/// Silence after which a link with something unanswered is dead.
pub const DEAD_ACTIVE: Duration = Duration::from_secs(2);
/// Silence after which an idle link is asked about.
pub const IDLE_PROBE: Duration = Duration::from_secs(15);
/// Silence after which an idle link is dead.
pub const DEAD_IDLE: Duration = Duration::from_secs(20);
/// Pause between two questions that are not answered. Chosen: several fit before the end.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// How long the first answer on a link may take before another link is made
/// beside it. Chosen: half of what it may take at most.
const UNMEASURED_PATIENCE: Duration = Duration::from_secs(1);

/// What a link should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing.
    Fine,
    /// Ask the peer with this token.
    Probe(u64),
    /// The peer is gone.
    Dead,
}

/// The life signs of one link.
#[derive(Debug)]
pub struct Liveness {
    last_heard: Instant,
    /// The first thing since `last_heard` that the peer must answer.
    unanswered_since: Option<Instant>,
    last_probe: Option<Instant>,
    probes: Vec<(u64, Instant)>,
    next_token: u64,
    smoothed_rtt: Option<Duration>,
    last_rtt: Option<Duration>,
    /// Ask now, and give up at the instant.
    ultimatum: Option<Instant>,
    /// The first question since the last doubt.
    proof_from: u64,
}

impl Liveness {
    /// A link that has just come up.
    pub const fn new(now: Instant) -> Self {
        Self {
            last_heard: now,
            unanswered_since: None,
            last_probe: None,
            probes: Vec::new(),
            next_token: 1,
            smoothed_rtt: None,
            last_rtt: None,
            ultimatum: None,
            proof_from: 0,
        }
    }

    /// The last measured round trip.
    pub const fn last_rtt(&self) -> Option<Duration> {
        self.last_rtt
    }

    /// A frame arrived.
    pub const fn handle_heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.unanswered_since = None;
        self.ultimatum = None;
    }

    /// Something was sent that the peer must answer.
    pub fn handle_sent(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
    }

    /// The answer to a probe arrived. Gives the round trip when the token is known.
    pub fn handle_echo(&mut self, now: Instant, token: u64) -> Option<Duration> {
        let at = self.probes.iter().position(|(known, _)| *known == token)?;
        let (_, sent) = self.probes.remove(at);
        let rtt = now.saturating_duration_since(sent);
        self.last_rtt = Some(rtt);
        self.smoothed_rtt = Some(self.smoothed_rtt.map_or(rtt, |old| (old * 7 + rtt) / 8));
        Some(rtt)
    }

    /// Whether the answer to this question says anything of the time since the last doubt.
    pub const fn is_proof(&self, token: u64) -> bool {
        token >= self.proof_from
    }

    /// What was asked up to now proves nothing any more, answered or not.
    pub const fn forget_questions(&mut self) {
        self.unanswered_since = None;
        self.proof_from = self.next_token;
    }

    /// Asks the peer now; without an answer within `patience` the link is dead.
    pub fn handle_doubt(&mut self, now: Instant, patience: Duration) {
        let until = now + patience;
        self.last_probe = None;
        self.proof_from = self.next_token;
        self.ultimatum = Some(self.ultimatum.map_or(until, |old| old.min(until)));
    }

    /// Makes a question to send now.
    pub fn probe(&mut self, now: Instant) -> u64 {
        /// Questions whose answers are waited for; older ones are forgotten.
        const PROBES_MAX: usize = 16;
        let token = self.next_token;
        self.next_token += 1;
        if self.probes.len() == PROBES_MAX {
            self.probes.remove(0);
        }
        self.probes.push((token, now));
        self.last_probe = Some(now);
        self.unanswered_since.get_or_insert(now);
        token
    }

    /// What to do at this moment.
    pub fn poll(&mut self, now: Instant) -> Pulse {
        if self.dead_at() <= now {
            return Pulse::Dead;
        }
        if self.probe_at() <= now {
            return Pulse::Probe(self.probe(now));
        }
        Pulse::Fine
    }

    /// When [`Liveness::poll`] will say something new.
    pub fn poll_timeout(&self) -> Instant {
        self.dead_at().min(self.probe_at())
    }

    /// Whether something has been unanswered for so long that another path should help out.
    pub fn is_suspect(&self, now: Instant) -> bool {
        let since = self.unanswered_since.filter(|_| !self.idle());
        since.is_some_and(|since| since + self.suspect_after() <= now)
    }

    /// Whether it is being found out if the peer is still there: by an ultimatum,
    /// or because something has been unanswered for long.
    pub fn is_questioned(&self, now: Instant) -> bool {
        self.ultimatum.is_some() || self.is_suspect(now)
    }

    /// Whether another link should be made beside this one.
    pub fn needs_help(&self, now: Instant) -> bool {
        // Where no round trip was measured, nobody knows what is long.
        let measured = self.smoothed_rtt.is_some();
        let since = self.unanswered_since.filter(|_| !self.idle());
        let long = |since: Instant| since + UNMEASURED_PATIENCE <= now;
        self.is_suspect(now) && (measured || since.is_some_and(long))
    }

    /// Time has jumped: nothing could be heard meanwhile, so nothing is proved
    /// by the silence. Asks the peer now, and gives up after `patience`.
    pub fn handle_jump(&mut self, now: Instant, patience: Duration) {
        self.last_heard = now;
        self.unanswered_since = None;
        self.ultimatum = None;
        self.probes.clear();
        self.handle_doubt(now, patience);
    }

    fn suspect_after(&self) -> Duration {
        SUSPECT_MIN.max(self.smoothed_rtt.unwrap_or_default() * 4)
    }

    fn idle(&self) -> bool {
        // A question asked only because of idleness has the idle patience.
        self.unanswered_since
            .is_none_or(|since| since >= self.last_heard + IDLE_PROBE)
    }

    fn dead_at(&self) -> Instant {
        let silence = if self.idle() {
            self.last_heard + DEAD_IDLE
        } else {
            self.unanswered_since.unwrap_or(self.last_heard)
                + DEAD_ACTIVE.max(self.suspect_after() * 2)
        };
        self.ultimatum.map_or(silence, |end| end.min(silence))
    }

    fn probe_at(&self) -> Instant {
        let first = match (self.ultimatum, self.unanswered_since) {
            (Some(_), _) => self.last_heard,
            (None, Some(since)) if !self.idle() => since + self.suspect_after(),
            _ => self.last_heard + IDLE_PROBE,
        };
        self.last_probe
            .map_or(first, |last| first.max(last + PROBE_PAUSE))
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Runs without an answer until the link is dead; gives the time and the probes.
    fn until_dead(mut liveness: Liveness, start: Instant) -> (Duration, usize) {
        let mut probes = 0;
        loop {
            let now = liveness.poll_timeout();
            match liveness.poll(now) {
                Pulse::Dead => return (now - start, probes),
                Pulse::Probe(_) => probes += 1,
                Pulse::Fine => panic!("woke for nothing"),
            }
        }
    }

    #[test]
    fn a_link_with_unanswered_data_is_dead_after_two_seconds_and_several_probes() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.handle_sent(start);
        let (dead, probes) = until_dead(liveness, start);
        assert_eq!(dead, DEAD_ACTIVE);
        assert!(probes >= 4, "{probes}");
    }

    #[test]
    fn an_idle_link_is_dead_within_twenty_seconds() {
        let start = Instant::now();
        let (dead, probes) = until_dead(Liveness::new(start), start);
        assert_eq!(dead, DEAD_IDLE);
        assert!(probes >= 4, "{probes}");
    }

    #[test]
    fn an_answer_keeps_an_idle_link_alive_and_measures_it() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        let at = start + IDLE_PROBE;
        let Pulse::Probe(token) = liveness.poll(at) else {
            panic!("no probe")
        };
        liveness.handle_heard(at + ms(40));
        assert_eq!(liveness.handle_echo(at + ms(40), token), Some(ms(40)));
        assert_eq!(liveness.poll(at + ms(40)), Pulse::Fine);
        assert_eq!(liveness.poll_timeout(), at + ms(40) + IDLE_PROBE);
    }

    #[test]
    fn doubt_is_asked_about_although_a_probe_went_out_just_before() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.probe(start);
        liveness.handle_heard(start);
        liveness.handle_doubt(start, ms(200));
        assert!(matches!(liveness.poll(start), Pulse::Probe(_)));
    }

    #[test]
    fn an_answer_to_a_question_from_before_the_doubt_proves_nothing() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        let before = liveness.probe(start);
        liveness.handle_doubt(start, ms(200));
        let Pulse::Probe(after) = liveness.poll(start) else {
            panic!("no probe")
        };
        assert!(!liveness.is_proof(before));
        assert!(liveness.is_proof(after));
    }

    #[test]
    fn doubt_is_settled_within_the_patience_given() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.handle_doubt(start, ms(1_000));
        let (dead, probes) = until_dead(liveness, start);
        assert_eq!(dead, ms(1_000));
        assert!(probes >= 3, "{probes}");
    }
}
