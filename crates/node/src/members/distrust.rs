//! Why somebody is not believed, told so that one knows what happened.

use waymesh_proto::{AgentId, Code, Fault, Name};
use waymesh_trust::certificate::CertificateError;
use waymesh_trust::directory::DirectoryError;
use waymesh_trust::sealing::{OpenError, SealError};
use waymesh_trust::signal::SignalError;

/// Why a record, a signal or an item is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    /// This node does not know its mesh yet.
    #[error("this node belongs to no mesh yet")]
    NoMesh,
    /// The registry's record does not hold.
    #[error(transparent)]
    Record(#[from] DirectoryError),
    /// The sealing key that the registry gives out is not the agent's.
    #[error(transparent)]
    Sealing(#[from] SealError),
    /// The signal does not hold.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The item cannot be opened, or not by its sender.
    #[error(transparent)]
    Item(#[from] OpenError),
    /// The member, or the invite that it came by, was revoked.
    #[error("{name} was revoked")]
    Revoked {
        /// The member.
        name: Name,
        /// Its identity: its name may be another's by now.
        id: AgentId,
    },
    /// The keys are not those that the identity had before, and no statement
    /// of the last one leads to them.
    #[error("{name} shows another key than before, and no statement that it changed it")]
    OtherKeys {
        /// The member.
        name: Name,
        /// Its identity.
        id: AgentId,
    },
    /// A letter under a key that the member has given up, in a life that was
    /// not heard of under it: anybody who got hold of that key may have
    /// written it, whatever time it bears.
    #[error("a letter of {name} is signed with a key that it has given up")]
    FormerKey {
        /// The member.
        name: Name,
    },
}

impl Distrust {
    /// The code to count it under.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::NoMesh => Code::InviteRequired,
            Self::Record(error) => error.code(),
            Self::Sealing(error) => error.code(),
            Self::Signal(error) => error.code(),
            Self::Item(error) => error.code(),
            Self::Revoked { .. } => Code::Revoked,
            Self::OtherKeys { .. } | Self::FormerKey { .. } => Code::IdentityChanged,
        }
    }

    /// The error that the user is told.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Record(error) => error.fault(),
            Self::Sealing(error) => error.fault(),
            Self::Signal(error) => error.fault(),
            Self::Item(error) => error.fault(),
            Self::NoMesh => Fault::new(self.code(), self.to_string()),
            Self::Revoked { .. } => Fault::new(self.code(), self.to_string())
                .with_hint("an admin has taken its membership back"),
            Self::OtherKeys { .. } => Fault::new(self.code(), self.to_string()).with_hint(
                "somebody uses an old key of it, or a copy of its data directory from before `waymesh identity rotate`",
            ),
            Self::FormerKey { .. } => Fault::new(self.code(), self.to_string())
                .with_hint("if the peer has written it before it changed its key, have it sent again"),
        }
    }

    /// Whom it is about, where that is proved: what a liar says of others must
    /// not be held against them.
    pub(crate) fn proved_name(&self) -> Option<&Name> {
        match self {
            Self::Revoked { name, .. } | Self::OtherKeys { name, .. } => Some(name),
            Self::Signal(SignalError::Stale { name, .. })
            | Self::Item(
                OpenError::Stale { name, .. }
                | OpenError::Sealing(
                    SealError::NotYetValid { name, .. } | SealError::Expired { name, .. },
                ),
            ) => Some(name),
            Self::Signal(SignalError::Certificate(error))
            | Self::Item(OpenError::Certificate(error)) => match error {
                CertificateError::Expired { name, .. }
                | CertificateError::NotYetValid { name, .. } => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The identity that it is about, where that is proved beside the name.
    pub(crate) const fn proved_id(&self) -> Option<AgentId> {
        match self {
            Self::Revoked { id, .. } | Self::OtherKeys { id, .. } => Some(*id),
            _ => None,
        }
    }
}
