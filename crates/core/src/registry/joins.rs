//! Who asks to become a member, and who may ask: pairing codes, invites,
//! and what an admin has decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use waymesh_proto::control::{PAIRING_CODES, PairingCode, ServerMessage};
use waymesh_proto::membership::{Delegation, JoinRequest};
use waymesh_proto::{AgentId, Code, Fault, InviteId, Name, RequestId};

use super::addresses::Place;
use super::connections::Phase;
use super::{
    CODE_TRIES_MAX, CODE_TRIES_WITHIN, CloseReason, ConnId, Decision, Effect, Invitation,
    PAIRING_CODES_MAX, PENDING_JOIN_LIFE, PENDING_JOINS_MAX, PENDING_PER_ADDRESS_MAX, Registry,
    StoredJoin, TRIED_ADDRESSES_MAX, Ticket, Waits, Write,
};

/// The letters of a request id: none is easily taken for another.
const REQUEST_LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// Letters of a request id. Chosen: short enough to be typed.
const REQUEST_CHARS: usize = 6;

/// A request to join whose signatures the program has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedJoin {
    /// The name that the joiner wants.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// What it said of itself.
    pub join_request: JoinRequest,
    /// What the mesh allows the invite that it came with.
    pub delegation: Option<Delegation>,
    /// Where it asks from.
    pub address: IpAddr,
    /// Why it may ask.
    pub introduction: Introduction,
}

/// Why somebody may ask to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introduction {
    /// An admin has read this code out to it.
    Code(PairingCode),
    /// It holds this invite's key, which has signed its request.
    Invite(Invitation),
    /// It gives no reason: it may only ask what became of an earlier request.
    Nobody,
}

/// What ends at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Request(RequestId),
    Code(PairingCode),
}

/// The requests that are not settled, and the codes that are out.
#[derive(Debug, Default)]
pub(super) struct Joins {
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
    pub(super) fn new(
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

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.endings.first().map(|(at, _)| *at)
    }

    /// The request of this id.
    pub(super) fn request(&self, id: &RequestId) -> Option<&StoredJoin> {
        self.requests.get(id)
    }

    fn of_agent(&self, agent_id: &AgentId) -> Option<&StoredJoin> {
        self.requests.get(self.by_agent.get(agent_id)?)
    }

    /// All requests, the longest waiting first, with how long each has waited by now.
    pub(super) fn pending(&self, now: Instant) -> Vec<StoredJoin> {
        let mut pending: Vec<StoredJoin> = self.requests.values().cloned().collect();
        for join in &mut pending {
            join.waited += now.saturating_duration_since(join.since);
            join.since = now;
        }
        pending.sort_by_key(|join| std::cmp::Reverse(join.waited));
        pending
    }

    /// The requests by an invite that wait for an admin, without those of this agent.
    fn waiting_by(&self, invite: &InviteId, but: &AgentId) -> usize {
        let waits = |join: &&StoredJoin| {
            join.invite == Some(*invite) && join.decision.is_none() && join.agent_id != *but
        };
        self.requests.values().filter(waits).count()
    }

    pub(super) fn insert(&mut self, join: StoredJoin) {
        self.remove(&join.request);
        let ending = Ending::Request(join.request.clone());
        self.endings.insert((end_of(&join), ending));
        self.by_agent.insert(join.agent_id, join.request.clone());
        self.requests.insert(join.request.clone(), join);
    }

    fn remove(&mut self, id: &RequestId) -> Option<StoredJoin> {
        let join = self.requests.remove(id)?;
        let ending = Ending::Request(id.clone());
        self.endings.remove(&(end_of(&join), ending));
        self.by_agent.remove(&join.agent_id);
        Some(join)
    }

    pub(super) fn forget(&mut self, conn: ConnId, agent_id: &AgentId) {
        if self.waiting.get(agent_id) == Some(&conn) {
            self.waiting.remove(agent_id);
        }
    }

    fn check_room(&self, address: IpAddr) -> bool {
        let place = Place::from(address);
        let mut here = self.requests.values();
        let here = here
            .by_ref()
            .filter(|join| Place::from(join.address) == place);
        here.count() < PENDING_PER_ADDRESS_MAX && self.requests.len() < PENDING_JOINS_MAX
    }

    /// A request id that is not in use.
    fn fresh_request(&self, random: u64) -> RequestId {
        let ids = (0..).map(|step: u64| request_id(random.wrapping_add(step)));
        let mut free = ids.filter(|id| !self.requests.contains_key(id));
        free.next().expect("there are more ids than requests")
    }

    fn add_code(&mut self, code: PairingCode, ends: Instant) {
        self.codes.insert(code, ends);
        self.endings.insert((ends, Ending::Code(code)));
    }

    fn take_code(&mut self, code: PairingCode) -> Option<Instant> {
        let ends = self.codes.remove(&code)?;
        self.endings.remove(&(ends, Ending::Code(code)));
        Some(ends)
    }

