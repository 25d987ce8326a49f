//! Server-reflexive addresses: how this host's UDP socket looks from outside.
//!
//! Every STUN server that is known is asked at once on the socket that the links
//! use (RFC 8445 §5.1.1.2), and nobody waits: what answers, answers. While links
//! are wanted the question is repeated, which keeps the NAT's binding and shows
//! when it changes. Sans-IO.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use waymesh_proto::ice::{
    ICE_SERVERS_MAX, ICE_URLS_MAX, IceUrl, ServerOutcome, ServerTried, millis,
};

use super::demand::Upkeep;
use super::randomness::seed;
use crate::stun::binding::{Binding, Question};

/// How often a server is asked again. Chosen: NATs forget UDP after 30 s and more.
const ASK_INTERVAL: Duration = Duration::from_secs(20);

/// By how much the pause grows where a server is silent: it doubles each time, as often
/// as this. Chosen: up to five minutes and some; when a link is wanted it is asked sooner.
const DOUBLINGS_MAX: u32 = 4;

/// How old an answer may be that is believed when a link is wanted: links are often made
/// anew because a NAT has changed. Chosen: beyond what many links at once ask.
pub(super) const BELIEVED: Duration = Duration::from_secs(1);

/// How old a mapping may be that a new one counts as a change of: after that the
/// NAT may have forgotten it because nothing was sent.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);

/// Servers that are asked: each URL by both IP families.
const TARGETS_MAX: usize = ICE_SERVERS_MAX * ICE_URLS_MAX;

/// Reflexive candidates of one IP family. Chosen: behind a NAT that maps by
/// destination every server sees another port, and none of them is of use but
/// its address to a relay's permissions.
const CANDIDATES_PER_FAMILY_MAX: usize = 2;

/// A reflexive address and the host's address behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) mapped: SocketAddr,
    pub(super) base: SocketAddr,
}

/// What a datagram of a server meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// It answers no open question.
    Nothing,
    /// It tells nothing new.
    Same,
    /// There was no mapping before, or an old one.
    New(Mapping),
    /// The mapping was another a moment ago: a NAT has changed.
    Changed(Mapping),
}

/// All STUN servers and what they said.
#[derive(Debug, Default)]
pub(super) struct Reflexive {
    targets: Vec<Target>,
    requests: VecDeque<(SocketAddr, Vec<u8>)>,
}

#[derive(Debug)]
struct Target {
    url: IceUrl,
    server: SocketAddr,
    question: Option<Open>,
    /// When the next question makes sense, if a link is wanted then.
    next: Instant,
    /// Questions in a row without a good answer.
    failures: u32,
    mapping: Option<(Mapping, Instant)>,
    failure: Option<String>,
    /// From question to answer, or to giving up.
    took: Duration,
}

#[derive(Debug)]
struct Open {
    binding: Binding,
    began: Instant,
}

impl Reflexive {
    /// Sets which servers are asked; what is known of those that stay, stays.
    pub(super) fn set_targets(&mut self, now: Instant, wanted: &[(IceUrl, SocketAddr)]) {
        self.targets
            .retain(|t| wanted.iter().any(|(_, server)| *server == t.server));
        for (url, server) in wanted {
            let is_known = self.targets.iter().any(|t| t.server == *server);
            if !is_known && self.targets.len() < TARGETS_MAX {
                self.targets.push(Target {
                    url: url.clone(),
                    server: *server,
                    question: None,
                    next: now,
                    failures: 0,
                    mapping: None,
                    failure: None,
                    took: Duration::ZERO,
                });
            }
        }
    }

    /// Asks every server that nothing is known of.
    pub(super) fn ask_new(&mut self, now: Instant) {
        let is_new = |t: &&mut Target| t.mapping.is_none() && t.failure.is_none();
        let new = self.targets.iter_mut().filter(is_new);
        for target in new.filter(|t| t.question.is_none()) {
            target.ask(now);
        }
        self.collect();
    }

