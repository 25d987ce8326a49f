//! What each member has: allocations, and budgets of bytes and requests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use waymesh_proto::AgentId;

use super::AllocationId;
use super::bucket::{Bucket, Rate};
use super::credentials::Mark;
use super::limits::{DATAGRAM_COST_BYTES, Limits};

/// How often members are looked for of whom nothing needs to be known any more.
/// Chosen: some 100 bytes each, for as many as ask in that time.
pub(super) const FORGET_EVERY: Duration = Duration::from_secs(60);

/// A member by number: found without hashing. The number is another's when
/// whoever had it has no allocation and was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberIndex(u32);

/// Everybody who has an allocation, or has used up some of his budget.
#[derive(Debug)]
pub(super) struct Members {
    by_id: HashMap<AgentId, MemberIndex>,
    all: Vec<Member>,
    /// Numbers that nobody has.
    free: Vec<MemberIndex>,
    with_allocations: usize,
    forget_at: Instant,
    /// What the credentials of removed members must carry. Nobody is ever taken out
    /// of it, as no mesh forgets whom it has removed: 40 bytes each.
    removed: HashMap<AgentId, Mark>,
}

#[derive(Debug)]
struct Member {
    allocations: Vec<AllocationId>,
    bytes: Bucket,
    requests: Bucket,
}

impl Members {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            by_id: HashMap::new(),
            all: Vec::new(),
            free: Vec::new(),
            with_allocations: 0,
            forget_at: now + FORGET_EVERY,
            removed: HashMap::new(),
        }
    }

    /// The member's number; it is made if there is none.
    pub(super) fn index(&mut self, id: &AgentId, now: Instant) -> MemberIndex {
        if let Some(&index) = self.by_id.get(id) {
            return index;
        }
        let member = Member {
            allocations: Vec::new(),
            bytes: Bucket::full(now),
            requests: Bucket::full(now),
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.all[index.0 as usize] = member;
                index
            }
            None => {
                self.all.push(member);
                MemberIndex(u32::try_from(self.all.len() - 1).expect("fewer members than that"))
            }
        };
        self.by_id.insert(*id, index);
        index
    }

    /// Forgets, now and then, who has no allocation and has all of his budget again.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        if now < self.forget_at {
            return;
        }
        self.forget_at = now + FORGET_EVERY;
        self.by_id.retain(|_, index| {
            let keep = self.all[index.0 as usize].is_of_interest(now);
            if !keep {
                self.free.push(*index);
            }
            keep
        });
    }

    /// The member's allocations, oldest first.
    pub(super) fn allocations(&self, index: MemberIndex) -> &[AllocationId] {
        &self.all[index.0 as usize].allocations
    }

    pub(super) fn add(&mut self, index: MemberIndex, allocation: AllocationId) {
        let member = &mut self.all[index.0 as usize];
        self.with_allocations += usize::from(member.allocations.is_empty());
        member.allocations.push(allocation);
    }

    pub(super) fn forget(&mut self, index: MemberIndex, allocation: AllocationId) {
        let member = &mut self.all[index.0 as usize];
        let before = member.allocations.len();
        member.allocations.retain(|id| *id != allocation);
        let now_empty = before > 0 && member.allocations.is_empty();
        self.with_allocations -= usize::from(now_empty);
    }

    /// Takes a request out of the member's budget, if there is one left. Data has a
    /// budget of its own: who sends as much as he may can still prolong his allocation.
    pub(super) fn may_ask(&mut self, index: MemberIndex, now: Instant, limits: &Limits) -> bool {
        let rate = Rate {
            per_second: limits.requests_per_second.into(),
            burst: limits.requests_burst.into(),
        };
        self.all[index.0 as usize].requests.take(now, rate, 1)
    }

    /// Takes a datagram with so much payload out of the member's budget, if it is covered.
    pub(super) fn may_relay(
        &mut self,
        index: MemberIndex,
        now: Instant,
        limits: &Limits,
        payload: usize,
    ) -> bool {
        let rate = Rate {
            per_second: limits.bytes_per_second,
            burst: limits.burst_bytes,
        };
        let bucket = &mut self.all[index.0 as usize].bytes;
        bucket.take(now, rate, (payload + DATAGRAM_COST_BYTES) as u64)
    }

    /// Members who have allocations.
    pub(super) fn len(&self) -> usize {
        self.with_allocations
    }

    /// Members of whom something is known.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.by_id.len()
    }

    /// Room that was ever needed for them.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.all.len()
    }

    /// Takes none of the member's credentials without this mark; gives its allocations.
    pub(super) fn remove(&mut self, id: &AgentId, mark: Mark) -> Vec<AllocationId> {
        self.removed.insert(*id, mark);
        let index = self.by_id.get(id).copied();
        index.map_or(Vec::new(), |index| self.allocations(index).to_vec())
    }

    /// What the member's credentials must carry.
    pub(super) fn mark(&self, id: &AgentId) -> Option<Mark> {
        self.removed.get(id).copied()
    }
}

impl Member {
    /// Whether anything of it differs from somebody who was never here.
    fn is_of_interest(&self, now: Instant) -> bool {
        let full = self.bytes.is_full(now) && self.requests.is_full(now);
        !full || !self.allocations.is_empty()
    }
}
