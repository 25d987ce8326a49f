//! Why a registry did not start.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use waymesh_net::local;
use waymesh_proto::{Code, Fault};

use crate::config::ConfigError;
use crate::storage::StorageError;
use crate::tls::TlsError;
use crate::turn::RelayError;

/// Why a registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong, in every way that is listed. Nothing was made or opened.
    #[error("{}", joined(.0.iter().map(ConfigError::to_string)))]
    Config(Vec<ConfigError>),
    /// A file or folder of the data directory cannot be used.
    #[error("{path} cannot be used: {source}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another registry runs in the data directory. Stop it, or use another directory.
    #[error("another registry uses {0}")]
    InUse(PathBuf),
    /// A key file is damaged, or others can read it.
    #[error("the key in {path} cannot be used: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The kept TLS key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The STUN and TURN server cannot be started.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The admin socket cannot be made.
    #[error(transparent)]
    AdminSocket(#[from] local::BindError),
}

impl StartError {
    /// The code to tell the user.
    pub const fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::Usage,
            Self::DataDir { .. } | Self::Key { .. } | Self::Storage(_) | Self::Tls(_) => {
                Code::Storage
            }
            Self::InUse(_) => Code::IdentityInUse,
            Self::Bind { .. } | Self::AdminSocket(_) | Self::Relay(_) => Code::Bind,
        }
    }

    /// The error to tell the user.
    pub fn fault(&self) -> Fault {
        let hint = match self {
            Self::Config(errors) => {
                let hints: BTreeSet<_> = errors.iter().map(ConfigError::hint).collect();
                joined(hints.into_iter().map(str::to_owned))
            }
            other => other.hint().to_owned(),
        };
        Fault::new(self.code(), self.to_string()).with_hint(hint)
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Config(_) => "correct the configuration",
            Self::DataDir { .. } => "check the path and its owner, or choose another --data-dir",
            Self::InUse(_) => "stop the other registry, or choose another --data-dir",
            Self::Key { .. } => "restore the file from a backup, with mode 0600",
            Self::Tls(error) => error.hint(),
            Self::Storage(_) => "restore the database from a backup, or choose another --data-dir",
            Self::Bind { source, .. } => match source.kind() {
                io::ErrorKind::AddrNotAvailable => {
                    "this machine has no such address: 0.0.0.0 listens on all that it has, and --public-url says how others reach it"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 are for root or who has CAP_NET_BIND_SERVICE: choose a higher one"
                }
                _ => "choose another port; port 0 takes a free one",
            },
            Self::Relay(_) => {
                "give --turn-listen another address of this machine, or run none with --no-turn"
            }
            Self::AdminSocket(_) => {
                "check that the data directory is writable, and that admin.sock in it is no file of another kind"
            }
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}
