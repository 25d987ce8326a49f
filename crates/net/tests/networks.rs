//! Hosts whose addresses change, and hosts of either IP family or both, in network
//! namespaces: needs root.

#[path = "support/namespace.rs"]
mod namespace;
mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use namespace::Namespace;
use support::{Nodes, exchange, offered};
use waymesh_net::webrtc::{EndpointConfig, Notice};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{CandidatePair, LinkCommand, LinkEvent, Path};

const LINK: LinkId = LinkId::new(1);

/// Where the kernel does not tell of changes, the addresses are listed every three
/// seconds: what is noticed sooner was told.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An endpoint on this address alone, or on all.
fn on(address: Option<&str>) -> EndpointConfig {
    EndpointConfig {
        ip: address.map(ip),
        ..EndpointConfig::default()
    }
}

fn has(nodes: &Nodes, address: &str) -> bool {
    let mut addresses = nodes.endpoints[0].addresses().iter();
    addresses.any(|known| known.ip() == ip(address))
}

async fn network_changed(nodes: &mut Nodes) {
    let changed = |nodes: &mut Nodes| {
        let notice = nodes.endpoints[0].poll_notice();
        notice == Some(Notice::NetworkChanged)
    };
    nodes.until("a notice", changed).await;
}

#[tokio::test]
async fn an_address_that_comes_or_goes_is_noticed_at_once_and_trickled() {
    let Some(namespace) = Namespace::enter() else {
        return;
    };
    namespace.ip("addr add 10.9.0.1/24 dev net0");
    let mut nodes = Nodes::with([on(None)]);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let offer = nodes
        .event(0, "the offer", |event| offered(event, LINK))
        .await;
    assert!(offer.contains("10.9.0.1"), "{offer}");
    // The task that listens begins with the first wait.
    nodes.step().await;
    for added in ["10.9.0.2/24", "fd09::2/64"] {
        let (address, _) = added.split_once('/').expect("with a prefix");
        let nodad = if address.contains(':') { " nodad" } else { "" };
        assert!(!has(&nodes, address));
        let began = Instant::now();
        namespace.ip(&format!("addr add {added} dev net0{nodad}"));
        network_changed(&mut nodes).await;
        assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
        assert!(has(&nodes, address));
        let candidate = nodes.event(0, "the candidate", |event| match event {
            LinkEvent::Candidate { candidate, .. } => Some(candidate.clone()),
            _ => None,
        });
        let candidate = candidate.await;
        assert!(candidate.contains(address), "{candidate}");
    }
    for deleted in ["10.9.0.1/24", "fd09::2/64"] {
        let (address, _) = deleted.split_once('/').expect("with a prefix");
        let began = Instant::now();
        namespace.ip(&format!("addr del {deleted} dev net0"));
        network_changed(&mut nodes).await;
        assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
        assert!(!has(&nodes, address));
    }
}

/// Makes a link and gives the pair of node 0.
async fn linked(nodes: &mut Nodes) -> CandidatePair {
    nodes.describe(0, 1, LINK).await;
    let pair = nodes.event(0, "up", |event| match event {
        LinkEvent::Up { pair, .. } => Some(*pair),
        _ => None,
    });
    let pair = pair.await;
    nodes
        .event(1, "up", |event| support::is_up(event, LINK))
        .await;
    for mark in 0..5 {
        exchange(nodes, LINK, mark).await;
    }
    pair
}

#[tokio::test]
async fn two_nodes_with_ipv6_alone_link() {
    let Some(namespace) = Namespace::enter() else {
        return;
    };
    namespace.ip("addr add fd09::1/64 dev net0 nodad");
    namespace.ip("addr add fd09::2/64 dev net0 nodad");
    let mut nodes = Nodes::with([on(Some("fd09::1")), on(Some("fd09::2"))]);
    let pair = linked(&mut nodes).await;
    assert_eq!(pair.local_addr.ip(), ip("fd09::1"));
    assert_eq!(pair.remote_addr.ip(), ip("fd09::2"));
    assert_eq!(pair.path(), Path::Direct);
}

#[tokio::test]
async fn a_node_of_both_families_offers_both_and_links_with_a_node_of_either() {
    let Some(namespace) = Namespace::enter() else {
        return;
    };
    for address in ["10.9.0.1/24", "10.9.0.2/24"] {
        namespace.ip(&format!("addr add {address} dev net0"));
    }
    for address in ["fd09::1/64", "fd09::2/64"] {
        namespace.ip(&format!("addr add {address} dev net0 nodad"));
    }
    for other in ["10.9.0.2", "fd09::2"] {
        let mut nodes = Nodes::with([on(None), on(Some(other))]);
        for address in ["10.9.0.1", "fd09::1"] {
            assert!(has(&nodes, address), "{address}");
        }
        let pair = linked(&mut nodes).await;
        assert_eq!(pair.remote_addr.ip(), ip(other));
        assert_eq!(pair.local_addr.is_ipv4(), pair.remote_addr.is_ipv4());
        assert!(!pair.local_addr.ip().is_loopback());
    }
    let mut nodes = Nodes::with([on(None), on(None)]);
    let pair = linked(&mut nodes).await;
    assert_eq!(pair.path(), Path::Direct);
}
