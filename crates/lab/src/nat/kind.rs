//! The kinds of networks that hosts are in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::ValueEnum;

use super::firewall::Rule;
use super::internet::GateConfig;
use super::translator::{Dependence, Hairpin, NatConfig, PortChoice};

/// A kind of network, by what stands between a host and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Kind {
    /// Nothing: a public address
    None,
    /// A NAT that maps independently of the other end and lets everybody in
    FullCone,
    /// The same, which lets in addresses that were spoken to
    AddressRestricted,
    /// The same, which lets in addresses and ports that were spoken to
    PortRestricted,
    /// A NAT that maps each other end to another port
    Symmetric,
    /// A port-restricted NAT behind a carrier's
    Cgnat,
    /// A firewall that lets no UDP out
    UdpBlocked,
    /// A firewall that lets out TCP to port 443 alone
    #[value(name = "only-tcp-443")]
    OnlyTcp443,
    /// A firewall that lets out HTTPS to the registry alone
    OnlyRegistry,
}

use Dependence::{Address, AddressAndPort, Independent};

impl Kind {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The gates before a host of this kind, from the internet inwards.
    pub(crate) fn gates(self, place: &Place) -> Vec<GateConfig> {
        let nat = |mapping, filtering| {
            vec![GateConfig::Nat(
                NatConfig::new(mapping, filtering),
                place.outside,
            )]
        };
        let guarded = |rule| {
            let mut gates = nat(Independent, AddressAndPort);
            gates.push(GateConfig::Firewall(rule));
            gates
        };
        match self {
            Self::None => Vec::new(),
            Self::FullCone => nat(Independent, Independent),
            Self::AddressRestricted => nat(Independent, Address),
            Self::PortRestricted => nat(Independent, AddressAndPort),
            Self::Symmetric => {
                let nat = NatConfig {
                    hairpin: Hairpin::No,
                    ..NatConfig::new(AddressAndPort, AddressAndPort)
                };
                vec![GateConfig::Nat(nat, place.outside)]
            }
            Self::Cgnat => {
                // A carrier's NAT lets everybody in (RFC 6888 REQ-7).
                let carrier = NatConfig {
                    ports: PortChoice::Sequential,
                    ..NatConfig::new(Independent, Independent)
                };
                let mut gates = vec![GateConfig::Nat(carrier, place.outside)];
                let home = NatConfig::new(Independent, AddressAndPort);
                gates.push(GateConfig::Nat(home, place.carried));
                gates
            }
            Self::UdpBlocked => guarded(Rule::NoUdp),
            Self::OnlyTcp443 => guarded(Rule::TcpHttps),
            Self::OnlyRegistry => guarded(Rule::HttpsTo(place.registry)),
        }
    }
}

/// Reads two kinds, as `symmetric:none`.
pub(crate) fn pair(text: &str) -> Result<(Kind, Kind), String> {
    let (own, their) = text.split_once(':').ok_or("two kinds are KIND:KIND")?;
    Ok((Kind::from_str(own, true)?, Kind::from_str(their, true)?))
}

/// The addresses of one network, which depend on its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of a host with a public address.
    pub(crate) public: Ipv4Addr,
    /// Of the gate, seen from the internet.
    pub(crate) outside: Ipv4Addr,
    /// Of the home NAT, seen by the carrier.
    pub(crate) carried: Ipv4Addr,
    /// Of the host behind gates. All homes have one prefix, as homes do.
    pub(crate) private: Ipv4Addr,
    /// Of the host, if it has IPv6.
    pub(crate) sixth: IpAddr,
    /// What a network that lets out HTTPS to the registry alone lets out.
    pub(crate) registry: SocketAddr,
}

impl Place {
    /// The addresses of a network; numbers up to 99.
    pub(crate) fn new(number: u8, registry: SocketAddr) -> Self {
        Self {
            public: Ipv4Addr::new(203, 0, 113, 100 + number),
            outside: Ipv4Addr::new(198, 51, 100, 1 + number),
            carried: Ipv4Addr::new(100, 64, number, 2),
            private: Ipv4Addr::new(192, 168, 1, 2 + number),
            sixth: IpAddr::from([0x2001, 0xdb8, 0x100 + u16::from(number), 0, 0, 0, 0, 2]),
            registry,
        }
    }

    /// The host's own address of IPv4.
    pub(crate) fn own(&self, kind: Kind) -> Ipv4Addr {
        match kind {
            Kind::None => self.public,
            _ => self.private,
        }
    }
}
