//! Behaviour of signed signals.

use proptest::prelude::*;
use waymesh_proto::limits::SIGNALING_MAX_BYTES;
use waymesh_proto::signaling::Signal;
use waymesh_proto::{Incarnation, SessionId};

use super::*;
use crate::testing::*;

fn offer(sdp: &str) -> SignalBody {
    SignalBody {
        mesh: mesh_id(&mesh_key()),
        from: alice().agent_id(),
        from_incarnation: Incarnation::new(5),
        to: bob().agent_id(),
        to_incarnation: Incarnation::new(6),
        session: SessionId::from_bytes([3; 16]),
        seq: 0,
        issued_ms: NOW_MS,
        signal: Signal::Offer { sdp: sdp.into() },
    }
}

fn signed(body: &SignalBody) -> SignedSignal {
    sign(&alice(), &certificate("alice", &alice()), body)
}

fn check(signal: &SignedSignal, now_ms: u64) -> Result<(SignalBody, Arc<Verified>), SignalError> {
    verify(
        signal,
        &bob().agent_id(),
        &mesh_key(),
        now_ms,
        &mut Cache::default(),
    )
}

fn code_of(signal: &SignedSignal) -> Option<Code> {
    check(signal, NOW_MS).err().map(|e| e.code())
}

#[test]
fn a_signal_reads_back_as_it_was_signed_and_says_who_signed_it() {
    let (body, sender) = check(&signed(&offer("v=0")), NOW_MS).expect("a good signal");
    assert_eq!(body, offer("v=0"));
    assert_eq!(sender.name, name("alice"));
}

#[test]
fn a_signal_that_was_changed_on_the_way_is_dropped() {
    let mut signal = signed(&offer("v=0"));
    signal.body = signal.body.replace("v=0", "v=1");
    assert_eq!(code_of(&signal), Some(Code::BadSignature));
}

#[test]
fn a_signal_that_somebody_else_signed_is_dropped() {
    let mallory = Keypair::from_seed(&[66; 32]);
    let with_the_stolen = sign(&mallory, &certificate("alice", &alice()), &offer("v=0"));
    assert_eq!(code_of(&with_the_stolen), Some(Code::BadSignature));
    let with_the_own = sign(&mallory, &certificate("mallory", &mallory), &offer("v=0"));
    let error = check(&with_the_own, NOW_MS).expect_err("not Alice's");
    let name = name("mallory");
    assert_eq!(error, SignalError::NotTheHolder { name });
    let minted = crate::certificate::issue(&registry(), &member("alice", &mallory));
    let minted = sign(
        &mallory,
        &minted.expect("good in its own mesh"),
        &offer("v=0"),
    );
    assert_eq!(code_of(&minted), Some(Code::BadCertificate));
}

#[test]
fn a_signal_with_a_certificate_that_has_ended_is_dropped() {
    let later_ms = NOW_MS + 30 * DAY_MS;
    let mut body = offer("v=0");
    body.issued_ms = later_ms;
    let code = check(&signed(&body), later_ms).map_err(|e| e.code());
    assert_eq!(code.map(|_| ()), Err(Code::CertificateExpired));
}

#[test]
fn a_signature_made_for_another_purpose_is_dropped() {
    let mut signal = signed(&offer("v=0"));
    signal.sig = alice().sign("other", signal.body.as_bytes()).to_string();
    assert_eq!(code_of(&signal), Some(Code::BadSignature));
}

#[test]
fn after_a_change_of_key_signals_of_the_old_one_are_dropped() {
    let (current, rotations) = rotated(&alice(), 1);
    let mut member = member("alice", &alice());
    member.rotations = rotations;
    let certificate = crate::certificate::issue(&mesh(), &member).expect("good");
    assert_eq!(code_of(&sign(&current, &certificate, &offer("v=0"))), None);
    let old = sign(&alice(), &certificate, &offer("v=0"));
    assert_eq!(code_of(&old), Some(Code::BadSignature));
}

#[test]
fn a_signal_for_another_mesh_or_agent_is_dropped() {
    let mut of_another_mesh = offer("v=0");
    of_another_mesh.mesh = waymesh_proto::MeshId::from_bytes([8; 16]);
    assert_eq!(
        code_of(&signed(&of_another_mesh)),
        Some(Code::WrongRegistry)
    );
    let mut for_another = offer("v=0");
    for_another.to = alice().agent_id();
    assert_eq!(code_of(&signed(&for_another)), Some(Code::Unauthorized));
}

#[test]
fn a_signal_is_good_for_ten_minutes_and_not_a_millisecond_longer() {
    let signal = signed(&offer("v=0"));
    for now_ms in [NOW_MS - CLOCK_LEEWAY_MS, NOW_MS + CLOCK_LEEWAY_MS] {
        assert!(check(&signal, now_ms).is_ok());
    }
    let error = check(&signal, NOW_MS + CLOCK_LEEWAY_MS + 1).expect_err("too old");
    assert_eq!(error.code(), Code::ClockSkew);
    assert!(matches!(&error, SignalError::Stale { name, .. } if name.as_str() == "alice"));
    let code = check(&signal, NOW_MS - CLOCK_LEEWAY_MS - 1).map_err(|e| e.code());
    assert_eq!(code.map(|_| ()), Err(Code::ClockSkew));
}

#[test]
fn a_body_of_the_largest_size_passes_and_one_byte_more_is_too_large() {
    let bare = signed(&offer("")).body.len();
    let largest = "s".repeat(SIGNALING_MAX_BYTES - bare);
    assert_eq!(code_of(&signed(&offer(&largest))), None);
    let too_large = signed(&offer(&format!("{largest}s")));
    assert_eq!(code_of(&too_large), Some(Code::TooLarge));
}

proptest! {
    #[test]
    fn verifying_any_text_never_panics(body: String, sig: String) {
        let cert = certificate("alice", &alice());
        let signal = SignedSignal { body, sig, cert };
        prop_assert!(code_of(&signal).is_some());
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed(at in 0usize..10_000, bit in 0u8..8) {
        let mut signal = signed(&offer("v=0"));
        let mut bytes = signal.body.into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(body) = String::from_utf8(bytes) {
            signal.body = body;
            prop_assert!(code_of(&signal).is_some());
        }
    }
}
