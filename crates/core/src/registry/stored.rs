//! What the rules remember over restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::{MeshKey, PairingCode, PeerRules};
use waymesh_proto::membership::{
    Certificate, Delegation, JoinRequest, Revocation, SealingStatement,
};
use waymesh_proto::{AgentId, Incarnation, InviteId, Name, RequestId, Role};

use super::{StoredItem, VerifiedLogin};

/// Everything that is remembered, as [`super::Registry::new`] takes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// The mesh, once it was founded.
    pub mesh: Option<MeshKey>,
    /// The agents that are bound to a name.
    pub agents: Vec<StoredAgent>,
    /// Whom each invite has admitted.
    pub admissions: Vec<(InviteId, AgentId)>,
    /// Who and what is revoked, in this order.
    pub revocations: Vec<StoredRevocation>,
    /// Who waits to join.
    pub joins: Vec<StoredJoin>,
    /// Pairing codes, and when they end.
    pub codes: BTreeMap<PairingCode, Instant>,
    /// The items of all mailboxes, without their bytes.
    pub items: Vec<StoredItem>,
}

impl Stored {
    /// Whose credentials of earlier runs are to be believed no more: those who were
    /// revoked, and whom a revoked invite has admitted. Some of these may be
    /// members again by another way; they are told new credentials when they log in.
    pub fn expelled(&self) -> BTreeSet<AgentId> {
        let revoked: BTreeSet<_> = self.revocations.iter().map(|r| r.target).collect();
        let by_itself = revoked.iter().filter_map(|target| match target {
            Revoked::Member(agent_id) => Some(*agent_id),
            Revoked::Invite(_) => None,
        });
        let with_invite = self
            .admissions
            .iter()
            .filter(|(invite, _)| revoked.contains(&Revoked::Invite(*invite)));
        by_itself.chain(with_invite.map(|(_, id)| *id)).collect()
    }
}

/// What is remembered of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAgent {
    /// Its name.
    pub name: Name,
    /// The identity that the name is bound to.
    pub agent_id: AgentId,
    /// The newest incarnation that logged in.
    pub incarnation: Incarnation,
    /// Every key that it had, the first one first.
    pub keys: Vec<AgentId>,
    /// What its certificate lets it be trusted with.
    pub roles: Vec<Role>,
    /// The invite in its certificate, unless an admin has admitted it.
    pub invite: Option<InviteId>,
    /// What proves its name and key to others.
    pub certificate: Certificate,
    /// The key to seal messages to it with.
    pub sealing: SealingStatement,
    /// The skills that it published last.
    pub skills: Vec<SkillSpec>,
    /// Whom it wants to hear of.
    pub rules: PeerRules,
}

impl StoredAgent {
    pub(super) fn new(login: &VerifiedLogin) -> Self {
        Self {
            name: login.name.clone(),
            agent_id: login.agent_id,
            incarnation: login.incarnation,
            keys: login.keys.clone(),
            roles: login.roles.clone(),
            invite: login.invite.as_ref().map(|invite| invite.id),
            certificate: login.certificate.clone(),
            sealing: login.sealing.clone(),
            skills: Vec::new(),
            rules: PeerRules::default(),
        }
    }

    /// Whether a login says anything new, apart from skills and rules.
    pub(super) fn differs_from(&self, login: &VerifiedLogin) -> bool {
        self.incarnation != login.incarnation
            || self.certificate != login.certificate
            || self.sealing != login.sealing
    }
}

/// Who or what is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// A member, under whatever name and key.
    Member(AgentId),
    /// An invite, with every member that it has admitted by itself.
    Invite(InviteId),
}

/// A verified revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRevocation {
    /// Who or what.
    pub target: Revoked,
    /// What proves it to others.
    pub revocation: Revocation,
}

/// Who waits to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJoin {
    /// What the admin sees it under.
    pub request: RequestId,
    /// The name that it wants.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// What it said of itself.
    pub join_request: JoinRequest,
    /// Where it asked from.
    pub address: IpAddr,
    /// The invite that it came with; `None` when it had a pairing code.
    pub invite: Option<InviteId>,
    /// What the mesh allows that invite: the authority believes nobody else.
    pub delegation: Option<Delegation>,
    /// Since when this run of the registry has had it.
    pub since: Instant,
    /// How long it was there before that.
    pub waited: Duration,
    /// What an admin has decided and the joiner has not heard yet.
    pub decision: Option<Decision>,
}

/// What an admin has decided on a request to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is admitted with this.
    Approved(Certificate),
    /// It is turned away, maybe with a reason.
    Rejected(Option<String>),
}
