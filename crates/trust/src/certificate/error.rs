//! What is wrong with a certificate, told so that one knows what happened.

use std::fmt;

use waymesh_proto::{Code, Fault, InviteId, MeshId, Name};

use crate::rotation::RotationError;

/// A part of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The invite's delegation.
    Delegation,
    /// The member token.
    Member,
    /// The registry's extension.
    Extension,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delegation => "delegation",
            Self::Member => "member token",
            Self::Extension => "extension",
        })
    }
}

/// What an invite's key has given that its delegation does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeyondInvite {
    /// A name that is not among those of the delegation.
    Name,
    /// A role that is not among those of the delegation.
    Role,
    /// It was issued before the invite was made: one of the two clocks is wrong.
    Early,
    /// It was issued after the invite ended.
    Late,
    /// It may be renewed for longer than the delegation says.
    Renewal,
    /// Another registry could extend it.
    Registry,
}

impl fmt::Display for BeyondInvite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the name",
            Self::Role => "a role",
            Self::Early => "a time of joining before it was made",
            Self::Late => "a time of joining after it ended",
            Self::Renewal => "the time of renewal",
            Self::Registry => "the registry",
        })
    }
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a chain of such tokens; whoever made it is broken, or of a newer version.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// Somebody who may not has made or changed a part of it.
    #[error("the {token} is not signed by who may sign it")]
    Forged {
        /// The part.
        token: Token,
    },
    /// The registry that it names has made it itself: registries extend, they admit nobody.
    #[error("the registry has signed the {token} of {name}: it may not admit anybody")]
    MintedByRegistry {
        /// The part.
        token: Token,
        /// Whom it would admit.
        name: Name,
    },
    /// It is of another mesh.
    #[error("the certificate is of the mesh {got}, not of {expected}")]
    ForeignMesh {
        /// The own mesh.
        expected: MeshId,
        /// The mesh that it names.
        got: MeshId,
    },
    /// An invite that needs an admin's approval was used without it.
    #[error("the invite {invite} does not admit anybody by itself")]
    NotPreApproved {
        /// The invite.
        invite: InviteId,
    },
    /// An invite was used for more than it allows.
    #[error("{what} is beyond what the invite {invite} allows")]
    BeyondInvite {
        /// The invite.
        invite: InviteId,
        /// What is beyond it.
        what: BeyondInvite,
    },
    /// A part of it would live longer than any may, or end before it begins.
    #[error("the {token} has a life that no such token may have")]
    Life {
        /// The part.
        token: Token,
    },
    /// Its rotations do not lead from the agent id to the key.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Its time is over.
    #[error("the certificate of {name} ended {} s ago", over_ms / 1_000)]
    Expired {
        /// The member.
        name: Name,
        /// For how long, milliseconds.
        over_ms: u64,
        /// Whether its registry may still extend it.
        renewable: bool,
    },
    /// Its time has not come: one of the two clocks is wrong.
    #[error("the certificate of {name} begins in {} s by this clock", ahead_ms / 1_000)]
    NotYetValid {
        /// The member.
        name: Name,
        /// In how long, milliseconds.
        ahead_ms: u64,
    },
}

impl CertificateError {
    /// The code that the other side or the user is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired { .. } => Code::CertificateExpired,
            Self::NotYetValid { .. }
            | Self::BeyondInvite {
                what: BeyondInvite::Early,
                ..
            } => Code::ClockSkew,
            Self::BeyondInvite {
                what: BeyondInvite::Late,
                ..
            } => Code::InviteExpired,
            _ => Code::BadCertificate,
        }
    }

    /// The error that the other side or the user is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self.hint() {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    }

    const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Malformed(_) => "if the other side is newer, bring this one up to date",
            Self::MintedByRegistry { .. } => {
                "the registry acts against its mesh: find out who controls it"
            }
            Self::Forged { .. } => {
                "somebody tries to enter without leave, or the member needs a new invite"
            }
            Self::ForeignMesh { .. } => "use an invite of this mesh",
            Self::NotPreApproved { .. } => {
                "have an admin approve the request, or make the invite with --auto-approve"
            }
            Self::NotYetValid { .. }
            | Self::BeyondInvite {
                what: BeyondInvite::Early,
                ..
            } => "set the clocks of both hosts right",
            Self::BeyondInvite { .. } => "ask an admin for an invite that allows it",
            Self::Rotation(RotationError::TooMany(_)) => {
                "join with a new identity: a new data directory and a new invite"
            }
            Self::Expired {
                renewable: true, ..
            } => "it is extended when the member connects to its registry",
            Self::Expired { .. } => "ask an admin for a new invite",
            Self::Life { .. } | Self::Rotation(_) => return None,
        })
    }
}
