//! What the registry tells: who is there, under which key, and what peers signal.

use std::time::{Duration, Instant};

use waymesh_proto::api::{AgentRecord, AttemptPurpose, AttemptRole};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, LinkId, Name, SessionId};
use waymesh_proto::link::Path;
use waymesh_proto::signaling::{Signal, SignalBody};

use super::links::failed;
use super::{Mesh, Topology, faults};
use crate::app::{Event, Member, RegistryCommand, RegistryEvent};
use crate::backoff::REGISTRY_PAUSE_MAX;
use crate::peer::{PeerKey, Presence};
use crate::policy::Request;
use crate::session::Manners;

/// How long a linked peer that left the registry may take to answer a probe.
const LOST_PATIENCE: Duration = Duration::from_secs(1);
/// How long a link to an earlier incarnation may take to prove the registry
/// wrong. Chosen: a restarted peer is reached at once, a lying registry costs a probe.
const RESTART_PATIENCE: Duration = Duration::from_millis(200);
/// How long after a login others may still be on their way back to a registry
/// that restarted: their absence proves nothing yet.
const COME_BACK: Duration = REGISTRY_PAUSE_MAX.saturating_mul(3);
/// Names that are asked for one by one after a login; with more, everybody is
/// watched. Below what a registry takes from one connection.
const RESOLVED_MAX: usize = 512;
/// How long the polite side of an eager pair leaves the offer to the other. Chosen.
const EAGER_POLITE_DELAY: Duration = Duration::from_millis(300);

impl Mesh {
    /// Whether the registry's connection is up.
    pub const fn is_registered(&self) -> bool {
        self.registry_up
    }

    /// The registry's connection has news.
    pub fn handle_registry(&mut self, now: Instant, event: RegistryEvent) {
        match event {
            RegistryEvent::Connected => self.handle_connected(now),
            RegistryEvent::Disconnected => self.handle_disconnected(),
            RegistryEvent::Record { record, member } => self.handle_record(now, record, &member),
            RegistryEvent::Distrusted { name, id, fault } => {
                self.handle_distrusted(now, &name, id, fault);
            }
            RegistryEvent::Introduced { member } => self.handle_introduced(now, &member),
            RegistryEvent::Unknown { name } => self.handle_unknown(now, &name),
            RegistryEvent::Found { id, outcome } => {
                if let Some(client) = self.finds.remove(&id) {
                    self.tell(client, Event::Agents { id, outcome });
                }
            }
            RegistryEvent::Signal { from, body } => self.handle_signal(now, &from, body),
            RegistryEvent::Undeliverable { to, session, code } => {
                self.handle_undeliverable(now, to, session, code);
            }
            RegistryEvent::Posted { item, outcome } => self.handle_posted(now, item, outcome),
            RegistryEvent::Returned { item, code } => self.handle_returned(now, item, code),
            RegistryEvent::Item(opened) => self.handle_item(now, opened),
            RegistryEvent::Revoked { ids, revocations } => {
                self.handle_revoked(now, &ids, revocations);
            }
            RegistryEvent::Membership { expires } => self.handle_membership(now, expires),
        }
    }

