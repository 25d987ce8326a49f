//! What the authority does: it invites, approves, rejects and revokes.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;

use waymesh_proto::control::{MeshKey, Origin, RegistryKey};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::membership::{Certificate, Delegation, JoinRequest, Revocation};
use waymesh_proto::{AgentId, InviteId, Name, RequestId, Role};
use waymesh_trust::certificate::{self, Member};
use waymesh_trust::invite::{self, Grant, InviteSecret};
use waymesh_trust::join::{self, JoinError};
use waymesh_trust::revocation::{self, Target};
use waymesh_trust::{Keypair, fingerprint};

use crate::audit::{Act, Entry, Log};
use crate::directory::Directory;
use crate::error::AuthorityError;
use crate::shown::{self, SHOWN_FILE, Seen, Shown};

/// For how long the registry may extend a new member's certificate when the
/// admin does not say, milliseconds: 90 days. Chosen.
pub const RENEW_DEFAULT_MS: u64 = 90 * 24 * 3_600_000;

/// An open authority. No other process can open it meanwhile; close it soon.
#[derive(Debug)]
pub struct Authority {
    mesh: Keypair,
    log: Log,
    directory: Directory,
}

/// What an invite is to allow, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvite {
    /// Where the registry is.
    pub url: Origin,
    /// The registry's key.
    pub registry: RegistryKey,
    /// SHA-256 of its TLS public key, when no authority vouches for it.
    pub tls_pin: Option<[u8; 32]>,
    /// The names that it may give; `None` is any.
    pub names: Option<Vec<Name>>,
    /// The roles that its members get.
    pub roles: Vec<Role>,
    /// How many it admits; `None` is any number.
    pub count: Option<NonZeroU32>,
    /// Whether it admits without an admin.
    pub pre_approved: bool,
    /// For how long it admits, milliseconds.
    pub ttl_ms: u64,
    /// For how long its members' certificates may be extended, milliseconds.
    pub renew_ms: u64,
}

/// A request to join that an admin agrees to.
#[derive(Debug, Clone)]
pub struct Approval<'a> {
    /// The request's id.
    pub request: &'a RequestId,
    /// What the joiner has signed.
    pub join: &'a JoinRequest,
    /// The registry that holds the request, and that may extend the certificate.
    pub registry: RegistryKey,
    /// The delegation of the invite that came with it.
    pub invite: Option<&'a Delegation>,
    /// What the member may be trusted with; `None` is what the invite says.
    pub roles: Option<Vec<Role>>,
    /// For how long the certificate may be extended, milliseconds.
    pub renew_ms: u64,
}

impl Authority {
    /// Opens the authority of a directory.
    ///
    /// # Errors
    /// [`AuthorityError::Missing`] when there is none; else what is wrong with it.
    pub fn open(dir: &Path, now_ms: u64) -> Result<Self, AuthorityError> {
        let directory = Directory::open(dir)?;
        match directory.mesh_key()? {
            Some(mesh) => Self::begin(dir, directory, mesh, now_ms),
            None => Err(AuthorityError::Missing(dir.to_owned())),
        }
    }

    /// Opens the authority of a directory, and founds a new mesh if there is none.
    ///
    /// # Errors
    /// What is wrong with the directory.
    pub fn open_or_create(dir: &Path, now_ms: u64) -> Result<Self, AuthorityError> {
        let directory = Directory::open_or_create(dir)?;
        let mesh = match directory.mesh_key()? {
            Some(mesh) => mesh,
            None => directory.write_mesh_key(&rand::random())?,
        };
        Self::begin(dir, directory, mesh, now_ms)
    }

    fn begin(
        dir: &Path,
        directory: Directory,
        mesh: Keypair,
        now_ms: u64,
    ) -> Result<Self, AuthorityError> {
        let log = Log::open(dir, &mesh, now_ms)?;
        Ok(Self {
            mesh,
            log,
            directory,
        })
    }

    /// The public key of the mesh.
    pub fn mesh_key(&self) -> MeshKey {
        self.mesh.mesh_key()
    }

