//! The requests that are not settled, the codes that are out, and who waits
//! or has tried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use waymesh_proto::control::{PAIRING_CODES, PairingCode};
use waymesh_proto::{AgentId, InviteId, RequestId};

use super::super::addresses::Place;
use super::super::{
    CODE_TRIES_MAX, CODE_TRIES_WITHIN, ConnId, PAIRING_CODES_MAX, PENDING_JOIN_LIFE,
    PENDING_JOINS_MAX, PENDING_PER_ADDRESS_MAX, StoredJoin, TRIED_ADDRESSES_MAX,
};

/// The letters of a request id: none is easily taken for another.
const REQUEST_LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// Letters of a request id. Chosen: short enough to be typed.
const REQUEST_CHARS: usize = 6;

/// What ends at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::registry) enum Ending {
    Request(RequestId),
    Code(PairingCode),
}

/// The requests that are not settled, and the codes that are out.
#[derive(Debug, Default)]
pub(in crate::registry) struct Joins {
    requests: BTreeMap<RequestId, StoredJoin>,
    by_agent: BTreeMap<AgentId, RequestId>,
    /// The connections on which joiners wait for an admin.
    waiting: BTreeMap<AgentId, ConnId>,
    codes: BTreeMap<PairingCode, Instant>,
    endings: BTreeSet<(Instant, Ending)>,
    /// When each address tried codes lately.
    tries: BTreeMap<Place, VecDeque<Instant>>,
}

fn end_of(join: &StoredJoin) -> Instant {
    join.since + PENDING_JOIN_LIFE.saturating_sub(join.waited)
}

impl Joins {
    pub(in crate::registry) fn new(
        requests: impl IntoIterator<Item = StoredJoin>,
        codes: impl IntoIterator<Item = (PairingCode, Instant)>,
    ) -> Self {
        let mut joins = Self::default();
        for join in requests {
            joins.insert(join);
        }
        for (code, ends) in codes {
            joins.add_code(code, ends);
        }
        joins
    }

    pub(in crate::registry) fn next_end(&self) -> Option<Instant> {
        self.endings.first().map(|(at, _)| *at)
    }

    /// The request of this id.
    pub(in crate::registry) fn request(&self, id: &RequestId) -> Option<&StoredJoin> {
        self.requests.get(id)
    }

    pub(in crate::registry) fn of_agent(&self, agent_id: &AgentId) -> Option<&StoredJoin> {
        self.requests.get(self.by_agent.get(agent_id)?)
    }

    /// All requests, the longest waiting first, with how long each has waited by now.
    pub(in crate::registry) fn pending(&self, now: Instant) -> Vec<StoredJoin> {
        let mut pending: Vec<StoredJoin> = self.requests.values().cloned().collect();
        for join in &mut pending {
            join.waited += now.saturating_duration_since(join.since);
            join.since = now;
        }
        pending.sort_by(|a, b| {
            b.waited
                .cmp(&a.waited)
                .then_with(|| a.request.cmp(&b.request))
        });
        pending
    }

    /// The requests by an invite that wait for an admin, without those of this agent.
    pub(in crate::registry) fn waiting_by(&self, invite: &InviteId, but: &AgentId) -> usize {
        let waits = |join: &&StoredJoin| {
            join.invite == Some(*invite) && join.decision.is_none() && join.agent_id != *but
        };
        self.requests.values().filter(waits).count()
    }

    pub(in crate::registry) fn insert(&mut self, join: StoredJoin) {
        self.remove(&join.request);
        let ending = Ending::Request(join.request.clone());
        self.endings.insert((end_of(&join), ending));
        self.by_agent.insert(join.agent_id, join.request.clone());
        self.requests.insert(join.request.clone(), join);
    }

    pub(in crate::registry) fn remove(&mut self, id: &RequestId) -> Option<StoredJoin> {
        let join = self.requests.remove(id)?;
        let ending = Ending::Request(id.clone());
        self.endings.remove(&(end_of(&join), ending));
        self.by_agent.remove(&join.agent_id);
        Some(join)
    }

    /// The request of an agent.
    pub(in crate::registry) fn id_of(&self, agent_id: &AgentId) -> Option<RequestId> {
        self.by_agent.get(agent_id).cloned()
    }

    /// The requests for which this holds.
    pub(in crate::registry) fn matching(
        &self,
        is_meant: impl Fn(&StoredJoin) -> bool,
    ) -> Vec<(RequestId, AgentId)> {
        let meant = self.requests.values().filter(|join| is_meant(join));
        meant.map(|j| (j.request.clone(), j.agent_id)).collect()
    }

