//! Links: made when wanted, what arrives on them, watched while they live.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;
use waymesh_proto::api::{AttemptOutcome, AttemptPurpose, AttemptRole};
use waymesh_proto::error::Code;
use waymesh_proto::frame::{FrameReader, FrameWriter, Section};
use waymesh_proto::ids::{LinkId, SessionId};
use waymesh_proto::link::{CandidatePair, DownReason, LinkCommand, LinkEvent, Tried};
use waymesh_proto::signaling::Signal;

use super::paths::{Fate, Heard};
use super::{Mesh, Topology};
use crate::app::{Event, RegistryCommand};
use crate::attempts::End;
use crate::link::{Link, among};
use crate::liveness::Pulse;
use crate::peer::{Peer, PeerKey};
use crate::session::{ATTEMPT_TIMEOUT, Quit, Step};

/// How long a link may carry nothing before it is closed (`on_demand` only). Chosen.
const IDLE_CLOSE: Duration = Duration::from_secs(600);

/// How long the first letter has before the offer of a link is made, whose
/// computing stands in the way of sealing it. Chosen: several times what sealing takes.
pub(super) const LETTER_FIRST: Duration = Duration::from_millis(5);
/// Links that are over, of which net may still tell what was tried; of older
/// ones it is not recorded.
const PAST_LINKS_MAX: usize = 256;

impl Mesh {
    /// Something happened on the network.
    pub fn handle_link(&mut self, now: Instant, event: LinkEvent) {
        let link = event.link();
        if let LinkEvent::Tried { tried, .. } = event {
            return self.handle_tried(link, *tried);
        }
        let Some(key) = self.by_link.get(&link).copied() else {
            self.counters.stray_frames += 1;
            return;
        };
        match event {
            LinkEvent::Offered { sdp, .. } => self.tell_peer(key, link, Signal::Offer { sdp }),
            LinkEvent::Answered { sdp, .. } => {
                let offer_hash = String::new();
                self.tell_peer(key, link, Signal::Answer { sdp, offer_hash });
            }
            LinkEvent::Candidate { candidate, .. } => {
                self.tell_peer(key, link, Signal::Candidate { candidate });
            }
            LinkEvent::Up { pair, .. } => self.handle_up(now, key, link, pair),
            LinkEvent::PairChanged { pair, .. } => self.handle_pair(now, key, link, pair),
            LinkEvent::Frame { bytes, .. } => self.handle_frame(now, key, link, &bytes),
            LinkEvent::Tried { .. } | LinkEvent::Writable { .. } => {}
            LinkEvent::Down { reason, .. } => self.handle_down(now, key, link, &reason),
        }
        self.settle(now, key);
    }

