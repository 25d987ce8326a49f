//! Signed signals (`spec/signaling.md`): what a node believes that came through a registry.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use waymesh_proto::control::{DecodeError, MeshKey, Signature};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::membership::Certificate;
use waymesh_proto::signaling::{SIGNAL_LABEL, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Code, Fault, Name};

use crate::certificate::{Cache, CertificateError, Verified};
use crate::keys::{self, Keypair, mesh_id};

/// Why a received signal is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Too large, or its body is not that of a signal; the sender is broken.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// The sender's certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is of another agent than the body names as its sender.
    #[error("the signal is not from {name}, whose certificate it carries")]
    NotTheHolder {
        /// The name in the certificate.
        name: Name,
    },
    /// Not signed by the certificate's key.
    #[error("the signature of {name} does not verify")]
    BadSignature {
        /// The name in the certificate.
        name: Name,
    },
    /// Made for another mesh.
    #[error("the signal of {name} belongs to another mesh")]
    WrongMesh {
        /// The sender.
        name: Name,
    },
    /// Made for another agent.
    #[error("the signal of {name} is for another agent")]
    NotForMe {
        /// The sender.
        name: Name,
    },
    /// Issued too long ago or in the future: one of the two clocks is wrong,
    /// or the registry has held it back.
    #[error("the signal of {name} was issued {} s away from this clock", off_ms / 1_000)]
    Stale {
        /// The sender.
        name: Name,
        /// The difference, milliseconds.
        off_ms: u64,
    },
}

impl SignalError {
    /// The code to count it under.
    pub const fn code(&self) -> Code {
        match self {
            Self::Body(error) => error.code(),
            Self::Certificate(error) => error.code(),
            Self::NotTheHolder { .. } => Code::BadCertificate,
            Self::BadSignature { .. } => Code::BadSignature,
            Self::WrongMesh { .. } => Code::WrongRegistry,
            Self::NotForMe { .. } => Code::Unauthorized,
            Self::Stale { .. } => Code::ClockSkew,
        }
    }

    /// The error that the user is told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Body(error) => error.fault(),
            Self::Certificate(error) => error.fault(),
            Self::Stale { .. } => Fault::new(self.code(), self.to_string()).with_hint(
                "set the clocks of both hosts right; if they are, the registry holds messages back",
            ),
            _ => Fault::new(self.code(), self.to_string()),
        }
    }
}

/// Signs a signal. `body.from` must be the certificate's agent and `keypair`
/// its current key, else nobody accepts it.
pub fn sign(keypair: &Keypair, certificate: &Certificate, body: &SignalBody) -> SignedSignal {
    let body = serde_json::to_string(body).expect("a signal's body has string keys only");
    let sig = keypair.sign(SIGNAL_LABEL, body.as_bytes()).to_string();
    SignedSignal {
        body,
        sig,
        cert: certificate.clone(),
    }
}

/// Checks everything that one signal proves by itself.
///
/// It does not notice a repetition within [`CLOCK_LEEWAY_MS`]. Whoever keeps
/// the sessions must make it harmless; core refuses an offer of a session that
/// it has seen, takes one answer to an offer of its own, and is told nothing
/// new by a candidate that comes again. The position `seq` is not checked.
/// Nor are revocations and pins: this crate remembers nothing of them.
///
/// # Errors
/// The first check that fails: size and shape, certificate, sender, signature,
/// mesh, receiver, time.
pub fn verify(
    signal: &SignedSignal,
    me: &AgentId,
    mesh: &MeshKey,
    now_ms: u64,
    cache: &mut Cache,
) -> Result<(SignalBody, Arc<Verified>), SignalError> {
    let body = signal.decode_body()?;
    let sender = cache.verify(&signal.cert, mesh, now_ms)?;
    let name = || sender.name.clone();
    if body.from != sender.agent_id {
        return Err(SignalError::NotTheHolder { name: name() });
    }
    let bad = |_| SignalError::BadSignature { name: name() };
    let sig: Signature = signal
        .sig
        .parse()
        .map_err(|_| SignalError::BadSignature { name: name() })?;
    keys::verify(&sender.key, SIGNAL_LABEL, signal.body.as_bytes(), &sig).map_err(bad)?;
    if body.mesh != mesh_id(mesh) {
        return Err(SignalError::WrongMesh { name: name() });
    }
    if body.to != *me {
        return Err(SignalError::NotForMe { name: name() });
    }
    let off_ms = body.issued_ms.abs_diff(now_ms);
    if off_ms > CLOCK_LEEWAY_MS {
        let name = name();
        return Err(SignalError::Stale { name, off_ms });
    }
    Ok((body, sender))
}

/// The hash of an offer that its answer carries: SHA-256 of the SDP, base64url without padding.
pub fn offer_hash(sdp: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, sdp.as_bytes()).as_ref())
}
