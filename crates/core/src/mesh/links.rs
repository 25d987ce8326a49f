//! Links: made when wanted, watched while they live, replaced when they die.

use std::time::{Duration, Instant};

use rand::RngExt;
use waymesh_proto::error::Code;
use waymesh_proto::frame::{FrameReader, Section};
use waymesh_proto::ids::{LinkId, SessionId};
use waymesh_proto::link::{CandidatePair, LinkCommand, LinkEvent};
use waymesh_proto::signaling::Signal;

use super::{Mesh, Topology};
use crate::app::{Event, RegistryCommand};
use crate::liveness::{Liveness, Pulse};
use crate::peer::{Link, PeerKey, Presence};
use crate::session::Step;

/// How long a link may carry nothing before it is closed (`on_demand` only). Chosen.
const IDLE_CLOSE: Duration = Duration::from_secs(600);

/// How long a link may take to answer after the network has changed. Chosen: a
/// path of half a second, with one probe lost.
const NETWORK_PATIENCE: Duration = Duration::from_secs(1);

impl Mesh {
    /// Something happened on the network.
    pub fn handle_link(&mut self, now: Instant, event: LinkEvent) {
        let link = event.link();
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
            LinkEvent::PairChanged { pair, .. } => self.handle_pair(key, link, pair),
            LinkEvent::Frame { bytes, .. } => self.handle_frame(now, key, link, &bytes),
            LinkEvent::Tried { .. } | LinkEvent::Writable { .. } => {}
            LinkEvent::Down { reason, .. } => self.handle_down(now, key, link, &reason.to_string()),
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
        if peer.link.is_some() || !peer.wants_link(now) {
            return;
        }
        peer.wanted_since.get_or_insert(now);
        let too_early = peer.may_connect_at().is_some_and(|at| at > now);
        if !may_use_registry || peer.sessions.is_trying() || too_early || !peer.may_connect() {
            return;
        }
        peer.eager_at = None;
        let session = SessionId::from_bytes(self.rng.random());
        let link = self.new_link(key);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.sessions.start(now, session, link);
        }
    }

    pub(super) fn carry_out_steps(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        while let Some(step) = peer.sessions.poll_step() {
            match step {
                Step::Link(command) => {
                    if let LinkCommand::Close { link } = &command {
                        self.by_link.remove(link);
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

    /// A new link is up: it takes over, and only now the old one ends.
    fn handle_up(&mut self, now: Instant, key: PeerKey, id: LinkId, pair: CandidatePair) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (Some(since), Some(incarnation)) = (peer.sessions.handle_up(id), peer.incarnation)
        else {
            self.close(id);
            return;
        };
        let mut liveness = Liveness::new(now);
        let probe = Some(liveness.probe(now));
        let replaced = peer.link.replace(Link {
            id,
            pair,
            incarnation,
            liveness,
            said_hello: false,
            probe,
            echoes: Vec::new(),
            last_used: now,
            told_revocations: 0,
            false_revocations: 0,
            setup: now.saturating_duration_since(peer.wanted_since.take().unwrap_or(since)),
        });
        peer.eager_at = None;
        peer.lost_at = None;
        peer.mail.in_use = false;
        peer.mail.yields_until = None;
        peer.reason = format!(
            "{:?} to {:?} over {:?} works",
            pair.local, pair.remote, pair.protocol
        )
        .to_lowercase();
        let restarted = peer.streams.handle_link_up(now, incarnation);
        let status = peer.status();
        if let Some(old) = &replaced {
            self.close(old.id);
        }
        if restarted {
            self.handle_restarted(now, key);
        }
        self.tell_all(&if replaced.is_some() {
            Event::PathChanged { peer: status }
        } else {
            Event::PeerConnected { peer: status }
        });
        self.serve_waiters(now, key);
    }

    fn handle_pair(&mut self, key: PeerKey, id: LinkId, pair: CandidatePair) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(link) = peer.link.as_mut().filter(|link| link.id == id) else {
            return;
        };
        link.pair = pair;
        let status = peer.status();
        self.tell_all(&Event::PathChanged { peer: status });
    }

    fn handle_down(&mut self, now: Instant, key: PeerKey, id: LinkId, reason: &str) {
        self.by_link.remove(&id);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.sessions.handle_down(now, id, reason, &mut self.rng) {
            peer.reason = format!("the last attempt to make a link failed: {reason}");
        }
        if peer.is_link(id) {
            self.drop_link(now, key, reason, false);
        }
    }

    fn handle_frame(&mut self, now: Instant, key: PeerKey, id: LinkId, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(link) = peer.link.as_mut().filter(|link| link.id == id) else {
            self.counters.stray_frames += 1;
            return;
        };
        link.liveness.handle_heard(now);
        let reader = match FrameReader::new(bytes) {
            Ok(reader) => reader,
            Err(error) => return self.handle_bad_frame(now, key, &error.to_string()),
        };
        for section in reader {
            match section {
                Ok(section) => {
                    if !self.handle_section(now, key, &section) {
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
        if let Some(key) = self.by_link.get(&link).copied()
            && self.peers.get(&key).is_some_and(|peer| peer.is_link(link))
        {
            self.drop_link(now, key, "the link did not take a frame", true);
            self.settle(now, key);
        }
    }

    /// False when the link is gone by what the section said.
    fn handle_section(&mut self, now: Instant, key: PeerKey, section: &Section<'_>) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let Some(link) = &mut peer.link else {
            return false;
        };
        match section {
            Section::Hello(incarnation) => {
                if *incarnation != link.incarnation {
                    self.drop_link(now, key, "the link is with another incarnation", true);
                    return false;
                }
            }
            Section::Probe(token) => {
                /// Probes that are answered at a time; a peer that asks more is told the newest.
                const ECHOES_MAX: usize = 8;
                if link.echoes.len() == ECHOES_MAX {
                    link.echoes.remove(0);
                }
                link.echoes.push(*token);
            }
            Section::Echo(token) => {
                // Whoever answers lives: the registry was wrong about a newer life.
                peer.incarnation = Some(link.incarnation);
                let rtt = link.liveness.handle_echo(now, *token);
                if let Some(rtt) = rtt {
                    self.answer_pings(key, *token, rtt);
                }
            }
            Section::Goodbye(code) => {
                self.drop_link(now, key, &format!("the peer closed it: {code}"), true);
                return false;
            }
            Section::Revoked(text) => {
                let id = link.id;
                self.hear_revocation(id, text);
            }
            Section::Message(..)
            | Section::Chunk(..)
            | Section::Ack(_)
            | Section::Refused { .. } => {
                if matches!(section, Section::Message(..) | Section::Chunk(..)) {
                    link.last_used = now;
                }
                if let Err(error) = peer.streams.handle_section(now, section) {
                    self.counters.abuses += 1;
                    self.drop_link(now, key, &error.to_string(), true);
                    return false;
                }
            }
        }
        true
    }

    fn handle_bad_frame(&mut self, now: Instant, key: PeerKey, why: &str) {
        self.counters.bad_frames += 1;
        self.drop_link(now, key, &format!("the peer sent a bad frame: {why}"), true);
    }

    fn close(&mut self, link: LinkId) {
        self.by_link.remove(&link);
        self.link_commands.push_back(LinkCommand::Close { link });
    }

    /// The link in use is over. Nothing that waits is lost by it.
    pub(super) fn drop_link(&mut self, now: Instant, key: PeerKey, why: &str, close: bool) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(link) = peer.link.take() else {
            return;
        };
        peer.reason = format!("the link ended: {why}");
        peer.wanted_since = None;
        if peer.presence == Presence::Offline {
            peer.lost_at = Some(now);
        } else if self.config.topology == Topology::FullMesh {
            peer.eager_at = Some(now + Duration::from_millis(self.rng.random_range(0..300)));
        }
        let status = peer.status();
        if close {
            self.close(link.id);
        } else {
            self.by_link.remove(&link.id);
        }
        self.tell_all(&Event::PeerDisconnected { peer: status });
    }

    /// Acts on what the link's life signs say.
    pub(super) fn check_life(&mut self, now: Instant, key: PeerKey) {
        let on_demand = self.config.topology == Topology::OnDemand;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let busy = peer.streams.wants_link() || peer.awaited || !peer.waiters.is_empty();
        let Some(link) = &mut peer.link else {
            return;
        };
        match link.liveness.poll(now) {
            Pulse::Fine => {}
            Pulse::Probe(token) => link.probe = Some(token),
            Pulse::Dead => return self.drop_link(now, key, "the peer stopped answering", true),
        }
        if on_demand && self.registry_up && !busy && link.last_used + IDLE_CLOSE <= now {
            self.drop_link(now, key, "it was idle", true);
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

    /// An address or an interface of this host came or went: every link is asked
    /// at once whether it still works, and attempts that failed are made again.
    pub fn handle_network_change(&mut self, now: Instant) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.sessions.forgive();
                if let Some(link) = &mut peer.link {
                    link.liveness.handle_doubt(now, NETWORK_PATIENCE);
                }
            }
            self.settle(now, key);
        }
    }

    /// This node stops: what goodbyes to send before the links are closed.
    pub fn goodbyes(&mut self) -> Vec<(LinkId, Vec<u8>)> {
        let mut writer = waymesh_proto::frame::FrameWriter::default();
        writer.put(&Section::Goodbye(Code::ShuttingDown));
        let frame = writer.into_bytes();
        let links = self.peers.values().filter_map(|peer| peer.link.as_ref());
        links.map(|link| (link.id, frame.clone())).collect()
    }
}
