//! Links between hosts behind NATs, in a time of their own: what their packets find
//! open, what keeps it open, and what is sent where nobody answers.

#[path = "support/internet.rs"]
mod internet;
#[path = "support/nat.rs"]
mod nat;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use internet::{Internet, ONE_WAY};
use nat::{BINDING_LASTS, Nat};
use waymesh_net::webrtc::{CandidatePolicy, EndpointConfig};
use waymesh_proto::class::Class;
use waymesh_proto::ice::{Credential, ICE_SERVERS_MAX, IceServer};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{CandidateKind, CandidatePair, LinkCommand, LinkEvent, Path};

const LINK: LinkId = LinkId::new(1);

const MINUTE: Duration = Duration::from_secs(60);

/// Well below the least pause after which DTLS repeats what was lost: a second.
const WITHOUT_A_LOSS: Duration = Duration::from_millis(600);

/// The longest pause of SCTP that begins within the quarter of a minute between two checks
/// (RFC 9260 §6.3: doubled from a second).
const SCTP_SENDS_AGAIN: Duration = Duration::from_secs(8);

/// Two hosts behind these NATs, with the servers that are `wanted`.
async fn two(nats: [Nat; 2], policy: CandidatePolicy, wanted: Servers) -> Internet {
    let mut internet = Internet::new().await;
    for nat in nats {
        let mut servers = internet.servers();
        servers.truncate(match wanted {
            Servers::None => 0,
            Servers::Stun => 1,
            Servers::StunAndTurn => 2,
        });
        let config = EndpointConfig {
            servers,
            candidates: policy,
            ..EndpointConfig::default()
        };
        internet.add(nat, config);
    }
    internet
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    None,
    Stun,
    StunAndTurn,
}

fn pair_of(internet: &Internet, host: usize) -> CandidatePair {
    let mut events = internet.events[host].iter().rev();
    let pair = events.find_map(|event| match event {
        LinkEvent::Up { pair, .. } | LinkEvent::PairChanged { pair, .. } => Some(*pair),
        _ => None,
    });
    pair.expect("the link is up")
}

/// Sends a frame and says how long it took.
async fn send(internet: &mut Internet, from: usize, to: usize) -> Duration {
    let (now, began) = (internet.now, internet.elapsed());
    let sent = internet
        .endpoint(from)
        .send(now, LINK, Class::Tasks, b"frame");
    sent.expect("an idle link has room");
    let is_frame = |event: &LinkEvent| matches!(event, LinkEvent::Frame { .. }).then_some(());
    internet.event(to, is_frame).await;
    internet.elapsed() - began
}

/// Sends a frame each way and says how long they took.
async fn exchange(internet: &mut Internet) -> Duration {
    send(internet, 0, 1).await + send(internet, 1, 0).await
}

async fn connects_without_a_loss(nats: [Nat; 2], servers: Servers) -> Internet {
    let mut internet = two(nats, CandidatePolicy::All, servers).await;
    internet.connect(LINK).await;
    let took = internet.elapsed();
    assert!(took < WITHOUT_A_LOSS, "{nats:?} {servers:?}: {took:?}");
    for host in [0, 1] {
        let unknown = internet.endpoint(host).counters().unknown_source;
        assert_eq!(unknown, 0, "{nats:?} {servers:?}: at host {host}");
    }
    internet
}

#[tokio::test]
async fn behind_every_nat_the_peer_is_known_by_stun_before_its_handshake_comes() {
    let all = [Nat::None, Nat::PortRestricted, Nat::Symmetric];
    for a in all {
        for b in all {
            connects_without_a_loss([a, b], Servers::StunAndTurn).await;
        }
    }
}

