//! The door of one connection: who logs in or asks to join, as signatures prove it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use waymesh_core::registry::{Introduction, Invitation, VerifiedJoin, VerifiedLogin};
use waymesh_proto::control::{Challenge, Join, Login, Nonce, Welcome};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::membership::SealingStatement;
use waymesh_proto::{AgentId, Code, Fault};
use waymesh_trust::certificate::Verified;
use waymesh_trust::invite::{VerifiedDelegation, verify_delegation};
use waymesh_trust::login::Gate;
use waymesh_trust::{join, sealing};

use super::Identity;
use crate::carrier::Visitor;
use crate::clock::Clock;

/// What a connection is asked for, and who has come in.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    gate: Gate<'a>,
    identity: &'a Identity,
    /// The only key that may come in here.
    key: Option<AgentId>,
    /// What this side of TLS was spoken with, if this registry speaks it.
    tls_key: Option<[u8; 32]>,
    member: Option<Arc<Verified>>,
}

impl<'a> Entry<'a> {
    /// Fails with `no_mesh` while there is none.
    pub(super) fn new(visitor: &'a Visitor, identity: &'a Identity) -> Result<Self, Fault> {
        let gate = Gate {
            keypair: &identity.keypair,
            mesh: identity.mesh()?,
            origins: &visitor.origins,
            nonce: Nonce::from_bytes(rand::random()),
        };
        Ok(Self {
            gate,
            identity,
            key: visitor.key,
            tls_key: visitor.tls_key,
            member: None,
        })
    }

    pub(super) fn challenge(&self) -> Challenge {
        self.gate.challenge()
    }

    /// Whether somebody has proved to be a member. The rules may refuse it still.
    pub(super) const fn is_member(&self) -> bool {
        self.member.is_some()
    }

    /// Checks a login; gives it with the welcome to be sent once it is granted.
    pub(super) fn log_in(&mut self, login: &Login) -> Result<(VerifiedLogin, Welcome), Fault> {
        let clock = Clock::now();
        let mut certificates = self.identity.certificates();
        let admission = self.gate.verify(login, clock.unix_ms, &mut certificates);
        let admission = admission.map_err(|error| error.fault())?;
        drop(certificates);
        let member = admission.member;
        self.check_key(member.key)?;
        let renewable = member.registry == self.gate.keypair.registry_key();
        let verified = VerifiedLogin {
            name: member.name.clone(),
            agent_id: member.agent_id,
            incarnation: login.incarnation,
            instance: login.instance,
            roles: member.roles.clone(),
            keys: member.keys.clone(),
            expires: with_leeway(clock, member.expires_ms),
            renewable_until: renewable.then(|| with_leeway(clock, member.renew_until_ms)),
            invite: member.delegation.as_ref().map(|d| invitation(d, clock)),
            certificate: login.certificate.clone(),
            sealing: login.sealing.clone(),
            introduce: login.introduce,
        };
        self.member = Some(member);
        Ok((verified, admission.welcome))
    }

    /// Checks a request to join.
    pub(super) fn ask_to_join(&self, ask: &Join, address: IpAddr) -> Result<VerifiedJoin, Fault> {
        let clock = Clock::now();
        let verified = join::verify(&ask.request).map_err(|error| error.fault())?;
        self.check_key(verified.key)?;
        let registry = self.gate.keypair.registry_key();
        let Gate { mesh, nonce, .. } = &self.gate;
        verified
            .check_here(mesh, &registry, nonce, clock.unix_ms)
            .and_then(|()| verified.check_tls(self.tls_key.as_ref()))
            .map_err(|error| error.fault())?;
        let delegation = ask.invite.as_ref().map(|d| verify_delegation(d, mesh));
        let delegation = delegation.transpose().map_err(|error| error.fault())?;
        verified
            .check_invite(delegation.as_ref())
            .map_err(|error| error.fault())?;
        let introduction = match (delegation, ask.code) {
            (Some(verified), _) => Introduction::Invite(invitation(&verified, clock)),
            (None, Some(code)) => Introduction::Code(code),
            (None, None) => Introduction::Nobody,
        };
        Ok(VerifiedJoin {
            name: verified.name,
            agent_id: verified.agent_id,
            join_request: ask.request.clone(),
            delegation: ask.invite.clone(),
            address,
            introduction,
        })
    }

    /// Checks the sealing key of the member.
    pub(super) fn check_sealing(&self, statement: &SealingStatement) -> Result<(), Fault> {
        let Some(member) = &self.member else {
            return Err(Fault::new(Code::Unauthorized, "log in first"));
        };
        sealing::verify_statement(statement, member, Clock::now().unix_ms)
            .map(|_| ())
            .map_err(|error| error.fault())
    }

    fn check_key(&self, key: AgentId) -> Result<(), Fault> {
        if self.key.is_none_or(|proved| proved == key) {
            return Ok(());
        }
        let text = "the requests of this session are proved with another key";
        Err(Fault::new(Code::Unauthorized, text))
    }
}

/// When something ends on the steady clock, wrong clocks allowed for.
fn with_leeway(clock: Clock, unix_ms: u64) -> Instant {
    clock.instant(unix_ms.saturating_add(CLOCK_LEEWAY_MS))
}

/// No leeway: only the registry judges when an invite is over, so there is
/// one clock that everybody goes by.
fn invitation(delegation: &VerifiedDelegation, clock: Clock) -> Invitation {
    Invitation {
        id: delegation.invite,
        count: delegation.count,
        until: clock.instant(delegation.expires_ms),
    }
}
