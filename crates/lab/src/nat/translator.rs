//! A NAT as RFC 4787 describes it: how it maps, whom it lets in, and for how long.
//!
//! Translates IPv4 between its inside and one outside address. IPv6 is not translated: who
//! was not spoken to is kept out by the same filtering. Sans-IO: told the time, it changes
//! packets in place. TCP is filtered by address and port whatever UDP is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use waymesh_lab::dice::Dice;

use super::Dropped;
use super::packet::{End, Flow, Packet, Protocol};

/// What a mapping or a filter depends on (RFC 4787 §4.1, §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dependence {
    /// Not on the other end.
    Independent,
    /// On the other end's address.
    Address,
    /// On its address and port.
    AddressAndPort,
}

impl Dependence {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Independent, Self::Address, Self::AddressAndPort];

    /// As RFC 4787 names it, short.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Independent => "endpoint-independent",
            Self::Address => "address-dependent",
            Self::AddressAndPort => "address-and-port-dependent",
        }
    }

    /// What of the other end counts.
    const fn of(self, other: SocketAddr) -> Option<(IpAddr, Option<u16>)> {
        match self {
            Self::Independent => None,
            Self::Address => Some((other.ip(), None)),
            Self::AddressAndPort => Some((other.ip(), Some(other.port()))),
        }
    }
}

/// Which outside port a mapping gets (RFC 4787 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortChoice {
    /// The inside one, or the next that is free; after each flush another.
    Preserving,
    /// Any.
    Random,
    /// One after the other.
    Sequential,
}

/// Whether hosts inside reach each other by their outside addresses (RFC 4787 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hairpin {
    Yes,
    No,
}

/// What a NAT forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forget {
    /// What it knows of UDP.
    Udp,
    /// All.
    Everything,
}

/// How a NAT behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NatConfig {
    pub(crate) mapping: Dependence,
    pub(crate) filtering: Dependence,
    pub(crate) ports: PortChoice,
    pub(crate) hairpin: Hairpin,
    /// How long a UDP mapping, and a hole in the filter, live after the last packet out.
    pub(crate) udp_timeout: Duration,
}

/// RFC 4787 REQ-5 recommends 5 minutes and forbids less than 2.
const UDP_TIMEOUT: Duration = Duration::from_secs(300);

/// RFC 5382 REQ-5.
const TCP_TIMEOUT: Duration = Duration::from_secs(2 * 3_600 + 4 * 60);

/// RFC 5508 REQ-2.
const ECHO_TIMEOUT: Duration = Duration::from_secs(60);

/// The ports that are given out.
const FIRST_PORT: u16 = 1_024;

/// Ports tried before the NAT gives up: it is full, or nearly.
const PORT_TRIES: u32 = 70_000;

/// How far a flush moves preserved ports. Chosen: a prime.
const FLUSH_STEP: u16 = 1_009;

impl NatConfig {
    pub(crate) const fn new(mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            mapping,
            filtering,
            ports: match mapping {
                Dependence::Independent => PortChoice::Preserving,
                _ => PortChoice::Random,
            },
            hairpin: Hairpin::Yes,
            udp_timeout: UDP_TIMEOUT,
        }
    }

    const fn timeout(&self, protocol: Protocol) -> Duration {
        match protocol {
            Protocol::Udp => self.udp_timeout,
            Protocol::Tcp => TCP_TIMEOUT,
            Protocol::Echo => ECHO_TIMEOUT,
        }
    }

    const fn filtering(&self, protocol: Protocol) -> Dependence {
        match protocol {
            Protocol::Udp | Protocol::Echo => self.filtering,
            Protocol::Tcp => Dependence::AddressAndPort,
        }
    }
}

type Other = Option<(IpAddr, Option<u16>)>;

/// One inside end, seen from outside as one port.
#[derive(Debug, Clone)]
struct Mapping {
    inside: SocketAddr,
    other: Other,
    until: Instant,
    /// Who may send to it, and until when.
    holes: HashMap<Other, Instant>,
}

