//! Which addresses the server has, and which sockets it takes to have them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use waymesh_net::turn::server::{Alternate, Family};
use waymesh_net::udp::Socket;

use super::config::{RelayConfig, RelayError};

/// Asked of the kernel for a port that everybody sends to, bytes.
const LISTENER_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The UDP ports of a server.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) listeners: Vec<Socket>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) alternate: Option<Alternate>,
}

/// The addresses of this host's interfaces.
pub(super) fn own() -> io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces.iter().map(|i| i.ip().to_canonical()).collect())
}

/// Opens what is configured. Must be called inside of the runtime that is to read them.
pub(super) fn open(config: &RelayConfig, own: &[IpAddr]) -> Result<Ports, RelayError> {
    let mut ports = Ports {
        listeners: Vec::new(),
        addresses: Vec::new(),
        alternate: None,
    };
    for address in &config.listen {
        ports.listen(*address)?;
    }
    if let Some(other) = config.other {
        let unfit = RelayError::Other(other);
        let primary = ports.primary(config, other, own).ok_or(unfit)?;
        let alternate = Alternate::new(primary, other).ok_or(RelayError::Other(other))?;
        ports.alternate = Some(alternate);
        for (ip, port) in [(primary, other), (other, primary), (other, other)] {
            let address = SocketAddr::new(ip.ip(), port.port());
            if !ports.addresses.iter().any(|bound| covers(*bound, address)) {
                ports.listen(address)?;
            }
        }
    }
    Ok(ports)
}

impl Ports {
    fn listen(&mut self, address: SocketAddr) -> Result<(), RelayError> {
        let failed = |source| RelayError::Listen { address, source };
        let socket = Socket::open(address, LISTENER_BUFFER_BYTES).map_err(failed)?;
        self.addresses.push(socket.local_addr().map_err(failed)?);
        self.listeners.push(socket);
        Ok(())
    }

    /// The address that the second one is different from.
    fn primary(
        &self,
        config: &RelayConfig,
        other: SocketAddr,
        own: &[IpAddr],
    ) -> Option<SocketAddr> {
        let family = Family::of(other.ip());
        let first = self.addresses.iter().find(|bound| {
            Family::of(bound.ip()) == family || (bound.ip().is_unspecified() && bound.is_ipv6())
        })?;
        if !first.ip().is_unspecified() {
            return Some(*first);
        }
        let of_family = |ip: &&IpAddr| Family::of(**ip) == family && **ip != other.ip();
        let mut known = config.relay_ips.iter().chain(own);
        let ip = known.find(|ip| of_family(ip) && !ip.is_loopback())?;
        Some(SocketAddr::new(*ip, first.port()))
    }
}

/// Whether a socket that is bound so gets what is sent to this address.
pub(super) fn covers(bound: SocketAddr, address: SocketAddr) -> bool {
    let any = match bound.ip() {
        // Opened for both families.
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(ip) => ip.is_unspecified() && address.is_ipv4(),
    };
    bound.port() == address.port() && (any || bound.ip() == address.ip())
}

/// The address that a relay is to have.
pub(super) fn relay_ip(
    configured: &[IpAddr],
    own: &[IpAddr],
    reached: IpAddr,
    family: Family,
) -> Option<IpAddr> {
    let of_family = |ip: &&IpAddr| Family::of(**ip) == family;
    if let Some(ip) = configured.iter().find(of_family) {
        return Some(*ip);
    }
    if Family::of(reached) == family && !reached.is_unspecified() {
        return Some(reached);
    }
    // Reached by the other family: an address that peers can reach as well as that one.
    own.iter()
        .filter(of_family)
        .find(|ip| ip.is_loopback() == reached.is_loopback() && !is_link_local(**ip))
        .copied()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// All addresses of a family.
pub(super) const fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
