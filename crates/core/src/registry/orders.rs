//! What admins may have the registry do, and what they are answered.

use std::time::{Duration, Instant};

use waymesh_proto::control::{MemberRecord, MeshKey, PAIRING_CODE_LIFE_MS, PairingCode};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Code, Fault, Name, RequestId};

use super::{
    Decision, Effect, PAGE_MAX_AGENTS, PAGE_MAX_BYTES, Query, REVOCATIONS_MAX, Registry,
    StoredJoin, StoredRevocation, Ticket, Waits, Write,
};

/// One order, numbered by the program; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderTicket(pub u64);

/// What an admin wants. What has a signature was verified by the program.
#[derive(Debug, Clone)]
pub enum Order {
    /// The registry serves this mesh from now on, for ever.
    Found {
        /// The mesh's public key.
        mesh: MeshKey,
    },
    /// The agents that fit.
    Agents(Query),
    /// Who waits to join.
    Pending,
    /// Admits who waits.
    Approve {
        /// The request.
        request: RequestId,
        /// What it is admitted with.
        certificate: Certificate,
        /// The name in the certificate.
        name: Name,
        /// The identity in the certificate.
        agent_id: AgentId,
    },
    /// Turns away who waits.
    Reject {
        /// The request.
        request: RequestId,
        /// What the joiner is told.
        reason: Option<String>,
    },
    /// Ends the membership of members and invites.
    Revoke(Vec<StoredRevocation>),
    /// Makes a code that one node may ask to join with.
    PairingCode {
        /// How long it holds; more than 5 minutes are cut to that.
        life: Duration,
    },
}

/// What an admin is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is done and durable.
    Done,
    /// One page of the agents and what proves them.
    Agents {
        /// The agents.
        agents: Vec<MemberRecord>,
        /// The name after which the next page begins; `None` at the end.
        next: Option<Name>,
    },
    /// Who waits to join, the longest waiting first; `waited` is up to now.
    Pending(Vec<StoredJoin>),
    /// A new pairing code.
    PairingCode(PairingCode),
}

impl Registry {
    /// An admin wants something; the answer is an [`Effect::Answer`], which may
    /// have to wait for the disk. `random` is fresh for every call.
    pub fn handle_order(&mut self, now: Instant, ticket: OrderTicket, order: Order, random: u64) {
        let outcome = match order {
            Order::Found { mesh } => self.found(ticket, mesh),
            Order::Agents(query) => {
                let (agents, next) = self.agents.page(&query, PAGE_MAX_AGENTS, PAGE_MAX_BYTES);
                Ok(Some(Reply::Agents { agents, next }))
            }
            Order::Pending => Ok(Some(Reply::Pending(self.joins.pending(now)))),
            Order::Approve {
                request,
                certificate,
                name,
                agent_id,
            } => self.approve(ticket, &request, certificate, (&name, &agent_id)),
            Order::Reject { request, reason } => self
                .joins
                .request(&request)
                .cloned()
                .ok_or_else(unknown_request)
                .map(|join| self.decide(ticket, join, Decision::Rejected(reason))),
            Order::Revoke(revocations) => self.revoke(ticket, revocations),
            Order::PairingCode { life } => self.make_code(now, ticket, life, random),
        };
        if let Some(outcome) = outcome.transpose() {
            self.effects.push_back(Effect::Answer { ticket, outcome });
        }
    }

    fn found(&mut self, ticket: OrderTicket, mesh: MeshKey) -> Result<Option<Reply>, Fault> {
        match self.mesh {
            Some(old) if old == mesh => Ok(Some(Reply::Done)),
            Some(old) => {
                let text = format!("the registry serves the mesh of {old}, not of {mesh}");
                Err(Fault::new(Code::WrongRegistry, text)
                    .with_hint("use the authority directory of that mesh, or another registry"))
            }
            None => {
                let ticket = Some(Ticket(Waits::Founding { ticket, mesh }));
                let writes = vec![Write::Mesh(mesh)];
                self.effects.push_back(Effect::Store { writes, ticket });
                Ok(None)
            }
        }
    }

