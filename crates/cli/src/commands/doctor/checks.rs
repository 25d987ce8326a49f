//! The checks, all beside each other, each within its limit.

mod registry;
mod turn;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;
use waymesh_net::control::Carrier;
use waymesh_net::probe::local;
use waymesh_proto::{Code, Fault};

pub(super) use self::registry::TlsFound;
use self::registry::{carrier, names, way_in};
pub(super) use self::turn::{Reach, TurnFound};
use self::udp::{ByUdp, by_udp};
pub(super) use self::udp::{Ipv6Found, NatFound};
use super::servers::{Owner, Servers};
use super::subject::Subject;
use super::told::{ServersFound, Told};
use crate::output::millis;

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
    /// Why it failed, with a code and what to do.
    pub(super) error: Option<Fault>,
    pub(super) took_ms: Option<f64>,
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Findings {
    pub(super) route: Check<()>,
    pub(super) dns: Check<Vec<IpAddr>>,
    pub(super) tcp: Check<SocketAddr>,
    pub(super) tcp_443: Check<SocketAddr>,
    pub(super) proxy: Check<String>,
    pub(super) tls: Check<TlsFound>,
    pub(super) websocket: Check<()>,
    pub(super) long_poll: Check<()>,
    pub(super) servers: Check<ServersFound>,
    pub(super) udp: Check<SocketAddr>,
    pub(super) nat: Check<NatFound>,
    pub(super) turn: Vec<TurnFound>,
    pub(super) mtu: Check<usize>,
    pub(super) ipv6: Check<Ipv6Found>,
    pub(super) local_addresses: Vec<IpAddr>,
    /// STUN servers that were asked by IPv4 and answered nothing.
    #[serde(skip)]
    pub(super) stun_silent: usize,
    /// The servers that were examined.
    #[serde(skip)]
    pub(super) examined: Servers,
}

impl<T> Check<T> {
    pub(super) fn new(state: State, what: impl Into<String>, begun: Instant) -> Self {
        Self {
            state,
            found: None,
            what: what.into(),
            error: None,
            took_ms: Some(millis(begun.elapsed())),
        }
    }

    /// One that failed for this reason.
    pub(super) fn failed(error: Fault, begun: Instant) -> Self {
        Self {
            error: Some(error.clone()),
            ..Self::new(State::Failed, error.message, begun)
        }
    }

    pub(super) fn skipped(what: &str) -> Self {
        Self {
            state: State::Skipped,
            found: None,
            what: what.to_owned(),
            error: None,
            took_ms: None,
        }
    }

    pub(super) fn with(mut self, found: T) -> Self {
        self.found = Some(found);
        self
    }

    pub(super) fn is_passed(&self) -> bool {
        self.state == State::Passed
    }
}

/// Runs all checks. None takes much longer than `limit`, but that what is known of servers
/// comes before they are examined.
pub(super) async fn run(subject: &Subject, limit: Duration) -> Findings {
    let registry = subject.registry.as_ref();
    let ((dns, tcp, tcp_443), (proxy, tls), websocket, long_poll, through) = tokio::join!(
        Box::pin(names(registry, limit)),
        Box::pin(way_in(registry, limit)),
        Box::pin(carrier(registry, Carrier::WebSocket, limit)),
        Box::pin(carrier(registry, Carrier::Poll, limit)),
        Box::pin(through_servers(subject, limit)),
    );
    Findings {
        route: route(),
        dns,
        tcp,
        tcp_443,
        proxy,
        tls,
        websocket,
        long_poll,
        servers: through.told,
        udp: through.udp.reached,
        nat: through.udp.nat,
        turn: through.turn,
        mtu: through.udp.mtu,
        ipv6: through.udp.ipv6,
        local_addresses: local::addresses(),
        stun_silent: through.udp.silent,
        examined: through.servers,
    }
}

/// Whether this host is in a network with a way out; nothing is sent.
fn route() -> Check<()> {
    let begun = Instant::now();
    match (local::has_ipv4_route(), local::has_ipv6_route()) {
        (true, true) => Check::new(State::Passed, "there is a way out by IPv4 and IPv6", begun),
        (true, false) => Check::new(State::Passed, "there is a way out by IPv4", begun),
        (false, true) => Check::new(State::Passed, "there is a way out by IPv6", begun),
        (false, false) => {
            let message = "this host has no route to other networks";
            let fault = Fault::new(Code::PathUnavailable, message).with_hint(
                "connect this host to a network (ip route shows no default): only what is in \
                 its own network can be reached",
            );
            Check::failed(fault, begun)
        }
    }
}

/// What STUN and TURN servers show.
struct Through {
    told: Check<ServersFound>,
    servers: Servers,
    udp: ByUdp,
    turn: Vec<TurnFound>,
}

async fn through_servers(subject: &Subject, limit: Duration) -> Through {
    let told = Told::ask(subject, limit).await;
    let mut servers = Servers::default();
    servers.add(told.servers.as_deref().unwrap_or_default(), Owner::Registry);
    servers.add(&told.configured, Owner::User);
    servers.add(&subject.named, Owner::User);
    if let (None, Some(registry)) = (&told.servers, &subject.registry) {
        servers.assume(registry);
    }
    let (told, udp, turn) = tokio::join!(
        Box::pin(told.settled(limit)),
        Box::pin(by_udp(&servers.stun, limit)),
        Box::pin(turn::all(subject, &servers.turn, limit)),
    );
    Through {
        told,
        servers,
        udp,
        turn,
    }
}
