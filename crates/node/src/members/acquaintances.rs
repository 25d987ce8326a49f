//! Members that were met: their certificates and the keys to seal to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymesh_core::mesh::PEERS_MAX;
use waymesh_proto::ids::AgentId;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_trust::certificate::Verified;
use waymesh_trust::sealing::{SealError, SealTo};

/// Members that are remembered; the one that was met longest ago makes room.
/// As many as core knows peers.
pub(super) const KNOWN_MAX: usize = PEERS_MAX;

#[derive(Debug)]
struct Known {
    member: Arc<Verified>,
    /// `None` until it shows one.
    sealing: Option<Result<SealTo, SealError>>,
    /// The position in the order of meetings.
    met: u64,
}

/// The members that were met.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    known: BTreeMap<AgentId, Known>,
    by_meeting: BTreeMap<u64, AgentId>,
    meetings: u64,
}

impl Acquaintances {
    /// A member has shown its certificate and its sealing key. Of two
    /// certificates and of two keys the newer one counts, so that nobody brings
    /// an old one back. Gives the certificate that counts.
    pub(super) fn meet(
        &mut self,
        shown: Arc<Verified>,
        sealing: Result<SealTo, SealError>,
    ) -> Arc<Verified> {
        self.remember(shown, Some(sealing))
    }

    fn remember(
        &mut self,
        shown: Arc<Verified>,
        sealing: Option<Result<SealTo, SealError>>,
    ) -> Arc<Verified> {
        let id = shown.agent_id;
        let before = self.known.remove(&id);
        let (member, sealing) = match before {
            Some(before) => {
                self.by_meeting.remove(&before.met);
                let newer = newer_key(before.sealing, sealing);
                (newer_certificate(before.member, shown), newer)
            }
            None => (shown, sealing),
        };
        self.meetings += 1;
        let met = self.meetings;
        self.by_meeting.insert(met, id);
        let known = Known {
            member: Arc::clone(&member),
            sealing,
            met,
        };
        self.known.insert(id, known);
        if self.known.len() > KNOWN_MAX
            && let Some((_, oldest)) = self.by_meeting.pop_first()
        {
            self.known.remove(&oldest);
        }
        member
    }

    /// A member has shown its certificate alone. Gives the one that counts.
    /// Who is met so must be found too when its invite is revoked.
    pub(super) fn note(&mut self, shown: Arc<Verified>) -> Arc<Verified> {
        let Some(known) = self.known.get_mut(&shown.agent_id) else {
            return self.remember(shown, None);
        };
        known.member = newer_certificate(Arc::clone(&known.member), shown);
        Arc::clone(&known.member)
    }

    /// Who a member is that was met.
    pub(super) fn member(&self, id: &AgentId) -> Option<Arc<Verified>> {
        self.known.get(id).map(|known| Arc::clone(&known.member))
    }

    /// The key to seal to a member with, or what is wrong with the one that it
    /// showed; `None` for whom was never met.
    pub(super) fn seal_to(&self, id: &AgentId, now_ms: u64) -> Option<Result<SealTo, SealError>> {
        let known = self.known.get(id)?;
        let seal_to = match known.sealing.as_ref()? {
            Ok(seal_to) => *seal_to,
            Err(error) => return Some(Err(error.clone())),
        };
        let over_ms = now_ms.saturating_sub(seal_to.expires_ms);
        if over_ms > CLOCK_LEEWAY_MS {
            let name = known.member.name.clone();
            return Some(Err(SealError::Expired { name, over_ms }));
        }
        Some(Ok(seal_to))
    }

    /// The members of whom something holds.
    pub(super) fn filter(&self, holds: impl Fn(&Verified) -> bool) -> Vec<AgentId> {
        let known = self.known.iter().filter(|(_, known)| holds(&known.member));
        known.map(|(id, _)| *id).collect()
    }
}

fn newer_certificate(old: Arc<Verified>, new: Arc<Verified>) -> Arc<Verified> {
    if old.issued_ms > new.issued_ms {
        old
    } else {
        new
    }
}

fn newer_key(
    old: Option<Result<SealTo, SealError>>,
    new: Option<Result<SealTo, SealError>>,
) -> Option<Result<SealTo, SealError>> {
    match (old, new) {
        (Some(Ok(old)), Some(Ok(new))) if old.issued_ms > new.issued_ms => Some(Ok(old)),
        (Some(Ok(old)), None | Some(Err(_))) => Some(Ok(old)),
        (_, new) => new,
    }
}
