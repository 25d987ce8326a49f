//! Behaviour of certificates towards everybody who would like to have one.

use proptest::prelude::*;
use waymesh_proto::limits::{
    CERTIFICATE_LIFE_MS, CERTIFICATE_MAX_BYTES, CLOCK_LEEWAY_MS, ROLES_MAX,
};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{Code, MeshId};

use super::verify::MemberClaims;
use super::*;
use crate::invite::Applicant;
use crate::jwt::{self, Confirmation, Typ, seconds};
use crate::keys::{Keypair, mesh_id};
use crate::rotation::{ROTATIONS_MAX, RotationError, rotate};
use crate::testing::*;

fn verify_now(certificate: &Certificate) -> Result<Verified, CertificateError> {
    verify(certificate, &mesh_key(), NOW_MS)
}

fn parse(text: &str) -> Certificate {
    text.parse().expect("the alphabet of certificates")
}

/// The claims of a good member token, to be made worse.
fn claims() -> MemberClaims {
    let member = member("alice", &alice());
    MemberClaims {
        iss: mesh_id(&mesh_key()),
        sub: member.name,
        aid: member.agent_id,
        cnf: Confirmation::new(&member.agent_id),
        roles: member.roles,
        iat: seconds(member.issued_ms),
        exp: seconds(member.expires_ms),
        renew_until: seconds(member.renew_until_ms),
        reg: member.registry,
    }
}

fn signed(claims: &MemberClaims, by: &Keypair) -> Certificate {
    parse(&jwt::sign(Typ::Member, claims, by))
}

/// A chain of a good delegation and a member token that the invite's key has signed.
fn delegated(grant: &crate::invite::Grant, claims: &MemberClaims) -> Certificate {
    let invite = invite(grant);
    let token = jwt::sign(Typ::Member, claims, &invite.keypair);
    parse(&format!("{}~{token}", invite.delegation))
}

#[test]
fn a_certificate_says_what_it_was_issued_for() {
    let verified = verify_now(&certificate("alice", &alice())).expect("a good certificate");
    assert_eq!(verified.name, name("alice"));
    assert_eq!(verified.agent_id, alice().agent_id());
    assert_eq!(verified.key, alice().agent_id());
    assert_eq!(verified.roles, vec![role("worker")]);
    assert_eq!(verified.expires_ms, NOW_MS + CERTIFICATE_LIFE_MS);
    assert_eq!(verified.renew_until_ms, RENEW_UNTIL_MS);
    assert_eq!(verified.registry, registry().registry_key());
    assert_eq!((verified.invite, verified.rotations), (None, 0));
}

#[test]
fn a_certificate_that_the_registry_minted_is_refused_and_the_registry_named() {
    let error = verify_now(&signed(&claims(), &registry())).expect_err("a forgery");
    let (token, name) = (Token::Member, name("alice"));
    assert_eq!(error, CertificateError::MintedByRegistry { token, name });
    assert_eq!(error.code(), Code::BadCertificate);
    assert!(
        error
            .fault()
            .hint
            .is_some_and(|hint| hint.contains("registry"))
    );
}

#[test]
fn a_certificate_that_anybody_else_signed_is_refused() {
    let token = Token::Member;
    for mallory in [Keypair::from_seed(&[66; 32]), alice()] {
        let outcome = verify_now(&signed(&claims(), &mallory));
        assert_eq!(outcome, Err(CertificateError::Forged { token }));
    }
}

#[test]
fn a_certificate_of_another_mesh_is_refused_and_both_meshes_named() {
    let other = Keypair::from_seed(&[99; 32]);
    let foreign = issue(&other, &member("alice", &alice())).expect("good in its own mesh");
    let expected = CertificateError::ForeignMesh {
        expected: mesh_id(&mesh_key()),
        got: mesh_id(&other.mesh_key()),
    };
    assert_eq!(verify_now(&foreign), Err(expected));
    let mut mixed = claims();
    mixed.iss = MeshId::from_bytes([1; 16]);
    let code = verify_now(&signed(&mixed, &mesh())).map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadCertificate));
}

#[test]
fn a_token_of_another_kind_with_the_same_signature_key_is_no_member_token() {
    for typ in [Typ::Delegation, Typ::Extension, Typ::Rotation, Typ::Join] {
        let token = jwt::sign(typ, &claims(), &mesh());
        let code = verify_now(&parse(&token)).map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadCertificate), "{typ:?}");
    }
}

