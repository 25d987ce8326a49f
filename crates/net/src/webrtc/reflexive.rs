//! Server-reflexive addresses: how this host's UDP socket looks from outside.
//!
//! Every STUN server that is known is asked at once on the socket that the links
//! use (RFC 8445 §5.1.1.2), and nobody waits: what answers, answers. While links
//! are wanted the question is repeated, which keeps the NAT's binding and shows
//! when it changes. Sans-IO.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use waymesh_proto::ice::{ICE_SERVERS_MAX, ICE_URLS_MAX, IceUrl, ServerOutcome, ServerTried, millis};

use super::tried::TransactionId;
use crate::stun;

/// Pauses between the first requests of one question: doubled each time (RFC
/// 8489 §6.2.1). Chosen: as ICE's checks.
const FIRST_RTO: Duration = Duration::from_millis(250);

/// Requests of one question. Seven, as RFC 8489 §6.2.1 has it, take too long to
/// tell a user: with five a silent server is known as silent after 8 s.
const REQUESTS_MAX: u32 = 5;

/// How often a server is asked again. Chosen: NATs forget UDP after 30 s and more.
const ASK_INTERVAL: Duration = Duration::from_secs(20);

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

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// It is none of an open question.
    Nothing,
    /// The mapping is as it was.
    Same,
    /// There was none before, or an old one.
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
    question: Option<Question>,
    /// When the next question is due; only asked while it is wanted.
    next: Option<Instant>,
    mapping: Option<(Mapping, Instant)>,
    /// From question to answer or to giving up.
    took: Duration,
    is_silent: bool,
}

#[derive(Debug)]
struct Question {
    id: TransactionId,
    began: Instant,
    requests: u32,
    repeat: Instant,
}

impl Reflexive {
    /// Sets which servers are asked; what is known of those that stay, stays.
    pub(super) fn set_targets(&mut self, wanted: &[(IceUrl, SocketAddr)]) {
        self.targets
            .retain(|t| wanted.iter().any(|(_, server)| *server == t.server));
        for (url, server) in wanted {
            let is_known = self.targets.iter().any(|t| t.server == *server);
            if !is_known && self.targets.len() < TARGETS_MAX {
                self.targets.push(Target {
                    url: url.clone(),
                    server: *server,
                    question: None,
                    next: None,
                    mapping: None,
                    took: Duration::ZERO,
                    is_silent: false,
                });
            }
        }
    }

    /// Asks every server whose answer is older than the interval.
    pub(super) fn refresh(&mut self, now: Instant) {
        for target in &mut self.targets {
            if target.question.is_none() && target.next.is_none_or(|at| at <= now) {
                self.requests.push_back(target.ask(now));
            }
        }
    }

    /// Asks all servers now, whatever is known: the network may be another one.
    pub(super) fn ask_again(&mut self, now: Instant) {
        for target in &mut self.targets {
            self.requests.push_back(target.ask(now));
        }
    }

    /// Forgets what the servers said: the host's address is another one.
    pub(super) fn forget(&mut self) {
        for target in &mut self.targets {
            target.mapping = None;
        }
    }

    /// When [`Reflexive::handle_timeout`] is due; `is_wanted` says whether the
    /// mappings are to be kept.
    pub(super) fn poll_timeout(&self, is_wanted: bool) -> Option<Instant> {
        let due = self.targets.iter().map(|target| match &target.question {
            Some(question) => Some(question.repeat),
            None => target.next.filter(|_| is_wanted),
        });
        due.flatten().min()
    }

    /// Repeats what was not answered, and asks again what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, is_wanted: bool) {
        for target in &mut self.targets {
            match &mut target.question {
                Some(question) if question.repeat > now => {}
                Some(question) if question.requests < REQUESTS_MAX => {
                    let pause = FIRST_RTO * 2_u32.pow(question.requests);
                    question.requests += 1;
                    question.repeat = now + pause;
                    let request = stun::binding_request(question.id);
                    self.requests.push_back((target.server, request));
                }
                Some(question) => {
                    target.took = now.saturating_duration_since(question.began);
                    target.is_silent = true;
                    target.question = None;
                    target.next = Some(now + ASK_INTERVAL);
                }
                None if is_wanted && target.next.is_some_and(|at| at <= now) => {
                    self.requests.push_back(target.ask(now));
                }
                None => {}
            }
        }
    }

    /// A request to send, and where to.
    pub(super) fn poll_request(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.requests.pop_front()
    }

    /// Takes a STUN response that came from `source` to `base`.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        source: SocketAddr,
        base: SocketAddr,
        bytes: &[u8],
    ) -> Answered {
        let asked = |target: &&mut Target| {
            let id = target.question.as_ref().map(|question| question.id);
            target.server == source && id.is_some_and(|id| bytes.get(8..20) == Some(&id[..]))
        };
        let Some(target) = self.targets.iter_mut().find(asked) else {
            return Answered::Nothing;
        };
        let Some(mapped) = stun::mapped_address(bytes) else {
            return Answered::Nothing;
        };
        target.handle_answer(now, Mapping { mapped, base })
    }

    /// The mappings to offer, the newest servers' last.
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
}

impl Target {
    /// Begins a question, or goes on with an open one.
    fn ask(&mut self, now: Instant) -> (SocketAddr, Vec<u8>) {
        let question = Question {
            id: stun::transaction_id(),
            began: now,
            requests: 1,
            repeat: now + FIRST_RTO,
        };
        let request = stun::binding_request(question.id);
        self.question = Some(question);
        (self.server, request)
    }

    fn handle_answer(&mut self, now: Instant, mapping: Mapping) -> Answered {
        if let Some(question) = self.question.take() {
            self.took = now.saturating_duration_since(question.began);
        }
        self.next = Some(now + ASK_INTERVAL);
        self.is_silent = false;
        match self.mapping.replace((mapping, now)) {
            Some((old, _)) if old == mapping => Answered::Same,
            Some((_, at)) if at + CHANGE_WITHIN > now => Answered::Changed(mapping),
            _ => Answered::New(mapping),
        }
    }

    fn tried(&self, now: Instant) -> ServerTried {
        let (outcome, took) = match (&self.mapping, &self.question) {
            (Some((mapping, _)), _) if !self.is_silent => (
                ServerOutcome::Gave {
                    address: mapping.mapped,
                },
                self.took,
            ),
            _ if self.is_silent => {
                let why = "it does not answer".to_owned();
                (ServerOutcome::Failed { why }, self.took)
            }
            (_, question) => {
                let began = question.as_ref().map_or(now, |question| question.began);
                (
                    ServerOutcome::Waiting,
                    now.saturating_duration_since(began),
                )
            }
        };
        ServerTried {
            url: self.url.clone(),
            outcome,
            took_ms: millis(took),
        }
    }
}
