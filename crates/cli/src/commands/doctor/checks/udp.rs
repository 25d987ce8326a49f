//! What STUN finds out: whether UDP passes, what the NAT does, how large packets may be, IPv6.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::timeout;
use waymesh_net::probe::behaviour::{Behaviour, Filtering, Mapping, Nat};
use waymesh_net::probe::mtu::{MTU_NEEDED, Sizes};
use waymesh_net::probe::udp::Lanes;
use waymesh_net::probe::{local, stream};
use waymesh_proto::ice::IceTransport;
use waymesh_proto::{Code, Fault};

use super::super::servers::{Owner, StunServer};
use super::{Check, NONE_HERE, State};

/// STUN servers that are asked, all beside each other. Chosen: one tells all there is to know.
const STUN_SERVERS_MAX: usize = 8;

/// What is between this host and the internet, for UDP.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct NatFound {
    /// The STUN server that was asked.
    pub(in super::super) server: SocketAddr,
    pub(in super::super) mapped: SocketAddr,
    pub(in super::super) mapping: Option<Mapping>,
    pub(in super::super) filtering: Option<Filtering>,
    /// Whether the server has the second address that both need (RFC 5780).
    pub(in super::super) server_has_second_address: bool,
}

/// IPv6.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in super::super) struct Ipv6Found {
    pub(in super::super) global_address: bool,
    pub(in super::super) route: bool,
    /// This host as a STUN server sees it by IPv6.
    pub(in super::super) mapped: Option<SocketAddr>,
}

/// What STUN finds out.
pub(super) struct ByUdp {
    pub(super) reached: Check<SocketAddr>,
    pub(super) nat: Check<NatFound>,
    pub(super) mtu: Check<usize>,
    pub(super) ipv6: Check<Ipv6Found>,
    pub(super) silent: usize,
}

/// Asks all, each question within `limit`.
pub(super) async fn by_udp(servers: &[StunServer], limit: Duration) -> ByUdp {
    let begun = Instant::now();
    let by_udp = |server: &&StunServer| {
        server.url.transport() == IceTransport::Udp && !server.url.scheme().is_tls()
    };
    let asked: Vec<_> = servers.iter().filter(by_udp).collect();
    let resolving = asked.iter().map(|server| async {
        let url = &server.url;
        let found = stream::resolve(url.host(), url.port(), limit).await;
        found.map_err(|error| format!("{} does not resolve: {error}", url.host()))
    });
    let resolved = futures_util::future::join_all(resolving).await;
    let nameless: Vec<_> = resolved
        .iter()
        .filter_map(|found| found.clone().err())
        .collect();
    let all: Vec<_> = resolved.into_iter().flatten().flatten().collect();
    let (v4, v6): (Vec<SocketAddr>, Vec<_>) = all.into_iter().partition(SocketAddr::is_ipv4);
    let (mut by_v4, ipv6) = tokio::join!(by_ipv4(&v4, limit, begun), by_ipv6(&v6, limit, begun));
    if v4.is_empty() && v6.is_empty() && !nameless.is_empty() {
        by_v4.reached = Check::failed(unresolved(&nameless), begun);
    }
    let mut by_udp = ByUdp { ipv6, ..by_v4 };
    let is_here = |server: &&StunServer| server.owner == Owner::NobodyHere;
    if by_udp.reached.state == State::Failed && asked.iter().all(is_here) {
        by_udp.reached = Check {
            state: State::Unknown,
            what: format!("{}; {NONE_HERE}", by_udp.reached.what),
            error: None,
            ..by_udp.reached
        };
    }
    by_udp
}

fn unresolved(nameless: &[String]) -> Fault {
    Fault::new(Code::PathUnavailable, nameless.join(", "))
        .with_hint("check the name of the STUN server, and this host's DNS")
}

async fn by_ipv4(servers: &[SocketAddr], limit: Duration, begun: Instant) -> ByUdp {
    let none = "there is no STUN server to ask by IPv4";
    if servers.is_empty() {
        return ByUdp {
            reached: Check::skipped(none),
            nat: Check::skipped(none),
            mtu: Check::skipped(none),
            ipv6: Check::skipped(none),
            silent: 0,
        };
    }
    let each = servers.iter().take(STUN_SERVERS_MAX).map(|server| async {
        let second = servers.iter().find(|other| other.ip() != server.ip());
        let (nat, sizes) = tokio::join!(
            examined(*server, second.copied(), limit),
            sized(*server, limit)
        );
        (*server, nat, sizes)
    });
    let all = futures_util::future::join_all(each).await;
    let silent = all.iter().filter(|(_, nat, _)| nat.mapped.is_none());
    let silent = silent.count();
    // One with two addresses tells the most; of equals the first.
    let best = all
        .iter()
        .rev()
        .max_by_key(|(_, nat, _)| (nat.mapped.is_some(), nat.has_other));
    if let Some((server, nat, sizes)) = best
        && let Some(mapped) = nat.mapped
    {
        let what = format!("{server} answers and sees {mapped}");
        return ByUdp {
            reached: Check::new(State::Passed, what, begun).with(mapped),
            nat: nat_check(*server, nat, mapped, begun),
            mtu: mtu(sizes, begun),
            ipv6: Check::skipped(none),
            silent,
        };
    }
    let unknown = "UDP gets no answer";
    ByUdp {
        reached: Check::failed(no_answer(servers), begun),
        nat: Check::new(State::Unknown, unknown, begun),
        mtu: Check::new(State::Unknown, unknown, begun),
        ipv6: Check::skipped(none),
        silent,
    }
}

