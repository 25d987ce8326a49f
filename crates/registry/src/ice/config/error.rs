//! What can be wrong with a configuration, and what to do about it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use waymesh_proto::ice::{ICE_URLS_MAX, IceUrl, IceUrlError};

/// One thing that is wrong with an [`IceConfig`](super::IceConfig).
#[derive(Debug, thiserror::Error)]
pub enum IceConfigError {
    /// A URL is none; correct it.
    #[error(transparent)]
    Url(#[from] IceUrlError),
    /// A STUN server is named as a TURN server, or the other way round.
    #[error("{url} is no {expected}: URL")]
    Scheme {
        /// What was given.
        url: IceUrl,
        /// What was expected.
        expected: &'static str,
    },
    /// There are more URLs than nodes use.
    #[error("{0} URLs of STUN and TURN servers are more than {ICE_URLS_MAX}")]
    TooManyUrls(usize),
    /// TURN servers of others need credentials.
    #[error("the TURN servers need a secret, or a username and a password")]
    NoAuth,
    /// There are credentials, and no server for them.
    #[error("there are TURN credentials, and no TURN URL that they are for")]
    AuthAlone,
    /// A secret cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no secret.
    #[error("{0} holds no secret: it must be one line of text, at most 4 KiB")]
    Secret(PathBuf),
    /// The relay's ports are no range of ports.
    #[error("{0:?} is no range of ports")]
    RelayPorts(String),
    /// A network is none.
    #[error("{0:?} is no network")]
    RelayAllow(String),
    /// The second address is not another one.
    #[error("{other} must differ from {listen} in both address and port")]
    Other {
        /// The second address.
        other: SocketAddr,
        /// The first.
        listen: SocketAddr,
    },
    /// The relay's address cannot be anybody's.
    #[error("{0} is no address that others can send to")]
    RelayIp(IpAddr),
    /// Credentials would be good for too short or too long.
    #[error("TURN credentials cannot be good for {0:?}")]
    Lifetime(Duration),
}

impl IceConfigError {
    /// What to do about it.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::Scheme { .. } => {
                "give it as stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or turns:HOST[:PORT]"
            }
            Self::TooManyUrls(_) => "give fewer of them: nodes use no more",
            Self::NoAuth => "add --turn-secret-file, or --turn-username and --turn-password-file",
            Self::AuthAlone => "add --turn-url, or leave the credentials out",
            Self::File { .. } | Self::Secret(_) => "check the path and what the file holds",
            Self::RelayPorts(_) => "give the first and the last one, such as 50000-50999",
            Self::RelayAllow(_) => {
                "give an address and how many bits of it count, such as 10.0.0.0/8"
            }
            Self::Other { .. } => {
                "give another address of this machine with another port, or leave it out"
            }
            Self::RelayIp(_) => "give the public address of this machine",
            Self::Lifetime(_) => "give from 1s to 24h",
        }
    }
}
