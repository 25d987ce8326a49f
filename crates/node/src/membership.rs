//! Which mesh this node belongs to, and how it gets into one.
//!
//! A node that is a member goes on as one, whatever invite it is given of that
//! mesh. A node that is none needs an invitation: with a pre-approved invite
//! it makes its own certificate and logs in; with any other, or with a pairing
//! code, it asks to join and waits for an admin.

mod invitation;
mod tls;

use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MeshKey, Origin};
use waymesh_proto::ids::{AgentId, Name};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{Code, Fault};
use waymesh_trust::certificate::{self, CertificateError};
use waymesh_trust::invite::{Applicant, InviteSecret};
use waymesh_trust::rotation::Rotation;

pub use invitation::Invitation;
pub(crate) use tls::RegistryTls;
pub use tls::TlsPin;

use crate::home::Home;

/// The mesh that a node is a member of, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The name that the certificate gives.
    pub name: Name,
    /// The node's identity.
    pub agent_id: AgentId,
    /// The public half of its present key.
    pub key: AgentId,
    /// The mesh: whom to trust about members.
    pub mesh: MeshKey,
    /// What proves the membership.
    pub certificate: Certificate,
    /// Where the registry is.
    pub registry: Origin,
    /// The registry's TLS key, when no authority vouches for it.
    pub tls_pin: Option<TlsPin>,
}

/// What a node starts with.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// It is a member.
    Member(Membership),
    /// It has made itself a certificate and is a member once it has logged in
    /// with it: only the registry knows how many the invite has admitted.
    Entering(Membership),
    /// It has to ask, and an admin has to agree.
    Applying(Box<Application>),
}

/// What a node asks to join with.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    /// The name that it wants.
    pub(crate) name: Name,
    /// Its identity.
    pub(crate) agent_id: AgentId,
    /// What led from the identity to its present key, oldest first.
    pub(crate) rotations: Vec<Rotation>,
    /// What it was invited with.
    pub(crate) invitation: Invitation,
    /// Where the registry is.
    pub(crate) registry: Origin,
    /// What it knows of the registry's TLS key.
    pub(crate) tls: RegistryTls,
}

impl Application {
    /// The mesh to join, where the node was told of it.
    pub(crate) fn mesh(&self) -> Option<MeshKey> {
        self.invitation.invite().map(|invite| invite.mesh)
    }
}

impl Standing {
    /// Where the registry is.
    pub(crate) fn registry(&self) -> &Origin {
        match self {
            Self::Member(membership) | Self::Entering(membership) => &membership.registry,
            Self::Applying(application) => &application.registry,
        }
    }

    /// What the node knows of the registry's TLS key.
    pub(crate) fn tls(&self) -> RegistryTls {
        match self {
            Self::Member(membership) | Self::Entering(membership) => membership.tls_pin.into(),
            Self::Applying(application) => application.tls,
        }
    }
}

/// Finds out what a node starts with. `registry` overrides what the invite or
/// the membership says.
///
/// # Errors
/// `invite_required`; `bad_invite` for an invite of another mesh;
/// `invite_expired`; `usage` for a name that is not the member's, or when
/// nobody says where the registry is.
pub(crate) fn standing(
    home: &Home,
    name: &Name,
    invitation: Option<Invitation>,
    registry: Option<Origin>,
    now_ms: u64,
) -> Result<Standing, Fault> {
    let known = home.membership()?;
    let past = match (known, &invitation) {
        (Some(member), None) => return stay(member, name, registry),
        (Some(member), Some(invitation)) => {
            check_mesh(&member, invitation)?;
            if !is_over(&member, now_ms) {
                return stay(member, name, registry);
            }
            Some(member)
        }
        (None, _) => None,
    };
    let invitation = invitation.ok_or_else(invite_required)?;
    let tls = registry_tls(&invitation, past.as_ref());
    let rotations = past.map_or(Ok(Vec::new()), |member| {
        certificate::rotations(&member.certificate).map_err(|error| error.fault())
    })?;
    if let Some(invite) = invitation.invite() {
        check_name(invite, name)?;
    }
    let invited_to = invitation.invite().map(|invite| invite.registry.clone());
    let registry = registry.or(invited_to).ok_or_else(no_registry)?;
    let application = Application {
        name: name.clone(),
        agent_id: home.agent_id(),
        rotations,
        invitation,
        registry,
        tls,
    };
    match application.invitation.invite() {
        Some(invite) if invite.grant.pre_approved => {
            enter(home, invite, &application, now_ms).map(Standing::Entering)
        }
        _ => Ok(Standing::Applying(Box::new(application))),
    }
}

