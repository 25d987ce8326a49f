use super::*;
use crate::turn::server::members::FORGET_EVERY;

#[test]
fn a_member_has_so_many_allocations_and_one_more_gets_486() {
    let mut bed = Bed::with(|config| config.limits.allocations_per_member = 3);
    for port in 1..=3 {
        bed.allocate(&mut Client::new(1, port));
    }
    let told = bed.ask(&mut Client::new(1, 4), Method::Allocate, udp);
    assert_eq!(told.code, Some(code::ALLOCATION_QUOTA_REACHED));
    assert_eq!(bed.counters().refused_quota, 1);
    // Others have their own.
    bed.allocate(&mut Client::new(2, 5));
}

#[test]
fn one_more_takes_the_place_of_the_one_that_was_silent_longest() {
    let mut bed = Bed::with(|config| config.limits.allocations_per_member = 2);
    let (mut one, mut two, mut three) = (
        Client::new(1, 1),
        Client::new(1, 2).on_stream(2),
        Client::new(1, 3),
    );
    bed.allocate(&mut one);
    bed.allocate(&mut two);
    bed.pass(Duration::from_secs(30));
    bed.refresh(&mut one, 600);
    bed.pass(Duration::from_secs(29));
    let told = bed.ask(&mut three, Method::Allocate, udp);
    assert_eq!(told.code, Some(code::ALLOCATION_QUOTA_REACHED));
    bed.pass(Duration::from_secs(1));
    bed.allocate(&mut three);
    assert_eq!(bed.closed, [bed.opened[1].0]);
    assert_eq!(bed.hung_up, [StreamId(2)]);
    assert_eq!(bed.counters().allocations_replaced, 1);
    assert_eq!(bed.refresh(&mut one, 600).class, Class::Success);
}

#[test]
fn the_server_has_so_many_allocations_and_one_more_gets_508() {
    let mut bed = Bed::with(|config| config.limits.allocations = 2);
    bed.allocate(&mut Client::new(1, 1));
    bed.allocate(&mut Client::new(2, 2));
    let told = bed.ask(&mut Client::new(3, 3), Method::Allocate, udp);
    assert_eq!(told.code, Some(code::INSUFFICIENT_CAPACITY));
    assert_eq!(bed.counters().refused_capacity, 1);
}

#[test]
fn permissions_and_channels_end_at_their_limits_with_508_and_come_back_with_time() {
    let mut bed = Bed::with(|config| {
        config.limits.permissions = 3;
        config.limits.channels = 2;
        config.limits.credential_lifetime = Duration::from_secs(100_000);
    });
    let mut client = Client::until(1, 1, START + Duration::from_secs(100_000));
    bed.allocate(&mut client);
    bed.refresh(&mut client, 3_600);
    for (number, peer) in [(0x4000, "203.0.113.1:1"), (0x4001, "203.0.113.2:1")] {
        assert_eq!(bed.bind(&mut client, number, peer).class, Class::Success);
    }
    let told = bed.bind(&mut client, 0x4002, "203.0.113.1:2");
    assert_eq!(told.code, Some(code::INSUFFICIENT_CAPACITY));
    assert_eq!(
        bed.permit(&mut client, "203.0.113.3:1").class,
        Class::Success
    );
    let told = bed.permit(&mut client, "203.0.113.4:1");
    assert_eq!(told.code, Some(code::INSUFFICIENT_CAPACITY));
    assert_eq!(
        bed.permit(&mut client, "203.0.113.3:1").class,
        Class::Success
    );
    assert_eq!(
        bed.bind(&mut client, 0x4001, "203.0.113.2:1").class,
        Class::Success
    );
    bed.pass(Duration::from_secs(600));
    assert_eq!(
        bed.permit(&mut client, "203.0.113.4:1").class,
        Class::Success
    );
    assert_eq!(
        bed.bind(&mut client, 0x4002, "203.0.113.1:2").class,
        Class::Success
    );
}

