//! Servers of the test's own words, and what is asked of them.

mod rivals;

use std::time::Duration;

use waymesh_proto::ice::ServerOutcome;

use super::server::WANTED_PAUSE;
use super::*;
use crate::turn::client::PAYLOAD_MAX_BYTES;
use crate::turn::message::{Message, Writer, code, kind};

const HERE: &str = "192.0.2.100:9";

const PEER: &str = "203.0.113.9:9000";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn server(address: &str) -> IceServer {
    let url = format!("turn:{address}?transport=udp");
    IceServer {
        urls: vec![url.parse().expect("a URL")],
        username: None,
        credential: None,
    }
}

fn names(now: Instant, servers: &[IceServer]) -> Names {
    let mut names = Names::default();
    for url in servers.iter().flat_map(|server| &server.urls) {
        // An address is known at once.
        assert_eq!(names.question(now, url), None);
    }
    names
}

/// What asks these servers, and its questions.
fn asking(now: Instant, addresses: &[&str]) -> (Relays, Vec<(SocketAddr, Vec<u8>)>) {
    let servers: Vec<_> = addresses.iter().map(|a| server(a)).collect();
    asking_all(now, &servers, Roads::default())
}

fn asking_all(
    now: Instant,
    servers: &[IceServer],
    roads: Roads,
) -> (Relays, Vec<(SocketAddr, Vec<u8>)>) {
    let names = names(now, servers);
    let mut relays = Relays::new(roads);
    relays.set_servers(now, servers.iter());
    relays.want(now, &names);
    let asked = to_socket(&mut relays);
    (relays, asked)
}

fn to_socket(relays: &mut Relays) -> Vec<(SocketAddr, Vec<u8>)> {
    std::iter::from_fn(|| relays.poll_to_socket()).collect()
}

