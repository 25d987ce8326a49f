//! Behaviour of the login against every other side that is not what it says.

use proptest::prelude::*;
use waymesh_proto::Code;
use waymesh_proto::limits::{CERTIFICATE_LIFE_MS, CLOCK_LEEWAY_MS};

use super::*;
use crate::certificate::Cache;
use crate::testing::*;

fn here() -> Origin {
    "http://127.0.0.1:4455".parse().expect("an origin")
}

fn who() -> Who {
    Who {
        name: name("alice"),
        agent_id: alice().agent_id(),
        incarnation: Incarnation::new(3),
        instance: InstanceId::from_bytes([4; 16]),
        certificate: certificate("alice", &alice()),
        sealing: sealing_statement(&sealing_key(4), &alice()),
    }
}

fn gate<'a>(keypair: &'a Keypair, origins: &'a [Origin], nonce: u8) -> Gate<'a> {
    Gate {
        keypair,
        mesh: mesh_key(),
        origins,
        nonce: Nonce::from_bytes([nonce; 32]),
    }
}

fn answer_as(
    keypair: &Keypair,
    who: &Who,
    challenge: &Challenge,
    pinned: Option<&Pin>,
) -> Result<(Login, Pending), LoginError> {
    let nonce = Nonce::from_bytes([5; 32]);
    answer(keypair, who, &here(), challenge, pinned, nonce)
}

fn login_at(gate: &Gate<'_>) -> (Login, Pending) {
    answer_as(&alice(), &who(), &gate.challenge(), None).expect("a first login takes any registry")
}

fn check(gate: &Gate<'_>, login: &Login) -> Result<Admission, LoginError> {
    gate.verify(login, NOW_MS, &mut Cache::default())
}

fn code_at(gate: &Gate<'_>, login: &Login) -> Option<Code> {
    check(gate, login).err().map(|e| e.code())
}

#[test]
fn both_sides_prove_themselves() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let (login, pending) = login_at(&gate);
    let admission = check(&gate, &login).expect("a good login");
    assert_eq!(admission.member.name, name("alice"));
    assert_eq!(admission.sealing.id, sealing_key(4).id());
    let pin = pending.verify(&admission.welcome).expect("a good welcome");
    assert_eq!(
        (pin.registry, pin.mesh),
        (keypair.registry_key(), mesh_key())
    );
    assert!(answer_as(&alice(), &who(), &gate.challenge(), Some(&pin)).is_ok());
}

#[test]
fn a_login_recorded_on_one_connection_is_worth_nothing_on_the_next() {
    let (keypair, origins) = (registry(), [here()]);
    let (login, _) = login_at(&gate(&keypair, &origins, 1));
    let replayed = check(&gate(&keypair, &origins, 2), &login).map(|_| ());
    assert_eq!(replayed, Err(LoginError::BadSignature { by: "agent" }));
}

#[test]
fn a_login_passed_on_by_a_registry_in_the_middle_is_refused() {
    let (keypair, origins) = (registry(), ["http://real:1".parse().expect("an origin")]);
    let gate = gate(&keypair, &origins, 1);
    let (login, _) = login_at(&gate);
    assert_eq!(code_at(&gate, &login), Some(Code::WrongRegistry));
}

#[test]
fn a_login_whose_origin_was_rewritten_on_the_way_is_refused() {
    let real: Origin = "http://real:1".parse().expect("an origin");
    let (keypair, origins) = (registry(), [real.clone()]);
    let gate = gate(&keypair, &origins, 1);
    let (mut login, _) = login_at(&gate);
    login.origin = real;
    assert_eq!(code_at(&gate, &login), Some(Code::BadSignature));
}

#[test]
fn a_login_for_another_mesh_is_refused() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let mut challenge = gate.challenge();
    challenge.mesh = Keypair::from_seed(&[99; 32]).mesh_key();
    let (login, _) = answer_as(&alice(), &who(), &challenge, None).expect("a first login");
    assert_eq!(code_at(&gate, &login), Some(Code::WrongRegistry));
}

#[test]
fn a_login_without_a_certificate_of_the_mesh_is_refused() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    for issuer in [registry(), Keypair::from_seed(&[99; 32])] {
        let issued = crate::certificate::issue(&issuer, &member("alice", &alice()));
        let stranger = Who {
            certificate: issued.expect("good in its own mesh"),
            ..who()
        };
        let answered = answer_as(&alice(), &stranger, &gate.challenge(), None);
        let (login, _) = answered.expect("a first login");
        assert_eq!(code_at(&gate, &login), Some(Code::BadCertificate));
    }
}

#[test]
fn nobody_logs_in_with_the_certificate_of_another() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let code = |keypair: &Keypair, who: &Who| {
        let (login, _) = answer_as(keypair, who, &gate.challenge(), None).expect("a first login");
        code_at(&gate, &login)
    };
    assert_eq!(code(&bob(), &who()), Some(Code::BadSignature));
    let other_name = Who {
        name: name("bob"),
        ..who()
    };
    assert_eq!(code(&alice(), &other_name), Some(Code::BadCertificate));
    let other_id = Who {
        agent_id: bob().agent_id(),
        ..who()
    };
    assert_eq!(code(&bob(), &other_id), Some(Code::BadCertificate));
}

#[test]
fn after_a_change_of_key_only_the_current_one_logs_in() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let (current, rotations) = rotated(&alice(), 1);
    let mut member = member("alice", &alice());
    member.rotations = rotations;
    let statement = sealing_key(4).statement(&current, alice().agent_id(), &mesh_key(), NOW_MS);
    let changed = Who {
        certificate: crate::certificate::issue(&mesh(), &member).expect("good"),
        sealing: statement,
        ..who()
    };
    let code = |by: &Keypair| {
        let (login, _) = answer_as(by, &changed, &gate.challenge(), None).expect("a first login");
        code_at(&gate, &login)
    };
    assert_eq!(code(&current), None);
    assert_eq!(code(&alice()), Some(Code::BadSignature));
}