/// A NAT with one outside address.
#[derive(Debug)]
pub(crate) struct Nat {
    config: NatConfig,
    outside: Ipv4Addr,
    ports: HashMap<(Protocol, SocketAddr, Other), u16>,
    mappings: HashMap<(Protocol, u16), Mapping>,
    /// Holes for IPv6: an inside end and who may send to it.
    holes: HashMap<(Protocol, SocketAddr, Other), Instant>,
    flushes: u16,
    next_port: u16,
    dice: Dice,
}

impl Nat {
    pub(crate) fn new(config: NatConfig, outside: Ipv4Addr, seed: u64) -> Self {
        Self {
            config,
            outside,
            ports: HashMap::new(),
            mappings: HashMap::new(),
            holes: HashMap::new(),
            flushes: 0,
            next_port: FIRST_PORT,
            dice: Dice::new(seed),
        }
    }

    pub(crate) const fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// Forgets, as one that was switched off and on; mappings get other ports than before.
    pub(crate) fn flush(&mut self, what: Forget) {
        let is_kept = |protocol: Protocol| what == Forget::Udp && protocol != Protocol::Udp;
        self.ports.retain(|(protocol, ..), _| is_kept(*protocol));
        self.mappings.retain(|(protocol, _), _| is_kept(*protocol));
        self.holes.retain(|(protocol, ..), _| is_kept(*protocol));
        self.flushes = self.flushes.wrapping_add(1);
    }

    /// Whether a packet from inside is for this NAT's own outside address, and comes back in.
    pub(crate) fn turns_back(&self, packet: &Packet) -> Result<bool, Dropped> {
        let is_own = packet.ip(End::Target) == IpAddr::V4(self.outside);
        match (is_own, self.config.hairpin) {
            (true, Hairpin::No) => Err(Dropped::NoHairpin),
            _ => Ok(is_own),
        }
    }

    /// Lets a packet out.
    pub(crate) fn handle_outbound(
        &mut self,
        now: Instant,
        packet: &mut Packet,
    ) -> Result<(), Dropped> {
        if packet.is_v6() {
            return self.open_hole(now, packet);
        }
        if let Some(flow) = packet.flow() {
            let outside = self.map(now, flow)?;
            packet.set(End::Source, outside);
            return Ok(());
        }
        // An error about a packet that came in: its target was the inside end.
        let quoted = packet.quoted().ok_or(Dropped::NotTranslatable)?;
        let key = (
            quoted.protocol,
            quoted.target,
            self.config.mapping.of(quoted.source),
        );
        let port = *self.ports.get(&key).ok_or(Dropped::NoMapping)?;
        let outside = SocketAddr::new(self.outside.into(), port);
        packet.set_quoted(End::Target, outside);
        packet.set(End::Source, outside);
        Ok(())
    }

    /// Lets a packet for the outside address in, if anybody inside has asked for it.
    pub(crate) fn handle_inbound(
        &mut self,
        now: Instant,
        packet: &mut Packet,
    ) -> Result<(), Dropped> {
        if packet.is_v6() {
            return self.check_hole(now, packet);
        }
        if let Some(flow) = packet.flow() {
            let inside = self.admit(now, flow)?;
            packet.set(End::Target, inside);
            return Ok(());
        }
        // An error about a packet that went out: its source was the mapping.
        let quoted = packet.quoted().ok_or(Dropped::NotTranslatable)?;
        let mapping = self.mappings.get(&(quoted.protocol, quoted.source.port()));
        let inside = mapping.ok_or(Dropped::NoMapping)?.inside;
        packet.set_quoted(End::Source, inside);
        packet.set(End::Target, inside);
        Ok(())
    }

    /// The outside end of a flow from inside, new or kept alive.
    fn map(&mut self, now: Instant, flow: Flow) -> Result<SocketAddr, Dropped> {
        let Flow {
            protocol,
            source,
            target,
        } = flow;
        let other = self.config.mapping.of(target);
        let until = now + self.config.timeout(protocol);
        let known = self.ports.get(&(protocol, source, other)).copied();
        let alive = known.filter(|port| {
            let mapping = self.mappings.get(&(protocol, *port));
            mapping.is_some_and(|mapping| mapping.until > now)
        });
        let port = match alive {
            Some(port) => port,
            None => self.make(now, flow, other)?,
        };
        if let Some(mapping) = self.mappings.get_mut(&(protocol, port)) {
            mapping.until = until;
            let hole = self.config.filtering(protocol).of(target);
            mapping.holes.insert(hole, until);
        }
        Ok(SocketAddr::new(self.outside.into(), port))
    }

