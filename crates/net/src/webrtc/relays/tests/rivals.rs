//! Servers that fall silent after they gave an address.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

/// How long a server on this machine may take. Chosen far above what is expected.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// Lets the server give an address by TCP: that, and the stream.
async fn answer_by_tcp(
    relays: &mut Relays,
    now: Instant,
    listener: &TcpListener,
    wake: &Notify,
) -> (SocketAddr, TcpStream) {
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
            relays.turn(now);
        }
    };
    let (stream, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(serving, asking) })
        .await
        .expect("it is answered");
    (new, stream)
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

    let (new, _stream) = answer_by_tcp(&mut relays, late, &listener, &wake).await;
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

#[tokio::test]
async fn what_a_server_gave_by_tcp_makes_way_for_what_it_gives_by_udp_when_the_stream_is_silent() {
    let start = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = both_ways(listener.local_addr().expect("an address"));
    let names = names(start, std::slice::from_ref(&server));
    let roads = Roads::default();
    let wake = Arc::clone(&roads.wake);
    let (mut relays, _) = asking_all(start, &[server], roads);
    let beside = relays.poll_timeout(Upkeep::Idle).expect("UDP is ahead");
    relays.handle_timeout(beside, &names, Upkeep::Idle);
    let (old, _stream) = answer_by_tcp(&mut relays, beside, &listener, &wake).await;
    events(&mut relays);
    to_socket(&mut relays);

    relays.doubt(beside);
    let late = beside + Duration::from_secs(1);
    relays.handle_timeout(late - Duration::from_millis(1), &names, Upkeep::Kept);
    assert_eq!(to_socket(&mut relays), []);
    relays.handle_timeout(late, &names, Upkeep::Kept);
    let asked = to_socket(&mut relays);
    assert_eq!(asked.len(), 1);
    assert_eq!(relays.candidates().next().map(|c| c.address), Some(old));

    answer(&mut relays, late, &asked[0], allocated);
    let told = events(&mut relays);
    let new = at("192.0.2.1:50000");
    assert!(
        matches!(&told[..], [RelayEvent::Lost(lost), RelayEvent::Found(found)]
            if *lost == old && found.address == new),
        "{told:?}"
    );
}