#[test]
fn a_header_with_anything_more_or_another_algorithm_is_refused() {
    let good = certificate("alice", &alice());
    let (_, rest) = good.as_str().split_once('.').expect("a JWT");
    for header in [
        r#"{"typ":"waymesh-member+jwt","alg":"none"}"#,
        r#"{"typ":"waymesh-member+jwt","alg":"HS256"}"#,
        r#"{"typ":"waymesh-member+jwt","alg":"EdDSA","crit":["b64"]}"#,
        r#"{"typ":"waymesh-member+jwt","alg":"EdDSA","kid":"1"}"#,
        r#"{"alg":"EdDSA"}"#,
    ] {
        let header = data_encoding::BASE64URL_NOPAD.encode(header.as_bytes());
        let code = verify_now(&parse(&format!("{header}.{rest}"))).map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadCertificate), "{header}");
    }
}

#[test]
fn a_certificate_holds_up_to_the_leeway_beyond_its_end_and_no_longer() {
    let certificate = certificate("alice", &alice());
    let end_ms = NOW_MS + CERTIFICATE_LIFE_MS + CLOCK_LEEWAY_MS;
    assert!(verify(&certificate, &mesh_key(), end_ms).is_ok());
    let error = verify(&certificate, &mesh_key(), end_ms + 1).expect_err("it has ended");
    assert_eq!(error.code(), Code::CertificateExpired);
    assert!(
        error
            .fault()
            .hint
            .is_some_and(|hint| hint.contains("extended"))
    );
}

#[test]
fn a_certificate_holds_from_the_leeway_before_its_beginning_and_no_earlier() {
    let certificate = certificate("alice", &alice());
    let begin_ms = NOW_MS - CLOCK_LEEWAY_MS;
    assert!(verify(&certificate, &mesh_key(), begin_ms).is_ok());
    let code = verify(&certificate, &mesh_key(), begin_ms - 1).map_err(|e| e.code());
    assert_eq!(code, Err(Code::ClockSkew));
}

#[test]
fn one_that_has_ended_may_come_back_as_long_as_it_can_be_renewed() {
    let certificate = certificate("alice", &alice());
    let last_ms = RENEW_UNTIL_MS + CLOCK_LEEWAY_MS;
    assert!(verify_renewable(&certificate, &mesh_key(), last_ms).is_ok());
    let code = verify_renewable(&certificate, &mesh_key(), last_ms + 1).map_err(|e| e.code());
    assert_eq!(code, Err(Code::CertificateExpired));
}

#[test]
fn no_certificate_lives_longer_than_the_longest_life_or_its_renewal() {
    let token = Token::Member;
    let changes: [fn(&mut MemberClaims); 3] = [
        |c| c.exp += 1,
        |c| c.renew_until = c.exp - 1,
        |c| c.iat = c.exp + 1,
    ];
    for change in changes {
        let mut worse = claims();
        change(&mut worse);
        let outcome = verify_now(&signed(&worse, &mesh()));
        assert_eq!(outcome, Err(CertificateError::Life { token }));
    }
}

#[test]
fn as_many_roles_as_the_limit_pass_and_one_more_does_not() {
    let roles = |count| (0..count).map(|n| role(&format!("r{n}"))).collect();
    let mut member = member("alice", &alice());
    member.roles = roles(ROLES_MAX);
    assert!(issue(&mesh(), &member).is_ok());
    member.roles = roles(ROLES_MAX + 1);
    let code = issue(&mesh(), &member).map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadCertificate));
}

#[test]
fn the_holder_of_a_pre_approved_invite_admits_itself() {
    let who = Applicant {
        name: name("alice"),
        agent_id: alice().agent_id(),
        rotations: Vec::new(),
    };
    let certificate = invite(&grant()).admit(&who, NOW_MS).expect("it may");
    let verified = verify_now(&certificate).expect("a good certificate");
    assert_eq!(verified.invite, Some(INVITE));
    assert_eq!(verified.delegation.and_then(|d| d.count), grant().count);
    assert_eq!(verified.roles, grant().roles);
}

#[test]
fn an_invite_that_is_not_pre_approved_admits_nobody_by_itself() {
    let grant = crate::invite::Grant {
        pre_approved: false,
        ..grant()
    };
    let outcome = verify_now(&delegated(&grant, &claims()));
    assert_eq!(
        outcome,
        Err(CertificateError::NotPreApproved { invite: INVITE })
    );
}

