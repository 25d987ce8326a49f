//! The checks, all beside each other, each within its limit.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use serde::Serialize;
use waymesh_net::control::{Carrier, ConnectError};
use waymesh_net::probe::behaviour::{Behaviour, Filtering, Mapping, Nat};
use waymesh_net::probe::mtu::Sizes;
use waymesh_net::probe::turn::{Asking, Reached};
use waymesh_net::probe::udp::Lanes;
use waymesh_net::probe::{local, stream, turn};
use waymesh_proto::ice::{IceTransport, IceUrl};

use super::subject::{Owner, Registry, StunServer, Subject, TurnServer};
use crate::output::millis;

/// HTTPS's port: the one that the narrowest networks leave open.
const HTTPS_PORT: u16 = 443;

/// STUN servers that are asked, all beside each other. Chosen: one tells all there is to know.
const STUN_SERVERS_MAX: usize = 8;

/// Why a registry on this machine gives nothing.
const NONE_HERE: &str = "a registry on this machine has no STUN and TURN server unless told to";

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Passed,
    Failed,
    /// It cannot be known from here.
    Unknown,
    /// There is nothing to try.
    Skipped,
}

/// A check and what it found. No key is ever absent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check<T> {
    pub(super) state: State,
    pub(super) found: Option<T>,
    /// In words.
    pub(super) what: String,
    pub(super) took_ms: Option<f64>,
}

/// What TLS shows.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TlsFound {
    /// Another key than the pinned one: something on the way opens the connection.
    pub(super) intercepted: bool,
    pub(super) key: Option<String>,
    pub(super) pin: Option<String>,
    pub(super) issuer: Option<String>,
}

/// What is between this host and the internet, for UDP.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NatFound {
    /// The STUN server that was asked.
    pub(super) server: SocketAddr,
    pub(super) mapped: SocketAddr,
    pub(super) mapping: Option<Mapping>,
    pub(super) filtering: Option<Filtering>,
    /// Whether the server has the second address that both need (RFC 5780).
    pub(super) server_has_second_address: bool,
}

/// A TURN server by one of its URLs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TurnFound {
    pub(super) url: IceUrl,
    #[serde(flatten)]
    pub(super) check: Check<SocketAddr>,
}

/// IPv6.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ipv6Found {
    pub(super) global_address: bool,
    pub(super) route: bool,
    /// This host as a STUN server sees it by IPv6.
    pub(super) mapped: Option<SocketAddr>,
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Findings {
    pub(super) dns: Check<Vec<IpAddr>>,
    pub(super) tcp: Check<SocketAddr>,
    pub(super) tcp_443: Check<SocketAddr>,
    pub(super) proxy: Check<String>,
    pub(super) tls: Check<TlsFound>,
    pub(super) websocket: Check<()>,
    pub(super) long_poll: Check<()>,
    pub(super) udp: Check<SocketAddr>,
    pub(super) nat: Check<NatFound>,
    pub(super) turn: Vec<TurnFound>,
    pub(super) mtu: Check<usize>,
    pub(super) ipv6: Check<Ipv6Found>,
    pub(super) local_addresses: Vec<IpAddr>,
    /// STUN servers that were asked by IPv4 and answered nothing, and how many were asked.
    #[serde(skip)]
    pub(super) stun_silent: usize,
}

impl<T> Check<T> {
    fn new(state: State, what: impl Into<String>, begun: Instant) -> Self {
        Self {
            state,
            found: None,
            what: what.into(),
            took_ms: Some(millis(begun.elapsed())),
        }
    }

    fn skipped(what: &str) -> Self {
        Self {
            state: State::Skipped,
            found: None,
            what: what.to_owned(),
            took_ms: None,
        }
    }

    fn with(mut self, found: T) -> Self {
        self.found = Some(found);
        self
    }

    pub(super) fn is_passed(&self) -> bool {
        self.state == State::Passed
    }
}

