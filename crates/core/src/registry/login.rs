//! Logging in: who is let in, and what happens before the welcome.

use std::time::Instant;

use waymesh_proto::control::{InstanceId, ServerMessage};
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::{AgentId, Code, Fault, Incarnation, InviteId, Name, Role};

use super::connections::{Phase, Session};
use super::listings::Listing;
use super::{CloseReason, ConnId, Effect, Invitation, Registry, StoredAgent, Ticket, Waits, Write};

/// A login whose signature and certificate the program has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedLogin {
    /// The name that the certificate gives the agent.
    pub name: Name,
    /// The agent.
    pub agent_id: AgentId,
    /// The node's incarnation.
    pub incarnation: Incarnation,
    /// The node's process.
    pub instance: InstanceId,
    /// What the certificate lets it be trusted with.
    pub roles: Vec<Role>,
    /// Every key that the agent had, the first one first.
    pub keys: Vec<AgentId>,
    /// When the certificate ends, leeway for clocks included.
    pub expires: Instant,
    /// Until when this registry may extend it, leeway for clocks included;
    /// `None` when another registry may.
    pub renewable_until: Option<Instant>,
    /// The invite that has admitted the agent by itself.
    pub invite: Option<Invitation>,
    /// What proves all that to others.
    pub certificate: Certificate,
    /// The key to seal messages to the agent with.
    pub sealing: SealingStatement,
    /// Whether its node wants to be told of others ahead of need.
    pub introduce: bool,
}

impl Registry {
    /// A connection has proved who it is.
    pub fn handle_login(&mut self, now: Instant, conn: ConnId, login: VerifiedLogin) {
        self.connections.heard(now, conn);
        match self.connections.phase(conn) {
            None => {}
            Some(Phase::Greeting) => {
                let checked = self
                    .check_login(now, &login)
                    .and_then(|()| self.check_pace(now, &login));
                match checked {
                    Ok(()) => self.bind_then_grant(now, conn, login),
                    Err(fault) => {
                        self.prove_revoked(conn, &login);
                        self.refuse(conn, fault, CloseReason::Refused);
                    }
                }
            }
            Some(_) => {
                let fault = Fault::new(Code::BadRequest, "this connection has logged in already");
                self.complain(conn, fault);
            }
        }
    }

    /// Shows somebody who was revoked the authority's word for it: on a registry's
    /// alone, which has not proved itself yet, no node gives up.
    fn prove_revoked(&mut self, conn: ConnId, login: &VerifiedLogin) {
        let invite = login.invite.as_ref().map(|invite| invite.id);
        let revocations = self.rolls.revocations_of(login.agent_id, invite);
        if !revocations.is_empty() {
            self.send(vec![conn], ServerMessage::Revoked { revocations });
        }
    }

    /// Whether somebody whose certificate was verified is a member still, with
    /// its newest key. To be asked before it is answered outside of a connection.
    ///
    /// # Errors
    /// `revoked` or `identity_changed`.
    pub fn check_member(
        &self,
        agent_id: &AgentId,
        invite: Option<InviteId>,
        keys: &[AgentId],
    ) -> Result<(), Fault> {
        self.rolls.check_revoked(*agent_id, invite)?;
        self.agents.check_keys(agent_id, keys)
    }

    fn check_login(&self, now: Instant, login: &VerifiedLogin) -> Result<(), Fault> {
        let invite = login.invite.as_ref();
        self.rolls
            .check_revoked(login.agent_id, invite.map(|invite| invite.id))?;
        if login
            .expires
            .max(login.renewable_until.unwrap_or(login.expires))
            <= now
        {
            return Err(
                Fault::new(Code::CertificateExpired, "the certificate has ended")
                    .with_hint("ask an admin for a new invite"),
            );
        }
        self.agents.check_keys(&login.agent_id, &login.keys)?;
        self.agents.check_owner(&login.name, &login.agent_id)?;
        self.agents.check_life(login)?;
        if let Some(invite) = invite {
            self.rolls.check_invite(now, invite, &login.agent_id, 0)?;
            if self.agents.has_other_name_by(&invite.id, login) {
                let text = "the invite has admitted this agent under another name";
                return Err(Fault::new(Code::InviteExhausted, text)
                    .with_hint("use that name, or ask an admin for a new invite"));
            }
        }
        Ok(())
    }