#[test]
fn an_invite_gives_nothing_beyond_its_limits() {
    let mut grant = grant();
    grant.names = Some(vec![name("alice"), name("bob")]);
    assert!(verify_now(&delegated(&grant, &claims())).is_ok());
    type Change = fn(&mut MemberClaims);
    let changes: [(BeyondInvite, Change); 6] = [
        (BeyondInvite::Name, |c| c.sub = name("carol")),
        (BeyondInvite::Role, |c| c.roles.push(role("admin"))),
        (BeyondInvite::Renewal, |c| c.renew_until += 1),
        (BeyondInvite::Registry, |c| {
            c.reg = Keypair::from_seed(&[9; 32]).registry_key();
        }),
        (BeyondInvite::Late, |c| {
            c.iat = seconds(NOW_MS + DAY_MS + CLOCK_LEEWAY_MS) + 1;
        }),
        (BeyondInvite::Early, |c| {
            c.iat = seconds(NOW_MS - CLOCK_LEEWAY_MS) - 1;
            c.exp = c.iat + seconds(CERTIFICATE_LIFE_MS);
        }),
    ];
    for (what, change) in changes {
        let mut worse = claims();
        change(&mut worse);
        let outcome = verify(&delegated(&grant, &worse), &mesh_key(), NOW_MS + DAY_MS);
        let invite = INVITE;
        assert_eq!(
            outcome,
            Err(CertificateError::BeyondInvite { invite, what })
        );
    }
}

#[test]
fn a_delegated_certificate_may_be_dated_up_to_the_leeway_around_the_invite() {
    for at_ms in [NOW_MS - CLOCK_LEEWAY_MS, NOW_MS + DAY_MS + CLOCK_LEEWAY_MS] {
        let mut at_the_limit = claims();
        at_the_limit.iat = seconds(at_ms);
        at_the_limit.exp = at_the_limit.iat + seconds(CERTIFICATE_LIFE_MS);
        let outcome = verify(&delegated(&grant(), &at_the_limit), &mesh_key(), at_ms);
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

#[test]
fn a_delegation_of_another_mesh_or_of_nobody_admits_nobody() {
    let code = |certificate| verify_now(&certificate).map_err(|e| e.code());
    let invite = invite(&grant());
    let token = jwt::sign(Typ::Member, &claims(), &invite.keypair);
    let other = Keypair::from_seed(&[99; 32]);
    for by in [&other, &registry(), &invite.keypair] {
        let delegation = crate::invite::delegate(by, &invite.keypair.agent_id(), &grant());
        let delegation = delegation.expect("well formed");
        let chain = parse(&format!("{delegation}~{token}"));
        assert_eq!(code(chain), Err(Code::BadCertificate));
    }
    assert_eq!(code(parse(&token)), Err(Code::BadCertificate));
    let of_the_mesh = jwt::sign(Typ::Member, &claims(), &mesh());
    let chain = parse(&format!("{}~{of_the_mesh}", invite.delegation));
    assert_eq!(code(chain), Err(Code::BadCertificate));
}

#[test]
fn the_registry_extends_up_to_the_end_of_renewal_and_no_longer() {
    let certificate = certificate("alice", &alice());
    let verified = verify_now(&certificate).expect("good");
    let later_ms = NOW_MS + 85 * DAY_MS;
    let extension = extend(&registry(), &verified, later_ms + 99 * DAY_MS, later_ms);
    let extended = with_extension(&certificate, &extension).expect("it fits");
    let verified = verify(&extended, &mesh_key(), later_ms).expect("it lives on");
    assert_eq!(verified.expires_ms, RENEW_UNTIL_MS);
    let again = with_extension(&extended, &extension).expect("it fits");
    assert_eq!(
        again, extended,
        "an extension takes the place of the one before"
    );
}

fn extended_by(by: &Keypair, iat_ms: u64, exp_ms: u64) -> Result<Verified, CertificateError> {
    let certificate = certificate("alice", &alice());
    let verified = verify_now(&certificate).expect("good");
    let claims = verify::ExtensionClaims {
        sub: jwt::Base64Bytes(verified.member_hash),
        iat: seconds(iat_ms),
        exp: seconds(exp_ms),
    };
    let extension = jwt::sign(Typ::Extension, &claims, by);
    let extension = extension.parse().expect("an extension");
    let extended = with_extension(&certificate, &extension).expect("it fits");
    verify(&extended, &mesh_key(), iat_ms)
}

#[test]
fn an_extension_at_its_limits_holds_and_one_second_beyond_does_not() {
    let token = Token::Extension;
    let week_ms = CERTIFICATE_LIFE_MS + CLOCK_LEEWAY_MS;
    let late_ms = RENEW_UNTIL_MS - DAY_MS;
    let first_end_ms = NOW_MS + CERTIFICATE_LIFE_MS;
    for (from_ms, good_ms, bad_ms) in [
        (late_ms, RENEW_UNTIL_MS, RENEW_UNTIL_MS + 1_000),
        (
            NOW_MS + DAY_MS,
            NOW_MS + DAY_MS + week_ms,
            NOW_MS + DAY_MS + week_ms + 1_000,
        ),
        (NOW_MS, first_end_ms, first_end_ms - 1_000),
    ] {
        assert!(extended_by(&registry(), from_ms, good_ms).is_ok());
        let outcome = extended_by(&registry(), from_ms, bad_ms);
        assert_eq!(outcome, Err(CertificateError::Life { token }));
    }
}

#[test]
fn nobody_but_the_registry_of_the_certificate_extends_it() {
    let token = Token::Extension;
    for by in [mesh(), alice(), Keypair::from_seed(&[9; 32])] {
        let outcome = extended_by(&by, NOW_MS, NOW_MS + CERTIFICATE_LIFE_MS);
        assert_eq!(outcome, Err(CertificateError::Forged { token }));
    }
}

#[test]
fn an_extension_is_of_one_certificate() {
    let of_bob = verify_now(&certificate("bob", &bob())).expect("good");
    let extension = extend(&registry(), &of_bob, RENEW_UNTIL_MS, NOW_MS + DAY_MS);
    let mixed = with_extension(&certificate("alice", &alice()), &extension).expect("it fits");
    let outcome = verify_now(&mixed).map_err(|e| e.code());
    assert_eq!(outcome, Err(Code::BadCertificate));
}

#[test]
fn a_certificate_survives_changes_of_its_key() {
    let (current, statements) = rotated(&alice(), 3);
    let mut certificate = certificate("alice", &alice());
    for rotation in &statements {
        certificate = with_rotation(&certificate, rotation).expect("it fits");
    }
    let verified = verify_now(&certificate).expect("good");
    assert_eq!(verified.agent_id, alice().agent_id());
    assert_eq!(verified.key, current.agent_id());
    assert_eq!((verified.rotations, verified.keys.len()), (3, 4));
    assert_eq!(rotations(&certificate), Ok(statements));
}

#[test]
fn a_certificate_issued_after_a_change_of_key_needs_the_whole_chain() {
    let (current, statements) = rotated(&alice(), 2);
    let mut member = member("alice", &alice());
    member.rotations = statements;
    let certificate = issue(&mesh(), &member).expect("good");
    assert_eq!(
        verify_now(&certificate).map(|v| v.key),
        Ok(current.agent_id())
    );
    let (bare, _) = certificate.as_str().split_once('~').expect("rotations");
    let code = verify_now(&parse(bare)).map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadCertificate));
}

