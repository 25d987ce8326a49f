//! Behaviour of the login against every other side that is not what it says.

use proptest::prelude::*;

use super::*;

const MESH: MeshId = MeshId::from_bytes([9; 16]);

fn registry() -> Keypair {
    Keypair::from_seed(&[7; 32])
}

fn alice() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn here() -> Origin {
    "http://127.0.0.1:4455".parse().expect("an origin")
}

fn who() -> Who {
    Who {
        name: "alice".parse().expect("a name"),
        incarnation: Incarnation::new(3),
        instance: InstanceId::from_bytes([4; 16]),
    }
}

fn gate<'a>(keypair: &'a Keypair, origins: &'a [Origin], nonce: u8) -> Gate<'a> {
    Gate {
        keypair,
        mesh: MESH,
        origins,
        nonce: Nonce::from_bytes([nonce; 32]),
    }
}

fn answer_to(challenge: &Challenge, pinned: Option<&Pin>) -> Result<(Login, Pending), LoginError> {
    let nonce = Nonce::from_bytes([5; 32]);
    answer(&alice(), &who(), &here(), challenge, pinned, nonce)
}

fn login_at(gate: &Gate<'_>) -> (Login, Pending) {
    answer_to(&gate.challenge(), None).expect("a first login takes any registry")
}

#[test]
fn both_sides_prove_themselves() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let (login, pending) = login_at(&gate);
    let welcome = gate.verify(&login).expect("a good login");
    let pin = pending.verify(&welcome).expect("a good welcome");
    assert_eq!(pin.registry, keypair.registry_key());
    assert!(answer_to(&gate.challenge(), Some(&pin)).is_ok());
}

#[test]
fn a_login_recorded_on_one_connection_is_worth_nothing_on_the_next() {
    let (keypair, origins) = (registry(), [here()]);
    let (login, _) = login_at(&gate(&keypair, &origins, 1));
    let replayed = gate(&keypair, &origins, 2).verify(&login);
    assert_eq!(replayed, Err(LoginError::BadSignature { by: "agent" }));
}

#[test]
fn a_login_passed_on_by_a_registry_in_the_middle_is_refused() {
    let (keypair, origins) = (registry(), ["http://real:1".parse().expect("an origin")]);
    let gate = gate(&keypair, &origins, 1);
    let (login, _) = login_at(&gate);
    let code = gate.verify(&login).map_err(|e| e.code());
    assert_eq!(code, Err(Code::WrongRegistry));
}

#[test]
fn a_login_whose_origin_was_rewritten_on_the_way_is_refused() {
    let real: Origin = "http://real:1".parse().expect("an origin");
    let (keypair, origins) = (registry(), [real.clone()]);
    let gate = gate(&keypair, &origins, 1);
    let (mut login, _) = login_at(&gate);
    login.origin = real;
    let code = gate.verify(&login).map_err(|e| e.code());
    assert_eq!(code, Err(Code::BadSignature));
}

#[test]
fn a_login_for_another_mesh_is_refused() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let mut challenge = gate.challenge();
    challenge.mesh = MeshId::from_bytes([8; 16]);
    let (login, _) = answer_to(&challenge, None).expect("a first login");
    let code = gate.verify(&login).map_err(|e| e.code());
    assert_eq!(code, Err(Code::WrongRegistry));
}

#[test]
fn a_node_leaves_a_registry_with_another_key_or_mesh_before_it_says_anything() {
    let (keypair, origins) = (registry(), [here()]);
    let challenge = gate(&keypair, &origins, 1).challenge();
    let pin = Pin {
        registry: challenge.registry,
        mesh: MESH,
    };
    let other_key = Pin {
        registry: Keypair::from_seed(&[8; 32]).registry_key(),
        ..pin
    };
    let other_mesh = Pin {
        mesh: MeshId::from_bytes([8; 16]),
        ..pin
    };
    let code = |pin| {
        answer_to(&challenge, Some(pin))
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
    let welcome = gate(&fake, &origins, 1)
        .verify(&login)
        .expect("a good login");
    let outcome = pending.verify(&welcome);
    assert_eq!(outcome, Err(LoginError::BadSignature { by: "registry" }));
}

#[test]
fn a_welcome_recorded_before_is_worth_nothing() {
    let (keypair, origins) = (registry(), [here()]);
    let first = gate(&keypair, &origins, 1);
    let recorded = first.verify(&login_at(&first).0).expect("a good login");
    let (_, pending) = login_at(&gate(&keypair, &origins, 2));
    assert!(pending.verify(&recorded).is_err());
}

#[test]
fn no_signed_field_can_be_changed() {
    let (keypair, origins) = (registry(), [here()]);
    let gate = gate(&keypair, &origins, 1);
    let (login, _) = login_at(&gate);
    let changes: [fn(&mut Login); 5] = [
        |l| l.name = "bob".parse().expect("a name"),
        |l| l.agent_id = registry().agent_id(),
        |l| l.incarnation = Incarnation::new(4),
        |l| l.instance = InstanceId::from_bytes([5; 16]),
        |l| l.nonce = Nonce::from_bytes([6; 32]),
    ];
    for change in changes {
        let mut changed = login.clone();
        change(&mut changed);
        let code = gate.verify(&changed).map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadSignature));
    }
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