    /// Checks that it is the authority of this mesh.
    ///
    /// # Errors
    /// [`AuthorityError::OtherMesh`].
    pub fn expect_mesh(&self, mesh: &MeshKey) -> Result<(), AuthorityError> {
        if self.mesh_key() != *mesh {
            return Err(AuthorityError::OtherMesh {
                expected: *mesh,
                got: self.mesh_key(),
            });
        }
        Ok(())
    }

    /// Everything that it has done, oldest first.
    pub fn entries(&self) -> &[Entry] {
        self.log.entries()
    }

    /// Makes an invite. Its text, [`InviteSecret::encode`], is a secret.
    ///
    /// # Errors
    /// The limits are not such as an invite can have, or the act cannot be written down.
    pub fn invite(&mut self, new: &NewInvite, now_ms: u64) -> Result<InviteSecret, AuthorityError> {
        let expires_ms = now_ms.saturating_add(new.ttl_ms);
        let grant = Grant {
            invite: InviteId::from_bytes(rand::random()),
            names: new.names.clone(),
            roles: new.roles.clone(),
            count: new.count,
            pre_approved: new.pre_approved,
            issued_ms: now_ms,
            expires_ms,
            renew_until_ms: now_ms.saturating_add(new.renew_ms).max(expires_ms),
            registry: new.registry,
        };
        let (url, seed) = (new.url.clone(), rand::random());
        let secret = InviteSecret::make(&self.mesh, &grant, url, new.tls_pin, seed)?;
        let act = Act::Invite {
            invite: grant.invite,
            registry: new.url.clone(),
            names: grant.names,
            roles: grant.roles,
            count: grant.count,
            pre_approved: grant.pre_approved,
            expires_ms: grant.expires_ms,
            renew_until_ms: grant.renew_until_ms,
        };
        self.log.append(&self.mesh, act, now_ms)?;
        Ok(secret)
    }

    /// Remembers what an admin is shown of those who wait, in place of what was
    /// shown before; of the first [`SHOWN_MAX`](crate::SHOWN_MAX) alone.
    ///
    /// # Errors
    /// A request does not hold, or the directory cannot be written.
    pub fn remember_shown(
        &mut self,
        waiting: &[(&RequestId, &JoinRequest)],
    ) -> Result<(), AuthorityError> {
        let shown = waiting.iter().map(|(request, join)| {
            let joiner = join::verify(join)?;
            Ok(Shown::new(request, &joiner, join))
        });
        let shown: Result<Vec<_>, AuthorityError> = shown.collect();
        shown::remember(&self.directory.file(SHOWN_FILE), shown?)
    }

    /// Compares what waits under a request with what an admin was shown there.
    ///
    /// # Errors
    /// The request does not hold, or the directory cannot be read.
    pub fn seen(&self, request: &RequestId, join: &JoinRequest) -> Result<Seen, AuthorityError> {
        let now = Shown::new(request, &join::verify(join)?, join);
        shown::compare(&self.directory.file(SHOWN_FILE), &now)
    }

    /// Whom it has let in under a name itself and not revoked, in the order of
    /// their approvals. Whom an invite let in at once is not known to it.
    pub fn approved(&self, name: &Name) -> Vec<AgentId> {
        let mut members: Vec<AgentId> = Vec::new();
        for entry in self.entries() {
            match &entry.act {
                Act::Approve {
                    name: given,
                    agent_id,
                    ..
                } if given == name && !members.contains(agent_id) => members.push(*agent_id),
                Act::RevokeMember { agent_id, .. } => members.retain(|member| member != agent_id),
                _ => {}
            }
        }
        members
    }