#[test]
fn what_a_member_sends_beyond_its_rate_is_dropped_and_counted() {
    let mut bed = Bed::with(|config| {
        config.limits.bytes_per_second = 1_000;
        config.limits.burst_bytes = 1_000;
    });
    let (mut client, mut other) = (Client::new(1, 1), Client::new(2, 2));
    bed.allocate(&mut client);
    bed.allocate(&mut other);
    bed.bind(&mut client, 0x4000, "203.0.113.1:1");
    bed.bind(&mut other, 0x4000, "203.0.113.1:1");
    assert!(bed.channel(&client, 0x4000, &[0; 600]).is_some());
    // Both directions count.
    let left = 400 - 2 * DATAGRAM_COST_BYTES;
    assert!(bed.hear_peer(0, "203.0.113.1:1", &vec![0; left]).is_some());
    assert!(bed.channel(&client, 0x4000, &[]).is_none());
    assert!(bed.hear_peer(0, "203.0.113.1:1", &[]).is_none());
    assert_eq!(bed.counters().dropped_rate, 2);
    let all = 1_000 - DATAGRAM_COST_BYTES;
    assert!(bed.channel(&other, 0x4000, &vec![0; all]).is_some());
    bed.pass(Duration::from_millis(500));
    let half = 500 - DATAGRAM_COST_BYTES;
    assert!(bed.channel(&client, 0x4000, &vec![0; half]).is_some());
    assert!(bed.channel(&client, 0x4000, &[]).is_none());
}

#[test]
fn what_a_member_asks_beyond_its_rate_is_dropped_and_counted() {
    let mut bed = Bed::with(|config| {
        config.limits.requests_per_second = 1;
        config.limits.requests_burst = 3;
    });
    let (mut client, mut other) = (Client::new(1, 1), Client::new(2, 2));
    bed.allocate(&mut client);
    bed.refresh(&mut client, 600);
    bed.refresh(&mut client, 600);
    let request = client.request(bed.id(), Method::Refresh, &|_| {});
    assert_eq!(bed.hear(&client.ends, &request), None);
    assert_eq!(bed.counters().dropped_rate, 1);
    bed.allocate(&mut other);
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.refresh(&mut client, 600).class, Class::Success);
}

#[test]
fn allocations_made_and_ended_in_a_loop_leave_nothing() {
    let mut bed = Bed::with(|config| config.limits.requests_burst = u32::MAX);
    let mut staying = Client::new(2, 2);
    bed.allocate(&mut staying);
    let mut client = Client::new(1, 1);
    for _ in 0..2 * DEADLINES_SPARE {
        bed.allocate(&mut client);
        bed.refresh(&mut client, 0);
        assert!(bed.server.deadlines.len() <= 2 * 2 + DEADLINES_SPARE);
    }
    // Whoever stays still ends in time.
    bed.pass(Duration::from_secs(599));
    assert_eq!(bed.counters().allocations, 1);
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.counters().allocations, 0);
}

#[test]
fn members_of_whom_nothing_needs_to_be_known_are_forgotten() {
    let mut bed = Bed::with(|config| config.limits.allocations_per_member = 1);
    let round = |bed: &mut Bed| {
        for seed in 1..=200 {
            let until = bed.now().unix + Duration::from_secs(900);
            let mut client = Client::until(seed, u16::from(seed), until);
            // A source without a nonce is answered so often.
            client.ends.remote = SocketAddr::from(([198, 51, 100, seed], 1));
            bed.allocate(&mut client);
            bed.refresh(&mut client, 0);
        }
    };
    let until = START + Duration::from_secs(3_600);
    let mut staying = Client::until(250, 250, until);
    bed.allocate(&mut staying);
    for _ in 0..3 {
        round(&mut bed);
        assert_eq!(bed.server.members.known(), 201);
        bed.pass(FORGET_EVERY);
        assert_eq!(bed.server.members.known(), 1);
        assert_eq!(bed.server.members.slots(), 201);
    }
    // Whoever stays is who it was; a number that is used again is somebody else's.
    round(&mut bed);
    assert_eq!(bed.refresh(&mut staying, 600).class, Class::Success);
    let mut second = Client::until(250, 251, until);
    let told = bed.ask(&mut second, Method::Allocate, udp);
    assert_eq!(told.code, Some(code::ALLOCATION_QUOTA_REACHED));
    assert_eq!((bed.counters().members, bed.counters().allocations), (1, 1));
}