    /// The mesh is durable, unless another order was first.
    pub(super) fn handle_founded(&mut self, ticket: OrderTicket, mesh: MeshKey) {
        if self.mesh.is_none_or(|old| old == mesh) {
            self.mesh = Some(mesh);
            self.effects.push_back(Effect::Founded { mesh });
        }
        let outcome = self.found(ticket, mesh).transpose();
        if let Some(outcome) = outcome {
            self.effects.push_back(Effect::Answer { ticket, outcome });
        }
    }

    fn approve(
        &mut self,
        ticket: OrderTicket,
        request: &RequestId,
        certificate: Certificate,
        (name, agent_id): (&Name, &AgentId),
    ) -> Result<Option<Reply>, Fault> {
        let join = self.joins.request(request).cloned();
        let join = join.ok_or_else(unknown_request)?;
        if join.name != *name || join.agent_id != *agent_id {
            let text = "the certificate is not for the key and name that asked";
            return Err(Fault::new(Code::BadCertificate, text));
        }
        self.agents.check_owner(name, agent_id)?;
        Ok(self.decide(ticket, join, Decision::Approved(certificate)))
    }

    fn decide(
        &mut self,
        ticket: OrderTicket,
        mut join: StoredJoin,
        decision: Decision,
    ) -> Option<Reply> {
        let is_approved = matches!(decision, Decision::Approved(_));
        join.decision = Some(decision);
        let mut writes = vec![Write::Join(Box::new(join.clone()))];
        if let Some(invite) = join.invite.filter(|_| is_approved) {
            let agent_id = join.agent_id;
            writes.push(Write::Admission { invite, agent_id });
        }
        let join = Box::new(join);
        let ticket = Some(Ticket(Waits::Decision { ticket, join }));
        self.effects.push_back(Effect::Store { writes, ticket });
        None
    }

    /// A decision is durable.
    pub(super) fn handle_decided(&mut self, now: Instant, join: StoredJoin) {
        if let (Some(Decision::Approved(_)), Some(invite)) = (&join.decision, join.invite) {
            self.rolls.admit(invite, join.agent_id);
        }
        self.tell_decision(now, join);
    }

    fn revoke(
        &mut self,
        ticket: OrderTicket,
        mut revocations: Vec<StoredRevocation>,
    ) -> Result<Option<Reply>, Fault> {
        revocations.retain(|new| !self.rolls.is_revoked(new.target));
        if revocations.is_empty() {
            return Ok(Some(Reply::Done));
        }
        if self.rolls.revocation_count() + revocations.len() > REVOCATIONS_MAX {
            let text = format!("the registry can remember {REVOCATIONS_MAX} revocations");
            return Err(Fault::new(Code::QueueFull, text).with_hint("begin a new mesh"));
        }
        let writes = revocations.iter().cloned().map(Write::Revocation);
        let writes = writes.collect();
        let waits = Waits::Revocation {
            ticket,
            revocations,
        };
        let ticket = Some(Ticket(waits));
        self.effects.push_back(Effect::Store { writes, ticket });
        Ok(None)
    }

    fn make_code(
        &mut self,
        now: Instant,
        ticket: OrderTicket,
        life: Duration,
        random: u64,
    ) -> Result<Option<Reply>, Fault> {
        let ends = now + life.min(Duration::from_millis(PAIRING_CODE_LIFE_MS));
        let Some(code) = self.joins.make_code(ends, random) else {
            let text = "too many pairing codes are in use";
            return Err(Fault::new(Code::QueueFull, text).with_hint("wait until some are too old"));
        };
        let writes = vec![Write::Code { code, ends }];
        let ticket = Some(Ticket(Waits::Code { ticket, code }));
        self.effects.push_back(Effect::Store { writes, ticket });
        Ok(None)
    }
}

fn unknown_request() -> Fault {
    Fault::new(Code::UnknownId, "no such request to join waits")
        .with_hint("list them with waymesh pending")
}
