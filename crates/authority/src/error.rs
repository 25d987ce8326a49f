//! Why the authority did not act.

use std::io;
use std::path::PathBuf;

use waymesh_proto::control::MeshKey;
use waymesh_proto::{Code, Fault};
use waymesh_trust::certificate::CertificateError;
use waymesh_trust::invite::InviteError;
use waymesh_trust::join::JoinError;

use crate::audit::AuditError;

/// Why the authority did not act. Nothing was handed out then.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is no authority in the directory.
    #[error("there is no mesh key in {}", .0.display())]
    Missing(PathBuf),
    /// It is the authority of another mesh.
    #[error("the authority is of the mesh {got}, not of {expected}")]
    OtherMesh {
        /// The mesh that was asked for.
        expected: MeshKey,
        /// The authority's own.
        got: MeshKey,
    },
    /// Another admin command has it open for long.
    #[error("another command has the authority in {} open", .0.display())]
    InUse(PathBuf),
    /// The system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mesh key is damaged, or others can read it.
    #[error("{} cannot be used: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The audit log was cut or edited.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The invite cannot be made or is not the mesh's.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The request to join does not hold.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl AuthorityError {
    /// The code that the admin is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Missing(_) | Self::OtherMesh { .. } => Code::NoAuthority,
            Self::InUse(_) | Self::Io { .. } | Self::Key { .. } | Self::Audit(_) => Code::Storage,
            Self::Invite(error) => error.code(),
            Self::Join(error) => error.code(),
            Self::Certificate(error) => error.code(),
        }
    }

    /// The error that the admin is told.
    pub fn fault(&self) -> Fault {
        let hint = match self {
            Self::Missing(_) => {
                "name the directory with --authority-dir; `waymesh invite` makes one for a new mesh"
            }
            Self::OtherMesh { .. } => "name the authority of this registry with --authority-dir",
            Self::InUse(_) => "wait for the other command and try again",
            Self::Io { .. } => "name a directory that this user may write with --authority-dir",
            Self::Key { .. } => "restore the file from a backup, readable by its owner alone",
            Self::Audit(_) => {
                "find out who changed it; keep audit.log and audit.head elsewhere as evidence and a new log begins"
            }
            Self::Invite(error) => return error.fault(),
            Self::Join(error) => return error.fault(),
            Self::Certificate(error) => return error.fault(),
        };
        Fault::new(self.code(), self.to_string()).with_hint(hint)
    }
}
