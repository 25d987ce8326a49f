//! What strangers and bad peers can send, and what it must not do.

mod support;

use std::net::UdpSocket;
use std::time::Instant;

use support::{Nodes, answered, down, exchange, is_up, offered};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{DownReason, LinkCommand, LinkEvent};

const LINK: LinkId = LinkId::new(1);

/// Datagrams that look like STUN, DTLS, RTP and like nothing, in many lengths.
fn garbage() -> impl Iterator<Item = Vec<u8>> {
    let firsts = [0_u8, 1, 2, 20, 21, 22, 23, 63, 64, 128, 191, 255];
    let lengths = [0_usize, 1, 2, 12, 13, 14, 20, 28, 100, 1_200, 9_000];
    firsts.into_iter().flat_map(move |first| {
        lengths.into_iter().map(move |length| {
            let mut bytes: Vec<u8> = (0..length)
                .map(|at| (at as u8).wrapping_mul(31) ^ first)
                .collect();
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            bytes
        })
    })
}

#[tokio::test]
async fn garbage_from_a_stranger_leaves_a_link_alone_and_is_counted() {
    let mut nodes = Nodes::new(2);
    nodes.connect(0, 1, LINK).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for address in nodes.endpoints[0].addresses().to_vec() {
        for datagram in garbage().filter(|_| address.is_ipv4()) {
            stranger
                .send_to(&datagram, address)
                .expect("loopback takes it");
        }
    }
    exchange(&mut nodes, LINK, 1).await;
    nodes
        .until("the drops to be counted", |nodes| {
            let counters = nodes.endpoints[0].counters();
            counters.unknown_source > 0 && counters.malformed > 0
        })
        .await;
    exchange(&mut nodes, LINK, 2).await;
    assert_eq!(nodes.endpoints[0].counters().stack_panics, 0);
}

#[tokio::test]
async fn a_fingerprint_that_is_not_the_peers_fails_dtls() {
    let mut nodes = Nodes::new(2);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let sdp = nodes
        .event(0, "the offer", |event| offered(event, LINK))
        .await;
    nodes.command(1, LinkCommand::Accept { link: LINK, sdp });
    let sdp = nodes
        .event(1, "the answer", |event| answered(event, LINK))
        .await;
    let forged: Vec<String> = sdp.lines().map(forge).collect();
    let sdp = forged.join("\r\n") + "\r\n";
    nodes.command(0, LinkCommand::Answer { link: LINK, sdp });
    let reason = nodes.event(0, "down", |event| down(event, LINK)).await;
    assert!(matches!(reason, DownReason::DtlsFailed(_)), "{reason:?}");
}

/// Another fingerprint of the same form.
fn forge(line: &str) -> String {
    match line.strip_prefix("a=fingerprint:sha-256 ") {
        Some(_) => format!("a=fingerprint:sha-256 {}", vec!["AB"; 32].join(":")),
        None => line.to_owned(),
    }
}

#[tokio::test]
async fn candidates_that_are_trickled_make_a_link() {
    let mut nodes = Nodes::new(2);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let offer = nodes
        .event(0, "the offer", |event| offered(event, LINK))
        .await;
    let (bare, candidates) = split(&offer);
    nodes.command(
        1,
        LinkCommand::Accept {
            link: LINK,
            sdp: bare,
        },
    );
    let answer = nodes
        .event(1, "the answer", |event| answered(event, LINK))
        .await;
    nodes.command(
        0,
        LinkCommand::Answer {
            link: LINK,
            sdp: split(&answer).0,
        },
    );
    for candidate in candidates {
        nodes.command(
            1,
            LinkCommand::Candidate {
                link: LINK,
                candidate,
            },
        );
    }
    for node in [0, 1] {
        nodes.event(node, "up", |event| is_up(event, LINK)).await;
    }
    exchange(&mut nodes, LINK, 1).await;
}

/// A description without its candidates, and these.
fn split(sdp: &str) -> (String, Vec<String>) {
    let is_candidate = |line: &&str| line.starts_with("a=candidate:");
    let bare: Vec<&str> = sdp.lines().filter(|line| !is_candidate(line)).collect();
    let candidates = sdp
        .lines()
        .filter(is_candidate)
        .filter_map(|line| line.strip_prefix("a="));
    (
        bare.join("\r\n") + "\r\n",
        candidates.map(str::to_owned).collect(),
    )
}

#[tokio::test]
async fn a_node_carries_fifty_links_at_once() {
    const PEERS: usize = 50;
    let mut nodes = Nodes::new(PEERS + 1);
    let link = |peer: usize| LinkId::new(peer as u64);
    for peer in 1..=PEERS {
        nodes.describe(0, peer, link(peer)).await;
    }
    for peer in 1..=PEERS {
        nodes.event(0, "up", |event| is_up(event, link(peer))).await;
        nodes
            .event(peer, "up", |event| is_up(event, link(peer)))
            .await;
    }
    for peer in 1..=PEERS {
        let sent = nodes.endpoints[0].send(
            Instant::now(),
            link(peer),
            waymesh_proto::class::Class::Tasks,
            &[peer as u8; 500],
        );
        sent.expect("an idle link has room");
    }
    for peer in 1..=PEERS {
        let got = nodes.event(peer, "its frame", |event| match event {
            LinkEvent::Frame { bytes, .. } => Some(bytes.clone()),
            _ => None,
        });
        assert_eq!(got.await, [peer as u8; 500]);
    }
}
