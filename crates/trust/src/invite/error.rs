//! What is wrong with an invite.

use waymesh_proto::{Code, Fault, InviteId, MeshId};

/// Why an invite cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Not an invite: cut off, or copied with something else.
    #[error("the invite is malformed: {0}")]
    Malformed(String),
    /// The delegation is not signed by the mesh.
    #[error("the invite is not signed by the mesh")]
    Forged,
    /// The delegation is of another mesh.
    #[error("the invite is of the mesh {got}, not of {expected}")]
    ForeignMesh {
        /// The own mesh.
        expected: MeshId,
        /// The invite's mesh.
        got: MeshId,
    },
    /// More names or roles than a delegation holds, or times in a wrong order.
    #[error("no invite may say this: {0}")]
    Limits(&'static str),
    /// Nobody may join by it any more.
    #[error("the invite {invite} ended {} s ago", over_ms / 1_000)]
    Expired {
        /// The invite.
        invite: InviteId,
        /// For how long, milliseconds.
        over_ms: u64,
    },
    /// Nobody may join by it yet: one of the two clocks is wrong.
    #[error("the invite {invite} begins in {} s by this clock", ahead_ms / 1_000)]
    NotYetValid {
        /// The invite.
        invite: InviteId,
        /// In how long, milliseconds.
        ahead_ms: u64,
    },
}

impl InviteError {
    /// The code that the other side or the user is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired { .. } => Code::InviteExpired,
            Self::NotYetValid { .. } => Code::ClockSkew,
            _ => Code::BadInvite,
        }
    }

    /// The error that the other side or the user is told.
    pub fn fault(&self) -> Fault {
        let hint = match self {
            Self::Malformed(_) => "copy the whole line that `waymesh invite` printed",
            Self::Forged | Self::Expired { .. } => "ask an admin for a new invite",
            Self::ForeignMesh { .. } => "use an invite of this mesh",
            Self::Limits(_) => "make an invite with other limits",
            Self::NotYetValid { .. } => "set the clocks of both hosts right",
        };
        Fault::new(self.code(), self.to_string()).with_hint(hint)
    }
}
