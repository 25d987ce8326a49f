//! Who asks to become a member, and who may ask: pairing codes, invites,
//! and what an admin has decided.

mod book;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use waymesh_proto::control::{PairingCode, ServerMessage};
use waymesh_proto::membership::{Delegation, JoinRequest};
use waymesh_proto::{AgentId, Code, Fault, InviteId, Name, RequestId};

use super::connections::Phase;
use super::{
    CloseReason, ConnId, Decision, Effect, Invitation, Registry, StoredJoin, Ticket, Waits, Write,
};
use book::Ending;

pub(super) use book::Joins;

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
        if !self.joins.has_room(join.address) {
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
                if !self.joins.holds(now, code) {
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
        if let Some(old) = self.joins.id_of(&join.agent_id) {
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
        let Some(join) = self.joins.request(&request) else {
            return;
        };
        let conn = self.joins.waiting_conn(&join.agent_id);
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
        if let Some(old) = self.joins.wait(agent_id, conn) {
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
        let Some(conn) = self.joins.end_wait(&agent_id) else {
            return;
        };
        if let Err(fault) = self.remind(now, conn, agent_id, request, decision) {
            self.refuse(conn, fault, CloseReason::Refused);
        }
    }

    /// The joiner is a member, or can never be one: its request is of no more use.
    pub(super) fn settle_join(&mut self, agent_id: &AgentId) {
        if let Some(request) = self.joins.id_of(agent_id) {
            self.forget_join(&request);
        }
    }

    /// Nobody who is or came by this may join any more.
    pub(super) fn revoke_joins(&mut self, is_meant: impl Fn(&StoredJoin) -> bool, fault: &Fault) {
        for (request, agent_id) in self.joins.matching(is_meant) {
            self.forget_join(&request);
            if let Some(conn) = self.joins.end_wait(&agent_id) {
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
        while let Some(ending) = self.joins.ended(now) {
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
