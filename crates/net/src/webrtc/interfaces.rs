//! Watches the addresses of this host.
//!
//! Where the kernel tells of changes (Linux: a netlink socket), they are known
//! some milliseconds later; elsewhere the interfaces are listed every few
//! seconds. Only that something changed is taken from the kernel's messages:
//! what there is now comes from a new listing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::sleep;

/// How long further changes are waited for after one was told: they come in
/// bursts, and an address is usable only when its route is there. Chosen.
const COALESCE: Duration = Duration::from_millis(50);

/// Least pause between two listings, however much the kernel tells. Chosen: a
/// host whose routes change all the time spends no more than a thousandth on it.
const LISTING_PAUSE: Duration = Duration::from_millis(200);

/// How often the interfaces are listed where the kernel does not tell. Chosen.
const LISTING_INTERVAL: Duration = Duration::from_secs(3);

/// The addresses of this host at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    /// Those of interfaces that are up, loopback apart; first those that packets
    /// to the internet leave from.
    pub(super) ips: Vec<IpAddr>,
    /// Whether there is IPv6 on loopback; IPv4 always is.
    pub(super) has_v6_loopback: bool,
}

impl Interfaces {
    /// Lists them. Costs some system calls.
    pub(super) fn list() -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "the host's interfaces cannot be listed; offering loopback alone");
            Vec::new()
        });
        let mut ips: Vec<IpAddr> = interfaces
            .iter()
            .filter(|interface| interface.is_oper_up() && !interface.is_loopback())
            .map(if_addrs::Interface::ip)
            .filter(|ip| is_usable(*ip))
            .collect();
        let primary = primary_ips();
        ips.sort_by_key(|ip| (!primary.contains(&Some(*ip)), *ip));
        ips.dedup();
        let v6_loopback = IpAddr::from(Ipv6Addr::LOCALHOST);
        Self {
            ips,
            has_v6_loopback: interfaces.iter().any(|i| i.ip() == v6_loopback),
        }
    }
}

/// Link-local IPv6 means nothing without a zone, which SDP cannot say.
fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified() && !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified() && !ip.is_loopback(),
    }
}

/// The addresses from which packets to the internet would leave. Connecting a
/// UDP socket sends nothing; the addresses are documentation's (RFC 5737, RFC 3849).
fn primary_ips() -> [Option<IpAddr>; 2] {
    let leaving = |from: IpAddr, to: IpAddr| {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
        socket.connect(SocketAddr::new(to, 9)).ok()?;
        socket.local_addr().ok().map(|local| local.ip())
    };
    [
        leaving(
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        leaving(
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ]
}

/// Waits for changes.
#[derive(Debug)]
pub(super) struct Watch {
    kernel: Option<Kernel>,
    /// What was told last.
    last: Interfaces,
}

impl Watch {
    /// `last` is what is known already.
    pub(super) fn start(last: Interfaces) -> Self {
        let kernel = Kernel::listen().inspect_err(|error| {
            tracing::debug!(%error, "the kernel does not tell of addresses; listing them now and then");
        });
        Self {
            kernel: kernel.ok(),
            last,
        }
    }

    /// What there is, after the kernel told of something, perhaps of a route alone;
    /// where it does not tell, after the list has changed.
    pub(super) async fn changed(&mut self) -> Interfaces {
        loop {
            sleep(LISTING_PAUSE).await;
            let is_told = self.kernel_told().await;
            let listed = Interfaces::list();
            if is_told || listed != self.last {
                self.last = listed.clone();
                return listed;
            }
        }
    }

    /// Waits until it is time to list; whether that is because the kernel has told.
    async fn kernel_told(&self) -> bool {
        let Some(kernel) = &self.kernel else {
            sleep(LISTING_INTERVAL).await;
            return false;
        };
        let told = kernel.changed().await;
        if let Err(error) = &told {
            tracing::debug!(%error, "the kernel's word on addresses cannot be read");
            sleep(LISTING_INTERVAL).await;
        }
        sleep(COALESCE).await;
        kernel.forget();
        told.is_ok()
    }
}

/// A netlink socket that hears of links, addresses and routes (rtnetlink(7)). To
/// the runtime it is like any socket of datagrams.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Kernel(tokio::net::UnixDatagram);

#[cfg(target_os = "linux")]
impl Kernel {
    /// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR` and `_IPV6_ROUTE`
    /// of `linux/rtnetlink.h`.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

    fn listen() -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Without a protocol it is NETLINK_ROUTE, whose number is 0.
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, Self::GROUPS))?;
        tokio::net::UnixDatagram::from_std(fd.into()).map(Self)
    }

    /// Waits until something was told. Cancel safe.
    async fn changed(&self) -> io::Result<()> {
        let mut message = [0_u8; 4096];
        match self.0.recv(&mut message).await {
            // More was told than the socket holds: that something changed is all that matters.
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::NOBUFS.raw_os_error()) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Drops what was told up to now.
    fn forget(&self) {
        let mut message = [0_u8; 4096];
        while self.0.try_recv(&mut message).is_ok() {}
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Kernel;

#[cfg(not(target_os = "linux"))]
impl Kernel {
    fn listen() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn changed(&self) -> io::Result<()> {
        std::future::pending().await
    }

    fn forget(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_nothing_elsewhere_are_left_out() {
        for (ip, usable) in [
            ("192.168.1.2", true),
            ("100.64.0.1", true),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_usable(ip.parse().expect("an address")), usable, "{ip}");
        }
    }

    #[test]
    fn what_is_listed_is_usable_and_has_no_duplicates() {
        let listed = Interfaces::list();
        let mut unique = listed.ips.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), listed.ips.len());
        assert!(listed.ips.iter().all(|ip| is_usable(*ip)));
    }
}
