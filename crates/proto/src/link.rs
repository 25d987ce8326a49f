//! What core and net say to each other about links.
//!
//! Core names a link with a [`LinkId`] of its own making and commands; net
//! makes it happen and reports. `spec/link.md` states what net promises.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::ice::ServerTried;
use crate::ids::LinkId;

/// What core wants of the network. Commands for a link that has ended are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkCommand {
    /// Start a link as the offering side; answered by [`LinkEvent::Offered`] or [`LinkEvent::Down`].
    Offer {
        /// A new link.
        link: LinkId,
    },
    /// Start a link as the answering side; answered by [`LinkEvent::Answered`] or [`LinkEvent::Down`].
    Accept {
        /// A new link.
        link: LinkId,
        /// The verified offer's SDP.
        sdp: String,
    },
    /// Complete the offering side with the peer's verified answer.
    Answer {
        /// A link that offered.
        link: LinkId,
        /// The answer's SDP.
        sdp: String,
    },
    /// Add a candidate that the peer trickled (RFC 8838).
    Candidate {
        /// A link that is being made.
        link: LinkId,
        /// An SDP `candidate:` attribute value.
        candidate: String,
    },
    /// End the link. No event follows but [`LinkEvent::Tried`], of a link that never came up.
    Close {
        /// The link to end.
        link: LinkId,
    },
}

/// What happened on the network.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// The local offer is ready to be signed and sent.
    Offered {
        /// The link.
        link: LinkId,
        /// SDP with the DTLS fingerprint and the candidates known so far.
        sdp: String,
    },
    /// The local answer is ready to be signed and sent.
    Answered {
        /// The link.
        link: LinkId,
        /// SDP with the DTLS fingerprint and the candidates known so far.
        sdp: String,
    },
    /// A local candidate was found after the description was made.
    Candidate {
        /// The link.
        link: LinkId,
        /// An SDP `candidate:` attribute value.
        candidate: String,
    },
    /// DTLS is up with the fingerprint that the peer signed, and every channel is open.
    Up {
        /// The link.
        link: LinkId,
        /// The pair of candidates in use.
        pair: CandidatePair,
    },
    /// The pair of candidates in use changed.
    PairChanged {
        /// The link.
        link: LinkId,
        /// The pair of candidates in use now.
        pair: CandidatePair,
    },
    /// A message arrived on a channel.
    Frame {
        /// The link.
        link: LinkId,
        /// The channel it came on.
        class: Class,
        /// The bytes as the peer wrote them; not validated.
        bytes: Vec<u8>,
    },
    /// What was tried for the link: told once when it comes up, and before the
    /// end of one that never did, also when it was closed by [`LinkCommand::Close`].
    Tried {
        /// The link.
        link: LinkId,
        /// What was tried.
        tried: Box<Tried>,
    },
    /// There is room again after a refused or short capacity.
    Writable {
        /// The link.
        link: LinkId,
    },
    /// The link ended or could not be made. Accepted bytes may have vanished.
    Down {
        /// The link.
        link: LinkId,
        /// Why.
        reason: DownReason,
    },
}

impl LinkEvent {
    /// The link that it is about.
    pub const fn link(&self) -> LinkId {
        match self {
            Self::Offered { link, .. }
            | Self::Answered { link, .. }
            | Self::Candidate { link, .. }
            | Self::Up { link, .. }
            | Self::PairChanged { link, .. }
            | Self::Frame { link, .. }
            | Self::Tried { link, .. }
            | Self::Writable { link }
            | Self::Down { link, .. } => *link,
        }
    }
}

/// Why net ended a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// The peer's description or candidate cannot be parsed or lacks what a link needs.
    BadDescription(String),
    /// No candidate pair worked, or the pair in use stopped working.
    IceFailed,
    /// The DTLS handshake failed: a wrong fingerprint, or broken bytes.
    DtlsFailed(String),
    /// The peer closed the link.
    ClosedByPeer,
    /// This node's socket or stack failed.
    Local(String),
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadDescription(why) => write!(f, "the peer's description is unusable: {why}"),
            Self::IceFailed => f.write_str("no pair of addresses works"),
            Self::DtlsFailed(why) => write!(f, "the DTLS handshake failed: {why}"),
            Self::ClosedByPeer => f.write_str("the peer closed the link"),
            Self::Local(why) => write!(f, "this node's socket failed: {why}"),
        }
    }
}

/// The pair of addresses that a link uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidatePair {
    /// This node's end.
    pub local: CandidateKind,
    /// The peer's end.
    pub remote: CandidateKind,
    /// The protocol below DTLS.
    pub protocol: LinkProtocol,
    /// This node's address.
    pub local_addr: SocketAddr,
    /// The peer's address.
    pub remote_addr: SocketAddr,
}

/// What an attempt to make a link consisted of: the record that a failure leaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// This node's candidates, as they were found.
    pub local: Vec<TriedCandidate>,
    /// The peer's candidates, as they were told or seen.
    pub remote: Vec<TriedCandidate>,
    /// The pairs of addresses that were checked.
    pub pairs: Vec<TriedPair>,
    /// The STUN and TURN servers that were asked.
    pub servers: Vec<ServerTried>,
    /// From the start of the attempt until the DTLS handshake began, milliseconds; `None` if it never did.
    pub ice_ms: Option<f64>,
}

/// One candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedCandidate {
    /// What kind of address it is.
    pub kind: CandidateKind,
    /// The address.
    pub address: SocketAddr,
}

/// One pair of addresses and what the checks of it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriedPair {
    /// This node's end.
    pub local: TriedCandidate,
    /// The peer's end.
    pub remote: TriedCandidate,
    /// Checks that were sent.
    pub sent: u32,
    /// Checks that were answered.
    pub answered: u32,
    /// Checks of the peer that arrived.
    pub heard: u32,
    /// The last round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Why nothing could be sent, if so.
    pub error: Option<String>,
}

/// What kind of address an ICE candidate is (RFC 8445 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CandidateKind {
    /// An address of the host itself.
    Host,
    /// A NAT's address, learnt from a STUN server.
    Srflx,
    /// A NAT's address, learnt from the peer's checks.
    Prflx,
    /// An address on a TURN server.
    Relay,
}

/// The protocol below DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkProtocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// How a message gets to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// A link whose two ends are the two hosts, or NATs in front of them.
    Direct,
    /// A link through a TURN server, which cannot read it.
    Relay,
    /// Sealed, through the registry.
    Mailbox,
}

impl CandidatePair {
    /// The path that a link over this pair is.
    pub fn path(&self) -> Path {
        if self.local == CandidateKind::Relay || self.remote == CandidateKind::Relay {
            Path::Relay
        } else {
            Path::Direct
        }
    }
}
