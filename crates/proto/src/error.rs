//! Error codes: one table, mirrored by the SDKs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When it makes sense to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Never: the same request fails again.
    Never,
    /// At once: the cause has passed already.
    Now,
    /// After a pause, or after what the hint says has been done.
    After,
}

/// Whether the receiver executed a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// The handler was not entered.
    No,
    /// The handler may have been entered.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retry:ident;)*) => {
        /// What went wrong, as a name and a number that are never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The snake_case name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The number.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number),* }
            }

            /// When to try again.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry),* }
            }

            /// The code with this number; a number of a newer version gives `Unrecognized`.
            pub const fn from_number(number: u16) -> Self {
                match number { $($number => Self::$variant,)* _ => Self::Unrecognized }
            }
        }

        impl FromStr for Code {
            type Err = std::convert::Infallible;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Ok(match name { $($name => Self::$variant,)* _ => Self::Unrecognized })
            }
        }
    };
}

codes! {
    /// A code of a newer version than this one.
    Unrecognized = 1000, "unrecognized", Never;
    /// A fault of this program; please report it.
    Internal = 1001, "internal", After;
    /// The request is not well formed.
    BadRequest = 1002, "bad_request", Never;
    /// The command line or configuration is wrong.
    Usage = 1003, "usage", Never;
    /// The verb, event or message type is not known.
    UnknownVerb = 1004, "unknown_verb", Never;
    /// The line is longer than the limit.
    LineTooLong = 1005, "line_too_long", Never;
    /// The bytes are not UTF-8.
    NotUtf8 = 1006, "not_utf8", Never;
    /// Known, but this version does not do it yet.
    NotSupportedYet = 1007, "not_supported_yet", Never;
    /// No node answers on the IPC socket.
    NodeNotRunning = 1008, "node_not_running", After;
    /// The program could not be started or found.
    SidecarFailed = 1009, "sidecar_failed", After;
    /// A file or folder could not be used.
    Storage = 1010, "storage", After;
    /// The listening address cannot be used.
    Bind = 1011, "bind_failed", After;

    /// No agent has this name.
    UnknownPeer = 2001, "unknown_peer", After;
    /// The peer offers no such skill.
    UnknownSkill = 2002, "unknown_skill", After;
    /// The arguments do not fit the skill's schema.
    InvalidArguments = 2003, "invalid_arguments", Never;
    /// The message is larger than the limit.
    MessageTooLarge = 2004, "message_too_large", Never;
    /// A bounded queue is full.
    QueueFull = 2005, "queue_full", After;
    /// The message's lifetime ended before it was delivered.
    Expired = 2006, "expired", After;
    /// The message's lifetime ended and nobody said what became of it.
    Unconfirmed = 2007, "unconfirmed", After;
    /// The deadline of the call passed.
    Timeout = 2008, "timeout", After;
    /// The peer restarted or vanished during the call.
    PeerLost = 2009, "peer_lost", After;
    /// The skill's handler failed.
    HandlerFailed = 2010, "handler_failed", Never;
    /// The skill's process went away before it answered.
    HandlerLost = 2011, "handler_lost", After;
    /// The call was cancelled by the caller.
    Cancelled = 2012, "cancelled", Never;
    /// Another client owns the skill or the message inbox.
    AlreadyOwned = 2013, "already_owned", After;
    /// The client did not read its events.
    SlowConsumer = 2014, "slow_consumer", After;
    /// The id is already in use.
    DuplicateId = 2015, "duplicate_id", Never;
    /// The id does not name anything open.
    UnknownId = 2016, "unknown_id", Never;
    /// The receiver's mailbox, or the sender's share of it, is full.
    MailboxFull = 2017, "mailbox_full", After;
    /// The receiver has no key to seal messages with.
    NoSealingKey = 2018, "no_sealing_key", After;
    /// A sealed message cannot be opened: it was changed, or its key is gone.
    Unreadable = 2019, "unreadable", After;

    /// The link could not be made.
    LinkFailed = 3001, "link_failed", After;
    /// The peer is not connected to the registry.
    PeerOffline = 3002, "peer_offline", After;
    /// Frames of the peer are malformed.
    BadFrame = 3003, "bad_frame", Never;
    /// The peer's session description or candidate is unusable.
    BadDescription = 3004, "bad_description", Never;
    /// The message was meant for another incarnation.
    StaleIncarnation = 3005, "stale_incarnation", Now;
    /// The signaling message is older than one already seen.
    Replayed = 3006, "replayed", Never;
    /// The program is stopping.
    ShuttingDown = 3007, "shutting_down", After;
    /// The link carried nothing for long.
    LinkIdle = 3008, "link_idle", Now;
    /// The path that was asked for does not exist now.
    PathUnavailable = 3009, "path_unavailable", After;

    /// A signature does not verify.
    BadSignature = 4001, "bad_signature", Never;
    /// The name belongs to another key.
    NameTaken = 4002, "name_taken", Never;
    /// Another process uses this identity.
    IdentityInUse = 4003, "identity_in_use", Never;
    /// The name now answers with another key than before.
    IdentityChanged = 4004, "identity_changed", Never;
    /// The caller may not do this.
    Unauthorized = 4005, "unauthorized", Never;
    /// The registry's key is not the one seen before.
    RegistryIdentityChanged = 4006, "registry_identity_changed", Never;
    /// The login was meant for another registry or mesh.
    WrongRegistry = 4007, "wrong_registry", Never;
    /// The certificate was not issued by this mesh, or does not fit its holder.
    BadCertificate = 4008, "bad_certificate", Never;
    /// The certificate is no longer valid.
    CertificateExpired = 4009, "certificate_expired", After;
    /// The member or the invite was revoked.
    Revoked = 4010, "revoked", Never;
    /// The invite is malformed, of another mesh, or does not allow this.
    BadInvite = 4011, "bad_invite", Never;
    /// The invite has admitted as many as it may.
    InviteExhausted = 4012, "invite_exhausted", Never;
    /// The invite's time is over.
    InviteExpired = 4013, "invite_expired", Never;
    /// The pairing code is wrong, used or too old.
    BadPairingCode = 4014, "bad_pairing_code", Never;
    /// The node has no membership yet: it needs an invite or a pairing code.
    InviteRequired = 4015, "invite_required", Never;
    /// An admin rejected the request to join.
    Rejected = 4016, "rejected", Never;
    /// The TLS certificate of the registry is not trusted.
    UntrustedTls = 4017, "untrusted_tls", Never;
    /// The clocks of the two sides are too far apart.
    ClockSkew = 4018, "clock_skew", After;
    /// The request to join waits for an admin's approval.
    Pending = 4019, "pending", After;

    /// The registry cannot be reached.
    RegistryUnreachable = 5001, "registry_unreachable", After;
    /// Too many requests or connections.
    RateLimited = 5002, "rate_limited", After;
    /// The body or message is larger than the limit.
    TooLarge = 5003, "too_large", Never;
    /// The registry belongs to no mesh yet.
    NoMesh = 5004, "no_mesh", After;
    /// The authority directory is missing, or of another mesh.
    NoAuthority = 5005, "no_authority", Never;
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let Ok(code) = text.parse();
        Ok(code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error as it is told to users and over the wire.
///
/// In JSON: `{"code", "number", "message", "hint", "retry", "executed"}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What went wrong.
    pub code: Code,
    /// What happened and why, in one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// For a failed call: whether it may have been executed.
    pub executed: Option<Executed>,
}

impl Fault {
    /// Makes an error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            executed: None,
        }
    }

    /// Adds what the reader should do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds whether the call may have been executed.
    #[must_use]
    pub fn with_executed(mut self, executed: Executed) -> Self {
        self.executed = Some(executed);
        self
    }
}

#[derive(Serialize, Deserialize)]
struct FaultJson {
    code: String,
    #[serde(default)]
    number: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default = "never")]
    retry: Retry,
    #[serde(default)]
    executed: Option<Executed>,
}

const fn never() -> Retry {
    Retry::Never
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FaultJson {
            code: self.code.name().into(),
            number: self.code.number(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            retry: self.code.retry(),
            executed: self.executed,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = FaultJson::deserialize(deserializer)?;
        let Ok(code) = json.code.parse();
        Ok(Self {
            code,
            message: json.message,
            hint: json.hint,
            executed: json.executed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_and_no_number_stands_for_two_codes() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.name()).collect();
        let numbers: BTreeSet<_> = Code::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert_eq!(numbers.len(), Code::ALL.len());
    }

    #[test]
    fn a_code_of_a_newer_version_is_unrecognized_and_keeps_its_message() {
        let fault: Fault =
            serde_json::from_str(r#"{"code":"from_the_future","message":"x"}"#).expect("a fault");
        assert_eq!(fault.code, Code::Unrecognized);
        assert_eq!(fault.message, "x");
    }
}
