//! How long members stay: certificates that end and are extended, members and
//! invites that are revoked.

use std::time::{Duration, Instant};

use waymesh_proto::control::ServerMessage;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::membership::{Certificate, Extension, SealingStatement};
use waymesh_proto::{AgentId, Code, Fault};

use super::connections::{Session, Term};
use super::{
    CloseReason, ConnId, Effect, Registry, Revoked, StoredRevocation, VerifiedLogin, Write,
};

/// What must be left of a certificate's life, or it is extended.
const EXTEND_BELOW: Duration = Duration::from_millis(CERTIFICATE_LIFE_MS / 2);

/// Between two extensions of one certificate on one connection at least. Chosen.
const EXTEND_PAUSE: Duration = Duration::from_secs(60);

/// A certificate that the program has extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// What the registry has signed.
    pub extension: Extension,
    /// The certificate with it.
    pub certificate: Certificate,
    /// When that ends, leeway for clocks included.
    pub expires: Instant,
}

impl Registry {
    /// A member has logged in: its certificate's time runs on this connection.
    pub(super) fn begin_term(&mut self, now: Instant, conn: ConnId, login: &VerifiedLogin) {
        let half = login.expires.checked_sub(EXTEND_BELOW).unwrap_or(now);
        let extend = login
            .renewable_until
            .is_some_and(|until| until > login.expires);
        let term = Term {
            ends: login.expires,
            renewable_until: login.renewable_until,
            extend: extend.then_some(half),
        };
        self.connections.set_term(conn, term);
        if extend && half <= now {
            self.ask_to_extend(conn);
        }
    }

    /// Has the certificate of a connected member extended, once.
    pub(super) fn ask_to_extend(&mut self, conn: ConnId) {
        let Some(term) = self.connections.term(conn) else {
            return;
        };
        let extend = None;
        self.connections.set_term(conn, Term { extend, ..term });
        let session = self.connections.session(conn);
        let stored = session.and_then(|session| self.agents.stored(&session.name));
        if let Some(stored) = stored {
            let certificate = stored.certificate;
            self.effects.push_back(Effect::Extend { conn, certificate });
        }
    }

    /// The certificate of a connected member was extended, as [`Effect::Extend`] asked.
    pub fn handle_extended(&mut self, now: Instant, conn: ConnId, extended: Extended) {
        let Some(Session { name, .. }) = self.connections.session(conn).cloned() else {
            return;
        };
        let Some(term) = self.connections.term(conn) else {
            return;
        };
        let Extended {
            extension,
            certificate,
            expires,
        } = extended;
        if expires <= term.ends {
            return;
        }
        let half = expires.checked_sub(EXTEND_BELOW).unwrap_or(now);
        let may_again = term.renewable_until.is_some_and(|until| until > expires);
        let term = Term {
            ends: expires,
            // Not at once again, should less be left than that already.
            extend: may_again.then_some(half.max(now + EXTEND_PAUSE)),
            ..term
        };
        self.connections.set_term(conn, term);
        self.agents.set_certificate(&name, certificate);
        self.store(&name);
        self.send(vec![conn], ServerMessage::Extended { extension });
        self.announce(&name);
        self.tell_longer_servers(now, conn);
    }

    /// A connected member has a new key to seal messages to it with; the
    /// program has verified that.
    pub fn handle_sealing(&mut self, now: Instant, conn: ConnId, statement: SealingStatement) {
        self.connections.heard(now, conn);
        let Some(Session { name, agent_id }) = self.session_or_refuse(conn) else {
            return;
        };
        if !self.may_say(now, conn, agent_id, statement.as_str().len()) {
            return;
        }
        if self.agents.set_sealing(&name, statement) {
            self.store(&name);
            self.announce(&name);
        }
    }

    /// The certificate of a connected member is over.
    pub(super) fn end_term(&mut self, conn: ConnId) {
        let fault = Fault::new(
            Code::CertificateExpired,
            "the member's certificate has ended",
        )
        .with_hint("ask an admin for a new invite");
        self.refuse(conn, fault, CloseReason::Expired);
    }

    /// Revocations are durable: everybody is told, and whoever is meant goes.
    pub(super) fn apply_revocations(&mut self, revocations: Vec<StoredRevocation>) {
        let first = self.rolls.revocation_count();
        let targets: Vec<_> = revocations.iter().map(|stored| stored.target).collect();
        for revocation in revocations {
            self.rolls.revoke(revocation);
        }
        let to = self.connections.logged_in();
        let mut from = Some(first);
        while let Some(position) = from.filter(|at| *at < self.rolls.revocation_count()) {
            let (message, next) = self.rolls.part(position);
            self.send(to.clone(), message);
            from = next;
        }
        for target in targets {
            self.carry_out_revocation(target);
        }
    }

    fn carry_out_revocation(&mut self, target: Revoked) {
        let members = match target {
            Revoked::Member(agent_id) => vec![agent_id],
            Revoked::Invite(invite) => {
                let fault = Fault::new(Code::Revoked, "an admin has revoked the invite");
                self.revoke_joins(|join| join.invite == Some(invite), &fault);
                self.agents.admitted_by(&invite)
            }
        };
        for agent_id in members {
            self.expel(agent_id, target);
        }
    }

    /// An agent is a member no more: it is told and closed, its name is free,
    /// and nothing is delivered that it has sent or that waits for it.
    fn expel(&mut self, agent_id: AgentId, target: Revoked) {
        let invite = match target {
            Revoked::Invite(invite) => Some(invite),
            Revoked::Member(_) => None,
        };
        let Err(fault) = self.rolls.check_revoked(agent_id, invite) else {
            return;
        };
        self.revoke_joins(|join| join.agent_id == agent_id, &fault);
        self.forget_items_of(&agent_id);
        self.effects.push_back(Effect::Expelled { agent_id });
        if let Some(conn) = self.agents.connection_of(&agent_id) {
            self.refuse(conn, fault, CloseReason::Revoked);
        }
        for name in self.agents.expel(&agent_id) {
            self.write(Write::ForgetAgent(name.clone()));
            let to = self.watchers.of(&name);
            if !to.is_empty() {
                self.send(to, ServerMessage::Unknown { name });
            }
        }
    }
}
