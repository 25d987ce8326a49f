//! Behaviour of invites: what they admit to, and what is made of a damaged one.

use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use waymesh_proto::Code;
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, INVITE_MAX_BYTES, ROLES_MAX};
use waymesh_proto::membership::Invite;

use super::*;
use crate::keys::Keypair;
use crate::testing::*;

fn code_of(text: &str) -> Option<Code> {
    let invite: Invite = text.parse().expect("the alphabet of invites");
    InviteSecret::parse(&invite).err().map(|e| e.code())
}

/// The text of an invite whose JSON was changed.
fn changed(from: &str, to: &str) -> String {
    let text = invite(&grant()).encode().expect("it fits");
    let json = BASE64URL_NOPAD.decode(text.as_str().as_bytes());
    let json = String::from_utf8(json.expect("base64url")).expect("JSON");
    assert!(json.contains(from), "{json}");
    BASE64URL_NOPAD.encode(json.replacen(from, to, 1).as_bytes())
}

#[test]
fn an_invite_reads_back_from_its_text() {
    let mut made = invite(&grant());
    made.tls_pin = Some([0xab; 32]);
    let read = InviteSecret::parse(&made.encode().expect("it fits")).expect("its own text");
    assert_eq!(read.grant, made.grant);
    assert_eq!(read.registry, made.registry);
    assert_eq!((read.mesh, read.tls_pin), (mesh_key(), made.tls_pin));
    assert_eq!(read.keypair.agent_id(), made.grant.key);
}

#[test]
fn the_key_of_an_invite_is_never_shown() {
    let shown = format!("{:?}", invite(&grant()));
    assert!(
        !shown.contains("seed") && !shown.contains("9, 9"),
        "{shown}"
    );
}

#[test]
fn an_invite_of_another_version_or_with_another_key_is_refused() {
    let other = BASE64URL_NOPAD.encode(&[8; 32]);
    let own = BASE64URL_NOPAD.encode(&[9; 32]);
    for text in [
        changed(r#""v":1"#, r#""v":2"#),
        changed(&own, &other),
        changed("https://", "gopher://"),
        changed(r#""v":1"#, r#""v":1,"pin":"ab""#),
        changed(r#""v":1"#, r#""v":1,"colour":"blue""#),
    ] {
        assert_eq!(code_of(&text), Some(Code::BadInvite));
    }
}

#[test]
fn an_invite_that_names_another_mesh_than_it_was_made_by_is_refused() {
    let mallory = Keypair::from_seed(&[66; 32]).mesh_key();
    let text = changed(&mesh_key().to_string(), &mallory.to_string());
    let invite: Invite = text.parse().expect("an invite's alphabet");
    let outcome = InviteSecret::parse(&invite).map(|_| ());
    assert!(
        matches!(outcome, Err(InviteError::ForeignMesh { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_delegation_that_the_mesh_did_not_sign_is_refused() {
    let key = Keypair::from_seed(&[9; 32]).agent_id();
    for by in [registry(), Keypair::from_seed(&[9; 32])] {
        let delegation = delegate(&by, &key, &grant()).expect("well formed");
        let code = verify_delegation(&delegation, &mesh_key()).map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadInvite));
    }
}

#[test]
fn somebody_may_join_within_the_leeway_around_an_invites_time_and_not_beyond() {
    let open_at = |now_ms| {
        invite(&grant())
            .grant
            .check_open(now_ms)
            .map_err(|e| e.code())
    };
    let (first_ms, last_ms) = (NOW_MS - CLOCK_LEEWAY_MS, NOW_MS + DAY_MS + CLOCK_LEEWAY_MS);
    assert_eq!(open_at(first_ms), Ok(()));
    assert_eq!(open_at(first_ms - 1), Err(Code::ClockSkew));
    assert_eq!(open_at(last_ms), Ok(()));
    assert_eq!(open_at(last_ms + 1), Err(Code::InviteExpired));
}

#[test]
fn as_many_names_and_roles_as_the_limits_pass_and_one_more_does_not() {
    let made = |names: usize, roles: usize| {
        let mut grant = grant();
        grant.names = Some((0..names).map(|n| name(&format!("{n:0>63}"))).collect());
        grant.roles = (0..roles).map(|n| role(&format!("{n:0>63}"))).collect();
        let origin = "https://mesh.example".parse().expect("an origin");
        InviteSecret::make(&mesh(), &grant, origin, Some([1; 32]), [9; 32])
    };
    let largest = made(DELEGATED_NAMES_MAX, ROLES_MAX).expect("at both limits");
    let text = largest.encode().expect("it fits");
    assert!(text.as_str().len() <= INVITE_MAX_BYTES);
    assert!(InviteSecret::parse(&text).is_ok());
    for beyond in [made(DELEGATED_NAMES_MAX + 1, 0), made(0, ROLES_MAX + 1)] {
        let outcome = beyond.map(|_| ());
        assert!(
            matches!(outcome, Err(InviteError::Limits(_))),
            "{outcome:?}"
        );
    }
}

#[test]
fn an_invite_that_ends_before_it_begins_is_not_made() {
    let mut backwards = grant();
    backwards.expires_ms = NOW_MS - 1_000;
    let key = Keypair::from_seed(&[9; 32]).agent_id();
    let outcome = delegate(&mesh(), &key, &backwards);
    assert!(matches!(outcome, Err(InviteError::Limits(_))));
}

#[test]
fn whoever_enters_late_gets_no_more_than_the_invite_has_left() {
    let mut grant = grant();
    grant.renew_until_ms = NOW_MS + 2 * DAY_MS;
    let who = Applicant {
        name: name("alice"),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
    };
    let certificate = invite(&grant)
        .admit(&who, NOW_MS + DAY_MS)
        .expect("in time");
    let verified = crate::certificate::verify(&certificate, &mesh_key(), NOW_MS + DAY_MS);
    assert_eq!(verified.map(|v| v.expires_ms), Ok(NOW_MS + 2 * DAY_MS));
    let late = invite(&grant).admit(&who, NOW_MS + 2 * DAY_MS);
    assert_eq!(late.map_err(|e| e.code()), Err(Code::InviteExpired));
    let early = invite(&grant).admit(&who, NOW_MS - 3_600_000);
    assert_eq!(early.map_err(|e| e.code()), Err(Code::ClockSkew));
}

proptest! {
    #[test]
    fn parsing_any_text_never_panics(text in "[A-Za-z0-9_-]{1,300}", json: String) {
        prop_assert!(code_of(&text).is_some());
        let text = BASE64URL_NOPAD.encode(json.as_bytes());
        prop_assume!(!text.is_empty());
        prop_assert!(code_of(&text).is_some());
    }

    #[test]
    fn a_damaged_invite_admits_nobody_to_another_mesh(at in 0usize..100_000, to in "[A-Za-z0-9_-]") {
        let mut text = invite(&grant()).encode().expect("it fits").as_str().to_owned();
        let at = at % text.len();
        text.replace_range(at..=at, &to);
        if let Ok(read) = InviteSecret::parse(&text.parse().expect("an invite's alphabet")) {
            // What nobody has signed is only where to connect.
            prop_assert_eq!(read.mesh, mesh_key());
            prop_assert_eq!(read.grant, invite(&grant()).grant);
        }
    }
}