#[tokio::test]
async fn so_is_a_peer_whose_address_nobody_has_told() {
    for nat in [Nat::PortRestricted, Nat::Symmetric] {
        for (nats, public) in [([nat, Nat::None], 1), ([Nat::None, nat], 0)] {
            let internet = connects_without_a_loss(nats, Servers::None).await;
            let pair = pair_of(&internet, public);
            assert_eq!(pair.remote, CandidateKind::Prflx, "{nats:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_whose_nat_was_started_anew_is_heard_again_with_the_next_check() {
    let nats = [Nat::PortRestricted, Nat::None];
    let mut internet = two(nats, CandidatePolicy::All, Servers::None).await;
    internet.connect(LINK).await;
    exchange(&mut internet).await;
    internet.flush_nat(0);
    // What comes before the check is counted, and SCTP sends it again. The way back stays
    // the old one: core, which hears nothing, makes a new session.
    let took = send(&mut internet, 0, 1).await;
    assert!(took < BINDING_LASTS / 2 + SCTP_SENDS_AGAIN, "{took:?}");
    assert!(internet.endpoint(1).counters().unknown_source > 0);
}

/// The longest time without a packet from a host to there, and how many there were.
fn trace(internet: &Internet, host: usize, to: SocketAddr, from: Duration) -> (Duration, usize) {
    let sent = internet.sent.iter();
    let there = sent.filter(|s| s.host == host && s.to == to && s.at >= from);
    let times: Vec<_> = there.map(|s| s.at).collect();
    let ends = [from].into_iter().chain(times.iter().copied());
    let next = times.iter().copied().chain([internet.elapsed()]);
    let gaps = ends.zip(next).map(|(a, b)| b - a);
    (gaps.max().unwrap_or(Duration::MAX), times.len())
}

/// Lets a link be idle and looks whether it is still what it was.
async fn idle(internet: &mut Internet, minutes: u32) -> Duration {
    exchange(internet).await;
    let (from, filtered) = (internet.elapsed(), internet.filtered);
    let pairs = [0, 1].map(|host| pair_of(internet, host));
    internet.pass(MINUTE * minutes).await;
    assert_eq!(internet.filtered, filtered, "a NAT has forgotten");
    let took = exchange(internet).await;
    assert!(took < WITHOUT_A_LOSS, "{took:?}");
    assert_eq!([0, 1].map(|host| pair_of(internet, host)), pairs);
    from
}

#[tokio::test]
async fn an_idle_direct_link_keeps_its_nats_open_with_a_check_every_15_seconds() {
    const MINUTES: u32 = 10;
    for (nats, servers) in [
        ([Nat::PortRestricted; 2], Servers::Stun),
        ([Nat::Symmetric, Nat::None], Servers::None),
    ] {
        let mut internet = two(nats, CandidatePolicy::All, servers).await;
        internet.connect(LINK).await;
        let from = idle(&mut internet, MINUTES).await;
        for host in [0, 1] {
            let peer = pair_of(&internet, host).remote_addr;
            let (longest, count) = trace(&internet, host, peer, from);
            assert!(longest <= BINDING_LASTS / 2 + ONE_WAY, "{longest:?}");
            // Each quarter of a minute a check and the answer to one, and more at first.
            let most = (MINUTES * 4 * 2) as usize + 10;
            assert!(count <= most, "{count} packets");
        }
    }
}

#[tokio::test]
async fn an_idle_relayed_link_keeps_its_nat_and_its_allocation() {
    // An allocation and a channel last ten minutes, a permission five.
    const MINUTES: u32 = 25;
    let policy = CandidatePolicy::RelayOnly;
    let mut internet = two([Nat::PortRestricted; 2], policy, Servers::StunAndTurn).await;
    internet.connect(LINK).await;
    for host in [0, 1] {
        assert_eq!(pair_of(&internet, host).path(), Path::Relay);
    }
    let from = idle(&mut internet, MINUTES).await;
    for host in [0, 1] {
        let (longest, count) = trace(&internet, host, internet.turn, from);
        assert!(longest <= BINDING_LASTS / 2 + ONE_WAY, "{longest:?}");
        // A check and an answer as on a direct link, and a refresh each third of a minute;
        // permission and channel now and then.
        let most = (MINUTES * (4 * 2 + 3)) as usize + 30;
        assert!(count <= most, "{count} packets");
    }
}

/// Servers by these URLs, three to a server.
fn servers(urls: &[String]) -> Vec<IceServer> {
    let server = |urls: &[String]| IceServer {
        urls: urls.iter().map(|url| url.parse().expect("a URL")).collect(),
        username: Some("user".into()),
        credential: Some(Credential::new("password".into())),
    };
    urls.chunks(3).map(server).collect()
}

#[tokio::test]
async fn servers_that_are_silent_are_asked_ever_more_rarely_and_not_at_all_without_links() {
    const URLS: usize = 45;
    /// Of 15 servers with three URLs each, those that are used.
    const USED: usize = ICE_SERVERS_MAX * 3;
    /// Six attempts at each URL of a TURN server, and six of STUN at each, in five minutes.
    const LATER: usize = 6 * (USED * 2 / 3 + USED).div_ceil(5);
    let mut internet = Internet::new().await;
    let kinds = ["stun", "turn", "turn"].iter().cycle().take(URLS);
    let urls: Vec<_> = kinds
        .map(|kind| format!("{kind}:{}", internet.address()))
        .collect();
    let config = EndpointConfig {
        servers: servers(&urls),
        ..EndpointConfig::default()
    };
    internet.add(Nat::None, config);
    internet.command(0, LinkCommand::Offer { link: LINK });
    let mut counts = Vec::new();
    for _ in 0..30 {
        internet.sent.clear();
        internet.pass(MINUTE).await;
        counts.push(internet.sent.len());
    }
    let later: usize = counts[10..].iter().sum();
    let mean = later / counts[10..].len();
    assert!(mean <= LATER, "{mean} a minute: {counts:?}");
    assert!(counts[0] > 4 * mean, "{counts:?}");
    internet.command(0, LinkCommand::Close { link: LINK });
    internet.pass(MINUTE * 6).await;
    internet.sent.clear();
    internet.pass(MINUTE * 10).await;
    assert_eq!(internet.sent.len(), 0);
}

/// What becomes of a link with these servers, and when.
async fn story(servers: impl FnOnce(&mut Internet) -> Vec<IceServer>) -> Vec<(Duration, String)> {
    let mut internet = Internet::new().await;
    let servers = servers(&mut internet);
    for _ in 0..2 {
        let config = EndpointConfig {
            servers: servers.clone(),
            ..EndpointConfig::default()
        };
        internet.add(Nat::None, config);
    }
    internet.connect(LINK).await;
    let took = exchange(&mut internet).await;
    let events = internet.events.iter().flatten();
    let names = events.map(|event| match event {
        LinkEvent::Up { pair, .. } => format!("up, {:?} to {:?}", pair.local, pair.remote),
        event => format!("{event:?}").chars().take(9).collect(),
    });
    let told = names.collect::<Vec<_>>().join("; ");
    vec![(internet.elapsed() - took, told), (took, "frames".into())]
}

#[tokio::test]
async fn a_silent_server_and_a_name_without_address_change_nothing_about_a_direct_link() {
    let alone = story(|_| Vec::new()).await;
    let silent = story(|internet| {
        let address = internet.address();
        servers(&[
            format!("stun:{address}"),
            format!("turn:{address}"),
            "stun:nowhere.invalid".into(),
        ])
    });
    assert_eq!(silent.await, alone);
}
