//! Whom data may be relayed to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network, `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    ip: IpAddr,
    prefix: u8,
}

/// A text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network such as 10.0.0.0/8 or fd00::/8")]
pub struct BadNetwork(String);

impl Network {
    /// The network of the first `prefix` bits.
    ///
    /// # Errors
    /// [`BadNetwork`] when the address has fewer bits.
    pub fn new(ip: IpAddr, prefix: u8) -> Result<Self, BadNetwork> {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(BadNetwork(format!("{ip}/{prefix}")));
        }
        Ok(Self { ip, prefix })
    }

    /// Whether an address belongs to it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                (network.to_bits() ^ ip.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                (network.to_bits() ^ ip.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        Self::new(ip, prefix.unwrap_or(whole)).map_err(|_| bad())
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// Whom data may be relayed to: everybody but what is no address of the open
/// internet, and but the server's own host.
#[derive(Debug, Clone, Default)]
pub struct PeerPolicy {
    /// Networks that are let in although they would be denied.
    pub allow: Vec<Network>,
    /// The addresses of this host: only its relays are reached there.
    pub own: Vec<IpAddr>,
}

/// What the policy says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Data may go there.
    Outside,
    /// It is this host: data may go to relays, and to nobody else.
    Relays,
    /// It is this host, and allowed.
    Own,
    /// 403.
    Denied,
}

impl PeerPolicy {
    pub(super) fn judge(&self, ip: IpAddr) -> Verdict {
        let own = self.own.contains(&ip);
        let ip = inner(ip);
        let allowed = self.allow.iter().any(|network| network.contains(ip));
        match (own || self.own.contains(&ip), allowed) {
            (true, true) => Verdict::Own,
            (true, false) => Verdict::Relays,
            (false, true) => Verdict::Outside,
            (false, false) if is_open_internet(ip) => Verdict::Outside,
            (false, false) => Verdict::Denied,
        }
    }

    /// Sets which addresses this host has.
    pub(super) fn set_own(&mut self, own: impl Iterator<Item = IpAddr>) {
        self.own.clear();
        own.for_each(|ip| self.add_own(ip));
    }

    /// An address that relays have is this host's.
    pub(super) fn add_own(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        if !self.own.contains(&ip) {
            self.own.push(ip);
        }
    }
}

/// The IPv4 address that an address holds, to which a gateway would pass on what is
/// sent there: IPv4-mapped, ::/96, RFC 6052 (64:ff9b::/96), RFC 3056 (2002::/16).
fn inner(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else {
        return ip;
    };
    let [high, low] = match v6.segments() {
        _ if v6.is_unspecified() || v6.is_loopback() => return ip,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            [high, low]
        }
        [0x2002, high, low, ..] => [high, low],
        _ => return ip,
    };
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into()
}

fn is_open_internet(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_open_v4(ip),
        IpAddr::V6(ip) => is_open_v6(ip),
    }
}

/// Not: RFC 1122 (0/8, 127/8), RFC 1918, RFC 6598 (100.64/10), RFC 3927 (169.254/16),
/// RFC 5771 (224/4), RFC 1112 (240/4, with the broadcast).
fn is_open_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    !(a == 0
        || ip.is_loopback()
        || ip.is_private()
        || (a == 100 && b & 0xc0 == 64)
        || ip.is_link_local()
        || a >= 224)
}

/// Not: unspecified and loopback, RFC 4193 (fc00::/7), RFC 4291 (fe80::/10, ff00::/8),
/// RFC 3879 (fec0::/10), RFC 6666 (100::/64), RFC 8215 (64:ff9b:1::/48), RFC 4380 (2001::/32:
/// an IPv4 address is hidden in it).
fn is_open_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => false,
        [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0, ..] => false,
        [first, ..] => {
            !(first & 0xfe00 == 0xfc00 || first & 0xff80 == 0xfe80 || first & 0xff00 == 0xff00)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn the_open_internet_is_let_in_and_nothing_else() {
        let policy = PeerPolicy::default();
        for open in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "203.0.113.9",
            "223.255.255.255",
            "2001:db8::1",
            "2606:4700::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(policy.judge(ip(open)), Verdict::Outside, "{open}");
        }
        for denied in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:1::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        ] {
            assert_eq!(policy.judge(ip(denied)), Verdict::Denied, "{denied}");
        }
    }

    #[test]
    fn configured_networks_and_the_host_itself_are_told_apart() {
        let policy = PeerPolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            own: vec![ip("192.0.2.1"), ip("10.0.0.1")],
        };
        assert_eq!(policy.judge(ip("10.9.9.9")), Verdict::Outside);
        assert_eq!(policy.judge(ip("::ffff:10.9.9.9")), Verdict::Outside);
        assert_eq!(policy.judge(ip("::1")), Verdict::Outside);
        assert_eq!(policy.judge(ip("11.0.0.1")), Verdict::Outside);
        assert_eq!(policy.judge(ip("192.168.0.1")), Verdict::Denied);
        assert_eq!(policy.judge(ip("192.0.2.1")), Verdict::Relays);
        assert_eq!(policy.judge(ip("10.0.0.1")), Verdict::Own);
    }

    #[test]
    fn an_address_that_holds_another_is_judged_as_that() {
        let policy = PeerPolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()],
            own: vec![ip("203.0.113.1"), ip("10.0.0.1"), ip("2002:cb00:7109::1")],
        };
        for (inner, verdict) in [
            ("203.0.113.1", Verdict::Relays),
            ("10.0.0.1", Verdict::Own),
            ("10.0.0.2", Verdict::Outside),
            ("192.168.0.1", Verdict::Denied),
        ] {
            let v4: Ipv4Addr = inner.parse().unwrap();
            let [a, b, c, d] = v4.octets();
            for outer in [
                format!("::ffff:{inner}"),
                format!("::{inner}"),
                format!("64:ff9b::{inner}"),
                format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
            ] {
                assert_eq!(policy.judge(ip(&outer)), verdict, "{outer}");
            }
        }
        // What the host itself has is its own in either form.
        assert_eq!(policy.judge(ip("2002:cb00:7109::1")), Verdict::Relays);
    }

    #[test]
    fn networks_are_read_and_shown() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("::/0", "2001::1", "1.2.3.4"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
        ] {
            let network: Network = text.parse().expect(text);
            assert_eq!(network.to_string(), text);
            assert!(
                network.contains(ip(inside)) && !network.contains(ip(outside)),
                "{text}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10/8",
            "a/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
