//! Where somebody comes from, as far as limits are concerned.

use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address that one network shares, and one customer has at least (RFC 6177).
const V6_NETWORK_BITS: u32 = 64;

/// One IPv4 address, or one IPv6 network: whoever has one address of that has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => {
                let network = u128::MAX << (128 - V6_NETWORK_BITS);
                Ipv6Addr::from_bits(v6.to_bits() & network).into()
            }
            other => other,
        })
    }

    /// Whether it is this machine. Its programs share one address, and a proxy
    /// in front speaks for everybody; so limits by address do not hold here,
    /// and are the proxy's to set.
    pub(crate) const fn is_this_machine(&self) -> bool {
        self.0.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"))
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(source(text).is_this_machine(), "{text}");
        }
        for text in ["10.0.0.1", "::2", "fe80::1"] {
            assert!(!source(text).is_this_machine(), "{text}");
        }
    }
}
