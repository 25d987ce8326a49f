//! A running internet: its router, and a namespace for every host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};

use super::internet::{Direction, GateConfig, GateId, HostId, Internet};
use super::kind::{Kind, Place};
use super::namespace::{self, Namespace};
use super::router::Router;
use super::weather::Weather;

/// The largest packet of a host's device unless a test wants another: Ethernet's.
pub(crate) const MTU: u16 = 1_500;

/// Whether hosts have IPv6 beside IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sixth {
    With,
    Without,
}

/// The lab's internet and its hosts.
#[derive(Debug)]
pub(crate) struct Net {
    router: Router,
    registry: SocketAddr,
    sixth: Sixth,
    places: u8,
}

/// A host: a namespace and its place.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) namespace: Namespace,
    addresses: Vec<IpAddr>,
}

impl Net {
    /// Starts an internet without hosts, after what dead runs left is gone.
    pub(crate) fn start(registry: SocketAddr, sixth: Sixth, seed: u64) -> Result<Self> {
        namespace::sweep().context("ending what an earlier run left")?;
        Ok(Self {
            router: Router::start(Internet::new(seed))?,
            registry,
            sixth,
            places: 0,
        })
    }

    /// Looks at the models or changes them.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut Internet) -> T) -> T {
        self.router.with(what)
    }

    /// A host with public addresses of its own.
    pub(crate) fn add_server(&self, label: &str, addresses: &[Ipv4Addr]) -> Result<Host> {
        let addresses: Vec<_> = addresses.iter().copied().map(IpAddr::from).collect();
        self.add(label, addresses, None)
    }

    /// A host alone in a new network of a kind.
    pub(crate) fn add_host(&mut self, label: &str, kind: Kind) -> Result<Host> {
        let place = self.next_place();
        let gates = kind.gates(&place);
        self.add_behind(label, place.own(kind), &place, &gates)
    }

    /// A host in a new network behind these gates.
    pub(crate) fn add_host_behind(&mut self, label: &str, gates: &[GateConfig]) -> Result<Host> {
        let place = self.next_place();
        self.add_behind(label, place.private, &place, gates)
    }

    /// The place that the next host gets.
    pub(crate) fn peek_place(&self) -> Place {
        Place::new(self.places, self.registry)
    }

    fn next_place(&mut self) -> Place {
        let place = self.peek_place();
        self.places += 1;
        place
    }

    fn add_behind(
        &self,
        label: &str,
        own: Ipv4Addr,
        place: &Place,
        gates: &[GateConfig],
    ) -> Result<Host> {
        let behind = self.build(gates);
        let mut addresses = vec![own.into()];
        if self.sixth == Sixth::With {
            addresses.push(place.sixth);
        }
        self.add(label, addresses, behind)
    }

    /// Builds gates, given from the internet inwards; gives the innermost.
    fn build(&self, gates: &[GateConfig]) -> Option<GateId> {
        self.with(|internet| {
            gates
                .iter()
                .fold(None, |behind, gate| Some(internet.add_gate(*gate, behind)))
        })
    }

    fn add(&self, label: &str, addresses: Vec<IpAddr>, behind: Option<GateId>) -> Result<Host> {
        let namespace = Namespace::make(label)?;
        let device = namespace.make_device(MTU, &addresses)?;
        let id = self.with(|internet| internet.add_host(&addresses, behind));
        self.router.connect(id, device)?;
        Ok(Host {
            id,
            namespace,
            addresses,
        })
    }

    /// Moves a host to a new network of a kind: another private and another public address.
    pub(crate) fn move_host(&mut self, host: &mut Host, kind: Kind) -> Result<()> {
        let place = self.next_place();
        let behind = self.build(&kind.gates(&place));
        let mut addresses = vec![place.own(kind).into()];
        if self.sixth == Sixth::With {
            addresses.push(place.sixth);
        }
        self.with(|internet| internet.move_host(host.id, &addresses, behind));
        host.namespace.readdress(&host.addresses, &addresses)?;
        host.addresses = addresses;
        Ok(())
    }

    /// Gives a host with a public address another one.
    pub(crate) fn move_server(&self, host: &mut Host, address: Ipv4Addr) -> Result<()> {
        let addresses = vec![IpAddr::from(address)];
        self.with(|internet| internet.move_host(host.id, &addresses, None));
        host.namespace.readdress(&host.addresses, &addresses)?;
        host.addresses = addresses;
        Ok(())
    }

    /// Gives both directions of a host's line the same weather.
    pub(crate) fn set_weather(&self, host: &Host, weather: Weather) {
        self.with(|internet| {
            for direction in [Direction::Up, Direction::Down] {
                internet.set_weather(host.id, direction, weather);
            }
        });
    }
}
