//! Signaling: how two nodes agree on a link, through a registry that they need not trust.
//!
//! On the wire a signal is `{"body": TEXT, "sig": BASE64URL, "cert": TEXT}`: the
//! signature covers a label and the exact UTF-8 bytes of the string `body`,
//! which is the JSON of a [`SignalBody`], and is made with the key that the
//! certificate proves to be the sender's.

use serde::{Deserialize, Serialize};

use crate::control::DecodeError;
use crate::error::Fault;
use crate::ids::{AgentId, Incarnation, MeshId, SessionId};
use crate::limits::SIGNALING_MAX_BYTES;
use crate::membership::Certificate;

/// What the signature of a signal covers before the body, with a zero byte between.
pub const SIGNAL_LABEL: &str = "waymesh signal v1";

/// A signal as it travels: the body's exact text and the sender's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSignal {
    /// The JSON text of a [`SignalBody`].
    pub body: String,
    /// The Ed25519 signature, base64url without padding.
    pub sig: String,
    /// What proves whose key signed.
    pub cert: Certificate,
}

impl SignedSignal {
    /// Reads the body, whose signature nobody has checked by this.
    ///
    /// # Errors
    /// A body larger than [`SIGNALING_MAX_BYTES`] or of another shape.
    pub fn decode_body(&self) -> Result<SignalBody, DecodeError> {
        if self.body.len() > SIGNALING_MAX_BYTES {
            return Err(DecodeError::TooLarge {
                len: self.body.len(),
                max: SIGNALING_MAX_BYTES,
            });
        }
        serde_json::from_str(&self.body).map_err(|e| DecodeError::Malformed(e.to_string()))
    }
}

/// What a signal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalBody {
    /// The mesh of both.
    pub mesh: MeshId,
    /// The sender.
    pub from: AgentId,
    /// The sender's incarnation.
    pub from_incarnation: Incarnation,
    /// The receiver.
    pub to: AgentId,
    /// The receiver's incarnation as the sender knows it.
    pub to_incarnation: Incarnation,
    /// The attempt that it belongs to.
    pub session: SessionId,
    /// The position among the sender's signals of this session, from 0.
    pub seq: u64,
    /// When it was made, Unix time in milliseconds.
    pub issued_ms: u64,
    /// What it says.
    #[serde(flatten)]
    pub signal: Signal,
}

/// The kinds of signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Signal {
    /// The offerer's description (RFC 8829).
    Offer {
        /// SDP with the DTLS fingerprint.
        sdp: String,
    },
    /// The answerer's description.
    Answer {
        /// SDP with the DTLS fingerprint.
        sdp: String,
        /// SHA-256 of the offer's SDP, base64url without padding.
        offer_hash: String,
    },
    /// An address found after the description was sent (RFC 8838).
    #[serde(
        alias = "ice-candidate",
        alias = "iceCandidate",
        alias = "ice_candidate"
    )]
    Candidate {
        /// An SDP `candidate:` attribute value.
        candidate: String,
    },
    /// The receiver of the offer will not make this link.
    Reject {
        /// Why.
        error: Fault,
    },
}
