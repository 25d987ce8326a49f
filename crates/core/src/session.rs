//! How a link to one peer comes about: who offers, who gives way, what is stale.
//!
//! An attempt is a session: an offer, an answer, candidates. When both sides
//! offer at the same moment the *polite* one, whose agent id is smaller, drops
//! its own; if it does not, it never got the other's, which then gives way. A new session never ends a working link before it is up itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;
use waymesh_proto::api::AttemptRole;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, LinkId, SessionId};
use waymesh_proto::link::LinkCommand;
use waymesh_proto::signaling::Signal;

use crate::backoff::{Backoff, LINK_PAUSE_MAX};

/// How long one attempt may take from the offer to open channels.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the winner waits for an answer when both sides offered: then its own offer was
/// lost, and it takes the other one. Chosen: above a round trip through the registry.
pub const GLARE_PATIENCE: Duration = Duration::from_secs(1);
/// Sessions that are remembered so that none is used twice. Chosen.
const SEEN_MAX: usize = 64;
/// Links that are up at a time, and one that is being closed.
const LIVE_MAX: usize = 4;
/// Candidates that may arrive before their offer or answer. Chosen: more than a host has.
const EARLY_MAX: usize = 64;

/// Longest candidate that is taken, bytes. Chosen: twice what the longest address needs.
const CANDIDATE_MAX_BYTES: usize = 512;

/// What an attempt wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell net.
    Link(LinkCommand),
    /// Tell the peer.
    Signal {
        /// The attempt.
        session: SessionId,
        /// The position in it.
        seq: u64,
        /// What to say.
        signal: Signal,
    },
}

/// What a node does when both sides offer at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// It drops its own attempt: its agent id is the smaller one.
    Polite,
    /// It goes on with its own.
    Firm,
}

impl Manners {
    /// Those of one agent toward another.
    pub fn of(own: AgentId, other: AgentId) -> Self {
        if own < other {
            Self::Polite
        } else {
            Self::Firm
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Offering,
    Answered,
    Answering,
}

#[derive(Debug)]
struct Attempt {
    session: SessionId,
    link: LinkId,
    role: Role,
    since: Instant,
    next_seq: u64,
}

/// An offer of the peer's that lost against this node's own.
#[derive(Debug)]
struct Shelved {
    session: SessionId,
    sdp: String,
    due: Instant,
}

/// A link that came up: its late candidates still matter.
#[derive(Debug)]
struct Live {
    session: SessionId,
    link: LinkId,
    next_seq: u64,
}

/// An attempt whose link is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Risen {
    /// When it began.
    pub since: Instant,
    /// Who began it.
    pub role: AttemptRole,
}

/// Why this node ended an attempt itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quit {
    /// Its time was over, and the peer had not answered the offer.
    Unanswered,
    /// Its time was over, and no link had come up.
    Late,
    /// The peer, or the registry in its place, refused it.
    Refused,
    /// The registry was away, and may not have passed the offer on.
    Unheard,
    /// The peer's attempt takes its place.
    GaveWay,
    /// The peer restarted or went away.
    Abandoned,
    /// One of the two is no member of the mesh any more.
    Barred,
}

/// The attempts to make a link to one peer.
#[derive(Debug)]
pub struct Sessions {
    manners: Manners,
    attempt: Option<Attempt>,
    shelved: Option<Shelved>,
    /// The sessions of links that are up, oldest first.
    live: VecDeque<Live>,
    seen: VecDeque<SessionId>,
    early: Vec<(SessionId, String)>,
    backoff: Backoff,
    steps: VecDeque<Step>,
    quits: VecDeque<(LinkId, Quit)>,
}

impl Sessions {
    /// No attempt yet.
    pub const fn new(manners: Manners) -> Self {
        Self {
            manners,
            attempt: None,
            shelved: None,
            live: VecDeque::new(),
            seen: VecDeque::new(),
            early: Vec::new(),
            backoff: Backoff::new(LINK_PAUSE_MAX),
            steps: VecDeque::new(),
            quits: VecDeque::new(),
        }
    }

    /// What this node does when both offer.
    pub const fn manners(&self) -> Manners {
        self.manners
    }

    /// Whether an attempt is under way.
    pub const fn is_trying(&self) -> bool {
        self.attempt.is_some()
    }