#[test]
fn nobody_is_given_a_certificate_with_the_identity_of_another() {
    let mut stolen = claims();
    stolen.cnf = Confirmation::new(&Keypair::from_seed(&[66; 32]).agent_id());
    let code = verify_now(&delegated(&grant(), &stolen)).map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadCertificate));
}

#[test]
fn rotations_that_are_cut_swapped_or_of_another_agent_are_refused() {
    let (_, statements) = rotated(&alice(), 3);
    let (_, of_bob) = rotated(&bob(), 1);
    let [first, second, third] = statements.as_slice() else {
        panic!("three rotations");
    };
    for chain in [
        vec![second, third],
        vec![first, third],
        vec![second, first],
        vec![first, first],
        vec![&of_bob[0]],
        vec![first, &of_bob[0]],
    ] {
        let mut certificate = certificate("alice", &alice());
        for rotation in chain {
            certificate = with_rotation(&certificate, rotation).expect("it fits");
        }
        let error = verify_now(&certificate).expect_err("a broken chain");
        assert!(matches!(error, CertificateError::Rotation(_)), "{error}");
    }
}

#[test]
fn as_many_rotations_as_the_limit_pass_and_one_more_does_not() {
    let most = u8::try_from(ROTATIONS_MAX).expect("a small limit");
    let (current, statements) = rotated(&alice(), most);
    let mut member = member("alice", &alice());
    member.rotations = statements;
    let certificate = issue(&mesh(), &member).expect("at the limit");
    let next = Keypair::from_seed(&[200; 32]);
    let seq = u32::from(most) + 1;
    let more = rotate(&current, &next, alice().agent_id(), seq, NOW_MS);
    let more = with_rotation(&certificate, &more).expect("it still fits");
    let expected = CertificateError::Rotation(RotationError::TooMany(ROTATIONS_MAX + 1));
    assert_eq!(verify_now(&more), Err(expected));
}

