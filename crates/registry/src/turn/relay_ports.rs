//! Which addresses and ports relays get.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use waymesh_net::turn::server::{Family, PortWish};
use waymesh_net::udp::Socket;

use super::addresses;

/// Asked of the kernel for a relay's socket, bytes. Chosen: a quarter of a listener's.
const RELAY_BUFFER_BYTES: usize = 1024 * 1024;

/// Attempts to get an even port from the system, each right half the time.
const EVEN_TRIES: usize = 16;

/// Addresses and ports for relays.
#[derive(Debug)]
pub(super) struct RelayPorts {
    pub(super) ips: Vec<IpAddr>,
    pub(super) own: Vec<IpAddr>,
    pub(super) range: Option<RangeInclusive<u16>>,
    /// Ports of the range that relays have.
    pub(super) used: HashSet<SocketAddr>,
}

impl RelayPorts {
    pub(super) fn open(&mut self, ip: IpAddr, wish: PortWish) -> io::Result<(Socket, SocketAddr)> {
        let fits = |port: u16| wish == PortWish::Any || port.is_multiple_of(2);
        let Some(range) = self.range.clone() else {
            for _ in 0..EVEN_TRIES {
                let socket = bind(SocketAddr::new(ip, 0))?;
                let port = socket.port()?;
                if fits(port) {
                    return Ok((socket, SocketAddr::new(ip, port)));
                }
            }
            return Err(io::ErrorKind::AddrInUse.into());
        };
        let count = usize::from(range.end() - range.start()) + 1;
        let from = rand::random_range(0..count);
        let free = range.clone().skip(from).chain(range.take(from));
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in free {
            let relayed = SocketAddr::new(ip, port);
            if !fits(port) || self.used.contains(&relayed) {
                continue;
            }
            match bind(relayed) {
                Ok(socket) => {
                    self.used.insert(relayed);
                    return Ok((socket, relayed));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// Binds to an address, or where no interface has it, to its port on all.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let any = SocketAddr::new(addresses::any(Family::of(address.ip())), address.port());
    match Socket::open(address, RELAY_BUFFER_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            Socket::open(any, RELAY_BUFFER_BYTES)
        }
        other => other,
    }
}