    fn make(&mut self, now: Instant, flow: Flow, other: Other) -> Result<u16, Dropped> {
        let Flow {
            protocol, source, ..
        } = flow;
        let port = self.free_port(now, protocol, source.port())?;
        if let Some(old) = self.mappings.remove(&(protocol, port)) {
            self.ports.remove(&(protocol, old.inside, old.other));
        }
        if let Some(old) = self.ports.insert((protocol, source, other), port) {
            self.mappings.remove(&(protocol, old));
        }
        let mapping = Mapping {
            inside: source,
            other,
            until: now,
            holes: HashMap::new(),
        };
        self.mappings.insert((protocol, port), mapping);
        Ok(port)
    }

    fn free_port(&mut self, now: Instant, protocol: Protocol, inside: u16) -> Result<u16, Dropped> {
        let span = u32::from(u16::MAX - FIRST_PORT) + 1;
        let wrap = |port: u32| FIRST_PORT + ((port - u32::from(FIRST_PORT)) % span) as u16;
        let moved = inside.wrapping_add(self.flushes.wrapping_mul(FLUSH_STEP));
        let first = wrap(u32::from(moved.max(FIRST_PORT)));
        for tried in 0..PORT_TRIES {
            let port = match self.config.ports {
                PortChoice::Preserving => wrap(u32::from(first) + tried),
                PortChoice::Random => {
                    wrap(u32::from(FIRST_PORT) + self.dice.number_below(u64::from(span)) as u32)
                }
                PortChoice::Sequential => {
                    self.next_port = wrap(u32::from(self.next_port) + 1);
                    self.next_port
                }
            };
            let taken = self.mappings.get(&(protocol, port));
            if taken.is_none_or(|mapping| mapping.until <= now) {
                return Ok(port);
            }
        }
        Err(Dropped::NoPort)
    }

    /// Who inside a packet from outside is for.
    fn admit(&self, now: Instant, flow: Flow) -> Result<SocketAddr, Dropped> {
        let Flow {
            protocol,
            source,
            target,
        } = flow;
        let mapping = self.mappings.get(&(protocol, target.port()));
        let mapping = mapping
            .filter(|mapping| mapping.until > now)
            .ok_or(Dropped::NoMapping)?;
        // Of an echo both ends have one identifier, so only its address can count.
        let filtering = match (protocol, self.config.filtering(protocol)) {
            (_, Dependence::Independent) => return Ok(mapping.inside),
            (Protocol::Echo, _) => {
                let has = mapping
                    .holes
                    .keys()
                    .flatten()
                    .any(|(ip, _)| *ip == source.ip());
                return if has {
                    Ok(mapping.inside)
                } else {
                    Err(Dropped::Filtered)
                };
            }
            (_, filtering) => filtering,
        };
        match mapping.holes.get(&filtering.of(source)) {
            Some(until) if *until > now => Ok(mapping.inside),
            _ => Err(Dropped::Filtered),
        }
    }

    fn open_hole(&mut self, now: Instant, packet: &Packet) -> Result<(), Dropped> {
        if let Some(flow) = packet.flow() {
            let until = now + self.config.timeout(flow.protocol);
            let other = self.config.filtering(flow.protocol).of(flow.target);
            self.holes
                .insert((flow.protocol, flow.source, other), until);
        }
        Ok(())
    }

    fn check_hole(&self, now: Instant, packet: &Packet) -> Result<(), Dropped> {
        let (protocol, inside, other) = match (packet.flow(), packet.quoted()) {
            (Some(flow), _) => (flow.protocol, flow.target, flow.source),
            (None, Some(quoted)) => (quoted.protocol, quoted.source, quoted.target),
            (None, None) => return Err(Dropped::NotTranslatable),
        };
        let key = (protocol, inside, self.config.filtering(protocol).of(other));
        match self.holes.get(&key) {
            Some(until) if *until > now => Ok(()),
            _ => Err(Dropped::Filtered),
        }
    }
}

#[cfg(test)]
mod tests;
