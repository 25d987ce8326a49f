//! Which link is in use: one after the other, never a worse one for a working
//! one, and none forgotten that may come back.
//!
//! A new link beside the one in use is on trial: nothing but probes goes over
//! it. The side that offered adopts it when it is answered and still needed, and
//! says so; the other side adopts it on that word. Each then closes the old one.
//! A link that falls silent is dormant and asked now and then; an answer brings
//! it back unless a new one was faster.
//!
//! Invariants: a trial exists only beside a link in use, a dormant link only
//! where none is in use.

use std::time::{Duration, Instant};

use rand::RngExt;
use waymesh_proto::api::{AttemptOutcome, AttemptRole};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, Path};

use super::links::{failed, remember, unneeded, works};
use super::{Mesh, Topology};
use crate::app::Event;
use crate::attempts::End;
use crate::backoff::REGISTRY_PAUSE_MAX;
use crate::link::{Choice, Dormant, Link, Said, Signaling, Trial, Verdict};
use crate::peer::{PeerKey, Presence, Wanted};

/// How long a link may take to answer after the network has changed. Chosen: a
/// path of half a second, with one probe lost.
const NETWORK_PATIENCE: Duration = Duration::from_secs(1);
/// A timer that is late by more than this was not late: the host was asleep.
/// Chosen: more than a busy host is late, less than what ends a link by silence.
const JUMP_MIN: Duration = Duration::from_secs(3);
/// How long after a sleep what the registry said of peers proves nothing.
const WAKE_GRACE: Duration = REGISTRY_PAUSE_MAX.saturating_mul(3);

/// How a link in use ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Net has ended it.
    Ended,
    /// It lives, and nothing comes back on it.
    Silent,
    /// It lives, and is not to be used any more.
    Unusable,
}

/// For whom a frame on a trial was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// For the trial, and it is done with.
    Handled,
    /// For the link in use, which the trial is now.
    InUse,
}

impl Mesh {
    /// An address or an interface of this host came or went: every link is asked
    /// at once whether it still works, new ones are made beside those that are
    /// used, and attempts that failed are made again.
    pub fn handle_network_change(&mut self, now: Instant) {
        self.renew_links(now, |link| {
            let rtt = link.liveness.last_rtt().unwrap_or_default();
            link.liveness
                .handle_doubt(now, NETWORK_PATIENCE.max(rtt * 4));
        });
    }

    /// After a sleep all deadlines are over at once, and nothing is proved by it.
    pub(super) fn notice_jump(&mut self, now: Instant) {
        let due = self.poll_timeout().map(|(at, _)| at);
        if due.is_none_or(|due| due + JUMP_MIN > now) {
            return;
        }
        self.presence_trusted_at = Some(now + WAKE_GRACE);
        for peer in self.peers.values_mut() {
            if let Some(at) = &mut peer.lost_at {
                *at = (*at).max(now + WAKE_GRACE);
            }
        }
        self.renew_links(now, |link| link.liveness.handle_jump(now, NETWORK_PATIENCE));
    }

