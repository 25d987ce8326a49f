use super::*;
use crate::turn::server::limits::CLOCK_LEEWAY;

#[test]
fn whoever_has_no_credentials_is_told_how_in_a_short_answer() {
    let mut bed = Bed::new();
    let client = Client::new(1, 1);
    let id = bed.id();
    let told = bed.ask_as(&client, id, Method::Allocate, &udp);
    assert_eq!(told.code, Some(code::UNAUTHENTICATED));
    assert_eq!(told.message().text(kind::REALM), Some(REALM));
    assert!(told.bytes.len() <= 96, "{}", told.bytes.len());
    assert_eq!(bed.counters().challenges, 1);
}

#[test]
fn every_algorithm_that_is_offered_is_taken_and_answered_in_kind() {
    for integrity in [Integrity::Sha1, Integrity::Sha256] {
        for algorithm in [
            None,
            Some(PasswordAlgorithm::Md5),
            Some(PasswordAlgorithm::Sha256),
        ] {
            let mut bed = Bed::new();
            let mut client = Client::new(1, 1);
            client.integrity = integrity;
            client.algorithm = algorithm;
            let told = bed.ask(&mut client, Method::Allocate, udp);
            assert_eq!(told.class, Class::Success, "{integrity:?} {algorithm:?}");
            assert_eq!(told.message().integrity(), Some(integrity));
            assert!(told.message().verify(&client.key()));
            assert_eq!(bed.refresh(&mut client, 600).class, Class::Success);
        }
    }
}

#[test]
fn a_changed_offer_of_algorithms_is_refused() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    let told = bed.ask(&mut client, Method::Allocate, |w| {
        udp(w);
        w.put(kind::PASSWORD_ALGORITHM, &PasswordAlgorithm::Md5.value());
    });
    assert_eq!(told.code, Some(code::BAD_REQUEST));
}

#[test]
fn a_nonce_ends_and_a_new_one_is_given_with_438() {
    let mut bed = Bed::with(|config| config.limits.nonce_lifetime = Duration::from_secs(300));
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    let old = client.nonce.clone();
    bed.pass(Duration::from_secs(301));
    let id = bed.id();
    let told = bed.ask_as(&client, id, Method::Refresh, &|_| {});
    assert_eq!(told.code, Some(code::STALE_NONCE));
    assert_eq!(bed.refresh(&mut client, 600).class, Class::Success);
    assert_ne!(client.nonce, old);
}

#[test]
fn a_nonce_of_another_source_is_stale() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    client.ends.remote = at("198.51.100.8:1");
    let id = bed.id();
    let told = bed.ask_as(&client, id, Method::Allocate, &udp);
    assert_eq!(told.code, Some(code::STALE_NONCE));
}

#[test]
fn expired_credentials_get_nothing_and_a_running_allocation_ends_with_them() {
    let mut bed = Bed::new();
    let expires = START + Duration::from_secs(900);
    let mut client = Client::until(1, 1, expires);
    let told = bed.ask(&mut client, Method::Allocate, |w| {
        udp(w);
        w.put_number(kind::LIFETIME, 3_600);
    });
    assert_eq!(told.lifetime(), 900);
    bed.pass(Duration::from_secs(800));
    assert_eq!(bed.refresh(&mut client, 600).lifetime(), 100);
    bed.pass(Duration::from_secs(99));
    assert_eq!(bed.counters().allocations, 1);
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.counters().allocations, 0);
    for method in [
        Method::Allocate,
        Method::Refresh,
        Method::CreatePermission,
        Method::ChannelBind,
    ] {
        let told = bed.ask(&mut client, method, udp);
        assert_eq!(told.code, Some(code::UNAUTHENTICATED), "{method:?}");
    }
}

