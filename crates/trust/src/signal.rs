//! Signed signals (`spec/signaling.md`): what a node believes that came through a registry.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use waymesh_proto::control::{DecodeError, Signature};
use waymesh_proto::signaling::{SIGNAL_LABEL, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Code, MeshId};

use crate::keys::{self, Keypair};

/// How far the issue time of a signal may be from the receiver's clock, in
/// either direction, milliseconds: 10 minutes, the leeway for clocks.
pub const ISSUE_LEEWAY_MS: u64 = 600_000;

/// Why a received signal is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Too large, or its body is not that of a signal; the sender is broken.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// Not signed by the agent that the body names as its sender.
    #[error("the signature does not verify")]
    BadSignature,
    /// Made for another mesh.
    #[error("the signal belongs to another mesh")]
    WrongMesh,
    /// Made for another agent.
    #[error("the signal is for another agent")]
    NotForMe,
    /// Issued too long ago or in the future: a replay, or a wrong clock.
    #[error("the signal was issued {off_ms} ms away from this clock")]
    Stale {
        /// The difference, milliseconds.
        off_ms: u64,
    },
}

impl SignalError {
    /// The code to count it under.
    pub const fn code(&self) -> Code {
        match self {
            Self::Body(error) => error.code(),
            Self::BadSignature => Code::BadSignature,
            Self::WrongMesh => Code::WrongRegistry,
            Self::NotForMe => Code::Unauthorized,
            Self::Stale { .. } => Code::Replayed,
        }
    }
}

/// Signs a signal. `body.from` must be the keypair's own id, else nobody accepts it.
pub fn sign(keypair: &Keypair, body: &SignalBody) -> SignedSignal {
    let body = serde_json::to_string(body).expect("a signal's body has string keys only");
    let sig = keypair.sign(SIGNAL_LABEL, body.as_bytes()).to_string();
    SignedSignal { body, sig }
}

/// Checks everything that one signal proves by itself.
///
/// It does not notice a repetition within [`ISSUE_LEEWAY_MS`]. Whoever keeps
/// the sessions must make it harmless; core refuses an offer of a session that
/// it has seen, takes one answer to an offer of its own, and is told nothing
/// new by a candidate that comes again. The position `seq` is not checked.
///
/// # Errors
/// The first check that fails: size and shape, signature, mesh, receiver, time.
pub fn verify(
    signal: &SignedSignal,
    me: &AgentId,
    mesh: &MeshId,
    now_unix_ms: u64,
) -> Result<SignalBody, SignalError> {
    let body = signal.decode_body()?;
    let sig: Signature = signal.sig.parse().map_err(|_| SignalError::BadSignature)?;
    keys::verify(&body.from, SIGNAL_LABEL, signal.body.as_bytes(), &sig)
        .map_err(|_| SignalError::BadSignature)?;
    if body.mesh != *mesh {
        return Err(SignalError::WrongMesh);
    }
    if body.to != *me {
        return Err(SignalError::NotForMe);
    }
    let off_ms = body.issued_ms.abs_diff(now_unix_ms);
    if off_ms > ISSUE_LEEWAY_MS {
        return Err(SignalError::Stale { off_ms });
    }
    Ok(body)
}