#[test]
fn whoever_has_used_up_his_budget_is_not_forgotten_before_he_has_it_again() {
    let mut bed = Bed::with(|config| {
        config.limits.requests_per_second = 1;
        config.limits.requests_burst = 100;
    });
    let mut busy = Client::new(1, 1);
    bed.allocate(&mut busy);
    for _ in 0..98 {
        bed.refresh(&mut busy, 600);
    }
    bed.refresh(&mut busy, 0);
    bed.pass(FORGET_EVERY);
    assert_eq!(bed.server.members.known(), 1);
    bed.pass(FORGET_EVERY);
    assert_eq!(bed.server.members.known(), 0);
}

#[test]
fn a_flood_from_a_forged_source_does_not_lock_out_who_is_there() {
    let mut bed = Bed::new();
    let mut known = Client::new(1, 1);
    bed.allocate(&mut known);
    let forged = Client::new(9, 2);
    while let request = Writer::new(Class::Request, Method::Allocate, bed.id()).finish()
        && bed.hear(&forged.ends, &request).is_some()
    {}
    // By a stream, and by UDP with a nonce that was sent there.
    bed.allocate(&mut Client::new(1, 3).on_stream(3));
    known.ends.remote.set_port(4);
    bed.allocate(&mut known);
    // What has proved itself is counted too.
    let mut wrong = Client::new(2, 5).on_stream(5);
    wrong.password.push('x');
    let mut answers = 0;
    while let request = wrong.request(bed.id(), Method::Allocate, &udp)
        && let Some(told) = bed.hear(&wrong.ends, &request)
    {
        wrong.nonce = told.message().find(kind::NONCE).expect("one").to_vec();
        answers += 1;
    }
    // One was used up by the stream before.
    assert_eq!(answers, Limits::default().strangers_burst - 1);
}

#[test]
fn a_flood_of_strangers_gets_few_answers_and_starves_nobody_elsewhere() {
    let mut bed = Bed::with(|config| {
        config.limits.strangers_per_second = 10;
        config.limits.strangers_burst = 20;
    });
    let mut running = Client::new(1, 1);
    bed.allocate(&mut running);
    let flooder = Client::new(9, 2);
    let mut answers = 0;
    for number in 0..1_000 {
        let method = [Method::Allocate, Method::Binding, Method::Refresh][number % 3];
        let request = Writer::new(Class::Request, method, bed.id()).finish();
        answers += usize::from(bed.hear(&flooder.ends, &request).is_some());
    }
    // One was used up by the client behind the same address.
    assert_eq!(answers, 19);
    assert_eq!(bed.counters().dropped_strangers, 981);
    // What runs from that address goes on, and others come in.
    assert_eq!(bed.refresh(&mut running, 600).class, Class::Success);
    let mut elsewhere = Client::new(2, 3);
    elsewhere.ends.remote = at("198.51.100.99:3");
    bed.allocate(&mut elsewhere);
    bed.pass(Duration::from_secs(1));
    let mut same_address = Client::new(3, 4);
    bed.allocate(&mut same_address);
}

#[test]
fn a_request_that_is_too_long_is_dropped() {
    let mut bed = Bed::new();
    let ends = Client::new(1, 1).ends;
    for (padding, answered) in [
        (REQUEST_MAX_BYTES - 24, true),
        (REQUEST_MAX_BYTES - 20, false),
    ] {
        let mut writer = Writer::new(Class::Request, Method::Binding, bed.id());
        writer.put(kind::PADDING, &vec![0; padding]);
        let told = bed.hear(&ends, &writer.finish());
        assert_eq!(told.is_some(), answered, "{padding}");
    }
    assert_eq!(bed.counters().malformed, 1);
}