    fn handle_connected(&mut self, now: Instant) {
        self.registry_up = true;
        self.publish_skills();
        self.presence_trusted_at = Some(now + COME_BACK);
        // One question for all is cheaper than very many.
        if self.config.topology == Topology::FullMesh || self.by_name.len() > RESOLVED_MAX {
            self.registry_commands.push_back(RegistryCommand::WatchAll);
        } else {
            for name in self.by_name.keys() {
                let name = name.clone();
                self.registry_commands
                    .push_back(RegistryCommand::Resolve { name });
            }
        }
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.sessions.handle_signals_lost();
                peer.sessions.forgive();
                peer.mail.forgive();
                // Nothing is posted before it is known which life the peer has now.
                peer.mail.can_seal = false;
                peer.streams.handle_unhanded();
                if peer.link.is_none() {
                    peer.streams.repeat_acks(now);
                }
            }
            self.settle(now, key);
        }
    }

    /// Links live on; only questions to the registry fail.
    fn handle_disconnected(&mut self) {
        self.registry_up = false;
        self.put_off = false;
        self.handle_posts_lost();
        for (id, client) in std::mem::take(&mut self.finds) {
            let outcome = Err(unreachable());
            self.tell(client, Event::Agents { id, outcome });
        }
    }

    fn handle_record(&mut self, now: Instant, record: AgentRecord, member: &Member) {
        if record.agent_id == self.config.agent_id {
            return;
        }
        self.free_name(&record.name, record.agent_id);
        let wanted = self.config.topology == Topology::FullMesh;
        let key = match self.by_name.get(&record.name).copied() {
            Some(key) => key,
            None if wanted && self.has_place(&record.name) => self.add_peer(&record.name),
            None => return,
        };
        if !self.accept_identity(now, key, record.agent_id) {
            return;
        }
        self.note_incarnation(now, key, record.incarnation);
        if self.known_member(now, member) != Some(key) {
            return;
        }
        let manners = Manners::of(self.config.agent_id, record.agent_id);
        if let Some(peer) = self.peers.get_mut(&key) {
            let was = std::mem::replace(
                &mut peer.presence,
                if record.online {
                    Presence::Online
                } else {
                    Presence::Offline
                },
            );
            peer.mail.can_seal = true;
            peer.streams.handle_unhanded();
            if record.online {
                peer.lost_at = None;
                peer.streams.handle_reachable(record.incarnation);
                if was != Presence::Online {
                    peer.sessions.forgive();
                    if peer.link.is_none() {
                        peer.streams.repeat_acks(now);
                    }
                }
                if wanted && peer.link.is_none() && was != Presence::Online {
                    peer.eager_at = Some(match manners {
                        Manners::Polite => now + EAGER_POLITE_DELAY,
                        Manners::Firm => now,
                    });
                }
            } else if was == Presence::Online {
                self.handle_gone(now, key);
            }
        }
        self.settle(now, key);
    }

    /// The papers of a name that was looked up are at hand: a letter needs no more.
    /// All else, and whether they are the newest, comes with the record.
    fn handle_introduced(&mut self, now: Instant, member: &Member) {
        let Some(key) = self.by_name.get(&member.name).copied() else {
            return;
        };
        let is_stranger = self.peers.get(&key).is_some_and(|peer| {
            // What went with these papers and came back needs newer ones.
            peer.presence == Presence::Unasked
                && !peer.mail.in_use
                && peer.distrust.is_none()
                && peer.id.is_none_or(|id| id == member.id)
        });
        let is_elsewhere = self.by_id.get(&member.id).is_some_and(|of| *of != key);
        if !is_stranger || is_elsewhere || self.known_member(now, member) != Some(key) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.mail.can_seal = true;
        }
        self.settle(now, key);
    }

    fn handle_gone(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.eager_at = None;
        peer.mail.first_until = None;
        peer.sessions.abandon();
        match &mut peer.link {
            Some(link) => link.liveness.handle_doubt(now, LOST_PATIENCE),
            None => {
                peer.reason = "the peer is not connected to the registry".into();
                let trusted_at = self.presence_trusted_at.unwrap_or(now);
                peer.lost_at = Some(trusted_at.max(now + LOST_PATIENCE));
            }
        }
    }

    fn handle_unknown(&mut self, now: Instant, name: &Name) {
        let Some(key) = self.by_name.get(name).copied() else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.presence = Presence::Unknown;
            if peer.link.is_none() {
                peer.reason = "the registry knows no agent of this name".into();
            }
        }
        self.settle(now, key);
    }

    /// A name whose agent was revoked is free for another: that is no change without a reason.
    pub(super) fn free_name(&mut self, name: &Name, id: AgentId) {
        let old = self.by_name.get(name).and_then(|key| self.peers.get(key));
        let is_revoked = |fault: &Fault| fault.code == Code::Revoked;
        if old
            .is_some_and(|old| old.id != Some(id) && old.distrust.as_ref().is_some_and(is_revoked))
        {
            self.pins.remove(name);
            self.add_peer(name);
        }
    }

    /// Whether the key is the one that the name had before; a new name takes it.
    pub(super) fn accept_identity(&mut self, now: Instant, key: PeerKey, id: AgentId) -> bool {
        let known = self.peers.get(&key).and_then(|peer| peer.id);
        if known.is_none() && !self.by_id.contains_key(&id) {
            self.identify(key, id);
            return true;
        }
        if known == Some(id) {
            if let Some(peer) = self.peers.get_mut(&key) {
                let changed = |fault: &mut Fault| fault.code == Code::IdentityChanged;
                peer.distrust.take_if(changed);
            }
            return true;
        }
        self.counters.stale_signals += 1;
        if let Some(peer) = self.peers.get_mut(&key) {
            let fault = faults::identity_changed(&peer.name);
            peer.distrust = Some(fault.clone());
            if peer.link.is_none() {
                peer.reason = "the name answers with another key than before".into();
                self.fail_all(now, key, &fault);
            }
        }
        self.settle(now, key);
        false
    }

    /// The registry says which incarnation a peer has. It may lie, so links to
    /// an earlier one are only questioned; a trial with it is not worth that.
    fn note_incarnation(&mut self, now: Instant, key: PeerKey, incarnation: Incarnation) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.incarnation.is_some_and(|known| known >= incarnation) {
            return;
        }
        peer.incarnation = Some(incarnation);
        peer.sessions.abandon();
        let dormant = peer.dormant.as_mut().map(|dormant| &mut dormant.link);
        let links = peer.link.iter_mut().chain(dormant);
        for link in links.filter(|link| link.incarnation < incarnation) {
            let rtt = link.liveness.last_rtt().unwrap_or_default();
            link.liveness
                .handle_doubt(now, RESTART_PATIENCE.max(rtt * 4));
        }
        let trial = &mut peer.trial;
        if let Some(trial) = trial.take_if(|trial| trial.link.incarnation < incarnation) {
            let reason = "the registry says that the peer restarted".to_owned();
            peer.attempts.end(now, trial.link.id, failed(reason));
            self.close(key, trial.link.id);
        }
    }

    fn handle_signal(&mut self, now: Instant, from: &Member, body: SignalBody) {
        // Whoever is not known yet introduces itself with an offer.
        let is_known = self.by_id.contains_key(&body.from);
        let introduces = matches!(body.signal, Signal::Offer { .. });
        if from.id != body.from || !(is_known || introduces) {
            self.counters.stale_signals += 1;
            return;
        }
        if introduces && !self.is_member(now) {
            // Nobody would take the answer, or a refusal.
            self.counters.offers_unanswered += 1;
            return;
        }
        if introduces && !self.may_contact(from) {
            self.counters.offers_denied += 1;
            return self.refuse_offer(from, &body, faults::unauthorized(&self.config.name));
        }
        if introduces && !self.makes_links() {
            return self.refuse_offer(from, &body, faults::mailbox_only(&self.config.name));
        }
        let Some(key) = self.known_member(now, from) else {
            self.counters.stale_signals += 1;
            return;
        };
        if !self.is_fresh(key, &body) {
            self.counters.stale_signals += 1;
            return;
        }
        match body.signal {
            Signal::Offer { sdp } => {
                self.take_offer(now, key, (body.session, body.from_incarnation), sdp)
            }
            Signal::Answer { sdp, .. } => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.sessions.handle_answer(body.session, sdp);
                }
            }
            Signal::Candidate { candidate } => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.sessions.handle_candidate(body.session, candidate);
                }
            }
            Signal::Reject { error } => self.take_reject(now, key, body.session, &error),
        }
        self.settle(now, key);
    }

    fn may_contact(&self, from: &Member) -> bool {
        let policy = &self.config.policy;
        policy.permits(&from.name, &from.roles, Request::Contact)
    }

    /// Tells a peer that no link will come of its offer.
    fn refuse_offer(&mut self, from: &Member, body: &SignalBody, error: Fault) {
        self.registry_commands.push_back(RegistryCommand::Signal {
            to: from.id,
            to_incarnation: body.from_incarnation,
            session: body.session,
            seq: 0,
            signal: Signal::Reject { error },
        });
    }

    /// Whether a verified signal is of the peer's present life and meant for this one.
    fn is_fresh(&self, key: PeerKey, body: &SignalBody) -> bool {
        let known = self.peers.get(&key).and_then(|peer| peer.incarnation);
        let stale_sender = known.is_some_and(|known| body.from_incarnation < known);
        !stale_sender && body.to_incarnation == self.config.incarnation
    }

    fn take_offer(
        &mut self,
        now: Instant,
        key: PeerKey,
        (session, incarnation): (SessionId, Incarnation),
        sdp: String,
    ) {
        self.note_signed_incarnation(now, key, incarnation);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.presence = Presence::Online;
        }
        self.accept(now, key, session, sdp);
    }

    /// Answers an offer of the peer's present life, unless this node's own goes first.
    pub(super) fn accept(&mut self, now: Instant, key: PeerKey, session: SessionId, sdp: String) {
        let link = self.new_link(key);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.wanted_since.get_or_insert(now);
        let taken = peer.sessions.handle_offer(now, session, sdp, link);
        self.counters.replayed_offers += u64::from(taken.is_err());
        if taken != Ok(true) {
            self.by_link.remove(&link);
            return;
        }
        let purpose = match &peer.link {
            None => AttemptPurpose::Connect,
            Some(used) if used.pair.path() == Path::Relay => AttemptPurpose::Upgrade,
            Some(_) => AttemptPurpose::Recover,
        };
        self.note_attempt(now, key, link, AttemptRole::Answered, purpose);
    }

    /// The peer itself signed a newer incarnation: its earlier life is over for sure.
    pub(super) fn note_signed_incarnation(
        &mut self,
        now: Instant,
        key: PeerKey,
        incarnation: Incarnation,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.incarnation.is_none_or(|known| known < incarnation) {
            peer.incarnation = Some(incarnation);
            peer.sessions.abandon();
        }
        if peer.has_link_before(incarnation) {
            self.drop_link(now, key, "the peer restarted");
        }
    }

    fn take_reject(&mut self, now: Instant, key: PeerKey, session: SessionId, error: &Fault) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(link) = peer.sessions.handle_refused(now, session, &mut self.rng) {
            peer.reason = format!("the peer refused the link: {error}");
            let reason = format!("the peer refused it: {error}");
            peer.attempts.end(now, link, failed(reason));
            if error.code == Code::Unauthorized && peer.link.is_none() {
                self.fail_all(now, key, error);
            }
        }
    }

    fn handle_undeliverable(&mut self, now: Instant, to: AgentId, session: SessionId, code: Code) {
        let Some(key) = self.by_id.get(&to).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(link) = peer.sessions.handle_refused(now, session, &mut self.rng) {
            let denied = code == Code::Unauthorized;
            let reason = if denied {
                "the peer does not let this agent in"
            } else {
                "the registry could not pass the offer on: the peer is not connected"
            };
            peer.reason = reason.into();
            peer.attempts.end(now, link, failed(reason.into()));
            if denied && peer.link.is_none() {
                let fault = faults::unauthorized(&peer.name);
                self.fail_all(now, key, &fault);
            }
        }
        self.settle(now, key);
    }

    pub(super) fn new_link(&mut self, key: PeerKey) -> LinkId {
        self.next_link += 1;
        let link = LinkId::new(self.next_link);
        self.by_link.insert(link, key);
        link
    }
}

pub(super) fn unreachable() -> Fault {
    Fault::new(
        Code::RegistryUnreachable,
        "the node is not connected to its registry",
    )
    .with_hint("links that exist go on working; the node reconnects by itself")
}