fn no_answer(servers: &[SocketAddr]) -> Fault {
    let shown: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
    let shown = shown.join(", ");
    Fault::new(
        Code::PathUnavailable,
        format!("no answer by UDP from {shown}"),
    )
    .with_hint(format!(
        "let UDP out to {shown}, and to peers: without it links are relayed by TCP or not made"
    ))
}

/// What was not answered within `limit` stays unknown.
async fn examined(server: SocketAddr, second: Option<SocketAddr>, limit: Duration) -> Nat {
    let opened = Lanes::open(server).and_then(|lanes| Ok((lanes.port()?, lanes)));
    let Ok((port, lanes)) = opened else {
        return Nat::default();
    };
    let mut behaviour = Behaviour::new(server, second, local::all(), port);
    let _ = timeout(limit, lanes.examine(&mut behaviour)).await;
    behaviour.nat()
}

async fn sized(server: SocketAddr, limit: Duration) -> Sizes {
    let mut sizes = Sizes::new(server);
    if let Ok(lanes) = Lanes::open(server) {
        let _ = timeout(limit, lanes.examine(&mut sizes)).await;
    }
    sizes
}

fn nat_check(server: SocketAddr, nat: &Nat, mapped: SocketAddr, begun: Instant) -> Check<NatFound> {
    let mapping = match nat.mapping {
        Some(Mapping::None) => "no NAT",
        Some(Mapping::EndpointIndependent) => "a NAT with one mapping for everybody",
        Some(Mapping::AddressDependent) => "a NAT with a mapping for each address",
        Some(Mapping::AddressAndPortDependent) => {
            "a symmetric NAT: a mapping for each address and port"
        }
        Some(Mapping::Dependent) => "a symmetric NAT: two servers see different mappings",
        None => "a NAT whose mapping is unknown",
    };
    let filtering = match nat.filtering {
        Some(Filtering::EndpointIndependent) => "everybody is let in",
        Some(Filtering::AddressDependent) => "addresses that were sent to are let in",
        Some(Filtering::AddressAndPortDependent) => {
            "addresses and ports that were sent to are let in"
        }
        None => "who is let in is unknown",
    };
    let state = match (nat.mapping, nat.filtering) {
        (Some(_), Some(_)) => State::Passed,
        _ => State::Unknown,
    };
    Check::new(state, format!("{mapping}; {filtering}"), begun).with(NatFound {
        server,
        mapped,
        mapping: nat.mapping,
        filtering: nat.filtering,
        server_has_second_address: nat.has_other,
    })
}

fn mtu(sizes: &Sizes, begun: Instant) -> Check<usize> {
    match (sizes.largest(), sizes.bound()) {
        (Some(largest), None) => {
            let what = format!("packets of {largest} bytes pass uncut");
            Check::new(State::Passed, what, begun).with(largest)
        }
        (Some(largest), Some(bound)) => {
            let what = format!("packets of {largest} bytes pass uncut, of {bound} not");
            let state = match largest >= MTU_NEEDED {
                true => State::Passed,
                false => State::Failed,
            };
            Check::new(state, what, begun).with(largest)
        }
        (None, _) => {
            let what = "no large question was answered: the server may not answer such";
            Check::new(State::Unknown, what, begun)
        }
    }
}

async fn by_ipv6(servers: &[SocketAddr], limit: Duration, begun: Instant) -> Check<Ipv6Found> {
    let is_global = |ip: &IpAddr| ip.is_ipv6() && local::is_global(*ip);
    let mut found = Ipv6Found {
        global_address: local::addresses().iter().any(is_global),
        route: local::has_ipv6_route(),
        mapped: None,
    };
    if let Some(server) = servers.first() {
        found.mapped = examined(*server, None, limit).await.mapped;
    }
    let (state, what) = match (
        found.global_address && found.route,
        servers.first(),
        found.mapped,
    ) {
        (_, Some(_), Some(mapped)) => (State::Passed, format!("a STUN server sees {mapped}")),
        (true, Some(server), None) => (State::Failed, format!("no answer from {server}")),
        (true, None, _) => (
            State::Unknown,
            "an address and a route, but no STUN server to ask by IPv6".to_owned(),
        ),
        (false, ..) if found.global_address => (State::Failed, "no route to the world".to_owned()),
        (false, ..) => (State::Skipped, "this host has no global address".to_owned()),
    };
    Check::new(state, what, begun).with(found)
}