    /// Asks every server whose answer is older than a moment: a link is wanted.
    pub(super) fn doubt(&mut self, now: Instant) {
        let is_old = |target: &&mut Target| match target.mapping {
            Some((_, at)) => at + BELIEVED <= now,
            None => target.next <= now,
        };
        let old = self.targets.iter_mut().filter(is_old);
        for target in old.filter(|t| t.question.is_none()) {
            target.ask(now);
        }
        self.collect();
    }

    /// Asks all servers now: the network may be another one.
    pub(super) fn ask_again(&mut self, now: Instant) {
        for target in &mut self.targets {
            target.failures = 0;
            target.ask(now);
        }
        self.collect();
    }

    /// Forgets what the servers said: the host's addresses are others.
    pub(super) fn forget(&mut self, now: Instant) {
        for target in &mut self.targets {
            (target.mapping, target.failure) = (None, None);
            (target.next, target.failures) = (now, 0);
        }
    }

    /// Whether a server is at this address.
    pub(super) fn has_server(&self, address: SocketAddr) -> bool {
        self.targets.iter().any(|t| t.server == address)
    }

    /// When [`Reflexive::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self, upkeep: Upkeep) -> Option<Instant> {
        let due = self.targets.iter().map(|target| match &target.question {
            Some(open) => open.binding.poll_timeout(),
            None => (upkeep == Upkeep::Kept).then(|| target.due()),
        });
        due.flatten().min()
    }

    /// Repeats what was not answered, and asks again what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, upkeep: Upkeep) {
        for target in &mut self.targets {
            if let Some(open) = &mut target.question {
                open.binding.handle_timeout(now);
                target.hear_outcome(now, None);
            } else if upkeep == Upkeep::Kept && target.due() <= now {
                target.ask(now);
            }
        }
        self.collect();
    }

    /// A request to send, and where to.
    pub(super) fn poll_request(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.requests.pop_front()
    }

    /// Takes a datagram that came from `source` to `base`.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        base: SocketAddr,
        bytes: &[u8],
    ) -> Answered {
        for target in self.targets.iter_mut().filter(|t| t.server == source) {
            let binding = target.question.as_mut().map(|open| &mut open.binding);
            if binding.is_some_and(|binding| binding.handle_datagram(now, bytes)) {
                return target.hear_outcome(now, Some(base));
            }
        }
        Answered::Nothing
    }

    /// The mappings to offer.
    pub(super) fn mappings(&self) -> Vec<Mapping> {
        let mut found: Vec<Mapping> = Vec::new();
        for (mapping, _) in self.targets.iter().filter_map(|t| t.mapping) {
            let family = |m: &&Mapping| m.mapped.is_ipv4() == mapping.mapped.is_ipv4();
            let is_known = found.iter().any(|m| m.mapped == mapping.mapped);
            if !is_known && found.iter().filter(family).count() < CANDIDATES_PER_FAMILY_MAX {
                found.push(mapping);
            }
        }
        found
    }

    /// What came of asking each server.
    pub(super) fn tried(&self, now: Instant) -> impl Iterator<Item = ServerTried> {
        self.targets.iter().map(move |target| target.tried(now))
    }

    fn collect(&mut self) {
        for target in &mut self.targets {
            let open = target.question.as_mut();
            if let Some(request) = open.and_then(|open| open.binding.poll_transmit()) {
                self.requests.push_back((target.server, request));
            }
        }
    }
}

impl Target {
    fn ask(&mut self, now: Instant) {
        self.question = Some(Open {
            binding: Binding::new(Question::default(), now, seed()),
            began: now,
        });
    }

    /// When it is asked though nothing new is wanted.
    fn due(&self) -> Instant {
        let doublings = self.failures.saturating_sub(1).min(DOUBLINGS_MAX);
        self.next + ASK_INTERVAL * (2_u32.pow(doublings) - 1)
    }