    /// When the next attempt may start; `None` is at once.
    pub const fn not_before(&self) -> Option<Instant> {
        self.backoff.not_before()
    }

    /// The cause of past failures has gone: try at once when asked.
    pub const fn forgive(&mut self) {
        self.backoff.reset();
    }

    /// What is to be done.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// An attempt that this node ended itself, and why.
    pub fn poll_quit(&mut self) -> Option<(LinkId, Quit)> {
        self.quits.pop_front()
    }

    /// Starts an attempt as the offerer.
    pub fn start(&mut self, now: Instant, session: SessionId, link: LinkId) {
        self.give_up(Quit::GaveWay);
        self.shelved = None;
        self.remember(session);
        self.attempt = Some(Attempt {
            session,
            link,
            role: Role::Offering,
            since: now,
            next_seq: 0,
        });
        self.steps
            .push_back(Step::Link(LinkCommand::Offer { link }));
    }

    /// A verified offer of the peer's present incarnation arrived. `link` is
    /// used when the offer is taken.
    ///
    /// # Errors
    ///
    /// `replayed` when the session has been seen before.
    pub fn handle_offer(
        &mut self,
        now: Instant,
        session: SessionId,
        sdp: String,
        link: LinkId,
    ) -> Result<bool, Fault> {
        if self.seen.contains(&session) {
            return Err(Fault::new(
                Code::Replayed,
                "an offer that was seen before came again",
            ));
        }
        self.remember(session);
        let glare = self
            .attempt
            .as_ref()
            .is_some_and(|a| a.role == Role::Offering);
        if glare && self.manners == Manners::Firm {
            let due = now + GLARE_PATIENCE;
            self.shelved = Some(Shelved { session, sdp, due });
            return Ok(false);
        }
        self.shelved = None;
        self.give_up(Quit::GaveWay);
        self.attempt = Some(Attempt {
            session,
            link,
            role: Role::Answering,
            since: now,
            next_seq: 0,
        });
        self.steps
            .push_back(Step::Link(LinkCommand::Accept { link, sdp }));
        self.add_early(session, link);
        Ok(true)
    }

    /// The peer's offer that lost against this node's own, when its time has come without
    /// an answer to that one: it is to be handled as if it had come now.
    pub fn poll_shelved(&mut self, now: Instant) -> Option<(SessionId, String)> {
        let Shelved { session, sdp, .. } = self.shelved.take_if(|shelved| shelved.due <= now)?;
        let attempt = self.attempt.as_ref();
        if attempt.is_none_or(|attempt| attempt.role != Role::Offering) {
            return None;
        }
        self.give_up(Quit::GaveWay);
        self.seen.retain(|seen| *seen != session);
        Some((session, sdp))
    }

