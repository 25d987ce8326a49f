//! What ends a connection to the registry, and what of it ends the link.

use waymesh_net::control::{ConnectError, ReceiveError, SendError};
use waymesh_proto::{Code, Fault};

/// Why the task ends for good.
#[derive(Debug)]
pub(super) enum Ended {
    /// The driver has closed its end.
    ByDriver,
    /// Trying again would not help.
    Fatal(Fault),
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better next time.
    Passing(Fault),
    /// The link ends too.
    Final(Ended),
}

impl Trouble {
    /// The registry, or who seems to be it, cannot be talked to now.
    pub(super) fn passing(error: impl std::fmt::Display) -> Self {
        Self::Passing(Fault::new(Code::RegistryUnreachable, error.to_string()))
    }

    pub(super) const fn fatal(fault: Fault) -> Self {
        Self::Final(Ended::Fatal(fault))
    }

    /// What to tell who asked for one connection alone.
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Passing(fault) | Self::Final(Ended::Fatal(fault)) => fault,
            Self::Final(Ended::ByDriver) => Fault::new(Code::ShuttingDown, "the node has stopped"),
        }
    }

    /// What an error means that is known to be the registry's own, or that
    /// comes before there is a registry to lose.
    pub(super) fn from_fault(fault: Fault) -> Self {
        match fault.code {
            Code::NameTaken
            | Code::IdentityInUse
            | Code::IdentityChanged
            | Code::WrongRegistry
            | Code::RegistryIdentityChanged
            | Code::BadCertificate
            | Code::CertificateExpired
            | Code::Revoked
            | Code::BadInvite
            | Code::InviteExhausted
            | Code::InviteExpired
            | Code::BadPairingCode
            | Code::Rejected
            | Code::UntrustedTls => Self::fatal(fault),
            _ => Self::Passing(fault),
        }
    }

    /// What is left of it where there are links to lose and only the registry
    /// says so: that another process is this node, nobody else can know. All
    /// else is tried again.
    pub(super) fn on_its_word(self) -> Self {
        match self {
            Self::Final(Ended::Fatal(fault)) if fault.code != Code::IdentityInUse => {
                Self::Passing(fault)
            }
            trouble => trouble,
        }
    }
}

impl From<ReceiveError> for Trouble {
    fn from(error: ReceiveError) -> Self {
        Self::Passing(error.fault())
    }
}

impl From<SendError> for Trouble {
    fn from(error: SendError) -> Self {
        Self::Passing(error.fault())
    }
}

impl From<ConnectError> for Trouble {
    fn from(error: ConnectError) -> Self {
        Self::Passing(error.fault())
    }
}