    fn renew_links(&mut self, now: Instant, ask: impl Fn(&mut Link)) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            peer.sessions.forgive();
            peer.recover.reset();
            peer.upgrade.handle_changed(now);
            peer.renew = true;
            if let Some(link) = &mut peer.link {
                ask(link);
            }
            self.settle(now, key);
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.renew = false;
            }
        }
    }

    /// A link is up beside the one in use.
    pub(super) fn begin_trial(
        &mut self,
        now: Instant,
        key: PeerKey,
        link: Link,
        role: AttemptRole,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.attempts.note_path(link.id, link.pair.path());
        if let Some(old) = peer.trial.replace(Trial::new(now, link, role)) {
            let reason = "a newer attempt took its place".to_owned();
            peer.attempts.end(now, old.link.id, unneeded(reason));
            self.close(key, old.link.id);
        }
    }

    /// A frame arrived on the trial. Gives whether it is one for the link in use,
    /// which the trial has become by it.
    pub(super) fn hear_trial(&mut self, now: Instant, key: PeerKey, frame: &[u8]) -> Heard {
        let Some(peer) = self.peers.get_mut(&key) else {
            return Heard::Handled;
        };
        let (Some(trial), Some(used)) = (&mut peer.trial, &mut peer.link) else {
            return Heard::Handled;
        };
        let id = trial.link.id;
        let better = trial.is_better(used);
        let end = match trial.read(frame) {
            Said::Question => {
                if trial.handle_question(now, used, frame) == Choice::Adopt {
                    let why = if better {
                        "a direct path was found"
                    } else {
                        "the link before stopped answering"
                    };
                    self.take_trial(now, key, why);
                }
                return Heard::Handled;
            }
            Said::Adopted => {
                self.take_trial(now, key, "the peer went over to it");
                return Heard::InUse;
            }
            Said::Goodbye(code) => unneeded(format!("the peer closed it: {code}")),
            Said::Wrong(why) => {
                self.counters.bad_frames += 1;
                failed(why)
            }
        };
        peer.end_trial(now, end, &mut self.rng);
        self.close(key, id);
        Heard::Handled
    }

    fn take_trial(&mut self, now: Instant, key: PeerKey, why: &str) {
        let peer = self.peers.get_mut(&key);
        if let Some(trial) = peer.and_then(|peer| peer.trial.take()) {
            self.adopt(now, key, trial.link, why);
        }
    }

    /// Does what the trial's time and the state of the link in use demand.
    pub(super) fn tend_trial(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (Some(trial), Some(used)) = (&mut peer.trial, &peer.link) else {
            return;
        };
        let id = trial.link.id;
        let end = match trial.tend(now, used) {
            Verdict::Wait => return,
            Verdict::Silent => failed("it came up and carried no answer".into()),
            Verdict::Unneeded if used.pair.path() == Path::Relay => {
                unneeded("it became no better than the link in use, which is relayed".into())
            }
            Verdict::Unneeded => unneeded("the link in use goes on working".into()),
        };
        peer.end_trial(now, end, &mut self.rng);
        self.close(key, id);
    }

    /// A link takes over, and the peer is told with the first frame. Everything
    /// that is not settled goes over it again, and only now the one before ends.
    pub(super) fn adopt(&mut self, now: Instant, key: PeerKey, mut link: Link, why: &str) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        link.owes_word = true;
        let (id, pair, life) = (link.id, link.pair, link.incarnation);
        let replaced = peer.link.replace(link);
        let dormant = peer.dormant.take().map(|dormant| dormant.link);
        peer.attempts.end(
            now,
            id,
            End {
                outcome: AttemptOutcome::Linked,
                path: Some(pair.path()),
                reason: format!("{}: {why}", works(&pair)),
            },
        );
        peer.eager_at = None;
        peer.lost_at = None;
        peer.wanted_since = None;
        peer.mail.in_use = false;
        peer.mail.yields_until = None;
        peer.mail.first_until = None;
        peer.mail.has_told_acks = false;
        peer.recover.reset();
        let manners = peer.sessions.manners();
        peer.upgrade.begin(now, pair.path(), manners);
        peer.reason = match &replaced {
            Some(_) => format!("{}: {why}", works(&pair)),
            None => works(&pair),
        };
        for waiter in &mut peer.waiters {
            // What was asked on another link is not answered on this one.
            if let Wanted::Echo { token } = &mut waiter.wants {
                *token = None;
            }
        }
        let restarted = peer.streams.handle_link_up(now, life);
        let status = peer.status();
        for old in replaced.iter().chain(&dormant) {
            self.close(key, old.id);
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

    /// The peer answered on a link that had fallen silent, or uses it again.
    pub(super) fn revive(&mut self, now: Instant, key: PeerKey, id: LinkId) {
        let peer = self.peers.get_mut(&key);
        let dormant = peer.and_then(|peer| peer.dormant.take_if(|dormant| dormant.link.id == id));
        if let Some(dormant) = dormant {
            self.adopt(now, key, dormant.link, "the peer answers again");
        }
    }

    /// Asks on a dormant link, or gives it up where new ones can be made.
    pub(super) fn tend_dormant(&mut self, now: Instant, key: PeerKey) {
        let mut signaling = self.signaling(now);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.may_connect() {
            signaling = Signaling::Away;
        }
        if let Some(old) = peer.dormant.take_if(|d| d.is_old(now, signaling)) {
            self.close(key, old.link.id);
        } else if let Some(dormant) = &mut peer.dormant {
            dormant.tend(now);
        }
    }

    pub(super) fn close(&mut self, key: PeerKey, link: LinkId) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.sessions.forget(link);
        }
        if self.by_link.remove(&link).is_some() {
            remember(&mut self.past_links, link, key);
            self.link_commands.push_back(LinkCommand::Close { link });
        }
    }

    /// The link in use carries nothing any more: the next best takes over.
    /// Nothing that waits is lost by it.
    pub(super) fn lose_link(&mut self, now: Instant, key: PeerKey, why: &str, fate: Fate) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(trial) = peer.trial.take() {
            let why = format!("the link before ended: {why}");
            let mut link = trial.link;
            link.ask(now);
            return self.adopt(now, key, link, &why);
        }
        let Some(link) = self.unlink(now, key, why) else {
            return;
        };
        match (fate, self.peers.get_mut(&key)) {
            (Fate::Silent, Some(peer)) => peer.dormant = Some(Dormant::new(now, link)),
            (Fate::Ended, _) => drop(self.by_link.remove(&link.id)),
            (Fate::Unusable, _) | (Fate::Silent, None) => self.close(key, link.id),
        }
    }

    /// One link is not to be used any more, whichever it is.
    pub(super) fn give_up_link(&mut self, now: Instant, key: PeerKey, id: LinkId, why: &str) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.is_link(id) {
            return self.lose_link(now, key, why, Fate::Unusable);
        }
        if peer.trial.as_ref().is_some_and(|trial| trial.link.id == id) {
            peer.end_trial(now, failed(why.to_owned()), &mut self.rng);
        }
        peer.dormant.take_if(|dormant| dormant.link.id == id);
        self.close(key, id);
    }

    /// All links with the peer end: it is not to be talked to, or not in this life.
    pub(super) fn drop_link(&mut self, now: Instant, key: PeerKey, why: &str) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let trial = peer.trial.take().map(|trial| trial.link.id);
        let dormant = peer.dormant.take().map(|dormant| dormant.link.id);
        if let Some(trial) = trial {
            peer.attempts.end(now, trial, failed(why.to_owned()));
        }
        let used = self.unlink(now, key, why).map(|link| link.id);
        for id in [used, trial, dormant].into_iter().flatten() {
            self.close(key, id);
        }
    }

    /// Takes the link in use away.
    fn unlink(&mut self, now: Instant, key: PeerKey, why: &str) -> Option<Link> {
        let peer = self.peers.get_mut(&key)?;
        let link = peer.link.take()?;
        peer.reason = format!("the link ended: {why}");
        peer.wanted_since = None;
        if peer.presence == Presence::Offline {
            peer.lost_at = Some(now);
        } else if self.config.topology == Topology::FullMesh {
            peer.eager_at = Some(now + Duration::from_millis(self.rng.random_range(0..300)));
        }
        let status = peer.status();
        self.tell_all(&Event::PeerDisconnected { peer: status });
        Some(link)
    }
}