    fn tell_peer(&mut self, key: PeerKey, link: LinkId, signal: Signal) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.sessions.handle_local(link, signal);
        }
    }

    pub(super) fn connect_if_wanted(&mut self, now: Instant, key: PeerKey) {
        let eager = self.config.topology == Topology::FullMesh;
        let may_use_registry = self.may_use_registry(now) && self.makes_links();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let idle = peer.link.is_none() && !peer.sessions.is_trying();
        if eager && idle && peer.eager_at.is_none() && peer.may_connect() {
            // The last attempt failed, whatever it was for: the mesh is to become whole.
            peer.eager_at = peer.sessions.not_before().or(Some(now));
        }
        let Some(purpose) = peer.purpose(now) else {
            return;
        };
        if purpose == AttemptPurpose::Connect {
            peer.wanted_since.get_or_insert(now);
            let idle = !peer.sessions.is_trying() && peer.mail.first_until.is_none();
            if may_use_registry && idle && peer.due_mail(now).is_some() {
                peer.mail.first_until = Some(now + LETTER_FIRST);
            }
        }
        let too_early = peer.may_start_at(purpose).is_some_and(|at| at > now);
        if !may_use_registry || peer.sessions.is_trying() || too_early || !peer.may_connect() {
            return;
        }
        peer.eager_at = None;
        peer.mail.first_until = None;
        let session = SessionId::from_bytes(self.rng.random());
        let link = self.new_link(key);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.sessions.start(now, session, link);
            self.note_attempt(now, key, link, AttemptRole::Offered, purpose);
        }
    }

    /// Writes down that an attempt begins.
    pub(super) fn note_attempt(
        &mut self,
        now: Instant,
        key: PeerKey,
        link: LinkId,
        role: AttemptRole,
        purpose: AttemptPurpose,
    ) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.attempts.begin(now, link, role, purpose);
            if peer.link.is_some() && peer.upgrade.due().is_some() {
                peer.upgrade.handle_tried(now, peer.sessions.manners());
            }
        }
    }

    pub(super) fn carry_out_steps(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        while let Some((link, quit)) = peer.sessions.poll_quit() {
            note_quit(now, peer, link, quit);
        }
        while let Some(step) = peer.sessions.poll_step() {
            match step {
                Step::Link(command) => {
                    if let LinkCommand::Close { link } = &command
                        && self.by_link.remove(link).is_some()
                    {
                        remember(&mut self.past_links, *link, key);
                    }
                    self.link_commands.push_back(command);
                }
                Step::Signal {
                    session,
                    seq,
                    signal,
                } => {
                    let (Some(to), Some(to_incarnation)) = (peer.id, peer.incarnation) else {
                        continue;
                    };
                    self.registry_commands.push_back(RegistryCommand::Signal {
                        to,
                        to_incarnation,
                        session,
                        seq,
                        signal,
                    });
                }
            }
        }
    }

    /// Net tells what an attempt consisted of, maybe after it is over.
    fn handle_tried(&mut self, link: LinkId, tried: Tried) {
        let mut past = self.past_links.iter().filter(|(id, _)| *id == link);
        let past = past.next().map(|(_, key)| *key);
        let key = self.by_link.get(&link).copied().or(past);
        let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) else {
            return;
        };
        if let Some(why) = peer.attempts.handle_tried(link, tried)
            && peer.link.is_none()
        {
            peer.reason = format!("the last attempt to make a link failed: {why}");
        }
    }

    /// A new link is up: the first is used at once, one beside another is on trial.
    fn handle_up(&mut self, now: Instant, key: PeerKey, id: LinkId, pair: CandidatePair) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (Some(risen), Some(incarnation)) = (peer.sessions.handle_up(id), peer.incarnation)
        else {
            return self.close(key, id);
        };
        let since = peer.wanted_since.take().filter(|_| peer.link.is_none());
        let setup = now.saturating_duration_since(since.unwrap_or(risen.since));
        let mut link = Link::new(now, id, pair, incarnation, setup);
        if peer.link.is_some() {
            return self.begin_trial(now, key, link, risen.role);
        }
        link.ask(now);
        self.adopt(now, key, link, "a link came up");
    }

    fn handle_pair(&mut self, now: Instant, key: PeerKey, id: LinkId, pair: CandidatePair) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let manners = peer.sessions.manners();
        if let Some(trial) = peer.trial.as_mut().filter(|trial| trial.link.id == id) {
            trial.link.pair = pair;
            peer.attempts.note_path(id, pair.path());
        } else if let Some(link) = peer.link.as_mut().filter(|link| link.id == id) {
            let before = std::mem::replace(&mut link.pair, pair);
            if before.path() != pair.path() {
                peer.upgrade.begin(now, pair.path(), manners);
            }
            peer.reason = format!("{}: its pair of addresses changed", works(&pair));
            let status = peer.status();
            self.tell_all(&Event::PathChanged { peer: status });
        }
    }

    fn handle_down(&mut self, now: Instant, key: PeerKey, id: LinkId, reason: &DownReason) {
        self.by_link.remove(&id);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let tried = peer.attempts.words(id);
        let why = tried.filter(|_| *reason == DownReason::IceFailed);
        let why = why.unwrap_or_else(|| reason.to_string());
        if peer.sessions.handle_down(now, id, &why, &mut self.rng) {
            peer.reason = format!("the last attempt to make a link failed: {why}");
            peer.attempts.end(now, id, failed(why));
        }
        if let Some(trial) = peer.trial.as_ref().filter(|trial| trial.link.id == id) {
            let end = match (trial.role(), reason) {
                (AttemptRole::Answered, DownReason::ClosedByPeer) => {
                    "the peer goes on with the link in use".into()
                }
                _ => format!("it ended unused: {reason}"),
            };
            let end = unneeded(end);
            peer.end_trial(now, end, &mut self.rng);
        }
        peer.dormant.take_if(|dormant| dormant.link.id == id);
        if peer.is_link(id) {
            self.lose_link(now, key, &reason.to_string(), Fate::Ended);
        }
    }

    fn handle_frame(&mut self, now: Instant, key: PeerKey, id: LinkId, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.trial.as_ref().is_some_and(|trial| trial.link.id == id)
            && self.hear_trial(now, key, bytes) == Heard::Handled
        {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(link) = among(&mut peer.link, &mut peer.dormant, id) else {
            self.counters.stray_frames += 1;
            return;
        };
        link.liveness.handle_heard(now);
        if peer.is_link(id) && std::mem::take(&mut peer.mail.has_told_acks) {
            peer.streams.repeat_acks(now);
        }
        let reader = match FrameReader::new(bytes) {
            Ok(reader) => reader,
            Err(error) => return self.handle_bad_frame(now, key, &error.to_string()),
        };
        for section in reader {
            match section {
                Ok(section) => {
                    if !self.handle_section(now, key, id, &section) {
                        return;
                    }
                }
                Err(error) => return self.handle_bad_frame(now, key, &error.to_string()),
            }
        }
        // A sign of life, but not of what is still on its way.
        if let Some(peer) = self.peers.get_mut(&key)
            && let Some(link) = &mut peer.link
            && peer.streams.is_unanswered()
        {
            link.liveness.handle_sent(now);
        }
    }

    /// Net did not take a frame: what was in it is not on its way, so the link
    /// is given up and everything goes again on the next one.
    pub fn handle_unsent(&mut self, now: Instant, link: LinkId) {
        self.counters.unsent_frames += 1;
        if let Some(key) = self.by_link.get(&link).copied() {
            self.give_up_link(now, key, link, "the link did not take a frame");
            self.settle(now, key);
        }
    }

    /// False when the link is gone by what the section said.
    fn handle_section(
        &mut self,
        now: Instant,
        key: PeerKey,
        id: LinkId,
        section: &Section<'_>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let Some(link) = among(&mut peer.link, &mut peer.dormant, id) else {
            return false;
        };
        match section {
            Section::Hello(incarnation) => {
                if *incarnation != link.incarnation {
                    self.drop_link(now, key, "the link is with another incarnation");
                    return false;
                }
            }
            Section::Probe(token) => link.owe_echo(*token),
            Section::Echo(token) => {
                // Whoever answers what was asked since lives: the registry was
                // wrong about a newer life.
                if link.liveness.is_proof(*token) {
                    peer.incarnation = Some(link.incarnation);
                }
                if let Some(rtt) = link.liveness.handle_echo(now, *token) {
                    self.revive(now, key, id);
                    self.answer_pings(key, *token, rtt);
                }
            }
            Section::Goodbye(code) => {
                self.drop_link(now, key, &format!("the peer closed it: {code}"));
                return false;
            }
            Section::Revoked(text) => self.hear_revocation(id, text),
            Section::Adopted => self.revive(now, key, id),
            Section::Message(..)
            | Section::Chunk(..)
            | Section::Ack(_)
            | Section::Refused { .. } => {
                if matches!(section, Section::Message(..) | Section::Chunk(..)) {
                    link.last_used = now;
                }
                if let Err(error) = peer.streams.handle_section(now, section) {
                    self.counters.abuses += 1;
                    self.drop_link(now, key, &error.to_string());
                    return false;
                }
            }
        }
        true
    }

    fn handle_bad_frame(&mut self, now: Instant, key: PeerKey, why: &str) {
        self.counters.bad_frames += 1;
        self.drop_link(now, key, &format!("the peer sent a bad frame: {why}"));
    }

    /// Acts on what the link's life signs say.
    pub(super) fn check_life(&mut self, now: Instant, key: PeerKey) {
        let on_demand = self.config.topology == Topology::OnDemand;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let busy = peer.streams.wants_link() || peer.awaited || peer.is_link_awaited();
        let Some(link) = &mut peer.link else {
            return;
        };
        match link.liveness.poll(now) {
            Pulse::Fine => {}
            Pulse::Probe(token) => link.probe = Some(token),
            Pulse::Dead => {
                return self.lose_link(now, key, "the peer stopped answering", Fate::Silent);
            }
        }
        if on_demand && self.registry_up && !busy && link.last_used + IDLE_CLOSE <= now {
            self.drop_link(now, key, "it was idle");
        }
    }

    /// A peer that left the registry and cannot be probed is lost: its calls end.
    pub(super) fn check_lost(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.lost_at.is_some_and(|at| at <= now) {
            peer.lost_at = None;
            self.handle_lost(now, key, "it left the registry and does not answer");
        }
    }

    /// This node stops: what goodbyes to send before the links are closed.
    pub fn goodbyes(&mut self) -> Vec<(LinkId, Vec<u8>)> {
        let mut writer = FrameWriter::default();
        writer.put(&Section::Goodbye(Code::ShuttingDown));
        let frame = writer.into_bytes();
        let links = self.peers.values().filter_map(|peer| {
            let dormant = peer.dormant.as_ref().map(|dormant| dormant.link.id);
            peer.link.as_ref().map(|link| link.id).or(dormant)
        });
        links.map(|link| (link, frame.clone())).collect()
    }
}