#[test]
fn newer_credentials_of_the_same_member_carry_an_allocation_on_and_anothers_do_not() {
    let mut bed = Bed::new();
    let mut client = Client::until(1, 1, START + Duration::from_secs(700));
    bed.allocate(&mut client);
    bed.pass(Duration::from_secs(500));
    let nonce = client.nonce.clone();
    let mut renewed = Client::until(1, 1, START + Duration::from_secs(4_000));
    renewed.nonce = nonce.clone();
    assert_eq!(bed.refresh(&mut renewed, 600).lifetime(), 600);
    bed.pass(Duration::from_secs(500));
    assert_eq!(bed.counters().allocations, 1);
    let mut other = Client::until(2, 1, START + Duration::from_secs(4_000));
    other.nonce = nonce;
    assert_eq!(
        bed.refresh(&mut other, 600).code,
        Some(code::WRONG_CREDENTIALS)
    );
    assert_eq!(
        bed.permit(&mut other, "203.0.113.1:1").code,
        Some(code::WRONG_CREDENTIALS)
    );
}

#[test]
fn a_removed_member_loses_everything_at_once_and_what_it_gets_when_it_is_back_works_at_once() {
    let mut bed = Bed::new();
    let mut by_udp = Client::new(1, 1);
    let mut by_stream = Client::new(1, 2).on_stream(9);
    let mut other = Client::new(2, 3);
    for client in [&mut by_udp, &mut by_stream, &mut other] {
        bed.allocate(client);
    }
    bed.server.remove_member(&member(1), Mark::new(7));
    bed.work();
    assert_eq!(bed.closed.len(), 2);
    assert_eq!(bed.hung_up, [StreamId(9)]);
    assert_eq!(bed.counters().allocations, 1);
    let told = bed.ask(&mut by_udp, Method::Allocate, udp);
    assert_eq!(told.code, Some(code::UNAUTHENTICATED));
    assert_eq!(bed.refresh(&mut other, 600).class, Class::Success);
    // Back in the mesh in the same second, with credentials that end before the old ones.
    let mut again = Client::marked(1, 1, START + Duration::from_secs(60), 7);
    bed.allocate(&mut again);
    bed.server.remove_member(&member(1), Mark::new(8));
    bed.work();
    for mut old in [again, by_udp] {
        let told = bed.ask(&mut old, Method::Allocate, udp);
        assert_eq!(told.code, Some(code::UNAUTHENTICATED));
    }
    let until = START + Duration::from_secs(60);
    bed.allocate(&mut Client::marked(1, 1, until, 8));
    // A mark alone makes nobody a member who came back.
    let told = bed.ask(&mut Client::marked(3, 4, until, 8), Method::Allocate, udp);
    assert_eq!(told.code, Some(code::UNAUTHENTICATED));
}

#[test]
fn what_a_removed_member_had_works_never_again_however_long_it_was_good() {
    let day = Duration::from_secs(86_400);
    let mut bed = Bed::with(|config| config.limits.credential_lifetime = Duration::from_secs(60));
    bed.server.remove_member(&member(1), Mark::new(7));
    let mut old = Client::until(1, 1, START + day);
    let ends = old.ends;
    let mut refused = |bed: &mut Bed| {
        old.nonce.clear();
        let told = bed.ask(&mut old, Method::Allocate, udp);
        assert_eq!(told.code, Some(code::UNAUTHENTICATED));
    };
    refused(&mut bed);
    // When they have come as near to their end as new ones are now.
    bed.pass(day - Duration::from_secs(30));
    refused(&mut bed);
    assert!(!bed.server.has_allocation(&ends));
    bed.allocate(&mut Client::until(2, 2, START + day));
}

#[test]
fn credentials_that_are_good_for_longer_than_any_that_are_given_out_are_refused() {
    let latest = START + Limits::default().credential_lifetime + CLOCK_LEEWAY;
    let mut bed = Bed::new();
    let mut longer = Client::until(1, 1, latest + Duration::from_secs(1));
    let told = bed.ask(&mut longer, Method::Allocate, udp);
    assert_eq!(told.code, Some(code::UNAUTHENTICATED));
    assert_eq!(bed.counters().refused_credentials, 1);
    bed.allocate(&mut Client::until(1, 2, latest));
}