#[test]
fn a_member_whose_certificate_has_ended_logs_in_as_long_as_it_can_be_extended() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let later_ms = NOW_MS + CERTIFICATE_LIFE_MS + 30 * DAY_MS;
    let key = crate::sealing::SealingKey::from_seed(&[4; 32], later_ms + DAY_MS);
    let back = Who {
        sealing: key.statement(&alice(), alice().agent_id(), &mesh_key(), later_ms),
        ..who()
    };
    let (login, _) = answer_as(&alice(), &back, &gate.challenge(), None).expect("a first login");
    let admission = gate
        .verify(&login, later_ms, &mut Cache::default())
        .expect("renewable");
    assert!(admission.member.check_time(later_ms).is_err());
    let too_late_ms = RENEW_UNTIL_MS + CLOCK_LEEWAY_MS + 1;
    let outcome = gate.verify(&login, too_late_ms, &mut Cache::default());
    assert_eq!(
        outcome.map(|_| ()).map_err(|e| e.code()),
        Err(Code::CertificateExpired)
    );
}

#[test]
fn a_clock_that_is_wrong_by_an_hour_is_told() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let (login, _) = login_at(&gate);
    let outcome = gate.verify(&login, NOW_MS - 3_600_000, &mut Cache::default());
    let fault = outcome
        .map(|_| ())
        .map_err(|e| e.fault())
        .expect_err("an hour off");
    assert_eq!(fault.code, Code::ClockSkew);
    assert!(fault.hint.is_some_and(|hint| hint.contains("clock")));
}

#[test]
fn a_node_leaves_a_registry_with_another_key_or_mesh_before_it_says_anything() {
    let (keypair, origins) = (registry(), [here()]);
    let challenge = gate(&keypair, &origins, 1).challenge();
    let pin = Pin {
        registry: challenge.registry,
        mesh: mesh_key(),
    };
    let other_key = Pin {
        registry: Keypair::from_seed(&[8; 32]).registry_key(),
        ..pin
    };
    let other_mesh = Pin {
        mesh: Keypair::from_seed(&[99; 32]).mesh_key(),
        ..pin
    };
    let code = |pin| {
        answer_as(&alice(), &who(), &challenge, Some(pin))
            .map(|_| ())
            .map_err(|e| e.code())
    };
    assert_eq!(code(&pin), Ok(()));
    assert_eq!(code(&other_key), Err(Code::RegistryIdentityChanged));
    assert_eq!(code(&other_mesh), Err(Code::WrongRegistry));
}

#[test]
fn a_registry_that_announces_a_key_that_it_does_not_hold_is_found_out() {
    let (real, fake, origins) = (registry(), Keypair::from_seed(&[8; 32]), [here()]);
    let (login, pending) = login_at(&gate(&real, &origins, 1));
    let admission = check(&gate(&fake, &origins, 1), &login).expect("a good login");
    let outcome = pending.verify(&admission.welcome);
    assert_eq!(outcome, Err(LoginError::BadSignature { by: "registry" }));
}

#[test]
fn a_welcome_recorded_before_is_worth_nothing() {
    let (keypair, origins) = (registry(), [here()]);
    let first = gate(&keypair, &origins, 1);
    let recorded = check(&first, &login_at(&first).0).expect("a good login");
    let (_, pending) = login_at(&gate(&keypair, &origins, 2));
    assert!(pending.verify(&recorded.welcome).is_err());
}

#[test]
fn no_signed_field_can_be_changed() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let (login, _) = login_at(&gate);
    let changes: [fn(&mut Login); 5] = [
        |l| l.incarnation = Incarnation::new(4),
        |l| l.instance = InstanceId::from_bytes([5; 16]),
        |l| l.nonce = Nonce::from_bytes([6; 32]),
        |l| l.sealing = sealing_statement(&sealing_key(5), &alice()),
        |l| {
            let mut again = member("alice", &alice());
            again.issued_ms -= 1_000;
            again.expires_ms -= 1_000;
            l.certificate = crate::certificate::issue(&mesh(), &again).expect("good");
        },
    ];
    for change in changes {
        let mut changed = login.clone();
        change(&mut changed);
        assert_eq!(code_at(&gate, &changed), Some(Code::BadSignature));
    }
}

#[test]
fn a_sealing_key_that_is_not_the_members_is_refused() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let foreign = Who {
        sealing: sealing_statement(&sealing_key(4), &bob()),
        ..who()
    };
    let (login, _) = answer_as(&alice(), &foreign, &gate.challenge(), None).expect("a first login");
    assert_eq!(code_at(&gate, &login), Some(Code::BadSignature));
}

proptest! {
    #[test]
    fn two_different_logins_never_have_the_same_statement(a in "[a-z0-9-]{1,9}", b in "[a-z0-9-]{1,9}", inc_a: u64, inc_b: u64) {
        let make = |name: &str, number| {
            let (keypair, origins) = (registry(), [here()]);
            let mut login = login_at(&gate(&keypair, &origins, 1)).0;
            login.name = name.parse().expect("a name");
            login.incarnation = Incarnation::new(number);
            statement(&login, &Nonce::from_bytes([1; 32]))
        };
        prop_assert_eq!(make(&a, inc_a) == make(&b, inc_b), a == b && inc_a == inc_b);
    }
}