/// Runs all checks; none takes much longer than `limit`.
pub(super) async fn run(subject: &Subject, limit: Duration) -> Findings {
    let registry = subject.registry.as_ref();
    let names = names(registry, limit);
    let ((dns, tcp, tcp_443), (proxy, tls), websocket, long_poll, udp, turn) = tokio::join!(
        Box::pin(names),
        Box::pin(way_in(registry, limit)),
        Box::pin(carrier(registry, Carrier::WebSocket, limit)),
        Box::pin(carrier(registry, Carrier::Poll, limit)),
        Box::pin(by_udp(subject, limit)),
        Box::pin(turns(subject, limit)),
    );
    Findings {
        dns,
        tcp,
        tcp_443,
        proxy,
        tls,
        websocket,
        long_poll,
        udp: udp.reached,
        nat: udp.nat,
        turn,
        mtu: udp.mtu,
        ipv6: udp.ipv6,
        local_addresses: local::addresses(),
        stun_silent: udp.silent,
    }
}

type Names = (Check<Vec<IpAddr>>, Check<SocketAddr>, Check<SocketAddr>);

async fn names(registry: Option<&Registry>, limit: Duration) -> Names {
    let none = "no registry is named";
    let Some(registry) = registry else {
        return (
            Check::skipped(none),
            Check::skipped(none),
            Check::skipped(none),
        );
    };
    let begun = Instant::now();
    let host = &registry.host;
    let addresses = match stream::resolve(host, registry.port, limit).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let what = format!("{host} has no address here: {error}");
            let unresolved = "the registry's name does not resolve";
            return (
                Check::new(State::Failed, what, begun),
                Check::skipped(unresolved),
                Check::skipped(unresolved),
            );
        }
    };
    let ips: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    let what = match host.parse::<IpAddr>() {
        Ok(_) => "the registry is named by its address".to_owned(),
        Err(_) => {
            let shown: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
            format!("{host} is {}", shown.join(", "))
        }
    };
    let dns = Check::new(State::Passed, what, begun).with(ips);
    let https: Vec<_> = addresses
        .iter()
        .map(|address| SocketAddr::new(address.ip(), HTTPS_PORT))
        .collect();
    let (own, https) = tokio::join!(tcp(&addresses, limit), tcp(&https, limit));
    (dns, own, https_port(registry, https))
}

async fn tcp(addresses: &[SocketAddr], limit: Duration) -> Check<SocketAddr> {
    let begun = Instant::now();
    match stream::connect(addresses, limit).await {
        Ok(address) => Check::new(State::Passed, format!("{address} answers"), begun).with(address),
        Err(error) => {
            let port = addresses.first().map_or(0, SocketAddr::port);
            let what = match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("port {port} refuses"),
                _ => format!("port {port}: {error}"),
            };
            Check::new(State::Failed, what, begun)
        }
    }
}

/// That nothing answers on 443 says nothing of the network where nothing listens there.
fn https_port(registry: &Registry, mut check: Check<SocketAddr>) -> Check<SocketAddr> {
    if !check.is_passed() && registry.port != HTTPS_PORT {
        check.state = State::Unknown;
        check.what = format!("{}; the registry may have nothing there", check.what);
    }
    check
}

/// The byte stream to the registry: proxy and TLS.
async fn way_in(registry: Option<&Registry>, limit: Duration) -> (Check<String>, Check<TlsFound>) {
    let Some(registry) = registry else {
        let none = "no registry is named";
        return (Check::skipped(none), Check::skipped(none));
    };
    let begun = Instant::now();
    let reached = stream::reach(&registry.strict, limit).await;
    let proxy = match (registry.strict.proxy(), &reached) {
        (None, _) => Check::skipped("the environment names none for the registry"),
        (Some(proxy), Err(error @ (ConnectError::Proxy { .. } | ConnectError::Timeout { .. }))) => {
            Check::new(State::Failed, error.to_string(), begun).with(proxy.to_owned())
        }
        (Some(proxy), _) => {
            let what = format!("{proxy} connects to the registry");
            Check::new(State::Passed, what, begun).with(proxy.to_owned())
        }
    };
    (proxy, tls(registry, reached.as_ref().err(), begun))
}

