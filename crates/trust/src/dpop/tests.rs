//! Behaviour of proofs of possession.

use proptest::prelude::*;

use super::*;
use crate::testing::*;

const URL: &str = "https://mesh.example:4455/v1/agents";
const NONCE: &str = "n-1";

fn request(certificate: Option<&Certificate>) -> Request<'_> {
    Request {
        method: "GET",
        url: URL,
        certificate,
    }
}

fn proof() -> String {
    prove(&alice(), request(None), Some(NONCE), [7; 16], NOW_MS)
}

fn check(proof: &str, request: Request<'_>, now_ms: u64) -> Result<Proof, DpopError> {
    verify(proof, request, |nonce| nonce == NONCE, now_ms)
}

#[test]
fn a_proof_shows_whose_request_it_is() {
    let expected = Proof {
        key: alice().agent_id(),
        id: [7; 16],
    };
    assert_eq!(check(&proof(), request(None), NOW_MS), Ok(expected));
}

#[test]
fn a_proof_is_as_rfc_9449_wants_it() {
    let certificate = certificate("alice", &alice());
    let proof = prove(
        &alice(),
        request(Some(&certificate)),
        Some(NONCE),
        [7; 16],
        NOW_MS,
    );
    let mut parts = proof.split('.').map(|part| {
        let json = BASE64URL_NOPAD.decode(part.as_bytes()).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&json).unwrap_or_default()
    });
    let header = parts.next().expect("a header");
    assert_eq!(
        (&header["typ"], &header["alg"]),
        (&"dpop+jwt".into(), &"EdDSA".into())
    );
    assert_eq!(
        (&header["jwk"]["kty"], &header["jwk"]["crv"]),
        (&"OKP".into(), &"Ed25519".into())
    );
    let claims = parts.next().expect("claims");
    assert_eq!(
        (&claims["htm"], &claims["htu"]),
        (&"GET".into(), &URL.into())
    );
    assert_eq!(
        (&claims["iat"], &claims["nonce"]),
        (&(NOW_MS / 1_000).into(), &NONCE.into())
    );
    let hash = BASE64URL_NOPAD.encode(&sha256(certificate.as_str().as_bytes()));
    assert_eq!(claims["ath"], hash);
}

#[test]
fn the_query_does_not_count_and_everything_else_does() {
    let with_query = format!("{URL}?limit=1#x");
    let other = |method, url| Request {
        method,
        url,
        certificate: None,
    };
    assert!(check(&proof(), other("GET", &with_query), NOW_MS).is_ok());
    for (method, url) in [
        ("POST", URL),
        ("GET", "https://mesh.example:4455/v1/agents/"),
        ("GET", "https://evil.example:4455/v1/agents"),
        ("GET", "http://mesh.example:4455/v1/agents"),
    ] {
        let code = check(&proof(), other(method, url), NOW_MS).map_err(|e| e.code());
        assert_eq!(code, Err(Code::Unauthorized), "{method} {url}");
    }
}

#[test]
fn a_proof_covers_the_certificate_that_comes_with_it() {
    let (of_alice, of_bob) = (certificate("alice", &alice()), certificate("bob", &bob()));
    let with = prove(
        &alice(),
        request(Some(&of_alice)),
        Some(NONCE),
        [7; 16],
        NOW_MS,
    );
    assert!(check(&with, request(Some(&of_alice)), NOW_MS).is_ok());
    let refused = Err(DpopError::OtherRequest("certificate"));
    assert_eq!(check(&with, request(Some(&of_bob)), NOW_MS), refused);
    assert_eq!(check(&with, request(None), NOW_MS), refused);
    assert_eq!(check(&proof(), request(Some(&of_alice)), NOW_MS), refused);
}

#[test]
fn without_a_current_nonce_the_client_is_told_to_take_one() {
    for nonce in [None, Some("n-0")] {
        let proof = prove(&alice(), request(None), nonce, [7; 16], NOW_MS);
        assert_eq!(check(&proof, request(None), NOW_MS), Err(DpopError::Nonce));
    }
}

#[test]
fn a_proof_is_good_within_the_leeway_and_a_wrong_clock_is_told() {
    for now_ms in [NOW_MS - CLOCK_LEEWAY_MS, NOW_MS + CLOCK_LEEWAY_MS] {
        assert!(check(&proof(), request(None), now_ms).is_ok());
    }
    for now_ms in [NOW_MS - CLOCK_LEEWAY_MS - 1, NOW_MS + CLOCK_LEEWAY_MS + 1] {
        let code = check(&proof(), request(None), now_ms).map_err(|e| e.code());
        assert_eq!(code, Err(Code::ClockSkew));
    }
}

#[test]
fn a_proof_that_another_key_signed_or_of_another_kind_is_refused() {
    let claims: Claims = jwt::peek(&proof()).expect("claims");
    let forged = jwt::sign_with(&header(alice().public()), &claims, &bob());
    assert_eq!(
        check(&forged, request(None), NOW_MS),
        Err(DpopError::Forged)
    );
    let mut of_another_kind = header(alice().public());
    of_another_kind.typ = Some("JWT".into());
    let mut critical = header(alice().public());
    critical.crit = Some(vec!["exp".into()]);
    let mut without_key = header(alice().public());
    without_key.jwk = None;
    for header in [of_another_kind, critical, without_key] {
        let proof = jwt::sign_with(&header, &claims, &alice());
        let code = check(&proof, request(None), NOW_MS).map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadRequest));
    }
}

#[test]
fn a_proof_longer_than_a_token_is_not_looked_at() {
    let long = "a".repeat(TOKEN_MAX_BYTES + 1);
    assert_eq!(
        check(&long, request(None), NOW_MS),
        Err(malformed("it is too long"))
    );
}

proptest! {
    #[test]
    fn verifying_any_text_never_panics(text: String) {
        prop_assert!(check(&text, request(None), NOW_MS).is_err());
    }

    #[test]
    fn no_changed_character_goes_unnoticed(at in 0usize..100_000, to in "[A-Za-z0-9_.-]") {
        let mut text = proof();
        let at = at % text.len();
        prop_assume!(text[at..=at] != to);
        text.replace_range(at..=at, &to);
        prop_assert!(check(&text, request(None), NOW_MS).is_err());
    }
}
