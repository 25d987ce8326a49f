//! The internet of the lab, sans-IO: hosts, gates (NATs and firewalls) before them, and the
//! way of every packet between.
//!
//! A packet goes over its host's line, up through the gates before it until one knows its
//! target inside or none is left, and down through the gates before its target. Gates form
//! a tree, so that a home NAT stands behind a carrier's. Addresses inside a gate are known
//! there alone; what nobody has is dark: packets for it vanish.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use waymesh_lab::dice::Dice;

use super::Dropped;
use super::firewall::{Firewall, Rule, Ruling};
use super::packet::{End, Packet, Protocol};
pub(crate) use super::translator::Forget;
use super::translator::{Nat, NatConfig};
use super::weather::{Held, Line, Weather};

/// A host of one internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostId(usize);

impl HostId {
    /// The number that stands for it where only numbers do.
    pub(crate) const fn number(self) -> u64 {
        self.0 as u64
    }

    pub(crate) const fn from_number(number: u64) -> Self {
        Self(number as usize)
    }
}

/// A gate of one internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GateId(usize);

/// What a gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateConfig {
    Nat(NatConfig, Ipv4Addr),
    Firewall(Rule),
}

/// Both directions of a host's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

#[derive(Debug)]
enum Device {
    Nat(Nat),
    Firewall(Firewall),
}

#[derive(Debug)]
struct Gate {
    device: Device,
    behind: Option<GateId>,
    inside: HashMap<IpAddr, Place>,
}

#[derive(Debug)]
struct Host {
    behind: Option<GateId>,
    addresses: Vec<IpAddr>,
    up: Line,
    down: Line,
    /// What passes its line in neither direction.
    forbidden: Option<Protocol>,
}

impl Host {
    fn forbids(&self, packet: &Packet) -> bool {
        let protocol = packet.flow().map(|flow| flow.protocol);
        protocol.is_some() && protocol == self.forbidden
    }
}

/// Where an address is, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Host(HostId),
    Gate(GateId),
}