    /// Makes the certificate of a joiner that an admin has agreed to.
    ///
    /// # Errors
    /// The request does not hold, means another mesh or registry, or its invite
    /// does not allow the name; or the act cannot be written down.
    pub fn approve(
        &mut self,
        approval: &Approval<'_>,
        now_ms: u64,
    ) -> Result<Certificate, AuthorityError> {
        let join = join::verify(approval.join)?;
        if join.mesh != self.mesh_key() {
            return Err(JoinError::Elsewhere("mesh").into());
        }
        if join.registry != approval.registry {
            return Err(JoinError::Elsewhere("registry").into());
        }
        let delegation = approval.invite;
        let grant = delegation.map(|d| invite::verify_delegation(d, &self.mesh_key()));
        let grant = grant.transpose()?;
        join.check_invite(grant.as_ref())?;
        let of_invite = grant.as_ref().map(|grant| grant.roles.clone());
        let latest_ms = grant.as_ref().map_or(u64::MAX, |g| g.renew_until_ms);
        let renew_until_ms = now_ms.saturating_add(approval.renew_ms).min(latest_ms);
        let member = Member {
            name: join.name,
            agent_id: join.agent_id,
            rotations: join.rotations,
            roles: approval.roles.clone().or(of_invite).unwrap_or_default(),
            registry: approval.registry,
            issued_ms: now_ms,
            expires_ms: renew_until_ms.min(now_ms.saturating_add(CERTIFICATE_LIFE_MS)),
            renew_until_ms,
        };
        let certificate = certificate::issue(&self.mesh, &member)?;
        let act = Act::Approve {
            request: approval.request.clone(),
            name: member.name,
            agent_id: member.agent_id,
            fingerprint: fingerprint(member.agent_id.as_bytes()),
            roles: member.roles,
            invite: grant.map(|grant| grant.invite),
            renew_until_ms,
        };
        self.log.append(&self.mesh, act, now_ms)?;
        Ok(certificate)
    }

    /// Writes down that an admin has rejected a request. The registry is told by the caller.
    ///
    /// # Errors
    /// The request does not hold, or the act cannot be written down.
    pub fn reject(
        &mut self,
        request: &RequestId,
        join: &JoinRequest,
        now_ms: u64,
    ) -> Result<(), AuthorityError> {
        let join = join::verify(join)?;
        let act = Act::Reject {
            request: request.clone(),
            name: join.name,
            agent_id: join.agent_id,
        };
        self.log.append(&self.mesh, act, now_ms)
    }

    /// Writes down that a pairing code is given out. The registry makes it.
    ///
    /// # Errors
    /// The act cannot be written down.
    pub fn pairing_code(&mut self, ttl_ms: u64, now_ms: u64) -> Result<(), AuthorityError> {
        let expires_ms = now_ms.saturating_add(ttl_ms);
        let act = Act::PairingCode { expires_ms };
        self.log.append(&self.mesh, act, now_ms)
    }

    /// Revokes a member for ever. `name` is for the log.
    ///
    /// # Errors
    /// The act cannot be written down.
    pub fn revoke_member(
        &mut self,
        agent_id: AgentId,
        name: Option<&Name>,
        now_ms: u64,
    ) -> Result<Revocation, AuthorityError> {
        let name = name.cloned();
        let act = Act::RevokeMember { agent_id, name };
        self.log.append(&self.mesh, act, now_ms)?;
        Ok(revocation::revoke(
            &self.mesh,
            Target::Member(agent_id),
            now_ms,
        ))
    }

    /// Revokes an invite for ever, and with it whom it has admitted by itself.
    ///
    /// # Errors
    /// The act cannot be written down.
    pub fn revoke_invite(
        &mut self,
        invite: InviteId,
        now_ms: u64,
    ) -> Result<Revocation, AuthorityError> {
        self.log
            .append(&self.mesh, Act::RevokeInvite { invite }, now_ms)?;
        let target = Target::Invite(invite);
        Ok(revocation::revoke(&self.mesh, target, now_ms))
    }

    /// Every revocation that it has ever made: for a registry that has lost them.
    pub fn revocations(&self) -> Vec<Revocation> {
        let mut done = BTreeSet::new();
        let mut all = Vec::new();
        for entry in self.entries() {
            let target = match &entry.act {
                Act::RevokeMember { agent_id, .. } => Target::Member(*agent_id),
                Act::RevokeInvite { invite } => Target::Invite(*invite),
                _ => continue,
            };
            if done.insert(target) {
                all.push(revocation::revoke(&self.mesh, target, entry.time_ms));
            }
        }
        all
    }
}