fn tls(registry: &Registry, error: Option<&ConnectError>, begun: Instant) -> Check<TlsFound> {
    let hex = |key: [u8; 32]| HEXLOWER.encode(&key);
    let found = |intercepted, key: Option<[u8; 32]>, issuer| TlsFound {
        intercepted,
        key: key.map(hex),
        pin: registry.pin.map(hex),
        issuer,
    };
    if !registry.origin.is_tls() {
        return Check::skipped("the registry speaks plain HTTP, on this machine only");
    }
    match error {
        None => {
            let what = match registry.pin {
                Some(_) => "the registry shows its pinned key",
                None => "an authority vouches for the registry's key",
            };
            Check::new(State::Passed, what, begun).with(found(false, registry.pin, None))
        }
        Some(ConnectError::UntrustedTls(distrust)) => {
            let issuer = distrust.issuer.clone();
            let by = issuer.as_deref().unwrap_or("nobody that it names");
            let is_intercepted = distrust.pin.is_some() && distrust.found.is_some();
            let what = match is_intercepted {
                true => format!("INTERCEPTED: not the pinned key, but one issued by {by}"),
                false => format!("no authority vouches for the key, which is issued by {by}"),
            };
            // Without a pin it may well be the registry's own.
            let state = match is_intercepted {
                true => State::Failed,
                false => State::Unknown,
            };
            Check::new(state, what, begun).with(found(is_intercepted, distrust.found, issuer))
        }
        Some(ConnectError::Tls(error)) => {
            Check::new(State::Failed, format!("no TLS there: {error}"), begun)
        }
        Some(_) => Check::new(State::Unknown, "no connection to try it on", begun),
    }
}

async fn carrier(registry: Option<&Registry>, carrier: Carrier, limit: Duration) -> Check<()> {
    let Some(registry) = registry else {
        return Check::skipped("no registry is named");
    };
    let begun = Instant::now();
    match stream::carry(&registry.target, carrier, limit).await {
        Ok(()) => Check::new(State::Passed, "passes", begun),
        Err(ConnectError::Refused(fault)) => {
            let what = format!("passes; the registry says: {}", fault.message);
            Check::new(State::Passed, what, begun)
        }
        Err(error) => Check::new(State::Failed, error.to_string(), begun),
    }
}

/// What STUN finds out.
struct ByUdp {
    reached: Check<SocketAddr>,
    nat: Check<NatFound>,
    mtu: Check<usize>,
    ipv6: Check<Ipv6Found>,
    silent: usize,
}

async fn by_udp(subject: &Subject, limit: Duration) -> ByUdp {
    let begun = Instant::now();
    let urls = subject
        .stun
        .iter()
        .map(|server| &server.url)
        .filter(|url| url.transport() == IceTransport::Udp && !url.scheme().is_tls());
    let found = urls.map(|url| stream::resolve(url.host(), url.port(), limit));
    let found = futures_util::future::join_all(found).await;
    let all: Vec<_> = found.into_iter().flatten().flatten().collect();
    let (v4, v6): (Vec<SocketAddr>, Vec<_>) = all.into_iter().partition(SocketAddr::is_ipv4);
    let ((nat, reached, silent, mtu), ipv6) =
        tokio::join!(by_ipv4(&v4, begun), by_ipv6(&v6, begun));
    let mut reached = reached;
    let is_needed = |server: &StunServer| server.owner != Owner::LocalRegistry;
    if reached.state == State::Failed && !subject.stun.iter().any(is_needed) {
        reached.state = State::Unknown;
        reached.what = format!("{}; {NONE_HERE}", reached.what);
    }
    ByUdp {
        reached,
        nat,
        mtu,
        ipv6,
        silent,
    }
}

