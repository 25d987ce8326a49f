//! Who may be trusted for how long: certificates that end, revocations, and
//! peers whose papers do not hold.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, LinkId, Name};
use waymesh_proto::membership::Revocation;

use super::{Mesh, faults};
use crate::app::{Event, Member};
use crate::peer::{Peer, PeerKey};

/// How long before its end the own certificate is announced to be ending.
pub const EXPIRY_NOTICE: Duration = Duration::from_secs(24 * 3_600);

/// False revocations after which a peer's link is closed. Chosen: one of an
/// authority that was set up anew is no attack, a flood is.
const FALSE_MAX: u32 = 8;

/// A revocation that a peer told, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The link on which it came.
    pub link: LinkId,
    /// Its text.
    pub revocation: Revocation,
}

/// The revocations that hold, in the order in which they became known: each
/// link remembers how many of them its peer has been told.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    list: Vec<Revocation>,
    known: BTreeSet<Revocation>,
}

impl Revocations {
    pub(super) fn new(known: &[Revocation]) -> Self {
        let mut revocations = Self::default();
        for revocation in known {
            revocations.add(revocation.clone());
        }
        revocations
    }

    /// False when it is known already.
    fn add(&mut self, revocation: Revocation) -> bool {
        let is_new = self.known.insert(revocation.clone());
        if is_new {
            self.list.push(revocation);
        }
        is_new
    }

    fn contains(&self, revocation: &Revocation) -> bool {
        self.known.contains(revocation)
    }

    /// Those that a peer has not been told that knows so many.
    pub(super) fn after(&self, told: usize) -> &[Revocation] {
        self.list.get(told..).unwrap_or_default()
    }
}

/// Revocations that wait to be verified; more are dropped, since the registry
/// and other peers have them too. Chosen.
const HEARD_MAX: usize = 256;

impl Mesh {
    /// The peer that a verified member is; a new one if its name is free here.
    pub(super) fn known_member(&mut self, now: Instant, member: &Member) -> Option<PeerKey> {
        let key = match self.by_id.get(&member.id).copied() {
            Some(key) => key,
            None if !self.has_place(&member.name) => return None,
            None => {
                self.free_name(&member.name, member.id);
                let key = self.peer_named(&member.name);
                if !self.accept_identity(now, key, member.id) {
                    return None;
                }
                key
            }
        };
        let peer = self.peers.get_mut(&key)?;
        peer.member = Some(member.clone());
        peer.distrust = None;
        Some(key)
    }

    /// What somebody of this name says of itself does not hold. Of another
    /// than the peer that has the name now, it means nothing.
    pub(super) fn handle_distrusted(
        &mut self,
        now: Instant,
        name: &Name,
        id: Option<AgentId>,
        fault: Fault,
    ) {
        self.counters.distrusted += 1;
        let Some(key) = self.by_name.get(name).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if id.is_some() && peer.id.is_some() && id != peer.id {
            return;
        }
        if peer.member.as_ref().is_some_and(|m| m.expires > now) && fault.code != Code::Revoked {
            // Its own word was good before; whoever says otherwise now may not be it.
            return;
        }
        peer.reason.clone_from(&fault.message);
        peer.distrust = Some(fault.clone());
        // A certificate that has ended is extended as soon as its holder is back.
        let may_pass = matches!(fault.code, Code::CertificateExpired | Code::ClockSkew);
        if peer.link.is_none() && !may_pass {
            self.fail_all(now, key, &fault);
        }
        self.settle(now, key);
    }

    pub(super) fn handle_revoked(
        &mut self,
        now: Instant,
        ids: &[AgentId],
        revocations: Vec<Revocation>,
    ) {
        for key in ids
            .iter()
            .filter_map(|id| self.by_id.get(id).copied())
            .collect::<Vec<_>>()
        {
            self.refuse_revoked(now, key);
        }
        if ids.contains(&self.config.agent_id) {
            // As if its certificate had ended, and nothing to announce.
            self.membership_ends = Some(now);
            (self.expiry_told, self.is_over) = (true, true);
            self.drop_all_links(now, "this node was revoked");
        }
        for revocation in revocations {
            self.pass_on(revocation);
        }
    }