/// A packet on a line.
#[derive(Debug)]
struct Flight {
    at: Instant,
    /// Two that arrive at once arrive in the order of their sending.
    order: u64,
    host: HostId,
    direction: Direction,
    packet: Packet,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Hosts, gates, and packets under way.
#[derive(Debug)]
pub(crate) struct Internet {
    hosts: Vec<Host>,
    gates: Vec<Gate>,
    public: HashMap<IpAddr, Place>,
    /// Public addresses from which nothing gets to others.
    cuts: HashSet<(IpAddr, IpAddr)>,
    flights: BinaryHeap<Reverse<Flight>>,
    arrived: VecDeque<(HostId, Packet)>,
    arrivals: HashMap<HostId, u64>,
    /// What hosts have sent to addresses of others, of those that are watched.
    watched: HashMap<(HostId, IpAddr), u64>,
    sent: u64,
    dropped: BTreeMap<Dropped, u64>,
    dice: Dice,
}

impl Internet {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            gates: Vec::new(),
            public: HashMap::new(),
            cuts: HashSet::new(),
            flights: BinaryHeap::new(),
            arrived: VecDeque::new(),
            arrivals: HashMap::new(),
            watched: HashMap::new(),
            sent: 0,
            dropped: BTreeMap::new(),
            dice: Dice::new(seed),
        }
    }

    /// Puts a gate behind another, or at the internet itself.
    pub(crate) fn add_gate(&mut self, config: GateConfig, behind: Option<GateId>) -> GateId {
        let id = GateId(self.gates.len());
        let device = match config {
            GateConfig::Nat(config, outside) => {
                self.announce(outside.into(), Place::Gate(id), behind);
                Device::Nat(Nat::new(config, outside, self.dice.roll()))
            }
            GateConfig::Firewall(rule) => Device::Firewall(Firewall::new(rule)),
        };
        let inside = HashMap::new();
        self.gates.push(Gate {
            device,
            behind,
            inside,
        });
        id
    }

    /// Puts a host behind a gate, or at the internet itself.
    pub(crate) fn add_host(&mut self, addresses: &[IpAddr], behind: Option<GateId>) -> HostId {
        let id = HostId(self.hosts.len());
        self.hosts.push(Host {
            behind: None,
            addresses: Vec::new(),
            up: Line::default(),
            down: Line::default(),
            forbidden: None,
        });
        self.move_host(id, addresses, behind);
        id
    }

    /// Gives a host other addresses at another place; what is under way to the old ones is lost.
    pub(crate) fn move_host(&mut self, id: HostId, addresses: &[IpAddr], behind: Option<GateId>) {
        let host = &mut self.hosts[id.0];
        let old = std::mem::replace(&mut host.addresses, addresses.to_vec());
        let was = std::mem::replace(&mut host.behind, behind);
        for address in old {
            self.withdraw(address, was);
        }
        for address in addresses {
            self.announce(*address, Place::Host(id), behind);
        }
    }

    /// Makes an address known as far as it is: a NAT hides those of IPv4 inside.
    fn announce(&mut self, address: IpAddr, mut place: Place, mut at: Option<GateId>) {
        while let Some(id) = at {
            let gate = &mut self.gates[id.0];
            gate.inside.insert(address, place);
            if address.is_ipv4() && matches!(gate.device, Device::Nat(_)) {
                return;
            }
            (place, at) = (Place::Gate(id), gate.behind);
        }
        self.public.insert(address, place);
    }

    fn withdraw(&mut self, address: IpAddr, mut at: Option<GateId>) {
        while let Some(id) = at {
            let gate = &mut self.gates[id.0];
            gate.inside.remove(&address);
            if address.is_ipv4() && matches!(gate.device, Device::Nat(_)) {
                return;
            }
            at = gate.behind;
        }
        self.public.remove(&address);
    }

    /// Sets what one direction of a host's line does.
    pub(crate) fn set_weather(&mut self, host: HostId, direction: Direction, weather: Weather) {
        self.line(host, direction).weather = weather;
    }

    /// Lets nothing of a protocol pass a host's line any more; `None`: everything again.
    pub(crate) fn forbid(&mut self, host: HostId, what: Option<Protocol>) {
        self.hosts[host.0].forbidden = what;
    }

    fn line(&mut self, host: HostId, direction: Direction) -> &mut Line {
        let host = &mut self.hosts[host.0];
        match direction {
            Direction::Up => &mut host.up,
            Direction::Down => &mut host.down,
        }
    }

    /// Lets nothing pass from one public address to another.
    pub(crate) fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cuts.insert((from, to));
    }

    /// Ends all such cuts.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Makes all NATs before a host forget.
    pub(crate) fn flush(&mut self, host: HostId, what: Forget) {
        let mut at = self.hosts[host.0].behind;
        while let Some(id) = at {
            let gate = &mut self.gates[id.0];
            if let Device::Nat(nat) = &mut gate.device {
                nat.flush(what);
            }
            at = gate.behind;
        }
    }

    /// The address of IPv4 that a host has on the internet.
    pub(crate) fn public_address(&self, host: HostId) -> Option<IpAddr> {
        let host = &self.hosts[host.0];
        let own = host.addresses.iter().copied().find(IpAddr::is_ipv4);
        let mut at = host.behind;
        let mut outside = own;
        while let Some(id) = at {
            let gate = &self.gates[id.0];
            if let Device::Nat(nat) = &gate.device {
                outside = Some(nat.outside().into());
            }
            at = gate.behind;
        }
        outside
    }

    /// From now on counts what a host sends to any address of another, whether or not it
    /// gets anywhere.
    pub(crate) fn watch(&mut self, from: HostId, to: HostId) {
        let mut addresses = self.hosts[to.0].addresses.clone();
        let mut at = self.hosts[to.0].behind;
        while let Some(id) = at {
            let gate = &self.gates[id.0];
            if let Device::Nat(nat) = &gate.device {
                addresses.push(nat.outside().into());
            }
            at = gate.behind;
        }
        let watched = addresses.into_iter().map(|address| ((from, address), 0));
        self.watched.extend(watched);
    }

    /// How many packets were counted so.
    pub(crate) fn watched(&self) -> u64 {
        self.watched.values().sum()
    }

    /// How many packets did not come through, and why.
    pub(crate) const fn dropped(&self) -> &BTreeMap<Dropped, u64> {
        &self.dropped
    }

    /// A packet left a host.
    pub(crate) fn handle_packet(&mut self, now: Instant, from: HostId, bytes: Vec<u8>) {
        let Ok(packet) = Packet::parse(bytes) else {
            return self.count(Dropped::Malformed);
        };
        let host = &mut self.hosts[from.0];
        if !host.addresses.contains(&packet.ip(End::Source)) {
            return self.count(Dropped::ForeignSource);
        }
        if let Some(count) = self.watched.get_mut(&(from, packet.ip(End::Target))) {
            *count += 1;
        }
        if host.forbids(&packet) {
            return self.count(Dropped::Forbidden);
        }
        match host.up.admit(now, packet.bytes().len(), &mut self.dice) {
            Ok(at) => self.fly(now, at, from, Direction::Up, packet),
            Err(Held::Dropped(why)) => self.count(why),
            Err(Held::TooBig(mtu)) => {
                self.count(Dropped::TooBig);
                if packet.is_whole() {
                    self.arrived.push_back((from, packet.too_big(mtu)));
                }
            }
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|at| at <= now) {
            let Some(Reverse(flight)) = self.flights.pop() else {
                return;
            };
            self.land(now, flight.host, flight.direction, flight.packet);
        }
    }

    /// When something happens next by itself.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.flights.peek().map(|Reverse(flight)| flight.at)
    }

    /// A packet that has come to a host.
    pub(crate) fn poll_arrival(&mut self) -> Option<(HostId, Packet)> {
        let (host, packet) = self.arrived.pop_front()?;
        *self.arrivals.entry(host).or_default() += 1;
        Some((host, packet))
    }

    /// How many packets have come to a host.
    pub(crate) fn arrived_at(&self, host: HostId) -> u64 {
        self.arrivals.get(&host).copied().unwrap_or(0)
    }

    fn count(&mut self, why: Dropped) {
        *self.dropped.entry(why).or_default() += 1;
    }

    fn fly(
        &mut self,
        now: Instant,
        at: Instant,
        host: HostId,
        direction: Direction,
        packet: Packet,
    ) {
        if at <= now {
            return self.land(now, host, direction, packet);
        }
        self.sent += 1;
        self.flights.push(Reverse(Flight {
            at,
            order: self.sent,
            host,
            direction,
            packet,
        }));
    }

    /// A packet came to the end of a line.
    fn land(&mut self, now: Instant, host: HostId, direction: Direction, packet: Packet) {
        match direction {
            Direction::Up => self.climb(now, self.hosts[host.0].behind, packet),
            Direction::Down => self.arrived.push_back((host, packet)),
        }
    }

    /// Goes out through gates until one knows the target inside, or none is left.
    fn climb(&mut self, now: Instant, mut at: Option<GateId>, mut packet: Packet) {
        while let Some(id) = at {
            let gate = &mut self.gates[id.0];
            at = gate.behind;
            if let Some(place) = gate.inside.get(&packet.ip(End::Target)).copied() {
                return self.enter(now, place, packet);
            }
            match &mut gate.device {
                Device::Nat(nat) => {
                    let turns_back = nat.turns_back(&packet);
                    let out = nat.handle_outbound(now, &mut packet);
                    match out.and(turns_back) {
                        Ok(false) => {}
                        Ok(true) => return self.enter(now, Place::Gate(id), packet),
                        Err(why) => return self.count(why),
                    }
                }
                Device::Firewall(firewall) => match firewall.handle_outbound(&packet) {
                    Ruling::Pass => {}
                    Ruling::Refuse(why) => return self.count(why),
                    Ruling::Reset { inside, outside } => {
                        self.count(Dropped::Forbidden);
                        self.enter(now, Place::Gate(id), inside);
                        packet = outside;
                    }
                },
            }
        }
        let ends = (packet.ip(End::Source), packet.ip(End::Target));
        if self.cuts.contains(&ends) {
            return self.count(Dropped::Cut);
        }
        match self.public.get(&ends.1) {
            Some(place) => self.enter(now, *place, packet),
            None => self.count(Dropped::Dark),
        }
    }

    /// Goes in through gates to the target.
    fn enter(&mut self, now: Instant, mut place: Place, mut packet: Packet) {
        loop {
            let id = match place {
                Place::Host(host) => return self.descend(now, host, packet),
                Place::Gate(id) => id,
            };
            let gate = &mut self.gates[id.0];
            if let Device::Nat(nat) = &mut gate.device
                && let Err(why) = nat.handle_inbound(now, &mut packet)
            {
                return self.count(why);
            }
            match gate.inside.get(&packet.ip(End::Target)) {
                Some(next) => place = *next,
                None => return self.count(Dropped::Dark),
            }
        }
    }

    /// Goes over the line to the host that it is for.
    fn descend(&mut self, now: Instant, to: HostId, packet: Packet) {
        let host = &mut self.hosts[to.0];
        if host.forbids(&packet) {
            return self.count(Dropped::Forbidden);
        }
        match host.down.admit(now, packet.bytes().len(), &mut self.dice) {
            Ok(at) => self.fly(now, at, to, Direction::Down, packet),
            Err(Held::Dropped(why)) => self.count(why),
            Err(Held::TooBig(mtu)) => {
                self.count(Dropped::TooBig);
                if packet.is_whole() {
                    let behind = self.hosts[to.0].behind;
                    self.climb(now, behind, packet.too_big(mtu));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