/// What a node knows of the registry's TLS key before it asks to join. Six
/// digits say nothing of it, but whoever was a member has met the registry.
fn registry_tls(invitation: &Invitation, past: Option<&Membership>) -> RegistryTls {
    match (invitation, past) {
        (Invitation::Invite(invite), _) => invite.tls_pin.map(TlsPin).into(),
        (Invitation::Code(_), Some(past)) => past.tls_pin.into(),
        (Invitation::Code(_), None) => RegistryTls::FirstUse,
    }
}

fn stay(mut member: Membership, name: &Name, registry: Option<Origin>) -> Result<Standing, Fault> {
    if member.name != *name {
        let message = format!("this identity is {} in its mesh, not {name}", member.name);
        let hint = format!(
            "start it with --name {}, or {name} with a --data-dir of its own",
            member.name
        );
        return Err(Fault::new(Code::Usage, message).with_hint(hint));
    }
    if let Some(registry) = registry {
        member.registry = registry;
    }
    Ok(Standing::Member(member))
}

fn check_mesh(member: &Membership, invitation: &Invitation) -> Result<(), Fault> {
    match invitation.invite() {
        Some(invite) if invite.mesh != member.mesh => {
            let message = "the invite is of another mesh than the one that this node belongs to";
            let hint = "a node belongs to one mesh: give the other one a --data-dir of its own";
            Err(Fault::new(Code::BadInvite, message).with_hint(hint))
        }
        _ => Ok(()),
    }
}

fn check_name(invite: &InviteSecret, name: &Name) -> Result<(), Fault> {
    match &invite.grant.names {
        Some(names) if !names.contains(name) => {
            let names: Vec<_> = names.iter().map(Name::as_str).collect();
            let message = format!("the invite is for {}, not for {name}", names.join(", "));
            let hint = "start the node under that name, or ask an admin for another invite";
            Err(Fault::new(Code::BadInvite, message).with_hint(hint))
        }
        _ => Ok(()),
    }
}

/// Whether the membership has ended for good, so that only a new invite helps.
fn is_over(member: &Membership, now_ms: u64) -> bool {
    let verified = certificate::verify_renewable(&member.certificate, &member.mesh, now_ms);
    matches!(
        verified,
        Err(CertificateError::Expired {
            renewable: false,
            ..
        })
    )
}

/// Makes the certificate that a pre-approved invite allows.
fn enter(
    home: &Home,
    invite: &InviteSecret,
    application: &Application,
    now_ms: u64,
) -> Result<Membership, Fault> {
    invite.grant.check_open(now_ms).map_err(|e| e.fault())?;
    let applicant = Applicant {
        name: application.name.clone(),
        agent_id: application.agent_id,
        rotations: application.rotations.clone(),
    };
    let certificate = invite.admit(&applicant, now_ms).map_err(|e| e.fault())?;
    Ok(Membership {
        name: applicant.name,
        agent_id: applicant.agent_id,
        key: home.keypair().agent_id(),
        mesh: invite.mesh,
        certificate,
        registry: application.registry.clone(),
        tls_pin: application.tls.pin(),
    })
}

fn invite_required() -> Fault {
    let message = "this node belongs to no mesh yet and was given no invite";
    Fault::new(Code::InviteRequired, message).with_hint(
        "run `waymesh invite` beside the registry and give its line, or a pairing code, with --invite",
    )
}

fn no_registry() -> Fault {
    let message = "a pairing code does not say where the registry is";
    Fault::new(Code::Usage, message).with_hint("give the registry's URL with --registry")
}

#[cfg(test)]
mod tests;
