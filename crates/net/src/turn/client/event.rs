//! What a client tells, and what can go wrong with a TURN server.

use std::net::{IpAddr, SocketAddr};
use std::ops::AddAssign;
use std::time::Duration;

use waymesh_proto::error::Retry;

/// Longest reason phrase of a server that is repeated, characters. Chosen: one line.
const REASON_MAX_CHARS: usize = 120;

/// What became of a [`Client`](super::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// There is an allocation: `relayed` is where peers reach this host.
    Allocated {
        /// The address on the server.
        relayed: SocketAddr,
        /// This host as the server sees it: a server-reflexive address. By a
        /// stream it is of no use to peers.
        mapped: Option<SocketAddr>,
        /// How long the server keeps it without a refresh.
        lifetime: Duration,
    },
    /// A peer has sent this to the relayed address.
    Data {
        /// Who.
        peer: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// The server does not relay to this address; what was to be sent there is
    /// dropped for some minutes. Nothing else is concerned.
    PeerRefused {
        /// Which.
        ip: IpAddr,
        /// What the server said.
        error: TurnError,
    },
    /// No allocation was made. The client is of no more use.
    Failed {
        /// Why.
        error: TurnError,
    },
    /// The server does not take the credentials: others are needed. The client
    /// is of no more use.
    CredentialsRefused {
        /// What the server said.
        error: TurnError,
    },
    /// There was an allocation and it is gone. The client is of no more use;
    /// a new one may allocate at once.
    Lost {
        /// How that was seen.
        error: TurnError,
    },
}

/// Why a TURN server does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// Nothing came back; try again later, or another transport.
    #[error("the TURN server did not answer within {0:?}")]
    Timeout(Duration),
    /// The server wants credentials and there are none: configure them.
    #[error("the TURN server wants credentials")]
    CredentialsMissing,
    /// They are wrong or expired (401, 441): get others.
    #[error("the TURN server refuses the credentials ({code}{reason})")]
    CredentialsRefused {
        /// The STUN error code.
        code: u16,
        /// The server's words.
        reason: Reason,
    },
    /// The quota of this user or the server's capacity is used up (486, 508); try again later.
    #[error("the TURN server has no room ({code}{reason})")]
    NoRoom {
        /// The STUN error code.
        code: u16,
        /// The server's words.
        reason: Reason,
    },
    /// The server knows no allocation of this host, or another one than is
    /// asked for (437): allocate anew.
    #[error("the TURN server has no such allocation (437{0})")]
    Mismatch(Reason),
    /// Another server is to be used (300), and that cannot be done here.
    #[error("the TURN server sends to another one at {0} (300)")]
    Alternate(SocketAddr),
    /// The server does not know an attribute that is needed (420).
    #[error("the TURN server lacks what is needed (420{0})")]
    Unsupported(Reason),
    /// It refuses otherwise; trying again does not help.
    #[error("the TURN server refuses ({code}{reason})")]
    Refused {
        /// The STUN error code.
        code: u16,
        /// The server's words.
        reason: Reason,
    },
    /// It wants a new nonce for ever, or answers without what an answer must have.
    #[error("the TURN server does not follow the protocol: {0}")]
    Protocol(&'static str),
    /// The allocation was not refreshed in time.
    #[error("the allocation was not refreshed before its end")]
    Expired,
}

impl TurnError {
    /// What an error answer of the server says.
    pub(super) fn of_answer(code: u16, reason: Reason) -> Self {
        match code {
            401 | 441 => Self::CredentialsRefused { code, reason },
            420 => Self::Unsupported(reason),
            437 => Self::Mismatch(reason),
            486 | 508 => Self::NoRoom { code, reason },
            _ => Self::Refused { code, reason },
        }
    }

    /// The STUN error code (RFC 8489 §14.8, RFC 8656 §19), where the server gave one.
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::CredentialsRefused { code, .. }
            | Self::NoRoom { code, .. }
            | Self::Refused { code, .. } => Some(*code),
            Self::Mismatch(_) => Some(437),
            Self::Unsupported(_) => Some(420),
            Self::Alternate(_) => Some(300),
            Self::CredentialsMissing => Some(401),
            Self::Timeout(_) | Self::Protocol(_) | Self::Expired => None,
        }
    }

    /// When a new client with the same server and credentials makes sense.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Mismatch(_) | Self::Expired => Retry::Now,
            Self::Timeout(_) | Self::NoRoom { .. } | Self::Protocol(_) => Retry::After,
            Self::Refused { code, .. } if *code >= 500 => Retry::After,
            Self::CredentialsMissing
            | Self::CredentialsRefused { .. }
            | Self::Alternate(_)
            | Self::Unsupported(_)
            | Self::Refused { .. } => Retry::Never,
        }
    }
}

/// The words of a server, made safe to be shown: one line of printable characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Takes what a server said; what is too long is cut.
    pub(super) fn new(text: &str) -> Self {
        let printable = text.chars().filter(|c| !c.is_control());
        Self(printable.take(REASON_MAX_CHARS).collect())
    }

    /// The words; none is the empty text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Reason {
    /// As it follows a code: with a blank before it, or nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            words => write!(f, " {words}"),
        }
    }
}

/// What a client has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Payloads that left for the server.
    pub sent: u64,
    /// Payloads that came from peers.
    pub received: u64,
    /// Payloads dropped since the queue for permissions was full, oldest first.
    pub dropped_waiting: u64,
    /// Payloads dropped since the queue to the server was full.
    pub dropped_full: u64,
    /// Payloads dropped since the server refuses their peer or gave no permission in time.
    pub dropped_refused: u64,
    /// Payloads dropped since they are too large, their peer is of another IP
    /// family than the relayed address, or there is no allocation any more.
    pub dropped_unsendable: u64,
    /// Payloads of peers dropped since nobody took the events.
    pub dropped_events: u64,
    /// Messages that answer nothing that is open, or belong to no known channel
    /// or permission.
    pub unmatched: u64,
    /// Answers whose integrity was wrong or missing.
    pub unverified: u64,
    /// Messages that could not be read.
    pub malformed: u64,
}

impl AddAssign for ClientCounters {
    fn add_assign(&mut self, other: Self) {
        // Whole, so that no field is forgotten.
        let Self {
            sent,
            received,
            dropped_waiting,
            dropped_full,
            dropped_refused,
            dropped_unsendable,
            dropped_events,
            unmatched,
            unverified,
            malformed,
        } = other;
        self.sent += sent;
        self.received += received;
        self.dropped_waiting += dropped_waiting;
        self.dropped_full += dropped_full;
        self.dropped_refused += dropped_refused;
        self.dropped_unsendable += dropped_unsendable;
        self.dropped_events += dropped_events;
        self.unmatched += unmatched;
        self.unverified += unverified;
        self.malformed += malformed;
    }
}
