//! The links to one peer: the one in use, one on trial, one that fell silent.
//!
//! A pair has one link in use. A new one beside it is a *trial*: it carries
//! nothing but probes until the side that offered it takes it into use. A link whose peer stopped answering is
//! *dormant*: it carries nothing but a probe now and then, in case the path
//! comes back before another one does.

mod trial;

use std::time::{Duration, Instant};

use waymesh_proto::frame::{FrameWriter, Section};
use waymesh_proto::ids::{Incarnation, LinkId};
use waymesh_proto::link::{CandidatePair, Path};

use crate::liveness::Liveness;
use crate::session::Manners;

#[cfg(test)]
pub(crate) use trial::TRIAL_OFFERED;
pub(crate) use trial::{Choice, Said, Trial, Verdict};

/// Pause between the probes of a dormant link. Chosen: a path that is back is
/// used soon, and a thousand dormant links cost little.
pub(crate) const DORMANT_PROBE: Duration = Duration::from_secs(2);
/// How long a link stays dormant where a new one could be made. Chosen: several
/// attempts at a new one have failed by then.
pub(crate) const DORMANT_MAX: Duration = Duration::from_secs(30);
/// How long it stays dormant where none can be made. Chosen: net notices long
/// before that nothing comes back on most links.
pub(crate) const DORMANT_LIMIT: Duration = Duration::from_secs(600);
/// Pauses between attempts at a direct link while a relayed one works; the last
/// one repeats. Chosen: a NAT that was busy is tried again soon, one that lets
/// nothing through costs little.
pub(crate) const UPGRADE_PAUSES: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];
/// How much later the polite side tries, so that the other one's attempt comes
/// first and counts for both. Chosen: longer than an attempt.
const POLITE_DELAY: Duration = Duration::from_secs(6);

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) pair: CandidatePair,
    pub(crate) incarnation: Incarnation,
    pub(crate) liveness: Liveness,
    pub(crate) said_hello: bool,
    /// The peer is to be told that this node uses the link.
    pub(crate) owes_word: bool,
    pub(crate) probe: Option<u64>,
    pub(crate) echoes: Vec<u64>,
    pub(crate) last_used: Instant,
    pub(crate) setup: Duration,
    /// How many of the known revocations the peer has been told on this link.
    pub(crate) told_revocations: usize,
    /// Revocations that it told and that do not hold.
    pub(crate) false_revocations: u32,
}

impl Link {
    /// A link that has just come up; nothing is asked on it yet.
    pub(crate) const fn new(
        now: Instant,
        id: LinkId,
        pair: CandidatePair,
        incarnation: Incarnation,
        setup: Duration,
    ) -> Self {
        Self {
            id,
            pair,
            incarnation,
            liveness: Liveness::new(now),
            said_hello: false,
            owes_word: false,
            probe: None,
            echoes: Vec::new(),
            last_used: now,
            setup,
            told_revocations: 0,
            false_revocations: 0,
        }
    }

    /// Asks the peer for a sign of life with the next frame.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.probe = Some(self.liveness.probe(now));
    }

    /// A probe of the peer arrived.
    pub(crate) fn owe_echo(&mut self, token: u64) {
        /// Probes that are answered at a time; a peer that asks more is told the newest.
        const ECHOES_MAX: usize = 8;
        if self.echoes.len() == ECHOES_MAX {
            self.echoes.remove(0);
        }
        self.echoes.push(token);
    }

    /// Whether something has to be said that is not about messages.
    pub(crate) const fn has_question(&self) -> bool {
        self.probe.is_some() || !self.echoes.is_empty()
    }

    /// Writes what is to be said first: who speaks, which link is used, questions and answers.
    pub(crate) fn put_head(&mut self, me: Incarnation, writer: &mut FrameWriter) {
        if !std::mem::replace(&mut self.said_hello, true) {
            writer.put(&Section::Hello(me));
        }
        if std::mem::take(&mut self.owes_word) {
            writer.put(&Section::Adopted);
        }
        if let Some(token) = self.probe.take() {
            writer.put(&Section::Probe(token));
        }
        for token in self.echoes.drain(..) {
            writer.put(&Section::Echo(token));
        }
    }
}

/// The link in use or the dormant one, whichever has this id.
pub(crate) fn among<'a>(
    link: &'a mut Option<Link>,
    dormant: &'a mut Option<Dormant>,
    id: LinkId,
) -> Option<&'a mut Link> {
    let dormant = dormant.as_mut().map(|dormant| &mut dormant.link);
    let mut links = link.as_mut().into_iter().chain(dormant);
    links.find(|link| link.id == id)
}

/// Whether new links could be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signaling {
    Possible,
    Away,
}

/// A link whose peer stopped answering.
#[derive(Debug)]
pub(crate) struct Dormant {
    pub(crate) link: Link,
    since: Instant,
    next_probe: Instant,
}

impl Dormant {
    /// The link is not in use any more.
    pub(crate) fn new(now: Instant, mut link: Link) -> Self {
        link.owes_word = false;
        Self {
            link,
            since: now,
            next_probe: now + DORMANT_PROBE,
        }
    }

    /// Asks again when it is time.
    pub(crate) fn tend(&mut self, now: Instant) {
        if self.next_probe <= now {
            self.next_probe = now + DORMANT_PROBE;
            self.link.ask(now);
        }
    }

    /// Whether it is kept no longer; where new links can be made, one should
    /// have come up long since.
    pub(crate) fn is_old(&self, now: Instant, signaling: Signaling) -> bool {
        let most = match signaling {
            Signaling::Possible => DORMANT_MAX,
            Signaling::Away => DORMANT_LIMIT,
        };
        self.since + most <= now
    }

    /// When to ask next.
    pub(crate) const fn poll_timeout(&self) -> Instant {
        self.next_probe
    }
}

/// When a direct link is tried for while a relayed one works.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    tried: usize,
    due: Option<Instant>,
}

impl Upgrade {
    /// A link is in use on this path: a relayed one is to be replaced.
    pub(crate) fn begin(&mut self, now: Instant, path: Path, manners: Manners) {
        *self = Self::default();
        if path == Path::Relay {
            self.handle_tried(now, manners);
        }
    }

    /// An attempt begins, of either side: the next one is later.
    pub(crate) fn handle_tried(&mut self, now: Instant, manners: Manners) {
        let pause = UPGRADE_PAUSES[self.tried.min(UPGRADE_PAUSES.len() - 1)];
        self.tried += 1;
        let extra = match manners {
            Manners::Polite => POLITE_DELAY,
            Manners::Firm => Duration::ZERO,
        };
        self.due = Some(now + pause + extra);
    }

    /// The network is another one: what failed before may work now.
    pub(crate) fn handle_changed(&mut self, now: Instant) {
        self.tried = 0;
        self.due = self.due.map(|_| now);
    }

    /// When to try next.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }
}
