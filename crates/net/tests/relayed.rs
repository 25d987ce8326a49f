//! Links through TURN servers: over UDP, TCP and TLS, with servers that are silent,
//! refuse, or die; and how a link leaves a relay for a direct pair.

#[path = "support/relay.rs"]
mod relay;
mod support;

use std::net::UdpSocket;
use std::time::Instant;

use relay::TestRelay;
use support::{Nodes, exchange};
use waymesh_net::webrtc::{CandidatePolicy, EndpointConfig, Notice};
use waymesh_proto::ice::{Credential, IceServer, IceServers, ServerOutcome};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{
    CandidateKind, CandidatePair, LinkCommand, LinkEvent, LinkProtocol, Path,
};

const LINK: LinkId = LinkId::new(1);

fn relayed(server: IceServer) -> EndpointConfig {
    EndpointConfig {
        loopback_only: true,
        candidates: CandidatePolicy::RelayOnly,
        servers: vec![server],
        ..EndpointConfig::default()
    }
}

/// Passes on what is trickled, until `done`.
async fn trickling(nodes: &mut Nodes, what: &str, mut done: impl FnMut(&mut Nodes) -> bool) {
    nodes
        .until(what, |nodes| {
            for (from, to) in [(0, 1), (1, 0)] {
                let events = std::mem::take(&mut nodes.events[from]);
                for event in events {
                    match event {
                        LinkEvent::Candidate { link, candidate } => {
                            nodes.command(to, LinkCommand::Candidate { link, candidate });
                        }
                        other => nodes.events[from].push(other),
                    }
                }
            }
            done(nodes)
        })
        .await;
}

fn up(events: &[LinkEvent]) -> Option<CandidatePair> {
    events.iter().find_map(|event| match event {
        LinkEvent::Up { pair, .. } => Some(*pair),
        _ => None,
    })
}

/// Makes a link and gives the pairs that both sides use.
async fn connect(nodes: &mut Nodes) -> [CandidatePair; 2] {
    nodes.describe(0, 1, LINK).await;
    let mut pairs = [None; 2];
    trickling(nodes, "both up", |nodes| {
        pairs = [up(&nodes.events[0]), up(&nodes.events[1])];
        pairs.iter().all(Option::is_some)
    })
    .await;
    pairs.map(|pair| pair.expect("until returned"))
}

#[tokio::test]
async fn two_nodes_that_offer_relays_alone_link_over_udp() {
    let relay = TestRelay::start().await;
    let server = relay.by(&[relay.udp_url()]);
    let mut nodes = Nodes::with([relayed(server.clone()), relayed(server)]);
    for pair in connect(&mut nodes).await {
        assert_eq!(pair.local, CandidateKind::Relay);
        assert_eq!(pair.protocol, LinkProtocol::Udp);
        assert_eq!(pair.path(), Path::Relay);
    }
    for mark in 0..20 {
        exchange(&mut nodes, LINK, mark).await;
    }
    for endpoint in &nodes.endpoints {
        let counted = endpoint.counters().relays;
        assert!(counted.sent >= 20 && counted.received >= 20, "{counted:?}");
    }
}

#[tokio::test]
async fn two_nodes_that_offer_relays_alone_link_over_tcp() {
    let relay = TestRelay::start().await;
    let server = relay.by(&[relay.tcp_url()]);
    let mut nodes = Nodes::with([relayed(server.clone()), relayed(server)]);
    for pair in connect(&mut nodes).await {
        assert_eq!(pair.protocol, LinkProtocol::Tcp);
        assert_eq!(pair.path(), Path::Relay);
    }
    for mark in 0..20 {
        exchange(&mut nodes, LINK, mark).await;
    }
}