    /// Makes a code that is not in use; `None` when too many are out.
    pub(super) fn make_code(&mut self, ends: Instant, random: u64) -> Option<PairingCode> {
        if self.codes.len() >= PAIRING_CODES_MAX {
            return None;
        }
        let first = u32::try_from(random % u64::from(PAIRING_CODES)).unwrap_or_default();
        let codes = (0..PAIRING_CODES).map(|step| PairingCode::from_number(first + step));
        let code = codes.into_iter().find(|c| !self.codes.contains_key(c))?;
        self.add_code(code, ends);
        Some(code)
    }

    pub(super) fn drop_code(&mut self, code: PairingCode) {
        self.take_code(code);
    }

    /// Counts one try of a code; says whether the address may try.
    fn pay_try(&mut self, now: Instant, place: Place) -> bool {
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

impl Registry {
    /// Somebody who is no member asks to become one. `random` is fresh for every call.
    pub fn handle_join(&mut self, now: Instant, conn: ConnId, join: VerifiedJoin, random: u64) {
        self.connections.heard(now, conn);
        match self.connections.phase(conn) {
            None => {}
            Some(Phase::Greeting) => {
                if let Err(fault) = self.consider(now, conn, join, random) {
                    self.refuse(conn, fault, CloseReason::Refused);
                }
            }
            Some(Phase::LoggedIn(_)) => {
                let fault = Fault::new(Code::BadRequest, "this connection has logged in already");
                self.complain(conn, fault);
            }
            Some(Phase::Joining(_) | Phase::Storing(_)) => {
                let fault = Fault::new(Code::BadRequest, "this connection has asked already");
                self.refuse(conn, fault, CloseReason::Refused);
            }
        }
    }

    fn consider(
        &mut self,
        now: Instant,
        conn: ConnId,
        join: VerifiedJoin,
        random: u64,
    ) -> Result<(), Fault> {
        let invite = match &join.introduction {
            Introduction::Invite(invite) => Some(invite.id),
            Introduction::Code(_) | Introduction::Nobody => None,
        };
        self.rolls.check_revoked(join.agent_id, invite)?;
        let known = self.joins.of_agent(&join.agent_id);
        if let Some(known) = known.filter(|known| known.name == join.name) {
            let (request, decision) = (known.request.clone(), known.decision.clone());
            return self.remind(now, conn, join.agent_id, request, decision);
        }
        let code = self.check_introduction(now, conn, &join)?;
        self.agents.check_owner(&join.name, &join.agent_id)?;
        if !self.joins.check_room(join.address) {
            let text = "too many requests to join wait for an admin";
            return Err(Fault::new(Code::RateLimited, text)
                .with_hint("have an admin approve or reject some"));
        }
        self.check_room_to_wait(conn)?;
        self.ask(now, conn, join, invite, code, random);
        Ok(())
    }

    /// Says once more what became of a request.
    fn remind(
        &mut self,
        now: Instant,
        conn: ConnId,
        agent_id: AgentId,
        request: RequestId,
        decision: Option<Decision>,
    ) -> Result<(), Fault> {
        match decision {
            None => {
                self.check_room_to_wait(conn)?;
                self.wait_for_admin(now, conn, agent_id);
                self.send(vec![conn], ServerMessage::Pending { request });
            }
            Some(Decision::Approved(certificate)) => {
                self.send(vec![conn], ServerMessage::Approved { certificate });
                // The time to log in begins now.
                self.connections.set_phase(now, conn, Phase::Greeting);
            }
            Some(Decision::Rejected(reason)) => {
                self.forget_join(&request);
                return Err(rejected(reason));
            }
        }
        Ok(())
    }

    fn check_room_to_wait(&self, conn: ConnId) -> Result<(), Fault> {
        if self.connections.has_room_to_join(conn) {
            return Ok(());
        }
        let text = "too many connections wait for an admin";
        Err(Fault::new(Code::RateLimited, text).with_hint("ask again later"))
    }

    /// Whether somebody may ask; gives the code that this costs.
    fn check_introduction(
        &mut self,
        now: Instant,
        conn: ConnId,
        join: &VerifiedJoin,
    ) -> Result<Option<PairingCode>, Fault> {
        match &join.introduction {
            Introduction::Nobody => {
                let text = "nobody has invited this node";
                Err(Fault::new(Code::InviteRequired, text)
                    .with_hint("ask an admin for an invite or a pairing code"))
            }
            Introduction::Invite(invite) => {
                let waiting = self.joins.waiting_by(&invite.id, &join.agent_id);
                self.rolls
                    .check_invite(now, invite, &join.agent_id, waiting)?;
                Ok(None)
            }
            Introduction::Code(code) => {
                let place = self.connections.place(conn);
                if !place.is_some_and(|place| self.joins.pay_try(now, place)) {
                    let text = "too many pairing codes were tried from this address";
                    return Err(Fault::new(Code::RateLimited, text).with_hint("wait a minute"));
                }
                let ends = self.joins.codes.get(code);
                if ends.is_none_or(|ends| *ends <= now) {
                    let text = "the pairing code is wrong, used or too old";
                    return Err(Fault::new(Code::BadPairingCode, text)
                        .with_hint("ask an admin for a new one"));
                }
                Ok(Some(*code))
            }
        }
    }

    /// A new request, to be told of when it is durable.
    fn ask(
        &mut self,
        now: Instant,
        conn: ConnId,
        join: VerifiedJoin,
        invite: Option<InviteId>,
        code: Option<PairingCode>,
        random: u64,
    ) {
        let stored = StoredJoin {
            request: self.joins.fresh_request(random),
            name: join.name,
            agent_id: join.agent_id,
            join_request: join.join_request,
            address: join.address,
            invite,
            delegation: join.delegation,
            since: now,
            waited: Duration::ZERO,
            decision: None,
        };
        let mut writes = vec![Write::Join(Box::new(stored.clone()))];
        if let Some(old) = self.joins.by_agent.get(&join.agent_id).cloned() {
            self.joins.remove(&old);
            writes.push(Write::ForgetJoin(old));
        }
        let code = code.and_then(|code| Some((code, self.joins.take_code(code)?)));
        if let Some((code, _)) = code {
            writes.push(Write::ForgetCode(code));
        }
        let request = stored.request.clone();
        self.joins.insert(stored);
        self.wait_for_admin(now, conn, join.agent_id);
        let ticket = Some(Ticket(Waits::Join { request, code }));
        self.effects.push_back(Effect::Store { writes, ticket });
    }

    /// A request is durable, or cannot be.
    pub(super) fn handle_join_stored(
        &mut self,
        request: RequestId,
        code: Option<(PairingCode, Instant)>,
        outcome: Result<(), Fault>,
    ) {
        let Some(join) = self.joins.requests.get(&request) else {
            return;
        };
        let conn = self.joins.waiting.get(&join.agent_id).copied();
        match (outcome, conn) {
            (Ok(()), Some(conn)) => self.send(vec![conn], ServerMessage::Pending { request }),
            (Ok(()), None) => {}
            (Err(fault), conn) => {
                self.joins.remove(&request);
                if let Some((code, ends)) = code {
                    self.joins.add_code(code, ends);
                }
                if let Some(conn) = conn {
                    self.refuse(conn, fault, CloseReason::Refused);
                }
            }
        }
    }

    /// The connection waits, in place of an older one of the same joiner.
    fn wait_for_admin(&mut self, now: Instant, conn: ConnId, agent_id: AgentId) {
        if let Some(old) = self.joins.waiting.insert(agent_id, conn) {
            self.close(old, CloseReason::Replaced);
        }
        self.connections
            .set_phase(now, conn, Phase::Joining(agent_id));
    }

    /// An admin's decision is durable: whoever waits for it hears it.
    pub(super) fn tell_decision(&mut self, now: Instant, join: StoredJoin) {
        let (agent_id, request) = (join.agent_id, join.request.clone());
        if self.joins.request(&request).is_none() {
            return;
        }
        let decision = join.decision.clone();
        self.joins.insert(join);
        let Some(conn) = self.joins.waiting.remove(&agent_id) else {
            return;
        };
        if let Err(fault) = self.remind(now, conn, agent_id, request, decision) {
            self.refuse(conn, fault, CloseReason::Refused);
        }
    }

    /// The joiner is a member, or can never be one: its request is of no more use.
    pub(super) fn settle_join(&mut self, agent_id: &AgentId) {
        if let Some(request) = self.joins.by_agent.get(agent_id).cloned() {
            self.forget_join(&request);
        }
    }

    /// Nobody who is or came by this may join any more.
    pub(super) fn revoke_joins(&mut self, is_meant: impl Fn(&StoredJoin) -> bool, fault: &Fault) {
        let meant = self.joins.requests.values().filter(|join| is_meant(join));
        let meant: Vec<_> = meant.map(|j| (j.request.clone(), j.agent_id)).collect();
        for (request, agent_id) in meant {
            self.forget_join(&request);
            if let Some(conn) = self.joins.waiting.remove(&agent_id) {
                self.refuse(conn, fault.clone(), CloseReason::Revoked);
            }
        }
    }

    fn forget_join(&mut self, request: &RequestId) {
        if self.joins.remove(request).is_some() {
            self.write(Write::ForgetJoin(request.clone()));
        }
    }

    /// Forgets requests and codes that are too old.
    pub(super) fn end_requests(&mut self, now: Instant) {
        while let Some((at, ending)) = self.joins.endings.first().cloned() {
            if at > now {
                return;
            }
            match ending {
                Ending::Code(code) => {
                    self.joins.take_code(code);
                    self.write(Write::ForgetCode(code));
                }
                Ending::Request(request) => self.forget_join(&request),
            }
        }
    }
}

fn rejected(reason: Option<String>) -> Fault {
    let text = match reason {
        Some(reason) => format!("an admin rejected the request to join: {reason}"),
        None => "an admin rejected the request to join".into(),
    };
    Fault::new(Code::Rejected, text).with_hint("ask the admin why")
}