/// What a link that is up goes over, in words.
pub(super) fn works(pair: &CandidatePair) -> String {
    let (local, remote, protocol) = (pair.local, pair.remote, pair.protocol);
    format!("{local:?} to {remote:?} over {protocol:?} works").to_lowercase()
}

pub(super) const fn failed(reason: String) -> End {
    End {
        outcome: AttemptOutcome::Failed,
        path: None,
        reason,
    }
}

pub(super) const fn unneeded(reason: String) -> End {
    End {
        outcome: AttemptOutcome::Unneeded,
        path: None,
        reason,
    }
}

/// Remembers whose a link was.
pub(super) fn remember(past: &mut VecDeque<(LinkId, PeerKey)>, link: LinkId, key: PeerKey) {
    if past.len() == PAST_LINKS_MAX {
        past.pop_front();
    }
    past.push_back((link, key));
}

/// Writes down why this node ended an attempt.
fn note_quit(now: Instant, peer: &mut Peer, link: LinkId, quit: Quit) {
    let patience = ATTEMPT_TIMEOUT.as_secs();
    match quit {
        Quit::Unanswered => {
            let reason = format!("the peer did not answer the offer within {patience} s");
            peer.reason = format!("the last attempt to make a link failed: {reason}");
            peer.attempts.end(now, link, failed(reason));
        }
        Quit::Late => {
            let reason = format!("no link came up within {patience} s");
            peer.attempts.end_late(now, link, reason.clone());
            let reason = peer.attempts.words(link).unwrap_or(reason);
            peer.reason = format!("the last attempt to make a link failed: {reason}");
        }
        // Whoever heard of the refusal has said why.
        Quit::Refused => {}
        Quit::Unheard => {
            let reason = "the registry was away and may not have passed the offer on".to_owned();
            peer.attempts.end(now, link, failed(reason));
        }
        Quit::GaveWay => {
            let reason = "the peer's attempt took its place".to_owned();
            peer.attempts.end(now, link, unneeded(reason));
        }
        Quit::Abandoned => {
            let reason = "the peer restarted or went away".to_owned();
            peer.attempts.end(now, link, failed(reason));
        }
        Quit::Barred => {
            let reason = "a membership of the mesh ended".to_owned();
            peer.attempts.end(now, link, failed(reason));
        }
    }
}
