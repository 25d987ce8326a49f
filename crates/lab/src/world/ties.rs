//! Which link a host uses, as its frames and commands show it: never a worse
//! one for a working one, and none that is not proved.

use std::time::{Duration, Instant};

use waymesh_proto::frame::{FrameReader, Section};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::Path;

use super::host::{Host, life_of};
use super::report::{Checked, Invariant, Violation, hold};

/// Silence before which no link seems dead; see `waymesh_core::liveness::SUSPECT_MIN`.
const QUIET: Duration = waymesh_core::liveness::SUSPECT_MIN;

/// How long doubt about all links lasts that has another cause than silence.
const SHAKEN: Duration = Duration::from_secs(3);

/// What is known of a link that is up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tie {
    since: Instant,
    pub(super) path: Path,
    /// When a frame came on it last.
    heard: Option<Instant>,
    /// The peer has said that it uses it, or used it.
    is_used_by_peer: bool,
    /// It fell silent and is not in use: only an answer brings it back.
    pub(super) is_dormant: bool,
}

impl Tie {
    pub(super) const fn new(since: Instant, path: Path) -> Self {
        Self {
            since,
            path,
            heard: None,
            is_used_by_peer: false,
            is_dormant: false,
        }
    }

    /// A frame of the peer arrives.
    pub(super) fn handle_heard(&mut self, now: Instant, frame: &[u8]) {
        self.heard = Some(now);
        self.is_used_by_peer |= !only_asks(frame);
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.heard.unwrap_or(self.since) + QUIET <= now
    }
}

impl Host {
    fn is_shaken(&self, now: Instant) -> bool {
        self.shaken.is_some_and(|at| at + SHAKEN > now)
    }

    /// The host says that its link to another is over: what is still up is dormant.
    pub(super) fn note_silent(&mut self, of: usize, is_dormant: bool) {
        for (link, (node, _)) in &self.links {
            if let Some(tie) = self
                .ties
                .get_mut(link)
                .filter(|_| life_of(*node).host == of)
            {
                tie.is_dormant = is_dormant;
            }
        }
    }

    /// The links in use or on trial, and whom they are with.
    pub(super) fn used_links(&self) -> impl Iterator<Item = usize> {
        let used = self.links.iter().filter(|(link, _)| self.uses(link));
        used.map(|(_, (node, _))| *node)
    }

    /// Whether a link is in use or on trial: not dormant.
    pub(super) fn uses(&self, link: &LinkId) -> bool {
        !self.ties.get(link).is_some_and(|tie| tie.is_dormant)
    }

    /// A frame goes out: on a link that is newer than another to the same life
    /// it asks, and only for a reason.
    pub(super) fn check_trial(
        &self,
        now: Instant,
        at: usize,
        link: LinkId,
        frame: &[u8],
    ) -> Checked {
        let (Some((peer, _)), Some(trial)) = (self.links.get(&link), self.ties.get(&link)) else {
            return Ok(());
        };
        let rivals = self.links.iter().filter(|(_, (other, _))| other == peer);
        let older = rivals.filter_map(|(id, _)| self.ties.get(id));
        let mut older = older.filter(|tie| tie.since < trial.since && !tie.is_dormant);
        let Some(used) = older.next() else {
            return Ok(());
        };
        hold!(
            only_asks(frame),
            NothingUnproved,
            "host {at} sends more than probes on {link}, which is not in use"
        );
        let worse = used.path == Path::Direct && trial.path == Path::Relay;
        hold!(
            !worse || !asks(frame) || used.is_quiet(now) || self.is_shaken(now),
            NeverForWorse,
            "host {at} asks on {link}, which is relayed, while a direct link works"
        );
        Ok(())
    }

    /// A link was closed: what takes its place has been heard, or it was dead;
    /// and what is worse takes its place only when the peer uses it already.
    pub(super) fn check_replaced(&self, now: Instant, at: usize, old: Tie, peer: usize) -> Checked {
        let rivals = self.links.iter().filter(|(_, (other, _))| *other == peer);
        let rivals = rivals.filter_map(|(id, _)| Some((id, self.ties.get(id)?)));
        let rivals: Vec<_> = rivals.collect();
        if old.is_dormant || rivals.iter().any(|(_, tie)| tie.since < old.since) {
            // It was on trial itself, or not in use any more.
            return Ok(());
        }
        for (link, tie) in rivals.into_iter().filter(|(_, tie)| tie.since > old.since) {
            hold!(
                tie.heard.is_some() || old.is_quiet(now),
                NothingUnproved,
                "host {at} gave a working link up for {link}, on which nothing ever came"
            );
            let worse = old.path == Path::Direct && tie.path == Path::Relay;
            hold!(
                !worse || tie.is_used_by_peer || old.is_quiet(now) || self.is_shaken(now),
                NeverForWorse,
                "host {at} gave a working direct link up for {link}, which is relayed"
            );
        }
        Ok(())
    }
}

/// Whether a frame asks the peer something.
fn asks(frame: &[u8]) -> bool {
    FrameReader::new(frame)
        .is_ok_and(|mut sections| sections.any(|section| matches!(section, Ok(Section::Probe(_)))))
}

/// Whether a frame holds nothing that only a link in use carries.
fn only_asks(frame: &[u8]) -> bool {
    let question = |section: &Section<'_>| {
        matches!(
            section,
            Section::Hello(_) | Section::Probe(_) | Section::Echo(_)
        )
    };
    FrameReader::new(frame).is_ok_and(|mut sections| {
        sections.all(|section| section.is_ok_and(|section| question(&section)))
    })
}
