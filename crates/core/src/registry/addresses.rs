//! Where connections come from, and how many from one place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Addresses that count as one: an IPv4 address, or an IPv6 network of 64 bits,
/// all of which usually belong to one host or site (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(IpAddr);

impl Place {
    /// Whether it is this machine. Its programs share an address, and a proxy
    /// in front speaks for everybody: nobody's share can be told there.
    pub(super) const fn is_here(self) -> bool {
        self.0.is_loopback()
    }
}

impl From<IpAddr> for Place {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => {
                let network = v6.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            other => other,
        })
    }
}

/// How many there are of something, in all and from each place.
#[derive(Debug, Default)]
pub(super) struct Tally {
    all: usize,
    by_place: BTreeMap<Place, usize>,
}

impl Tally {
    pub(super) const fn all(&self) -> usize {
        self.all
    }

    /// Whether this place has less than a share of so many, or is this machine.
    pub(super) fn has_share(&self, place: Place, share: usize) -> bool {
        let count = self.by_place.get(&place).copied().unwrap_or_default();
        place.is_here() || count < share
    }

    pub(super) fn add(&mut self, place: Place) {
        self.all += 1;
        *self.by_place.entry(place).or_default() += 1;
    }

    pub(super) fn sub(&mut self, place: Place) {
        if let Some(count) = self.by_place.get_mut(&place) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.by_place.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_64_bits_is_one_place_and_a_mapped_address_is_that_of_version_4() {
        let place = |text: &str| Place::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:192.0.2.1"), place("192.0.2.1"));
        assert_ne!(place("192.0.2.1"), place("192.0.2.2"));
    }
}
