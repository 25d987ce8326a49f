//! What a registry is started with, and why it may not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use waymesh_proto::control::{Origin, OriginError};
use waymesh_proto::{Code, Fault};

use crate::storage::StorageError;

/// What a registry is started with.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Where to listen; port 0 takes a free one. Only loopback, because there is no TLS.
    pub listen: SocketAddr,
    /// Where its key and database are; made if missing. One process at a time uses it.
    pub data_dir: PathBuf,
    /// The URL that nodes connect to, when it is not the listening address.
    pub public_url: Option<String>,
}

/// Why a registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Plain HTTP would leave the machine. Listen on loopback.
    #[error("{0} is not a loopback address, and this version has no TLS")]
    NotLoopback(SocketAddr),
    /// The public URL is not one; correct it.
    #[error("the public URL {url:?} is {source}")]
    PublicUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: OriginError,
    },
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
    /// The key file is damaged, or others can read it.
    #[error("the key in {path} cannot be used: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
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
}

impl StartError {
    /// The code to tell the user.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotLoopback(_) => Code::NotSupportedYet,
            Self::PublicUrl { .. } => Code::Usage,
            Self::DataDir { .. } | Self::Key { .. } | Self::Storage(_) => Code::Storage,
            Self::InUse(_) => Code::IdentityInUse,
            Self::Bind { .. } => Code::Bind,
        }
    }

    /// The error to tell the user.
    pub fn fault(&self) -> Fault {
        Fault::new(self.code(), self.to_string()).with_hint(self.hint())
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::NotLoopback(_) => {
                "listen on 127.0.0.1 or [::1]; other addresses come together with TLS"
            }
            Self::PublicUrl { .. } => "give it as http://HOST:PORT or https://HOST",
            Self::DataDir { .. } => "check the path and its owner, or choose another --data-dir",
            Self::InUse(_) => "stop the other registry, or choose another --data-dir",
            Self::Key { .. } => "restore the file from a backup, with mode 0600",
            Self::Storage(_) => "restore the database from a backup, or choose another --data-dir",
            Self::Bind { .. } => "choose another port; port 0 takes a free one",
        }
    }
}

impl RegistryConfig {
    /// Checks all that can be checked before a file is touched or a port opened.
    pub(crate) fn checked_origin(&self) -> Result<Option<Origin>, StartError> {
        if !self.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(self.listen));
        }
        let parse = |url: &String| {
            url.parse().map_err(|source| StartError::PublicUrl {
                url: url.clone(),
                source,
            })
        };
        self.public_url.as_ref().map(parse).transpose()
    }
}
