//! STUN servers that answer, are silent, or have no address: what a link that is
//! being made gets from them, and that it waits for none.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use support::{Nodes, exchange};
use waymesh_net::turn::message::{Message, Writer, kind};
use waymesh_net::webrtc::{CandidatePolicy, EndpointConfig};
use waymesh_proto::ice::{IceServer, IceServers, ServerOutcome};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{CandidateKind, LinkCommand, LinkEvent, Path, Tried};

const LINK: LinkId = LinkId::new(1);

fn servers(urls: &[String]) -> Vec<IceServer> {
    vec![IceServer {
        urls: urls.iter().map(|url| url.parse().expect("a URL")).collect(),
        username: None,
        credential: None,
    }]
}

fn on_loopback(urls: &[String]) -> EndpointConfig {
    EndpointConfig {
        loopback_only: true,
        servers: servers(urls),
        ..EndpointConfig::default()
    }
}

fn server() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    let port = socket.local_addr().expect("bound").port();
    (socket, format!("stun:127.0.0.1:{port}"))
}

/// Answers the next question as a NAT in front of the client would have it.
async fn answer(nodes: &mut Nodes, server: &UdpSocket, mapped: SocketAddr) {
    let mut bytes = [0; 1_500];
    let mut asked = None;
    nodes
        .until("a question", |_| {
            asked = server.recv_from(&mut bytes).ok();
            asked.is_some()
        })
        .await;
    let (len, client) = asked.expect("until returned");
    let request = Message::parse(&bytes[..len]).expect("a request");
    let mut writer = Writer::success(&request);
    writer.put_xor_address(kind::XOR_MAPPED_ADDRESS, mapped);
    let answer = writer.finish_with_fingerprint();
    server.send_to(&answer, client).expect("sent");
}

async fn tried(nodes: &mut Nodes, node: usize) -> Tried {
    let pick = |event: &LinkEvent| match event {
        LinkEvent::Tried { tried, .. } => Some(Tried::clone(tried)),
        _ => None,
    };
    nodes.event(node, "what was tried", pick).await
}

#[tokio::test]
async fn a_silent_server_and_a_name_without_address_are_in_the_record() {
    let (_silent, url) = server();
    let urls = [url, "stun:nowhere.invalid".into()];
    let mut nodes = Nodes::with([on_loopback(&urls), on_loopback(&urls)]);
    nodes.connect(0, 1, LINK).await;
    exchange(&mut nodes, LINK, 7).await;
    let tried = tried(&mut nodes, 0).await;
    let silent = tried.servers.iter().find(|s| s.url.host() == "127.0.0.1");
    assert_eq!(silent.map(|s| &s.outcome), Some(&ServerOutcome::Waiting));
    assert!(tried.ice_ms.is_some());
    let used = tried.pairs.iter().filter(|pair| pair.answered > 0);
    assert!(used.count() > 0, "{tried:?}");
    assert!(tried.remote.iter().all(|c| c.kind == CandidateKind::Host));
}

#[tokio::test]
async fn an_address_that_a_server_tells_late_is_trickled_and_is_in_the_next_offer() {
    let (server, url) = server();
    let mut nodes = Nodes::with([on_loopback(&[]), on_loopback(&[])]);
    let told = IceServers {
        servers: servers(&[url]),
        lifetime_ms: None,
    };
    nodes.endpoints[0].set_servers(Instant::now(), told);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let offer = nodes
        .event(0, "the offer", |event| support::offered(event, LINK))
        .await;
    assert!(!offer.contains("srflx"), "{offer}");
    answer(
        &mut nodes,
        &server,
        "192.0.2.7:4007".parse().expect("an address"),
    )
    .await;
    let candidate = nodes
        .event(0, "the candidate", |event| match event {
            LinkEvent::Candidate { candidate, .. } => Some(candidate.clone()),
            _ => None,
        })
        .await;
    assert!(
        candidate.contains("192.0.2.7 4007 typ srflx"),
        "{candidate}"
    );
    let next = LinkId::new(2);
    nodes.command(0, LinkCommand::Offer { link: next });
    let offer = nodes
        .event(0, "the next offer", |event| support::offered(event, next))
        .await;
    assert!(offer.contains("192.0.2.7 4007 typ srflx"), "{offer}");
    let outcomes: Vec<_> = nodes.endpoints[0].servers();
    assert!(matches!(outcomes[0].outcome, ServerOutcome::Gave { .. }));
}

#[tokio::test]
async fn with_relays_alone_no_address_of_the_host_is_offered_and_no_stun_server_is_asked() {
    let (server, url) = server();
    let config = EndpointConfig {
        candidates: CandidatePolicy::RelayOnly,
        ..on_loopback(&[url])
    };
    let mut nodes = Nodes::with([config]);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let offer = nodes
        .event(0, "the offer", |event| support::offered(event, LINK))
        .await;
    assert!(!offer.contains("a=candidate"), "{offer}");
    assert_eq!(nodes.endpoints[0].queued_bytes(), 0);
    nodes.endpoints[0].flush();
    assert_eq!(nodes.endpoints[0].queued_bytes(), 0);
    let asked = server.recv_from(&mut [0; 100]);
    assert_eq!(
        asked.expect_err("no question").kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn a_link_that_is_closed_before_it_comes_up_tells_what_was_tried_and_nothing_else() {
    let mut nodes = Nodes::with([on_loopback(&[])]);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    nodes.command(0, LinkCommand::Close { link: LINK });
    let tried = tried(&mut nodes, 0).await;
    assert!(tried.local.iter().all(|c| c.kind == CandidateKind::Host));
    assert!(!tried.local.is_empty());
    assert_eq!(tried.ice_ms, None);
    assert_eq!(nodes.events[0], []);
}

#[tokio::test]
async fn a_link_over_loopback_is_direct() {
    let mut nodes = Nodes::with([on_loopback(&[]), on_loopback(&[])]);
    nodes.describe(0, 1, LINK).await;
    let pair = nodes
        .event(0, "up", |event| match event {
            LinkEvent::Up { pair, .. } => Some(*pair),
            _ => None,
        })
        .await;
    assert_eq!(pair.local, CandidateKind::Host);
    assert_eq!(pair.path(), Path::Direct);
}