    /// Tells a revocation to every linked peer, once.
    fn pass_on(&mut self, revocation: Revocation) {
        if !self.revocations.add(revocation) {
            return;
        }
        for key in self.by_link.values().copied().collect::<Vec<_>>() {
            self.enqueue(key);
        }
    }

    /// A peer tells of a revocation; the program verifies it.
    pub(super) fn hear_revocation(&mut self, link: LinkId, text: &[u8]) {
        let text = std::str::from_utf8(text).unwrap_or_default();
        let Ok(revocation) = text.parse::<Revocation>() else {
            self.counters.bad_frames += 1;
            return;
        };
        if !self.revocations.contains(&revocation) && self.heard_revocations.len() < HEARD_MAX {
            self.heard_revocations.push_back(Heard { link, revocation });
        }
    }

    /// A revocation that a peer told, to be verified: given back as
    /// [`crate::app::RegistryEvent::Revoked`] if it holds, else told to
    /// [`Mesh::handle_false_revocation`].
    pub fn poll_heard_revocation(&mut self) -> Option<Heard> {
        self.heard_revocations.pop_front()
    }

    /// A revocation that came over a link does not hold; a peer that goes on so loses its link.
    pub fn handle_false_revocation(&mut self, now: Instant, link: LinkId) {
        self.counters.abuses += 1;
        let Some(key) = self.by_link.get(&link).copied() else {
            return;
        };
        let peer = self.peers.get_mut(&key).and_then(|peer| peer.link.as_mut());
        let Some(link) = peer.filter(|present| present.id == link) else {
            return;
        };
        link.false_revocations += 1;
        if link.false_revocations > FALSE_MAX {
            self.drop_link(now, key, "the peer told false revocations");
            self.settle(now, key);
        }
    }

    pub(super) fn handle_membership(&mut self, now: Instant, expires: Instant) {
        self.membership_ends = Some(expires);
        self.expiry_told = false;
        self.check_membership(now);
        // What waited for a membership may go now.
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.settle(now, key);
        }
    }

    /// Whether this node's own certificate holds, as far as it is known.
    pub(super) fn is_member(&self, now: Instant) -> bool {
        self.membership_ends.is_none_or(|ends| ends > now)
    }

    /// When [`Mesh::check_membership`] has something to do.
    pub(super) fn membership_due(&self) -> Option<Instant> {
        let ends = self.membership_ends?;
        if self.is_over {
            None
        } else if self.expiry_told {
            Some(ends)
        } else {
            Some(ends.checked_sub(EXPIRY_NOTICE).unwrap_or(ends))
        }
    }

    /// What is left of the own certificate, when its end was announced and is to come.
    pub(super) fn announced_end(&self, now: Instant) -> Option<Duration> {
        let ends = self.membership_ends.filter(|ends| *ends > now)?;
        self.expiry_told.then_some(ends - now)
    }

    /// Announces the end of the own certificate, and acts on it.
    pub(super) fn check_membership(&mut self, now: Instant) {
        let Some(ends) = self.membership_ends else {
            return;
        };
        let remaining = ends.saturating_duration_since(now);
        if remaining <= EXPIRY_NOTICE && !std::mem::replace(&mut self.expiry_told, true) {
            self.tell_all(&Event::CertificateExpiring { remaining });
        }
        let was_over = std::mem::replace(&mut self.is_over, remaining.is_zero());
        if self.is_over && !was_over {
            self.drop_all_links(now, "this node's certificate has expired");
        }
    }

    /// Ends the links that are up, and those that would come up later.
    fn drop_all_links(&mut self, now: Instant, why: &str) {
        let linked = |(key, peer): (&PeerKey, &Peer)| {
            (peer.has_links() || peer.sessions.is_trying()).then_some(*key)
        };
        for key in self.peers.iter().filter_map(linked).collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.sessions.bar();
            }
            self.drop_link(now, key, why);
            self.settle(now, key);
        }
    }

    /// A link ends with the certificate of its peer.
    pub(super) fn check_certificate(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let expired = peer.member.as_ref().is_some_and(|m| m.expires <= now);
        if expired && peer.has_links() {
            peer.distrust = Some(faults::certificate_expired(&peer.name));
            self.drop_link(now, key, "the peer's certificate has expired");
            self.ask_again(key);
        }
    }
}