    /// Takes what came of the question, if anything did.
    fn hear_outcome(&mut self, now: Instant, base: Option<SocketAddr>) -> Answered {
        let open = self.question.as_mut();
        let Some(outcome) = open.and_then(|open| open.binding.poll_outcome()) else {
            return Answered::Same;
        };
        if let Some(open) = self.question.take() {
            self.took = now.saturating_duration_since(open.began);
        }
        self.next = now + ASK_INTERVAL;
        let mapping = match (outcome, base) {
            (Ok(answer), Some(base)) => Mapping {
                mapped: answer.mapped,
                base,
            },
            (Ok(_), None) => return Answered::Same,
            (Err(error), _) => {
                self.failure = Some(error.to_string());
                self.failures = self.failures.saturating_add(1);
                return Answered::Same;
            }
        };
        (self.failure, self.failures) = (None, 0);
        match self.mapping.replace((mapping, now)) {
            Some((old, _)) if old == mapping => Answered::Same,
            Some((_, at)) if at + CHANGE_WITHIN > now => Answered::Changed(mapping),
            _ => Answered::New(mapping),
        }
    }

    fn tried(&self, now: Instant) -> ServerTried {
        let began = self.question.as_ref().map_or(now, |open| open.began);
        let (outcome, took) = match (&self.failure, &self.mapping) {
            (Some(why), _) => (ServerOutcome::Failed { why: why.clone() }, self.took),
            (None, Some((mapping, _))) => {
                let address = mapping.mapped;
                (ServerOutcome::Gave { address }, self.took)
            }
            (None, None) => (ServerOutcome::Waiting, now.saturating_duration_since(began)),
        };
        ServerTried {
            url: self.url.clone(),
            outcome,
            took_ms: millis(took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::message::{Message, Writer, kind};

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 9))
    }

    fn asking(now: Instant, servers: &[u8]) -> Reflexive {
        let url: IceUrl = "stun:s.example".parse().expect("a URL");
        let wanted: Vec<_> = servers.iter().map(|n| (url.clone(), address(*n))).collect();
        let mut reflexive = Reflexive::default();
        reflexive.set_targets(now, &wanted);
        reflexive.ask_new(now);
        reflexive
    }

    /// Answers the next request as its server would.
    fn answer(reflexive: &mut Reflexive, now: Instant, mapped: u8) -> Answered {
        let (server, request) = reflexive.poll_request().expect("a request");
        let request = Message::parse(&request).expect("a request");
        let mut writer = Writer::success(&request);
        writer.put_xor_address(kind::XOR_MAPPED_ADDRESS, address(mapped));
        let bytes = writer.finish_with_fingerprint();
        reflexive.handle_datagram(now, server, address(100), &bytes)
    }

