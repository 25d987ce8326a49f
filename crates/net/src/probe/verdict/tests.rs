use super::*;

const OPEN: Facts = Facts {
    registry: Some(true),
    udp: Some(true),
    mapping: Some(Mapping::None),
    filtering: Some(Filtering::EndpointIndependent),
    relay: Some(true),
};

/// The paths to a public peer, one behind a cone NAT and one behind a symmetric NAT.
fn paths(facts: Facts) -> [Option<Path>; 3] {
    prospects(facts).map(|prospect| prospect.path)
}

fn natted(mapping: Mapping, filtering: Filtering) -> [Option<Path>; 3] {
    paths(Facts {
        mapping: Some(mapping),
        filtering: Some(filtering),
        ..OPEN
    })
}

const DIRECT: Option<Path> = Some(Path::Direct);
const RELAY: Option<Path> = Some(Path::Relay);
const MAILBOX: Option<Path> = Some(Path::Mailbox);

#[test]
fn every_pair_of_nats_gets_the_path_that_theory_gives() {
    use Filtering as F;
    use Mapping as M;
    assert_eq!(paths(OPEN), [DIRECT; 3]);
    for mapping in [M::None, M::EndpointIndependent] {
        for filtering in [F::EndpointIndependent, F::AddressDependent] {
            assert_eq!(natted(mapping, filtering), [DIRECT; 3]);
        }
        let strict = natted(mapping, F::AddressAndPortDependent);
        assert_eq!(strict, [DIRECT, DIRECT, RELAY]);
    }
    for mapping in [
        M::AddressDependent,
        M::AddressAndPortDependent,
        M::Dependent,
    ] {
        for filtering in [F::EndpointIndependent, F::AddressAndPortDependent] {
            assert_eq!(natted(mapping, filtering), [DIRECT, RELAY, RELAY]);
        }
    }
}

#[test]
fn without_udp_there_is_the_relay_and_without_that_the_mailbox() {
    let blocked = Facts {
        udp: Some(false),
        ..OPEN
    };
    assert_eq!(paths(blocked), [RELAY; 3]);
    let relay = Some(false);
    assert_eq!(paths(Facts { relay, ..blocked }), [MAILBOX; 3]);
}

#[test]
fn a_relay_that_was_reached_but_not_tried_is_no_path_yet_and_the_mailbox_is_the_least() {
    let untried = Facts {
        udp: Some(false),
        relay: None,
        ..OPEN
    };
    assert_eq!(paths(untried), [None; 3]);
    assert_eq!(prospects(untried).map(|p| p.otherwise), [MAILBOX; 3]);
    let open = Facts {
        relay: None,
        ..OPEN
    };
    assert_eq!(prospects(open).map(|p| p.otherwise), [MAILBOX; 3]);
}

#[test]
fn without_the_registry_there_is_nothing() {
    let registry = Some(false);
    let without = prospects(Facts { registry, ..OPEN });
    assert!(
        without
            .iter()
            .all(|p| (p.path, p.otherwise) == (None, None))
    );
}

#[test]
fn what_is_not_known_is_not_guessed_but_the_least_is_told() {
    let unknown = Facts {
        mapping: None,
        filtering: None,
        ..OPEN
    };
    let prospects = prospects(unknown);
    assert_eq!(prospects.map(|p| p.path), [DIRECT, None, None]);
    assert_eq!(prospects.map(|p| p.otherwise), [RELAY; 3]);
    // A filter that is too narrow decides whatever the mapping is.
    let filtering = Some(Filtering::AddressAndPortDependent);
    let narrow = Facts {
        filtering,
        ..unknown
    };
    assert_eq!(paths(narrow), [DIRECT, None, RELAY]);
    assert_eq!(paths(Facts::default()), [None; 3]);
}