/// The hash of an offer that its answer carries: SHA-256 of the SDP, base64url without padding.
pub fn offer_hash(sdp: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, sdp.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use waymesh_proto::limits::SIGNALING_MAX_BYTES;
    use waymesh_proto::signaling::Signal;
    use waymesh_proto::{Incarnation, SessionId};

    const MESH: MeshId = MeshId::from_bytes([9; 16]);
    const NOW_MS: u64 = 1_800_000_000_000;

    fn alice() -> Keypair {
        Keypair::from_seed(&[1; 32])
    }

    fn bob() -> AgentId {
        Keypair::from_seed(&[2; 32]).agent_id()
    }

    fn offer(sdp: &str) -> SignalBody {
        SignalBody {
            mesh: MESH,
            from: alice().agent_id(),
            from_incarnation: Incarnation::new(5),
            to: bob(),
            to_incarnation: Incarnation::new(6),
            session: SessionId::from_bytes([3; 16]),
            seq: 0,
            issued_ms: NOW_MS,
            signal: Signal::Offer { sdp: sdp.into() },
        }
    }

    fn code_of(signal: &SignedSignal) -> Option<Code> {
        verify(signal, &bob(), &MESH, NOW_MS)
            .err()
            .map(|e| e.code())
    }

    #[test]
    fn a_signal_reads_back_as_it_was_signed() {
        let signed = sign(&alice(), &offer("v=0"));
        assert_eq!(verify(&signed, &bob(), &MESH, NOW_MS), Ok(offer("v=0")));
    }

    #[test]
    fn a_signal_that_was_changed_on_the_way_is_dropped() {
        let mut signed = sign(&alice(), &offer("v=0"));
        signed.body = signed.body.replace("v=0", "v=1");
        assert_eq!(code_of(&signed), Some(Code::BadSignature));
    }

    #[test]
    fn a_signal_that_somebody_else_signed_is_dropped() {
        let mallory = Keypair::from_seed(&[66; 32]);
        let signed = sign(&mallory, &offer("v=0"));
        assert_eq!(code_of(&signed), Some(Code::BadSignature));
    }

    #[test]
    fn a_signature_made_for_another_purpose_is_dropped() {
        let mut signed = sign(&alice(), &offer("v=0"));
        signed.sig = alice().sign("other", signed.body.as_bytes()).to_string();
        assert_eq!(code_of(&signed), Some(Code::BadSignature));
    }

    #[test]
    fn a_signal_for_another_mesh_or_agent_is_dropped() {
        let signed = sign(&alice(), &offer("v=0"));
        let other = MeshId::from_bytes([8; 16]);
        let outcome = verify(&signed, &bob(), &other, NOW_MS);
        assert_eq!(outcome, Err(SignalError::WrongMesh));
        let outcome = verify(&signed, &alice().agent_id(), &MESH, NOW_MS);
        assert_eq!(outcome, Err(SignalError::NotForMe));
    }

    #[test]
    fn a_signal_is_good_for_ten_minutes_and_not_a_millisecond_longer() {
        let signed = sign(&alice(), &offer("v=0"));
        for now_ms in [NOW_MS - ISSUE_LEEWAY_MS, NOW_MS + ISSUE_LEEWAY_MS] {
            assert!(verify(&signed, &bob(), &MESH, now_ms).is_ok());
        }
        for now_ms in [NOW_MS - ISSUE_LEEWAY_MS - 1, NOW_MS + ISSUE_LEEWAY_MS + 1] {
            let outcome = verify(&signed, &bob(), &MESH, now_ms).map_err(|e| e.code());
            assert_eq!(outcome, Err(Code::Replayed));
        }
    }

    #[test]
    fn a_body_of_the_largest_size_passes_and_one_byte_more_is_too_large() {
        let bare = sign(&alice(), &offer("")).body.len();
        let largest = "s".repeat(SIGNALING_MAX_BYTES - bare);
        assert_eq!(code_of(&sign(&alice(), &offer(&largest))), None);
        let too_large = sign(&alice(), &offer(&format!("{largest}s")));
        assert_eq!(code_of(&too_large), Some(Code::TooLarge));
    }

    proptest! {
        #[test]
        fn verifying_any_text_never_panics(body: String, sig: String) {
            let signal = SignedSignal { body, sig };
            prop_assert!(verify(&signal, &bob(), &MESH, NOW_MS).is_err());
        }

        #[test]
        fn no_flipped_bit_goes_unnoticed(at in 0usize..10_000, bit in 0u8..8) {
            let mut signed = sign(&alice(), &offer("v=0"));
            let mut bytes = signed.body.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(body) = String::from_utf8(bytes) {
                signed.body = body;
                prop_assert!(code_of(&signed).is_some());
            }
        }
    }
}
