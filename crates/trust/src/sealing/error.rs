//! What is wrong with a sealing key or a sealed message.

use waymesh_proto::{Code, Fault, KeyId, Name};

use crate::certificate::CertificateError;

/// Why nothing can be sealed to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not of this shape.
    #[error("the sealing statement of {name} is malformed: {why}")]
    Malformed {
        /// Whose statement it should be.
        name: Name,
        /// What is wrong with it.
        why: String,
    },
    /// Not signed by the agent: whoever gave it out wants to read what is sealed.
    #[error("the sealing statement of {name} is not signed by it")]
    Forged {
        /// Whose statement it should be.
        name: Name,
    },
    /// Its time is over and the agent has not been here to make a new one.
    #[error("the sealing key of {name} ended {} s ago", over_ms / 1_000)]
    Expired {
        /// Whose key it is.
        name: Name,
        /// For how long, milliseconds.
        over_ms: u64,
    },
    /// No secret can be agreed on with it (RFC 7748 §6.1): its owner is broken or hostile.
    #[error("nothing can be sealed to the key {key}")]
    Unusable {
        /// The key's id.
        key: KeyId,
    },
    /// Made in the future: one of the two clocks is wrong.
    #[error("the sealing key of {name} begins in {} s by this clock", ahead_ms / 1_000)]
    NotYetValid {
        /// Whose key it is.
        name: Name,
        /// In how long, milliseconds.
        ahead_ms: u64,
    },
}

impl SealError {
    /// The code that the sender is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::BadRequest,
            Self::Forged { .. } => Code::BadSignature,
            Self::Expired { .. } | Self::Unusable { .. } => Code::NoSealingKey,
            Self::NotYetValid { .. } => Code::ClockSkew,
        }
    }

    /// The error that the sender is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self {
            Self::Malformed { .. } | Self::Unusable { .. } => fault,
            Self::Forged { .. } => {
                fault.with_hint("the registry is broken or wants to read your messages")
            }
            Self::Expired { .. } => fault.with_hint("send again when the peer has been online"),
            Self::NotYetValid { .. } => fault.with_hint("set the clocks of both hosts right"),
        }
    }
}

/// Why a sealed message is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The header is not one.
    #[error("the sealed message has no readable header")]
    Header,
    /// It is for somebody else.
    #[error("the sealed message is for another agent")]
    NotForMe,
    /// It is sealed to a key that this node does not have, or no longer has.
    #[error("the sealed message is sealed to the key {key}, which is not here")]
    NoKey {
        /// The key's id.
        key: KeyId,
    },
    /// Its header or its content was changed, or it was sealed for another mesh or pair.
    #[error("the sealed message was changed on its way")]
    Changed,
    /// It was sealed so, but is not of the shape that it should have inside.
    #[error("the sealed message is malformed inside: {0}")]
    Content(&'static str),
    /// The sender's certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate inside is of another agent than the header names as the sender.
    #[error("the sealed message is not from {name}, whose certificate it carries")]
    NotTheHolder {
        /// The name in the certificate.
        name: Name,
    },
    /// Not signed by the certificate's key.
    #[error("the signature of {name} in the sealed message does not verify")]
    BadSignature {
        /// The name in the certificate.
        name: Name,
    },
    /// The sender's sealing statement does not hold.
    #[error(transparent)]
    Sealing(#[from] SealError),
    /// Sealed in the future, or longer ago than it may live.
    #[error("the sealed message of {name} was made {} s outside of its life by this clock", off_ms / 1_000)]
    Stale {
        /// The sender.
        name: Name,
        /// By how much, milliseconds.
        off_ms: u64,
        /// Whether it seems to come from the future.
        future: bool,
    },
}

impl OpenError {
    /// The code to count it under and to tell the user.
    pub const fn code(&self) -> Code {
        match self {
            Self::Header | Self::Content(_) => Code::BadRequest,
            Self::NotForMe => Code::Unauthorized,
            Self::NoKey { .. } | Self::Changed => Code::Unreadable,
            Self::Certificate(error) => error.code(),
            Self::NotTheHolder { .. } => Code::BadCertificate,
            Self::BadSignature { .. } => Code::BadSignature,
            Self::Sealing(error) => error.code(),
            Self::Stale { future: true, .. } => Code::ClockSkew,
            Self::Stale { .. } => Code::Expired,
        }
    }

    /// The error that the user is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self {
            Self::Certificate(error) => error.fault(),
            Self::Sealing(error) => error.fault(),
            Self::NoKey { .. } => {
                fault.with_hint("it was stored for longer than its key is kept; have it sent again")
            }
            Self::Changed => fault.with_hint("whoever carried it has changed it"),
            Self::Stale { .. } => fault.with_hint(
                "set the clocks of both hosts right; if they are, the registry holds messages back",
            ),
            _ => fault,
        }
    }
}
