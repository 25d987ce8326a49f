//! A link beside the one in use: asked when it may be needed, taken into use by
//! the side that offered it, dropped when it was not needed.
//!
//! The side that offered hears its question answered and knows whether the link
//! in use works again, so it decides, and says so with its first frame. The
//! other side follows that word, or the first message, and nothing less. Only
//! where its own link is over it decides too, and the side that offered follows.

use std::time::{Duration, Instant};

use waymesh_proto::api::AttemptRole;
use waymesh_proto::error::Code;
use waymesh_proto::frame::{FrameReader, Section};
use waymesh_proto::link::Path;

use super::Link;
use crate::liveness::Pulse;

/// How long the side that offered keeps a trial that is not adopted. Chosen: a
/// direct pair of addresses is found within two seconds or not at all.
pub(crate) const TRIAL_OFFERED: Duration = Duration::from_secs(5);
/// How long the other side keeps it, since the first decides. Chosen: longer by
/// all that the goodbye may need.
pub(crate) const TRIAL_ANSWERED: Duration = Duration::from_secs(10);

/// A link beside the one in use that neither side uses yet.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) link: Link,
    role: AttemptRole,
    since: Instant,
    asked: Asked,
}

/// Whether the peer has been asked on a trial since there is a reason to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Waiting,
    Answered,
}

/// What a trial should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Wait.
    Wait,
    /// End: it was not needed.
    Unneeded,
    /// End: it was asked and did not answer.
    Silent,
}

/// What a frame on a trial says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Questions and answers; nothing that only a link in use carries.
    Question,
    /// The peer uses it.
    Adopted,
    /// The peer leaves it, for this reason.
    Goodbye(Code),
    /// What the expected peer does not say.
    Wrong(String),
}

/// What the side that offered makes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The trial takes the place of the link in use.
    Adopt,
    /// It goes on being a trial.
    Stay,
}

impl Trial {
    pub(crate) const fn new(now: Instant, link: Link, role: AttemptRole) -> Self {
        Self {
            link,
            role,
            since: now,
            asked: Asked::NotYet,
        }
    }

    pub(crate) const fn role(&self) -> AttemptRole {
        self.role
    }

    /// What the time and the state of the link in use demand. A working path is
    /// not given up for a worse one: the trial is asked only if it is better, or
    /// if the one in use may be dead. That it is better, the side that offered decides.
    pub(crate) fn tend(&mut self, now: Instant, used: &Link) -> Verdict {
        if self.ends_at() <= now {
            return Verdict::Unneeded;
        }
        match (self.asked, self.is_wanted(now, used)) {
            (Asked::NotYet, true) => {
                self.asked = Asked::Waiting;
                self.link.liveness.forget_questions();
                self.link.ask(now);
            }
            (Asked::Waiting, true) => match self.link.liveness.poll(now) {
                Pulse::Fine => {}
                Pulse::Probe(token) => self.link.probe = Some(token),
                Pulse::Dead => return Verdict::Silent,
            },
            // What was in doubt works again; the next doubt is asked about anew.
            (Asked::Waiting | Asked::Answered, false) => self.asked = Asked::NotYet,
            (Asked::NotYet, false) | (Asked::Answered, true) => {}
        }
        Verdict::Wait
    }

    /// What a frame that arrived on it says of it; nothing is changed by it.
    pub(crate) fn read(&self, frame: &[u8]) -> Said {
        let sections = match FrameReader::new(frame) {
            Ok(sections) => sections,
            Err(error) => return Said::Wrong(format!("the peer sent a bad frame: {error}")),
        };
        let mut said = Said::Question;
        for section in sections {
            match section {
                Ok(Section::Hello(life)) if life != self.link.incarnation => {
                    return Said::Wrong("it is with another incarnation".into());
                }
                Ok(Section::Hello(_) | Section::Probe(_) | Section::Echo(_)) => {}
                Ok(Section::Goodbye(code)) => return Said::Goodbye(code),
                // Channels overtake each other: a message may come before the word.
                Ok(
                    Section::Adopted
                    | Section::Message(..)
                    | Section::Chunk(..)
                    | Section::Ack(_)
                    | Section::Refused { .. }
                    | Section::Revoked(_),
                ) => said = Said::Adopted,
                Err(error) => return Said::Wrong(format!("the peer sent a bad frame: {error}")),
            }
        }
        said
    }

    /// A frame arrived that holds questions and answers only. A question, or the
    /// answer to one that was asked since there is a reason to, shows the side
    /// that offered that the peer is there; it moves if it still has that reason.
    /// A peer that asks is in doubt about the link in use, so that one is asked too.
    pub(crate) fn handle_question(
        &mut self,
        now: Instant,
        used: &mut Link,
        frame: &[u8],
    ) -> Choice {
        let (mut peer_asks, mut is_answered) = (false, false);
        for section in FrameReader::new(frame).into_iter().flatten().flatten() {
            match section {
                Section::Probe(token) => {
                    peer_asks = true;
                    self.link.owe_echo(token);
                }
                Section::Echo(token) => {
                    let rtt = self.link.liveness.handle_echo(now, token);
                    is_answered |= rtt.is_some()
                        && self.asked == Asked::Waiting
                        && self.link.liveness.is_proof(token);
                }
                _ => {}
            }
        }
        if is_answered {
            self.asked = Asked::Answered;
        }
        // While it is asked, only what proves that it works ends the wait.
        if peer_asks || self.asked != Asked::Waiting {
            self.link.liveness.handle_heard(now);
        }
        if self.role == AttemptRole::Answered {
            return Choice::Stay;
        }
        if (peer_asks || is_answered) && self.is_wanted(now, used) {
            return Choice::Adopt;
        }
        if peer_asks {
            used.ask(now);
        }
        Choice::Stay
    }

    /// Whether its path is better than that of the link in use.
    pub(crate) fn is_better(&self, used: &Link) -> bool {
        used.pair.path() == Path::Relay && self.link.pair.path() == Path::Direct
    }

    fn is_wanted(&self, now: Instant, used: &Link) -> bool {
        let better = self.is_better(used) && self.role == AttemptRole::Offered;
        used.liveness.is_questioned(now) || better
    }

    fn ends_at(&self) -> Instant {
        let patience = match self.role {
            AttemptRole::Offered => TRIAL_OFFERED,
            AttemptRole::Answered => TRIAL_ANSWERED,
        };
        self.since + patience
    }

    /// When [`Trial::tend`] may say something new by itself.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let ends = self.ends_at();
        match self.asked {
            Asked::Waiting => ends.min(self.link.liveness.poll_timeout()),
            Asked::NotYet | Asked::Answered => ends,
        }
    }
}
