//! Under which URLs nodes reach this registry.
//!
//! Both sides of a login and every proof over HTTP sign the URL that the node
//! used, so that what was meant for this registry is worth nothing at another
//! one. The registry takes its public URL, and the very address at which the
//! connection arrived: so it can listen on all addresses of a machine without
//! a list of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use waymesh_proto::control::Origin;

/// An address of a network that does not exist (RFC 5737): the way to it is
/// the way to everywhere.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The URLs of one registry.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    public: Option<Origin>,
    is_tls: bool,
    listening: SocketAddr,
}

impl Origins {
    pub(crate) const fn new(public: Option<Origin>, is_tls: bool, listening: SocketAddr) -> Self {
        Self {
            public,
            is_tls,
            listening,
        }
    }

    /// The URL to tell nodes: the public one, else that of the listening
    /// address; where that is every address, one that others can probably reach.
    pub(crate) fn url(&self) -> Origin {
        let addr = || {
            let ip = self.listening.ip();
            let ip = if ip.is_unspecified() { own_ip() } else { ip };
            SocketAddr::new(ip, self.listening.port())
        };
        self.public.clone().unwrap_or_else(|| self.of(addr()))
    }

    /// Every URL under which a connection to the address `arrived` may have been made.
    pub(crate) fn at(&self, arrived: SocketAddr) -> Vec<Origin> {
        let arrived = SocketAddr::new(arrived.ip().to_canonical(), arrived.port());
        let mut all = Vec::from_iter(self.public.clone());
        all.push(self.of(arrived));
        if arrived.ip().is_loopback() {
            all.push(self.localhost(arrived.port()));
        }
        all
    }

    fn of(&self, addr: SocketAddr) -> Origin {
        if self.is_tls {
            Origin::https(addr)
        } else {
            Origin::http(addr)
        }
    }

    fn localhost(&self, port: u16) -> Origin {
        if self.is_tls {
            Origin::https_localhost(port)
        } else {
            Origin::http_localhost(port)
        }
    }
}

/// The address that this machine uses towards others. Nothing is sent.
fn own_ip() -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(ELSEWHERE)?;
        Ok::<_, std::io::Error>(socket.local_addr()?.ip())
    };
    route()
        .ok()
        .or_else(interface_ip)
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// The first address of a network without a way to everywhere.
fn interface_ip() -> Option<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let ips = interfaces
        .into_iter()
        .filter(|i| !i.is_loopback() && !i.is_link_local());
    ips.map(|i| i.ip()).min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn texts(origins: &[Origin]) -> Vec<&str> {
        origins.iter().map(Origin::as_str).collect()
    }

    #[test]
    fn a_connection_was_made_to_the_public_url_or_to_the_address_where_it_arrived() {
        let public = "https://mesh.example".parse().expect("an origin");
        let origins = Origins::new(Some(public), true, addr("0.0.0.0:7700"));
        assert_eq!(
            texts(&origins.at(addr("192.0.2.7:7700"))),
            ["https://mesh.example", "https://192.0.2.7:7700"]
        );
        assert_eq!(origins.url().as_str(), "https://mesh.example");
    }

    #[test]
    fn loopback_has_a_name_too() {
        let origins = Origins::new(None, false, addr("[::]:7700"));
        assert_eq!(
            texts(&origins.at(addr("[::ffff:127.0.0.1]:7700"))),
            ["http://127.0.0.1:7700", "http://localhost:7700"]
        );
    }

    #[test]
    fn the_url_of_a_registry_that_listens_everywhere_names_one_address() {
        for listening in ["0.0.0.0:7700", "[::]:7700"] {
            let url = Origins::new(None, true, addr(listening)).url();
            assert!(!url.as_str().contains("0.0.0.0"), "{url}");
            assert!(!url.as_str().contains("[::]"), "{url}");
        }
    }
}
