//! Servers of the test's own words, and what is asked of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use waymesh_proto::ice::ServerOutcome;

use super::server::WANTED_PAUSE;
use super::*;
use crate::turn::client::PAYLOAD_MAX_BYTES;
use crate::turn::message::{Message, Writer, code, kind};

const HERE: &str = "192.0.2.100:9";

/// How long a server on this machine may take. Chosen far above what is expected.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// A server that is asked by UDP and, at another port, by TCP.
fn both_ways(tcp: SocketAddr) -> IceServer {
    let mut server = server("192.0.2.1:3478");
    let url = format!("turn:{tcp}?transport=tcp");
    server.urls.push(url.parse().expect("a URL"));
    server
}

fn refreshed(request: &Message<'_>) -> Writer {
    let mut writer = Writer::success(request);
    writer.put_number(kind::LIFETIME, 600);
    writer
}

fn outcomes(relays: &Relays, now: Instant) -> Vec<ServerOutcome> {
    relays.tried(now).map(|tried| tried.outcome).collect()
}

fn events(relays: &mut Relays) -> Vec<RelayEvent> {
    std::iter::from_fn(|| relays.poll_event()).collect()
}

#[tokio::test]
async fn a_server_that_falls_silent_is_asked_by_tcp_and_keeps_its_address_when_it_answers() {
    let start = Instant::now();
    let server = both_ways(at("127.0.0.1:1"));
    let (mut relays, asked) = asking_all(start, &[server], Roads::default());
    answer(&mut relays, start, &asked[0], allocated);
    events(&mut relays);
    relays.doubt(start);
    let asked = to_socket(&mut relays);

    let names = Names::default();
    let late = start + Duration::from_secs(1);
    relays.handle_timeout(late - Duration::from_millis(1), &names, Upkeep::Kept);
    assert_eq!(outcomes(&relays, late)[1], ServerOutcome::NotNeeded);
    assert!(
        relays
            .poll_timeout(Upkeep::Kept)
            .is_some_and(|at| at <= late)
    );
    relays.handle_timeout(late, &names, Upkeep::Kept);
    assert_eq!(outcomes(&relays, late)[1], ServerOutcome::Waiting);
    assert_eq!(relays.candidates().count(), 1);

    answer(&mut relays, late, &asked[0], refreshed);
    assert_eq!(outcomes(&relays, late)[1], ServerOutcome::NotNeeded);
    assert_eq!(relays.candidates().count(), 1);
    assert!(events(&mut relays).is_empty(), "nothing was lost or found");
}

#[tokio::test]
async fn what_a_silent_server_gave_makes_way_for_what_it_gives_by_tcp() {
    let start = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = both_ways(listener.local_addr().expect("an address"));
    let roads = Roads::default();
    let wake = Arc::clone(&roads.wake);
    let (mut relays, asked) = asking_all(start, &[server], roads);
    answer(&mut relays, start, &asked[0], allocated);
    let old = relays.candidates().next().expect("one").address;
    events(&mut relays);
    relays.doubt(start);
    let late = start + Duration::from_secs(1);
    relays.handle_timeout(late, &Names::default(), Upkeep::Kept);

    let new = at("192.0.2.1:50001");
    let serving = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut bytes = [0; 1_024];
        let mut length = 0;
        let request = loop {
            let read = stream.read(&mut bytes[length..]).await.expect("it asks");
            assert!(read > 0, "it hung up");
            length += read;
            if let Ok(request) = Message::parse(&bytes[..length]) {
                break request;
            }
        };
        let mut writer = Writer::success(&request);
        writer
            .put_xor_address(kind::XOR_RELAYED_ADDRESS, new)
            .put_number(kind::LIFETIME, 600);
        stream.write_all(&writer.finish()).await.expect("it hears");
        stream
    };
    let asking = async {
        while relays.candidates().next().map(|c| c.address) != Some(new) {
            wake.notified().await;
            relays.turn(late);
        }
    };
    let (_stream, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(serving, asking) })
        .await
        .expect("it is answered");
    let told = events(&mut relays);
    assert!(
        matches!(&told[..], [RelayEvent::Lost(lost), RelayEvent::Found(found)]
            if *lost == old && found.address == new),
        "{told:?}"
    );
    let outcomes = outcomes(&relays, late);
    assert!(
        matches!(outcomes[0], ServerOutcome::Failed { .. }),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1], ServerOutcome::Gave { address: new });
}
