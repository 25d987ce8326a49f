//! What each member has: allocations, and budgets of bytes and requests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use waymesh_proto::AgentId;

use super::AllocationId;
use super::bucket::{Bucket, Rate};
use super::limits::{DATAGRAM_COST_BYTES, Limits};

/// A member by number: found without hashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberIndex(u32);

/// Everybody who ever asked for something here. Only members get credentials, so
/// that there are no more than the mesh has members, some 100 bytes each; who
/// forgets them forgets how much they have used of their budget.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: HashMap<AgentId, MemberIndex>,
    all: Vec<Member>,
    with_allocations: usize,
    /// Until when credentials of removed members could be good, had they not been removed.
    removed: HashMap<AgentId, Duration>,
}

#[derive(Debug)]
struct Member {
    allocations: Vec<AllocationId>,
    bytes: Bucket,
    requests: Bucket,
}

impl Members {
    /// The member's number; it is made if there is none.
    pub(super) fn index(&mut self, id: &AgentId, now: Instant) -> MemberIndex {
        if let Some(&index) = self.by_id.get(id) {
            return index;
        }
        let index = MemberIndex(u32::try_from(self.all.len()).expect("fewer members than that"));
        self.all.push(Member {
            allocations: Vec::new(),
            bytes: Bucket::full(now),
            requests: Bucket::full(now),
        });
        self.by_id.insert(*id, index);
        index
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

    /// Takes no credentials that were issued up to `unix`; gives the member's allocations.
    pub(super) fn remove(
        &mut self,
        id: &AgentId,
        unix: Duration,
        limits: &Limits,
    ) -> Vec<AllocationId> {
        self.removed.insert(*id, unix + limits.credential_lifetime);
        let index = self.by_id.get(id).copied();
        index.map_or(Vec::new(), |index| self.allocations(index).to_vec())
    }

    /// Whether credentials with this expiry were issued before the member was removed.
    pub(super) fn is_removed(&self, id: &AgentId, expires: Duration) -> bool {
        self.removed.get(id).is_some_and(|until| expires <= *until)
    }

    /// Forgets who was removed so long ago that the credentials are over by themselves.
    pub(super) fn forget_removed(&mut self, unix: Duration) {
        self.removed.retain(|_, until| *until > unix);
    }
}
