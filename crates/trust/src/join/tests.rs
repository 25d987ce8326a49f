//! Behaviour of requests to join.

use proptest::prelude::*;

use super::*;
use crate::testing::*;

const NONCE: Nonce = Nonce::from_bytes([3; 32]);

fn ask() -> Ask {
    Ask {
        name: name("alice"),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
        mesh: mesh_key(),
        registry: registry().registry_key(),
        nonce: NONCE,
        tls_key: None,
    }
}

fn made(invite: Option<&Keypair>) -> JoinRequest {
    request(&alice(), &ask(), invite, NOW_MS).expect("a good request")
}

fn verified(invite: Option<&Keypair>) -> VerifiedJoin {
    verify(&made(invite)).expect("a good request")
}

fn here(join: &VerifiedJoin, now_ms: u64) -> Result<(), JoinError> {
    join.check_here(&mesh_key(), &registry().registry_key(), &NONCE, now_ms)
}

#[test]
fn a_request_says_who_asks_whom_for_what() {
    let join = verified(None);
    assert_eq!(
        (join.name.as_str(), join.key),
        ("alice", alice().agent_id())
    );
    assert_eq!(join.invited_by, None);
    assert_eq!(here(&join, NOW_MS), Ok(()));
    assert_eq!(join.check_invite(None), Ok(()));
}

#[test]
fn an_agent_that_has_changed_its_key_asks_with_the_current_one() {
    let (current, rotations) = rotated(&alice(), 2);
    let ask = Ask { rotations, ..ask() };
    let request = request(&current, &ask, None, NOW_MS).expect("a good request");
    let join = verify(&request).expect("a good request");
    assert_eq!(
        (join.agent_id, join.key),
        (alice().agent_id(), current.agent_id())
    );
    assert_eq!(join.rotations, ask.rotations);
    let with_the_old = super::request(&alice(), &ask, None, NOW_MS);
    assert_eq!(with_the_old, Err(JoinError::Forged));
}

#[test]
fn nobody_asks_with_the_identity_of_another() {
    let mallory = Keypair::from_seed(&[66; 32]);
    let outcome = request(&mallory, &ask(), None, NOW_MS);
    assert_eq!(outcome, Err(JoinError::Forged));
}

#[test]
fn a_request_is_of_one_mesh_registry_and_connection() {
    let join = verified(None);
    let key = registry().registry_key();
    let other = Keypair::from_seed(&[99; 32]);
    let elsewhere = [
        (
            join.check_here(&other.mesh_key(), &key, &NONCE, NOW_MS),
            Code::WrongRegistry,
        ),
        (
            join.check_here(&mesh_key(), &other.registry_key(), &NONCE, NOW_MS),
            Code::WrongRegistry,
        ),
        (
            join.check_here(&mesh_key(), &key, &Nonce::from_bytes([4; 32]), NOW_MS),
            Code::Replayed,
        ),
    ];
    for (outcome, code) in elsewhere {
        assert_eq!(outcome.map_err(|e| e.code()), Err(code));
    }
}

#[test]
fn a_request_is_good_within_the_leeway_and_a_wrong_clock_is_told() {
    let join = verified(None);
    for now_ms in [NOW_MS - CLOCK_LEEWAY_MS, NOW_MS + CLOCK_LEEWAY_MS] {
        assert_eq!(here(&join, now_ms), Ok(()));
    }
    for now_ms in [NOW_MS - CLOCK_LEEWAY_MS - 1, NOW_MS + CLOCK_LEEWAY_MS + 1] {
        assert_eq!(
            here(&join, now_ms).map_err(|e| e.code()),
            Err(Code::ClockSkew)
        );
    }
}

#[test]
fn a_tls_key_that_was_trusted_on_first_use_must_be_the_registrys_where_that_knows_it() {
    let shown = |tls_key| {
        let ask = Ask { tls_key, ..ask() };
        let request = request(&alice(), &ask, None, NOW_MS).expect("a good request");
        verify(&request).expect("a good request")
    };
    let (none, first) = (shown(None), shown(Some([1; 32])));
    assert_eq!((none.tls_key, first.tls_key), (None, Some([1; 32])));
    for own in [None, Some(&[1; 32])] {
        assert_eq!(first.check_tls(own), Ok(()));
        assert_eq!(none.check_tls(own), Ok(()));
    }
    let error = first.check_tls(Some(&[2; 32])).expect_err("intercepted");
    assert_eq!(error, JoinError::Intercepted { shown: [1; 32] });
    let fault = error.fault();
    assert_eq!(fault.code, Code::UntrustedTls);
    assert!(
        fault
            .hint
            .is_some_and(|hint| hint.contains("stands between"))
    );
}

#[test]
fn with_an_invite_its_key_has_signed_and_its_names_hold() {
    let secret = invite(&grant());
    let join = verified(Some(&secret.keypair));
    assert_eq!(join.check_invite(Some(&secret.grant)), Ok(()));
    for (join, delegation) in [
        (verified(None), Some(&secret.grant)),
        (verified(Some(&secret.keypair)), None),
        (verified(Some(&bob())), Some(&secret.grant)),
    ] {
        assert_eq!(join.check_invite(delegation), Err(JoinError::NotInvited));
    }
    let mut for_bob = secret.grant;
    for_bob.names = Some(vec![name("bob")]);
    assert_eq!(
        join.check_invite(Some(&for_bob)),
        Err(JoinError::NotInvited)
    );
}

#[test]
fn the_signature_of_an_invite_is_for_one_request_only() {
    let secret = invite(&grant());
    let peeked = |request: &JoinRequest| jwt::peek::<Claims>(request.as_str()).expect("claims");
    let mut stolen = peeked(&made(None));
    stolen.invite = peeked(&made(Some(&secret.keypair))).invite;
    stolen.sub = name("mallory");
    let token = jwt::sign(Typ::Join, &stolen, &alice());
    let outcome = verify(&token.parse().expect("a token"));
    assert_eq!(outcome, Err(JoinError::NotInvited));
}

proptest! {
    #[test]
    fn verifying_any_text_never_panics(text in "[A-Za-z0-9_.~-]{1,200}") {
        prop_assert!(verify(&text.parse().expect("a token")).is_err());
    }

    #[test]
    fn no_changed_character_goes_unnoticed(at in 0usize..100_000, to in "[A-Za-z0-9_.~-]") {
        let mut text = made(Some(&bob())).as_str().to_owned();
        let at = at % text.len();
        prop_assume!(text[at..=at] != to);
        text.replace_range(at..=at, &to);
        prop_assert!(verify(&text.parse().expect("a token")).is_err());
    }
}