    fn check_pace(&mut self, now: Instant, login: &VerifiedLogin) -> Result<(), Fault> {
        if self.agents.pay_login(now, &login.agent_id) {
            return Ok(());
        }
        let fault = Fault::new(Code::RateLimited, "this agent logs in too often");
        Err(fault.with_hint("give every node a data directory of its own"))
    }

    /// Grants a known name at once; a new one, or a new admission, when it is durable.
    fn bind_then_grant(&mut self, now: Instant, conn: ConnId, login: VerifiedLogin) {
        let agent_id = login.agent_id;
        let admission = login.invite.as_ref().map(|invite| invite.id);
        let admission = admission.filter(|id| !self.rolls.is_admitted(id, &agent_id));
        let is_bound = self.agents.is_bound(&login.name);
        if is_bound && admission.is_none() {
            return self.grant(now, conn, &login);
        }
        let mut writes = Vec::new();
        if !is_bound {
            let agent = self.agents.reserve(&login);
            writes.push(Write::Agent(Box::new(agent)));
        }
        if let Some(invite) = admission {
            self.rolls.reserve(invite, agent_id);
            writes.push(Write::Admission { invite, agent_id });
        }
        let agent = Box::new(StoredAgent::new(&login));
        self.connections
            .set_phase(now, conn, Phase::Storing(Box::new(login)));
        self.effects.push_back(Effect::Store {
            writes,
            ticket: Some(Ticket(Waits::Login {
                conn,
                agent,
                admission,
            })),
        });
    }

    /// Whatever was new about a login is durable, or cannot be.
    pub(super) fn handle_login_stored(
        &mut self,
        now: Instant,
        conn: ConnId,
        agent: &StoredAgent,
        admission: Option<InviteId>,
        outcome: Result<(), Fault>,
    ) {
        if let Some(invite) = admission {
            self.rolls.release(invite, agent.agent_id);
        }
        if let Err(fault) = outcome {
            self.agents.cancel_reservation(&agent.name);
            return self.refuse(conn, fault, CloseReason::Refused);
        }
        if let Some(invite) = admission {
            self.rolls.admit(invite, agent.agent_id);
        }
        if let Err(fault) = self.rolls.check_revoked(agent.agent_id, agent.invite) {
            // Revoked in the meantime: what was just written must not come back.
            self.write(Write::ForgetAgent(agent.name.clone()));
            return self.refuse(conn, fault, CloseReason::Revoked);
        }
        self.agents.confirm(agent);
        let Some(Phase::Storing(login)) = self.connections.phase(conn) else {
            return;
        };
        let login = login.clone();
        match self.check_login(now, &login) {
            Ok(()) => self.grant(now, conn, &login),
            Err(fault) => self.refuse(conn, fault, CloseReason::Refused),
        }
    }

    fn grant(&mut self, now: Instant, conn: ConnId, login: &VerifiedLogin) {
        self.displace_older(login);
        let is_new = self.agents.set_online(conn, login);
        let session = Session {
            name: login.name.clone(),
            agent_id: login.agent_id,
        };
        self.connections
            .set_phase(now, conn, Phase::LoggedIn(session));
        self.effects.push_back(Effect::Welcome { conn });
        if is_new {
            self.store(&login.name);
        }
        if login.expires > now {
            // Else it is shown to others when it was extended.
            self.announce(&login.name);
        }
        if login.introduce {
            self.introduce_all(conn);
        }
        self.settle_join(&login.agent_id);
        if self.rolls.revocation_count() > 0 {
            self.list(conn, Listing::Revocations { from: 0 });
        }
        self.begin_term(now, conn, login);
        self.tell_servers(now, conn);
        self.open_window(now, conn, login.agent_id);
        self.tell_unreadable(conn, &login.agent_id);
    }

    /// Ends the connection that spoke for the agent until now.
    fn displace_older(&mut self, login: &VerifiedLogin) {
        let Some(old) = self.agents.set_offline(&login.agent_id) else {
            return;
        };
        if old.name != login.name {
            self.announce(&old.name);
        }
        if old.instance == login.instance {
            self.close(old.conn, CloseReason::Replaced);
        } else {
            let fault = Fault::new(
                Code::IdentityInUse,
                "another process with a newer incarnation logged in as this agent",
            )
            .with_hint("give every node a data directory of its own");
            self.refuse(old.conn, fault, CloseReason::Replaced);
        }
    }
}