    /// A verified answer arrived.
    pub fn handle_answer(&mut self, session: SessionId, sdp: String) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if attempt.session != session || attempt.role != Role::Offering {
            return;
        }
        attempt.role = Role::Answered;
        let link = attempt.link;
        self.steps
            .push_back(Step::Link(LinkCommand::Answer { link, sdp }));
        self.add_early(session, link);
    }

    /// A verified candidate arrived; kept when it came before its description.
    pub fn handle_candidate(&mut self, session: SessionId, candidate: String) {
        if candidate.len() > CANDIDATE_MAX_BYTES {
            return;
        }
        let ready = self
            .attempt
            .as_ref()
            .filter(|a| a.session == session && a.role != Role::Offering)
            .map(|a| a.link);
        let mut live = self.live.iter().filter(|live| live.session == session);
        match ready.or_else(|| live.next().map(|live| live.link)) {
            Some(link) => self
                .steps
                .push_back(Step::Link(LinkCommand::Candidate { link, candidate })),
            None => {
                if self.early.len() == EARLY_MAX {
                    self.early.remove(0);
                }
                self.early.push((session, candidate));
            }
        }
    }

    fn add_early(&mut self, session: SessionId, link: LinkId) {
        for (_, candidate) in self.early.extract_if(.., |(s, _)| *s == session) {
            self.steps
                .push_back(Step::Link(LinkCommand::Candidate { link, candidate }));
        }
    }

    /// The local description or a local candidate of a link is ready to be told.
    pub fn handle_local(&mut self, link: LinkId, signal: Signal) {
        let attempt = self.attempt.as_mut().filter(|a| a.link == link);
        let attempt = attempt.map(|a| (a.session, &mut a.next_seq));
        let mut live = self.live.iter_mut().filter(|live| live.link == link);
        let live = || live.next().map(|l| (l.session, &mut l.next_seq));
        if let Some((session, next_seq)) = attempt.or_else(live) {
            let seq = *next_seq;
            *next_seq += 1;
            self.steps.push_back(Step::Signal {
                session,
                seq,
                signal,
            });
        }
    }

    /// The link of the attempt is up; `None` when it is not the attempt's link.
    pub fn handle_up(&mut self, link: LinkId) -> Option<Risen> {
        let attempt = self.attempt.take_if(|a| a.link == link)?;
        if self.live.len() == LIVE_MAX {
            self.live.pop_front();
        }
        self.live.push_back(Live {
            session: attempt.session,
            link,
            next_seq: attempt.next_seq,
        });
        self.backoff.reset();
        Some(Risen {
            since: attempt.since,
            role: match attempt.role {
                Role::Offering | Role::Answered => AttemptRole::Offered,
                Role::Answering => AttemptRole::Answered,
            },
        })
    }

    /// A link that was up is over.
    pub fn forget(&mut self, link: LinkId) {
        self.live.retain(|live| live.link != link);
    }

    /// A link ended. Gives whether it was the attempt's, which failed by it. Of
    /// an offer that came to nothing the offerer is told, so that it need not wait.
    pub fn handle_down(
        &mut self,
        now: Instant,
        link: LinkId,
        why: &str,
        rng: &mut impl Rng,
    ) -> bool {
        self.forget(link);
        let Some(attempt) = self.attempt.take_if(|a| a.link == link) else {
            return false;
        };
        if attempt.role == Role::Answering {
            let error = Fault::new(Code::LinkFailed, why);
            self.steps.push_back(Step::Signal {
                session: attempt.session,
                seq: attempt.next_seq,
                signal: Signal::Reject { error },
            });
        }
        self.backoff.handle_failure(now, rng);
        true
    }

    /// The peer will not make this link, or cannot be told of it. Gives the link
    /// of the attempt that failed by it.
    pub fn handle_refused(
        &mut self,
        now: Instant,
        session: SessionId,
        rng: &mut impl Rng,
    ) -> Option<LinkId> {
        let attempt = self.attempt.as_ref().filter(|a| a.session == session)?;
        let link = attempt.link;
        self.give_up(Quit::Refused);
        self.backoff.handle_failure(now, rng);
        Some(link)
    }

    /// The registry was away: an offer that was not answered may not have arrived.
    pub fn handle_signals_lost(&mut self) {
        let attempt = self.attempt.as_ref();
        if attempt.is_some_and(|a| a.role == Role::Offering) {
            self.give_up(Quit::Unheard);
        }
    }

    /// The attempt under way has no future: the peer restarted, or went away.
    pub fn abandon(&mut self) {
        self.give_up(Quit::Abandoned);
    }

    /// Ends the attempt since one of the two is no member any more.
    pub fn bar(&mut self) {
        self.give_up(Quit::Barred);
    }

    fn give_up(&mut self, why: Quit) {
        if let Some(attempt) = self.attempt.take() {
            let link = attempt.link;
            self.quits.push_back((link, why));
            self.early
                .retain(|(session, _)| *session != attempt.session);
            self.steps
                .push_back(Step::Link(LinkCommand::Close { link }));
        }
    }

    /// Ends an attempt that took too long. Gives whether it did.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) -> bool {
        let attempt = self.attempt.as_ref();
        let late = attempt.is_some_and(|a| a.since + ATTEMPT_TIMEOUT <= now);
        if late {
            let unanswered = attempt.is_some_and(|a| a.role == Role::Offering);
            self.give_up(if unanswered {
                Quit::Unanswered
            } else {
                Quit::Late
            });
            self.backoff.handle_failure(now, rng);
        }
        late
    }

    /// When [`Sessions::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().map(|a| a.since + ATTEMPT_TIMEOUT);
        let shelved = self.shelved.as_ref().map(|shelved| shelved.due);
        attempt.into_iter().chain(shelved).min()
    }

    fn remember(&mut self, session: SessionId) {
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(session);
    }
}

#[cfg(test)]
mod tests;