/// What a server says to the request that it was sent.
fn answer(
    relays: &mut Relays,
    now: Instant,
    asked: &(SocketAddr, Vec<u8>),
    write: impl FnOnce(&Message<'_>) -> Writer,
) {
    let request = Message::parse(&asked.1).expect("a request");
    let bytes = write(&request).finish();
    let handled = relays.handle_datagram(now, asked.0, at(HERE), &bytes);
    assert_eq!(handled, Handled::Taken);
    relays.turn(now);
}

fn outcomes(relays: &Relays, now: Instant) -> Vec<ServerOutcome> {
    relays.tried(now).map(|tried| tried.outcome).collect()
}

fn events(relays: &mut Relays) -> Vec<RelayEvent> {
    std::iter::from_fn(|| relays.poll_event()).collect()
}

fn sent_to(request: &Message<'_>, alternate: &str) -> Writer {
    let mut writer = Writer::error(request, code::TRY_ALTERNATE);
    writer.put_address(kind::ALTERNATE_SERVER, at(alternate));
    writer
}

fn allocated(request: &Message<'_>) -> Writer {
    let mut writer = Writer::success(request);
    writer
        .put_xor_address(kind::XOR_RELAYED_ADDRESS, at("192.0.2.1:50000"))
        .put_number(kind::LIFETIME, 600);
    writer
}

#[test]
fn a_server_that_sends_to_one_that_is_asked_already_is_not_followed() {
    let now = Instant::now();
    let (first, second) = ("192.0.2.1:3478", "192.0.2.2:3478");
    let (mut relays, asked) = asking(now, &[first, second]);
    assert_eq!(asked.len(), 2);
    answer(&mut relays, now, &asked[0], |r| sent_to(r, second));
    assert_eq!(to_socket(&mut relays), []);
    let outcomes: Vec<_> = relays.tried(now).map(|tried| tried.outcome).collect();
    assert_eq!(outcomes[0], ServerOutcome::NotNeeded);
    assert_eq!(outcomes[1], ServerOutcome::Waiting);
    answer(&mut relays, now, &asked[1], allocated);
    assert_eq!(relays.candidates().count(), 1);
}

#[test]
fn of_two_servers_that_send_to_the_same_third_one_is_followed() {
    let now = Instant::now();
    let third = "192.0.2.3:3478";
    let (mut relays, asked) = asking(now, &["192.0.2.1:3478", "192.0.2.2:3478"]);
    let mut followed = Vec::new();
    for question in &asked {
        answer(&mut relays, now, question, |r| sent_to(r, third));
        followed.extend(to_socket(&mut relays));
    }
    let servers: Vec<_> = followed.iter().map(|(server, _)| *server).collect();
    assert_eq!(servers, [at(third)]);
}

#[test]
fn what_was_dropped_on_the_way_to_a_relay_is_counted_and_stays_so_when_it_is_given_up() {
    let now = Instant::now();
    let (mut relays, asked) = asking(now, &["192.0.2.1:3478"]);
    answer(&mut relays, now, &asked[0], allocated);
    let relayed = relays.candidates().next().expect("one").address;
    let too_large = vec![0; PAYLOAD_MAX_BYTES + 1];
    relays.send(now, relayed, at(PEER), &too_large);
    assert_eq!(relays.tally().clients.dropped_unsendable, 1);
    // It waits for a permission.
    relays.send(now, relayed, at(PEER), b"payload");
    relays.stop(now);
    assert_eq!(relays.tally().clients.dropped_unsendable, 2);
    relays.set_servers(now, [].iter());
    assert_eq!(relays.tally().clients.dropped_unsendable, 2);
}

/// Lets a server be silent until it is to be asked again: when it was given up, and when
/// that is.
fn stay_silent(relays: &mut Relays, names: &Names) -> (Instant, Instant) {
    let mut given_up = None;
    while let Some(due) = relays.poll_timeout(Upkeep::Idle) {
        relays.handle_timeout(due, names, Upkeep::Idle);
        given_up = Some(due);
    }
    to_socket(relays);
    let again_at = relays.poll_timeout(Upkeep::Kept).expect("it is wanted");
    (given_up.expect("it was asked"), again_at)
}

#[test]
fn a_silent_server_is_asked_ever_more_rarely_and_sooner_when_a_link_is_wanted() {
    let address = "192.0.2.1:3478";
    let start = Instant::now();
    let (mut relays, _) = asking(start, &[address]);
    let names = names(start, &[server(address)]);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let (given_up, again_at) = stay_silent(&mut relays, &names);
        pauses.push((again_at - given_up).as_secs());
        relays.handle_timeout(again_at, &names, Upkeep::Kept);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    let (given_up, _) = stay_silent(&mut relays, &names);
    let early = given_up + Duration::from_secs(1);
    relays.doubt(early);
    relays.want(early, &names);
    assert_eq!(to_socket(&mut relays), []);
    let wanted = given_up + WANTED_PAUSE;
    assert_eq!(relays.poll_timeout(Upkeep::Kept), Some(wanted));
    relays.want(wanted, &names);
    assert_eq!(to_socket(&mut relays).len(), 1);
}

#[test]
fn only_a_name_of_its_own_that_has_other_addresses_has_a_silent_server_asked_sooner() {
    let start = Instant::now();
    let [own, other] = ["own.example:3478", "other.example:3478"].map(server);
    let mut names = Names::default();
    let mut question = |server: &IceServer| names.question(start, &server.urls[0]);
    let (own_name, other_name) = (question(&own), question(&other));
    let (own_name, other_name) = own_name.zip(other_name).expect("both are asked for");
    let mut relays = Relays::new(Roads::default());
    relays.set_servers(start, [&own].into_iter());
    relays.want(start, &names);

    let mut learn = |relays: &mut Relays, now, name, answer| {
        let learned = names.handle_answer(now, name, answer);
        relays.handle_resolved(now, &names, name, learned);
        relays.want(now, &names);
        to_socket(relays).iter().map(|(to, _)| *to).collect()
    };
    let none: [SocketAddr; 0] = [];
    let asked: Vec<_> = learn(&mut relays, start, &own_name, Err("away".into()));
    assert_eq!(asked, none);
    let outcome = outcomes(&relays, start).remove(0);
    assert!(
        matches!(&outcome, ServerOutcome::Failed { why } if why == "away"),
        "{outcome:?}"
    );
    let asked: Vec<_> = learn(
        &mut relays,
        start,
        &own_name,
        Ok(vec![at("192.0.2.1:3478")]),
    );
    assert_eq!(asked, [at("192.0.2.1:3478")]);

    let mut now = start;
    while let Some(due) = relays.poll_timeout(Upkeep::Idle) {
        now = due;
        relays.handle_timeout(now, &Names::default(), Upkeep::Idle);
    }
    to_socket(&mut relays);
    for (name, answer) in [
        (&other_name, Ok(vec![at("192.0.2.9:3478")])),
        (&own_name, Ok(vec![at("192.0.2.1:3478")])),
        (&own_name, Err("away".into())),
    ] {
        let asked: Vec<_> = learn(&mut relays, now, name, answer);
        assert_eq!(asked, none);
    }
    let asked: Vec<_> = learn(&mut relays, now, &own_name, Ok(vec![at("192.0.2.2:3478")]));
    assert_eq!(asked, [at("192.0.2.2:3478")]);
}

#[test]
fn a_server_that_is_beyond_the_limit_now_is_given_up_like_one_that_is_gone() {
    let now = Instant::now();
    let addresses: Vec<_> = (0..=ICE_SERVERS_MAX)
        .map(|n| format!("192.0.2.{}:3478", n + 1))
        .collect();
    let mut servers: Vec<_> = addresses.iter().map(|a| server(a)).collect();
    let (mut relays, asked) = asking_all(now, &servers, Roads::default());
    assert_eq!(asked.len(), ICE_SERVERS_MAX);
    let last = &asked[ICE_SERVERS_MAX - 1];
    answer(&mut relays, now, last, allocated);
    let relayed = relays.candidates().next().expect("one").address;
    relays.send(now, relayed, at(PEER), &vec![0; PAYLOAD_MAX_BYTES + 1]);
    events(&mut relays);

    servers.rotate_right(1);
    relays.set_servers(now, servers.iter());
    let told = events(&mut relays);
    assert!(
        matches!(&told[..], [RelayEvent::Lost(lost)] if *lost == relayed),
        "{told:?}"
    );
    assert_eq!(relays.candidates().count(), 0);
    assert_eq!(relays.tally().clients.dropped_unsendable, 1);
    assert_eq!(relays.tried(now).count(), ICE_SERVERS_MAX);
}
