//! What made other servers fail; each was seen.

use proptest::prelude::*;

use super::*;

#[test]
fn a_nonce_with_letters_of_several_bytes_gets_an_answer_and_no_panic() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    for nonce in [
        "obMatJos2éééé",
        "obMatJos2日本語",
        "obMatJos2\u{10ffff}",
        "é",
    ] {
        client.nonce = nonce.as_bytes().to_vec();
        let id = bed.id();
        let told = bed.ask_as(&client, id, Method::Allocate, &udp);
        assert_eq!(told.code, Some(code::STALE_NONCE), "{nonce}");
    }
    client.nonce.clear();
    bed.allocate(&mut client);
}

#[test]
fn a_binding_request_is_answered_with_the_address_that_it_came_from() {
    let mut bed = Bed::new();
    for via in [Via::Udp, Via::Stream(StreamId(1))] {
        let ends = Ends {
            via,
            local: at("192.0.2.1:3478"),
            remote: at("[2001:db8::7]:9"),
        };
        let request = Writer::new(Class::Request, Method::Binding, bed.id()).finish();
        let told = bed.hear(&ends, &request).expect("an answer");
        assert_eq!(told.class, Class::Success);
        assert_eq!(told.address(kind::XOR_MAPPED_ADDRESS), ends.remote);
    }
    assert_eq!(bed.counters().bindings, 2);
}

#[test]
fn an_allocate_that_comes_again_gets_the_same_success_again() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    let id = bed.id();
    client.nonce = bed
        .ask_as(&client, id, Method::Allocate, &udp)
        .message()
        .find(kind::NONCE)
        .unwrap()
        .to_vec();
    let id = bed.id();
    let first = bed.ask_as(&client, id, Method::Allocate, &udp);
    assert_eq!(first.class, Class::Success);
    assert_eq!(bed.ask_as(&client, id, Method::Allocate, &udp), first);
    assert_eq!(bed.counters().allocations_made, 1);
    let another = bed.id();
    let told = bed.ask_as(&client, another, Method::Allocate, &udp);
    assert_eq!(told.code, Some(code::ALLOCATION_MISMATCH));
}

#[test]
fn a_closed_stream_frees_its_allocation_at_once() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1).on_stream(5);
    bed.allocate(&mut client);
    bed.server.handle_stream_closed(&client.ends);
    bed.work();
    assert_eq!(bed.closed.len(), 1);
    assert_eq!(bed.counters().allocations, 0);
    assert_eq!(bed.counters().members, 0);
    // Another stream from the same port is another client.
    let mut again = client.on_stream(6);
    bed.allocate(&mut again);
}

#[test]
fn wrong_credentials_are_refused_at_once() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    client.password.push('x');
    let told = bed.ask(&mut client, Method::Allocate, udp);
    assert_eq!(told.code, Some(code::UNAUTHENTICATED));
    assert!(told.message().has(kind::NONCE) && told.message().has(kind::REALM));
    assert_eq!(bed.counters().refused_credentials, 1);
    assert_eq!(bed.counters().allocations, 0);
}

#[test]
fn channel_data_of_101_bytes_is_relayed_whole_with_and_without_padding() {
    let mut bed = Bed::new();
    let mut client = Client::new(1, 1);
    bed.allocate(&mut client);
    bed.bind(&mut client, 0x4001, "203.0.113.5:700");
    let data = [9; 101];
    assert_eq!(
        bed.channel(&client, 0x4001, &data),
        Some(at("203.0.113.5:700"))
    );
    let mut padded = ChannelData::header(0x4001, 101).unwrap().to_vec();
    padded.extend(data);
    padded.extend([0; 3]);
    let now = bed.now();
    let to = bed
        .server
        .handle_client(now, &client.ends, &padded)
        .expect("relayed");
    assert_eq!(to.data, data);
    let back = bed.hear_peer(0, "203.0.113.5:700", &data).expect("relayed");
    assert_eq!(back.len(), 105);
}

/// Anything that a client may say, wholly made up or nearly right.
fn any_step() -> impl Strategy<Value = (u8, u8, Vec<u8>, u32)> {
    (
        any::<u8>(),
        any::<u8>(),
        prop::collection::vec(any::<u8>(), 0..120),
        any::<u32>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_clients_and_peers_say_nothing_panics_and_the_books_balance(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut bed = Bed::with(|config| {
            config.limits.allocations = 6;
            config.limits.allocations_per_member = 2;
            config.limits.channels = 3;
            config.limits.permissions = 3;
        });
        let mut clients: Vec<_> = (0..4).map(|i| Client::new(i % 3, 10 + u16::from(i))).collect();
        clients[3] = clients[3].clone().on_stream(1);
        for (what, who, bytes, number) in steps {
            let client = &mut clients[usize::from(who) % 4].clone();
            let peer = SocketAddr::new(std::net::Ipv4Addr::from(number).into(), (number % 5) as u16);
            match what % 12 {
                0 => { bed.ask(client, Method::Allocate, udp); }
                1 => { bed.ask(client, Method::Allocate, |w| { w.put((number % 0x40) as u16, &bytes); }); }
                2 => { bed.ask(client, Method::Refresh, |w| { w.put_number(kind::LIFETIME, number % 4_000); }); }
                3 => { bed.permit(client, &peer.to_string()); }
                4 => { bed.bind(client, 0x4000 + (number % 6) as u16, &format!("203.0.113.{}:5", number % 5)); }
                5 => { bed.channel(client, 0x4000 + (number % 6) as u16, &bytes); }
                6 => { bed.send(client, &format!("203.0.113.{}:5", number % 5), &bytes); }
                7 if !bed.opened.is_empty() => {
                    let of = usize::from(who) % bed.opened.len();
                    bed.hear_peer(of, &format!("203.0.113.{}:5", number % 5), &bytes);
                }
                8 => bed.pass(Duration::from_secs(u64::from(number % 500))),
                9 => { bed.server.remove_member(&member(who % 3), Mark::new(1)); bed.work(); }
                10 => { bed.server.handle_stream_closed(&clients[3].ends); bed.work(); }
                _ => {
                    let now = bed.now();
                    bed.server.handle_client(now, &client.ends, &bytes);
                    bed.work();
                    while bed.server.poll_transmit().is_some() {}
                }
            }
            clients[usize::from(who) % 4].nonce.clone_from(&client.nonce);
            let open = bed.opened.len() - bed.closed.len();
            prop_assert_eq!(bed.counters().allocations, open as u64);
            prop_assert!(open <= 6);
            prop_assert_eq!(bed.server.by_client.len(), open);
            prop_assert_eq!(bed.server.by_relay.len(), open);
        }
        bed.pass(Duration::from_secs(100_000));
        prop_assert_eq!(bed.counters().allocations, 0);
        prop_assert_eq!(bed.counters().members, 0);
        prop_assert_eq!(bed.opened.len(), bed.closed.len());
        prop_assert!(bed.server.deadlines.is_empty());
    }
}