#[test]
fn a_certificate_of_the_largest_length_is_looked_at_and_a_longer_one_is_not() {
    assert!(
        "a".repeat(CERTIFICATE_MAX_BYTES)
            .parse::<Certificate>()
            .is_ok()
    );
    assert!(
        "a".repeat(CERTIFICATE_MAX_BYTES + 1)
            .parse::<Certificate>()
            .is_err()
    );
}

#[test]
fn tokens_out_of_their_order_or_twice_are_refused() {
    let certificate = certificate("alice", &alice());
    let verified = verify_now(&certificate).expect("good");
    let extension = extend(&registry(), &verified, RENEW_UNTIL_MS, NOW_MS);
    let (_, rotations) = rotated(&alice(), 1);
    let delegation = invite(&grant()).delegation;
    let (member, extension, rotation) = (certificate.as_str(), extension.as_str(), &rotations[0]);
    for text in [
        format!("{member}~{rotation}~{extension}"),
        format!("{extension}~{member}"),
        format!("{member}~{extension}~{extension}"),
        format!("{member}~{member}"),
        format!("{delegation}~{delegation}~{member}"),
        format!("{member}~{delegation}"),
        format!("{member}~"),
        format!("~{member}"),
        extension.to_owned(),
    ] {
        let code = verify_now(&parse(&text)).map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadCertificate), "{text}");
    }
}

#[test]
fn a_cache_checks_the_time_at_every_use_and_forgets_the_oldest() {
    let mut cache = Cache::default();
    let certificate = certificate("alice", &alice());
    for _ in 0..2 {
        assert!(cache.verify(&certificate, &mesh_key(), NOW_MS).is_ok());
    }
    assert_eq!(cache.len(), 1);
    let late_ms = NOW_MS + 30 * DAY_MS;
    let code = cache
        .verify(&certificate, &mesh_key(), late_ms)
        .map_err(|e| e.code());
    assert_eq!(code, Err(Code::CertificateExpired));
    assert!(
        cache
            .verify_renewable(&certificate, &mesh_key(), late_ms)
            .is_ok()
    );
    for n in 0..CACHE_MAX_CERTIFICATES {
        let other = crate::testing::certificate(&format!("n{n}"), &bob());
        assert!(cache.verify(&other, &mesh_key(), NOW_MS).is_ok());
    }
    assert_eq!(cache.len(), CACHE_MAX_CERTIFICATES);
    let foreign = Keypair::from_seed(&[99; 32]).mesh_key();
    assert!(cache.verify(&certificate, &foreign, NOW_MS).is_err());
    assert!(cache.is_empty(), "another mesh shares nothing");
}

proptest! {
    #[test]
    fn verifying_any_text_never_panics(text in "[A-Za-z0-9_.~-]{1,200}") {
        prop_assert!(verify_now(&parse(&text)).is_err());
    }

    #[test]
    fn no_changed_character_goes_unnoticed(at in 0usize..100_000, to in "[A-Za-z0-9_.~-]") {
        let invite = invite(&grant());
        let who = Applicant { name: name("alice"), agent_id: alice().agent_id(), rotations: rotated(&alice(), 1).1 };
        let certificate = invite.admit(&who, NOW_MS).expect("it may");
        let verified = verify_now(&certificate).expect("good");
        let extension = extend(&registry(), &verified, RENEW_UNTIL_MS, NOW_MS);
        let certificate = with_extension(&certificate, &extension).expect("it fits");
        let mut text = certificate.as_str().to_owned();
        let at = at % text.len();
        prop_assume!(text[at..=at] != to);
        text.replace_range(at..=at, &to);
        prop_assert!(verify_now(&parse(&text)).is_err());
    }

    #[test]
    fn no_claims_make_the_verification_panic(iat: u64, exp: u64, renew_until: u64, now_ms: u64) {
        let mut odd = claims();
        (odd.iat, odd.exp, odd.renew_until) = (iat, exp, renew_until);
        let _ = verify(&signed(&odd, &mesh()), &mesh_key(), now_ms);
        let _ = verify(&delegated(&grant(), &odd), &mesh_key(), now_ms);
    }
}