#[tokio::test]
async fn two_nodes_that_offer_relays_alone_link_over_tls() {
    let relay = TestRelay::start().await;
    let config = |url: String| EndpointConfig {
        tls: relay.trust.clone(),
        ..relayed(relay.by(&[url]))
    };
    let tls = || config(relay.tls_url());
    for (a, b) in [(tls(), tls()), (tls(), config(relay.udp_url()))] {
        let mut nodes = Nodes::with([a, b]);
        let pairs = connect(&mut nodes).await;
        assert_eq!(pairs[0].protocol, LinkProtocol::Tls);
        for pair in pairs {
            assert_eq!(pair.local, CandidateKind::Relay);
            assert_eq!(pair.path(), Path::Relay);
        }
        for mark in 0..20 {
            exchange(&mut nodes, LINK, mark).await;
        }
    }
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_vouches_for_gives_no_relay_and_the_record_says_so() {
    let relay = TestRelay::start().await;
    let mut nodes = Nodes::with([relayed(relay.by(&[relay.tls_url()]))]);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let why = |nodes: &Nodes| match &nodes.endpoints[0].servers()[0].outcome {
        ServerOutcome::Failed { why } => Some(why.clone()),
        _ => None,
    };
    nodes
        .until("the refusal", |nodes| why(nodes).is_some())
        .await;
    let why = why(&nodes).expect("until returned");
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn where_udp_is_silent_tcp_of_the_same_server_is_used_and_the_record_says_so() {
    let relay = TestRelay::start().await;
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let silent_url = format!("turn:{}", silent.local_addr().expect("bound"));
    let server = relay.by(&[silent_url, relay.tcp_url()]);
    let mut nodes = Nodes::with([relayed(server.clone()), relayed(server)]);
    connect(&mut nodes).await;
    let servers = nodes.endpoints[0].servers();
    assert_eq!(servers[0].outcome, ServerOutcome::NotNeeded);
    assert!(matches!(servers[1].outcome, ServerOutcome::Gave { .. }));
}

#[tokio::test]
async fn a_relay_that_dies_is_told_and_another_that_is_named_is_used() {
    let relay = TestRelay::start().await;
    let server = relay.by(&[relay.tcp_url()]);
    let mut nodes = Nodes::with([relayed(server.clone()), relayed(server)]);
    connect(&mut nodes).await;
    drop(relay);
    nodes
        .until("a notice", |nodes| {
            nodes.endpoints[0].poll_notice() == Some(Notice::NetworkChanged)
        })
        .await;
    let other = TestRelay::start().await;
    let told = IceServers {
        servers: vec![other.by(&[other.udp_url()])],
        lifetime_ms: None,
    };
    nodes.endpoints[0].set_servers(Instant::now(), told);
    let gave = |nodes: &Nodes| {
        let servers = nodes.endpoints[0].servers();
        servers
            .iter()
            .any(|s| matches!(s.outcome, ServerOutcome::Gave { .. }))
    };
    nodes.until("an allocation", |nodes| gave(nodes)).await;
}

#[tokio::test]
async fn refused_credentials_are_told_and_new_ones_are_used_at_once() {
    let relay = TestRelay::start().await;
    let good = relay.by(&[relay.udp_url()]);
    let bad = IceServer {
        credential: Some(Credential::new("wrong".into())),
        ..good.clone()
    };
    let mut config = relayed(bad.clone());
    config.servers.clear();
    let mut nodes = Nodes::with([config, relayed(good.clone())]);
    let tell = |nodes: &mut Nodes, server: IceServer| {
        let told = IceServers {
            servers: vec![server],
            lifetime_ms: None,
        };
        nodes.endpoints[0].set_servers(Instant::now(), told);
    };
    tell(&mut nodes, bad);
    nodes.describe(0, 1, LINK).await;
    nodes
        .until("a notice", |nodes| {
            nodes.endpoints[0].poll_notice() == Some(Notice::ServersRefused)
        })
        .await;
    tell(&mut nodes, good);
    trickling(&mut nodes, "both up", |nodes| {
        up(&nodes.events[0]).is_some() && up(&nodes.events[1]).is_some()
    })
    .await;
}

/// Takes the host candidates out of a description.
fn without_hosts(sdp: &str) -> (String, Vec<String>) {
    let (hosts, rest): (Vec<_>, Vec<_>) = sdp
        .split_inclusive("\r\n")
        .partition(|l| l.contains("typ host"));
    let hosts = hosts
        .iter()
        .map(|line| line.trim_start_matches("a=").trim_end().to_owned());
    (rest.concat(), hosts.collect())
}

#[tokio::test]
async fn a_link_that_came_up_on_a_relay_moves_to_a_direct_pair_when_its_checks_are_answered() {
    let relay = TestRelay::start().await;
    let config = EndpointConfig {
        candidates: CandidatePolicy::All,
        ..relayed(relay.by(&[relay.udp_url()]))
    };
    let mut nodes = Nodes::with([config.clone(), config]);
    nodes.command(0, LinkCommand::Offer { link: LINK });
    let offer = nodes
        .event(0, "the offer", |event| support::offered(event, LINK))
        .await;
    let (sdp, hosts_of_0) = without_hosts(&offer);
    nodes.command(1, LinkCommand::Accept { link: LINK, sdp });
    let answer = nodes
        .event(1, "the answer", |event| support::answered(event, LINK))
        .await;
    let (sdp, hosts_of_1) = without_hosts(&answer);
    nodes.command(0, LinkCommand::Answer { link: LINK, sdp });
    let mut pairs = [None; 2];
    trickling(&mut nodes, "both up", |nodes| {
        pairs = [up(&nodes.events[0]), up(&nodes.events[1])];
        pairs.iter().all(Option::is_some)
    })
    .await;
    for pair in pairs.into_iter().flatten() {
        assert_eq!(pair.path(), Path::Relay, "{pair:?}");
    }
    for (to, hosts) in [(1, hosts_of_0), (0, hosts_of_1)] {
        for candidate in hosts {
            let link = LINK;
            nodes.command(to, LinkCommand::Candidate { link, candidate });
        }
    }
    let mut mark = 0;
    let mut is_direct = [false; 2];
    while is_direct != [true; 2] {
        exchange(&mut nodes, LINK, mark).await;
        mark += 1;
        for (node, is_direct) in is_direct.iter_mut().enumerate() {
            for event in std::mem::take(&mut nodes.events[node]) {
                if let LinkEvent::PairChanged { pair, .. } = event {
                    *is_direct = pair.path() == Path::Direct;
                }
            }
        }
        nodes.step().await;
    }
}
