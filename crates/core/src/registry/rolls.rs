//! Whom each invite has admitted, and who and what is revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Instant;

use waymesh_proto::control::{AGENTS_PART_BYTES, ServerMessage};
use waymesh_proto::membership::Revocation;
use waymesh_proto::{AgentId, Code, Fault, InviteId};

use super::{Revoked, StoredRevocation};

/// What an invite allows, as its verified delegation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The invite.
    pub id: InviteId,
    /// How many it admits; `None` is any number.
    pub count: Option<NonZeroU32>,
    /// Until when it admits, by the registry's clock.
    pub until: Instant,
}

/// The memory of membership. Revocations are never forgotten.
#[derive(Debug, Default)]
pub(super) struct Rolls {
    admitted: BTreeMap<InviteId, BTreeSet<AgentId>>,
    /// Admissions on their way to the disk, with how many wait for each.
    reserved: BTreeMap<(InviteId, AgentId), usize>,
    revoked: BTreeSet<Revoked>,
    /// In the order in which they came.
    revocations: Vec<StoredRevocation>,
}

impl Rolls {
    pub(super) fn new(
        admissions: impl IntoIterator<Item = (InviteId, AgentId)>,
        revocations: impl IntoIterator<Item = StoredRevocation>,
    ) -> Self {
        let mut rolls = Self::default();
        for (invite, agent_id) in admissions {
            rolls.admit(invite, agent_id);
        }
        for revocation in revocations {
            rolls.revoke(revocation);
        }
        rolls
    }

    pub(super) fn is_admitted(&self, invite: &InviteId, agent_id: &AgentId) -> bool {
        let admitted = self.admitted.get(invite);
        admitted.is_some_and(|agents| agents.contains(agent_id))
    }

    /// Whether the invite admits this agent, who may have been admitted
    /// before; `waiting` are the requests by this invite that wait for an admin.
    pub(super) fn check_invite(
        &self,
        now: Instant,
        invite: &Invitation,
        agent_id: &AgentId,
        waiting: usize,
    ) -> Result<(), Fault> {
        if self.is_admitted(&invite.id, agent_id) {
            return Ok(());
        }
        if invite.until <= now {
            return Err(
                Fault::new(Code::InviteExpired, "the invite's time is over").with_hint(ASK_ANEW)
            );
        }
        let admitted = self.admitted.get(&invite.id).map_or(0, BTreeSet::len);
        let others = self.reserved.keys().filter(|(id, agent)| {
            *id == invite.id && agent != agent_id && !self.is_admitted(id, agent)
        });
        let used = admitted + others.count() + waiting;
        let max = invite.count.map(|count| count.get() as usize);
        if max.is_some_and(|max| used >= max) {
            let text = format!("the invite has admitted all {used} that it may");
            return Err(Fault::new(Code::InviteExhausted, text).with_hint(ASK_ANEW));
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, invite: InviteId, agent_id: AgentId) {
        *self.reserved.entry((invite, agent_id)).or_default() += 1;
    }

    pub(super) fn release(&mut self, invite: InviteId, agent_id: AgentId) {
        if let Some(waiting) = self.reserved.get_mut(&(invite, agent_id)) {
            *waiting -= 1;
            if *waiting == 0 {
                self.reserved.remove(&(invite, agent_id));
            }
        }
    }

    pub(super) fn admit(&mut self, invite: InviteId, agent_id: AgentId) {
        self.admitted.entry(invite).or_default().insert(agent_id);
    }

    pub(super) fn is_revoked(&self, target: Revoked) -> bool {
        self.revoked.contains(&target)
    }

    /// Whether an agent may be, or become, a member at all.
    pub(super) fn check_revoked(
        &self,
        agent_id: AgentId,
        invite: Option<InviteId>,
    ) -> Result<(), Fault> {
        if self.is_revoked(Revoked::Member(agent_id)) {
            let text = "an admin has ended the membership of this identity";
            return Err(Fault::new(Code::Revoked, text).with_hint(
                "join with a new data directory and a new invite, if an admin allows it",
            ));
        }
        if invite.is_some_and(|id| self.is_revoked(Revoked::Invite(id))) {
            let text = "an admin has revoked the invite, and all that it has admitted";
            return Err(Fault::new(Code::Revoked, text).with_hint(ASK_ANEW));
        }
        Ok(())
    }

    /// What proves to a member that it, or the invite that admitted it, is revoked.
    pub(super) fn revocations_of(
        &self,
        agent_id: AgentId,
        invite: Option<InviteId>,
    ) -> Vec<Revocation> {
        let targets = [Some(Revoked::Member(agent_id)), invite.map(Revoked::Invite)];
        let meant = |stored: &&StoredRevocation| targets.contains(&Some(stored.target));
        let meant = self.revocations.iter().filter(meant);
        meant.map(|stored| stored.revocation.clone()).collect()
    }

    pub(super) fn revocation_count(&self) -> usize {
        self.revocations.len()
    }

    pub(super) fn revoke(&mut self, revocation: StoredRevocation) {
        if self.revoked.insert(revocation.target) {
            self.revocations.push(revocation);
        }
    }

    /// As many revocations from this position on as one message should have,
    /// and the position of the first that is not among them.
    pub(super) fn part(&self, from: usize) -> (ServerMessage, Option<usize>) {
        let mut room = AGENTS_PART_BYTES;
        let mut revocations = Vec::new();
        for stored in self.revocations.get(from..).unwrap_or_default() {
            let bytes = stored.revocation.as_str().len();
            if bytes > room {
                break;
            }
            room -= bytes;
            revocations.push(stored.revocation.clone());
        }
        let next = from + revocations.len();
        let more = (next < self.revocations.len()).then_some(next);
        (ServerMessage::Revoked { revocations }, more)
    }
}

const ASK_ANEW: &str = "ask an admin for a new invite";