type ByIpv4 = (Check<NatFound>, Check<SocketAddr>, usize, Check<usize>);

async fn by_ipv4(servers: &[SocketAddr], begun: Instant) -> ByIpv4 {
    if servers.is_empty() {
        let none = "there is no STUN server to ask by IPv4";
        return (
            Check::skipped(none),
            Check::skipped(none),
            0,
            Check::skipped(none),
        );
    }
    let each = servers.iter().take(STUN_SERVERS_MAX).map(|server| async {
        let second = servers.iter().find(|other| other.ip() != server.ip());
        let (nat, sizes) = tokio::join!(examined(*server, second.copied()), sized(*server));
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
        let reached = Check::new(State::Passed, what, begun).with(mapped);
        return (
            nat_check(*server, nat, mapped, begun),
            reached,
            silent,
            mtu(sizes, begun),
        );
    }
    let shown: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
    let what = format!("no answer from {}", shown.join(", "));
    let unknown = "UDP gets no answer";
    (
        Check::new(State::Unknown, unknown, begun),
        Check::new(State::Failed, what, begun),
        silent,
        Check::new(State::Unknown, unknown, begun),
    )
}

async fn examined(server: SocketAddr, second: Option<SocketAddr>) -> Nat {
    let opened = Lanes::open(server).and_then(|lanes| Ok((lanes.port()?, lanes)));
    let Ok((port, lanes)) = opened else {
        return Nat::default();
    };
    let mut behaviour = Behaviour::new(server, second, local::all(), port);
    lanes.examine(&mut behaviour).await;
    behaviour.nat()
}

async fn sized(server: SocketAddr) -> Sizes {
    let mut sizes = Sizes::new(server);
    if let Ok(lanes) = Lanes::open(server) {
        lanes.examine(&mut sizes).await;
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
            let state = match largest >= waymesh_net::probe::mtu::MTU_NEEDED {
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

async fn by_ipv6(servers: &[SocketAddr], begun: Instant) -> Check<Ipv6Found> {
    let is_global = |ip: &IpAddr| ip.is_ipv6() && local::is_global(*ip);
    let mut found = Ipv6Found {
        global_address: local::addresses().iter().any(is_global),
        route: local::has_ipv6_route(),
        mapped: None,
    };
    if let Some(server) = servers.first() {
        found.mapped = examined(*server, None).await.mapped;
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
        (false, ..) => (State::Failed, "no global address".to_owned()),
    };
    Check::new(state, what, begun).with(found)
}

async fn turns(subject: &Subject, limit: Duration) -> Vec<TurnFound> {
    let each = subject
        .turn
        .iter()
        .map(|server| one_turn(subject, server, limit));
    futures_util::future::join_all(each).await
}

fn one_turn(
    subject: &Subject,
    server: &TurnServer,
    limit: Duration,
) -> impl Future<Output = TurnFound> {
    let asking = Asking {
        credentials: server.credentials.clone(),
        trust: subject.trust.clone(),
        proxies: subject.proxies.clone(),
        limit,
    };
    let (url, owner) = (server.url.clone(), server.owner);
    async move {
        let begun = Instant::now();
        let check = match turn::reach(&url, &asking).await {
            Ok(Reached::Relays(address)) => {
                let what = format!("relays at {address}");
                Check::new(State::Passed, what, begun).with(address)
            }
            Ok(Reached::WantsCredentials) => {
                let what = "reached; a member gets credentials from the registry";
                Check::new(State::Passed, what, begun)
            }
            Err(_) if owner == Owner::LocalRegistry => Check::skipped(NONE_HERE),
            Err(error) => Check::new(State::Failed, error.to_string(), begun),
        };
        TurnFound { url, check }
    }
}