    #[test]
    fn all_servers_are_asked_at_once_and_one_that_is_silent_holds_up_no_other() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1, 2]);
        let mapping = Mapping {
            mapped: address(50),
            base: address(100),
        };
        assert_eq!(answer(&mut reflexive, now, 50), Answered::New(mapping));
        assert_eq!(reflexive.mappings(), [mapping]);
        assert!(
            reflexive.poll_request().is_some(),
            "the other was asked too"
        );
        let mut at = now;
        while let Some(due) = reflexive.poll_timeout(Upkeep::Idle) {
            at = due;
            reflexive.handle_timeout(at, Upkeep::Idle);
        }
        assert!(at < now + Duration::from_secs(10), "{:?}", at - now);
        let outcomes: Vec<_> = reflexive.tried(at).map(|tried| tried.outcome).collect();
        assert!(matches!(outcomes[0], ServerOutcome::Gave { .. }));
        assert!(matches!(outcomes[1], ServerOutcome::Failed { .. }));
    }

    #[test]
    fn a_mapping_is_asked_for_again_while_it_is_wanted_and_a_change_is_told() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1]);
        answer(&mut reflexive, now, 50);
        assert_eq!(reflexive.poll_timeout(Upkeep::Idle), None);
        let later = reflexive.poll_timeout(Upkeep::Kept).expect("wanted");
        assert_eq!(later, now + ASK_INTERVAL);
        reflexive.handle_timeout(later, Upkeep::Kept);
        assert_eq!(answer(&mut reflexive, later, 50), Answered::Same);
        reflexive.ask_again(later);
        let changed = answer(&mut reflexive, later, 51);
        assert!(matches!(changed, Answered::Changed(_)), "{changed:?}");
        let much_later = later + CHANGE_WITHIN;
        reflexive.doubt(much_later);
        let new = answer(&mut reflexive, much_later, 52);
        assert!(matches!(new, Answered::New(_)), "{new:?}");
    }

    #[test]
    fn a_silent_server_is_asked_after_ever_longer_pauses_and_sooner_when_a_link_is_wanted() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1]);
        let mut ended = now;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            while let Some(due) = reflexive.poll_timeout(Upkeep::Idle) {
                ended = due;
                reflexive.handle_timeout(ended, Upkeep::Kept);
            }
            let next = reflexive.poll_timeout(Upkeep::Kept).expect("it is wanted");
            pauses.push((next - ended).as_secs());
            reflexive.handle_timeout(next, Upkeep::Kept);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 320, 320]);
        while let Some(due) = reflexive.poll_timeout(Upkeep::Idle) {
            ended = due;
            reflexive.handle_timeout(ended, Upkeep::Kept);
        }
        reflexive.doubt(ended + ASK_INTERVAL - Duration::from_millis(1));
        assert_eq!(reflexive.poll_timeout(Upkeep::Idle), None);
        let wanted = ended + ASK_INTERVAL;
        reflexive.requests.clear();
        reflexive.doubt(wanted);
        answer(&mut reflexive, wanted, 50);
        assert_eq!(
            reflexive.poll_timeout(Upkeep::Kept),
            Some(wanted + ASK_INTERVAL)
        );
    }

    #[test]
    fn a_server_that_is_new_is_asked_at_once_and_those_that_are_known_no_sooner_for_it() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1, 2]);
        answer(&mut reflexive, now, 50);
        while let Some(due) = reflexive.poll_timeout(Upkeep::Idle) {
            reflexive.handle_timeout(due, Upkeep::Idle);
        }
        reflexive.requests.clear();
        let later = now + Duration::from_secs(600);
        let url: IceUrl = "stun:s.example".parse().expect("a URL");
        let wanted = [1, 2, 3].map(|n| (url.clone(), address(n)));
        for _ in 0..2 {
            reflexive.set_targets(later, &wanted);
            reflexive.ask_new(later);
        }
        let asked: Vec<_> = reflexive.requests.iter().map(|(to, _)| *to).collect();
        assert_eq!(asked, [address(3)]);
        // On another network nothing is known of any.
        reflexive.forget(later);
        reflexive.ask_new(later);
        assert_eq!(reflexive.requests.len(), 3);
    }

    #[test]
    fn after_a_jump_of_ten_minutes_each_server_is_asked_once() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1, 2]);
        // The other one is still being asked when time jumps.
        answer(&mut reflexive, now, 50);
        reflexive.requests.clear();
        let later = now + Duration::from_secs(600);
        reflexive.handle_timeout(later, Upkeep::Kept);
        assert_eq!(reflexive.requests.len(), 2);
        assert!(reflexive.poll_timeout(Upkeep::Kept) > Some(later));
    }

    #[test]
    fn when_a_link_is_wanted_an_answer_is_believed_for_a_moment_only() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1]);
        answer(&mut reflexive, now, 50);
        reflexive.doubt(now + BELIEVED - Duration::from_millis(1));
        assert!(reflexive.poll_request().is_none());
        reflexive.doubt(now + BELIEVED);
        let changed = answer(&mut reflexive, now + BELIEVED, 51);
        assert!(matches!(changed, Answered::Changed(_)), "{changed:?}");
    }

    #[test]
    fn of_one_family_as_many_mappings_as_the_limit_are_offered_and_one_more_is_not() {
        let now = Instant::now();
        let mut reflexive = asking(now, &[1, 2, 3]);
        for n in 0..3 {
            answer(&mut reflexive, now, 50 + n);
        }
        assert_eq!(reflexive.mappings().len(), CANDIDATES_PER_FAMILY_MAX);
    }
}
