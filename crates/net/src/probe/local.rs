//! What this host has itself: its addresses, and whether it has a way out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Addresses that nobody has (RFC 5737, RFC 3849): a route to them is a way out.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// A port that a route is asked for with; nothing goes there (RFC 863).
const DISCARD: u16 = 9;

/// This host's addresses, without loopback and link-local ones.
pub fn addresses() -> Vec<IpAddr> {
    let mut ips = all();
    ips.retain(|ip| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    });
    ips
}

/// All addresses of this host, loopback too.
pub fn all() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "the interfaces cannot be listed");
        Vec::new()
    });
    let up = interfaces
        .iter()
        .filter(|interface| interface.is_oper_up() || interface.is_loopback());
    let mut ips: Vec<_> = up.map(if_addrs::Interface::ip).collect();
    ips.sort();
    ips.dedup();
    ips
}

/// Whether an address can be reached from anywhere (RFC 6890), NATs and firewalls aside.
pub fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xE000 == 0x2000,
    }
}

/// Whether this host has a route for IPv4 to the world; nothing is sent.
pub fn has_ipv4_route() -> bool {
    has_route(Ipv4Addr::UNSPECIFIED.into(), FAR_V4.into())
}

/// Whether this host has a route for IPv6 to the world; nothing is sent.
pub fn has_ipv6_route() -> bool {
    has_route(Ipv6Addr::UNSPECIFIED.into(), FAR_V6.into())
}

fn has_route(any: IpAddr, far: IpAddr) -> bool {
    let socket = UdpSocket::bind((any, 0));
    socket.is_ok_and(|socket| socket.connect((far, DISCARD)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_shared_addresses_are_not_global() {
        for ip in [
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(!is_global(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["100.128.0.1", "9.9.9.9", "2a00::1"] {
            assert!(is_global(ip.parse().expect("an address")), "{ip}");
        }
    }
}
