//! Why one side of a login does not trust the other.

use waymesh_proto::control::{MeshKey, Origin, RegistryKey};
use waymesh_proto::{Code, Fault};

use crate::certificate::CertificateError;
use crate::sealing::SealError;

/// Why one side of a login does not trust the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The registry's key is not the pinned one. Only the user can say whether that is right.
    #[error("the registry's key {got} is not {expected}, which it had before")]
    RegistryChanged {
        /// The pinned key.
        expected: RegistryKey,
        /// The announced key.
        got: RegistryKey,
    },
    /// The other side belongs to another mesh.
    #[error("the mesh {got} is not {expected}")]
    WrongMesh {
        /// The own mesh.
        expected: MeshKey,
        /// The other side's mesh.
        got: MeshKey,
    },
    /// The node connected to a URL that is not this registry's.
    #[error("the login is for {got}, which is not an address of this registry")]
    WrongOrigin {
        /// The origin in the login.
        got: Origin,
    },
    /// The certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is of another name or identity than the login.
    #[error("the login's {what} is not that of its certificate")]
    NotTheHolder {
        /// What differs.
        what: &'static str,
    },
    /// The sealing statement does not hold.
    #[error(transparent)]
    Sealing(#[from] SealError),
    /// Forged, changed, or made for another connection.
    #[error("the signature of the {by} does not verify")]
    BadSignature {
        /// Whose signature.
        by: &'static str,
    },
}

impl LoginError {
    /// The code that the other side or the user is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::RegistryChanged { .. } => Code::RegistryIdentityChanged,
            Self::WrongMesh { .. } | Self::WrongOrigin { .. } => Code::WrongRegistry,
            Self::Certificate(error) => error.code(),
            Self::NotTheHolder { .. } => Code::BadCertificate,
            Self::Sealing(error) => error.code(),
            Self::BadSignature { .. } => Code::BadSignature,
        }
    }

    /// The error that the other side or the user is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self {
            Self::RegistryChanged { .. } => fault.with_hint(
                "if the registry was set up anew on purpose, start the node with a new data directory",
            ),
            Self::WrongMesh { .. } => {
                fault.with_hint("connect to the registry that this node belongs to")
            }
            Self::WrongOrigin { .. } => fault.with_hint(
                "connect to the URL that the registry prints at its start, or give that registry this one as --public-url",
            ),
            Self::Certificate(error) => error.fault(),
            Self::Sealing(error) => error.fault(),
            Self::NotTheHolder { .. } => {
                fault.with_hint("start the node with the name that it joined with")
            }
            Self::BadSignature { .. } => fault,
        }
    }
}