    /// A connection waits for an admin to admit this agent; gives one that did before.
    pub(in crate::registry) fn wait(&mut self, agent_id: AgentId, conn: ConnId) -> Option<ConnId> {
        self.waiting.insert(agent_id, conn)
    }

    /// The connection on which this agent waits.
    pub(in crate::registry) fn waiting_conn(&self, agent_id: &AgentId) -> Option<ConnId> {
        self.waiting.get(agent_id).copied()
    }

    /// The agent waits no more.
    pub(in crate::registry) fn end_wait(&mut self, agent_id: &AgentId) -> Option<ConnId> {
        self.waiting.remove(agent_id)
    }

    /// Something whose time is over.
    pub(in crate::registry) fn ended(&self, now: Instant) -> Option<Ending> {
        let (at, ending) = self.endings.first()?;
        (*at <= now).then(|| ending.clone())
    }

    /// Whether a code holds now.
    pub(in crate::registry) fn holds(&self, now: Instant, code: &PairingCode) -> bool {
        self.codes.get(code).is_some_and(|ends| *ends > now)
    }

    pub(in crate::registry) fn forget(&mut self, conn: ConnId, agent_id: &AgentId) {
        if self.waiting.get(agent_id) == Some(&conn) {
            self.waiting.remove(agent_id);
        }
    }

    /// Whether one more request from there may wait.
    pub(in crate::registry) fn has_room(&self, address: IpAddr) -> bool {
        let place = Place::from(address);
        let requests = self.requests.values();
        let here = requests.filter(|join| Place::from(join.address) == place);
        let has_share = place.is_here() || here.count() < PENDING_PER_ADDRESS_MAX;
        has_share && self.requests.len() < PENDING_JOINS_MAX
    }

    /// A request id that is not in use.
    pub(in crate::registry) fn fresh_request(&self, random: u64) -> RequestId {
        let ids = (0..).map(|step: u64| request_id(random.wrapping_add(step)));
        let mut free = ids.filter(|id| !self.requests.contains_key(id));
        free.next().expect("there are more ids than requests")
    }

    pub(in crate::registry) fn add_code(&mut self, code: PairingCode, ends: Instant) {
        self.codes.insert(code, ends);
        self.endings.insert((ends, Ending::Code(code)));
    }

    pub(in crate::registry) fn take_code(&mut self, code: PairingCode) -> Option<Instant> {
        let ends = self.codes.remove(&code)?;
        self.endings.remove(&(ends, Ending::Code(code)));
        Some(ends)
    }

    /// Makes a code that is not in use; `None` when too many are out.
    pub(in crate::registry) fn make_code(
        &mut self,
        ends: Instant,
        random: u64,
    ) -> Option<PairingCode> {
        if self.codes.len() >= PAIRING_CODES_MAX {
            return None;
        }
        let first = u32::try_from(random % u64::from(PAIRING_CODES)).unwrap_or_default();
        let codes = (0..PAIRING_CODES).map(|step| PairingCode::from_number(first + step));
        let code = codes.into_iter().find(|c| !self.codes.contains_key(c))?;
        self.add_code(code, ends);
        Some(code)
    }

    /// Counts one try of a code; says whether the address may try.
    pub(in crate::registry) fn pay_try(&mut self, now: Instant, place: Place) -> bool {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= CODE_TRIES_WITHIN;
        if self.tries.len() >= TRIED_ADDRESSES_MAX && !self.tries.contains_key(&place) {
            self.tries
                .retain(|_, tries| tries.back().is_some_and(|at| !is_old(*at)));
            if self.tries.len() >= TRIED_ADDRESSES_MAX {
                return false;
            }
        }
        let tries = self.tries.entry(place).or_default();
        tries.retain(|at| !is_old(*at));
        let may = tries.len() < CODE_TRIES_MAX;
        if may {
            tries.push_back(now);
        }
        may
    }
}

fn request_id(mut number: u64) -> RequestId {
    let letters = REQUEST_LETTERS.len() as u64;
    let mut text = String::with_capacity(REQUEST_CHARS);
    for _ in 0..REQUEST_CHARS {
        let letter = usize::try_from(number % letters).unwrap_or_default();
        text.push(char::from(REQUEST_LETTERS[letter]));
        number /= letters;
    }
    text.parse().expect("the letters are those of request ids")
}
