//! Where things stand in the bytes of a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::{End, Flow, Malformed, Protocol};

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;

/// No protocol (RFC 8200 §4.7).
const NOTHING: u8 = 59;

/// Bytes of an IPv4 header without options (RFC 791 §3.1), and of an IPv6 header (RFC 8200 §3).
pub(super) const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Bytes of a quoted packet's transport header that every ICMP error has (RFC 792).
const QUOTED: usize = 8;

/// Bytes of an ICMP error before the packet that it quotes.
const ICMP_HEADER: usize = 8;

/// Where things stand in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) is_v6: bool,
    pub(super) protocol: u8,
    /// Where the transport header begins.
    pub(super) body: usize,
    pub(super) is_fragment: bool,
    /// Where the packet that an ICMP error quotes begins, and its own shape.
    pub(super) quoted: Option<(usize, Box<Shape>)>,
}

impl Shape {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut shape = Self::of_header(bytes)?;
        let body = bytes.get(shape.body..).ok_or(Malformed)?;
        let needed = match shape.protocol {
            _ if shape.is_fragment => 0,
            TCP => 20,
            UDP | ICMP | ICMP6 => 8,
            _ => 0,
        };
        if body.len() < needed {
            return Err(Malformed);
        }
        if shape.is_error(bytes) {
            let at = shape.body + ICMP_HEADER;
            let inner = Self::of_header(&bytes[at..]).ok();
            shape.quoted = inner
                .filter(|inner| inner.is_v6 == shape.is_v6)
                .filter(|inner| bytes.len() >= at + inner.body + QUOTED)
                .map(|inner| (at, Box::new(inner)));
        }
        Ok(shape)
    }

    /// The shape as far as the IP header tells it.
    fn of_header(bytes: &[u8]) -> Result<Self, Malformed> {
        let first = bytes.first().ok_or(Malformed)?;
        let (is_v6, least) = match first >> 4 {
            4 => (false, IPV4_HEADER),
            6 => (true, IPV6_HEADER),
            _ => return Err(Malformed),
        };
        if bytes.len() < least {
            return Err(Malformed);
        }
        let body = if is_v6 {
            IPV6_HEADER
        } else {
            usize::from(first & 0xf) * 4
        };
        if body < least {
            return Err(Malformed);
        }
        // More fragments, or an offset (RFC 791 §3.1).
        let is_fragment = !is_v6 && (bytes[6] & 0x3f != 0 || bytes[7] != 0);
        let protocol = match (is_v6, if is_v6 { bytes[6] } else { bytes[9] }) {
            // Each family's ICMP is nothing in the other.
            (true, ICMP) | (false, ICMP6) => NOTHING,
            (_, protocol) => protocol,
        };
        Ok(Self {
            is_v6,
            protocol,
            body,
            is_fragment,
            quoted: None,
        })
    }

    fn is_error(&self, bytes: &[u8]) -> bool {
        match (self.protocol, bytes.get(self.body)) {
            _ if self.is_fragment => false,
            (ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (ICMP6, Some(kind)) => *kind < 128,
            _ => false,
        }
    }

    pub(super) fn address(&self, end: End) -> Range<usize> {
        match (self.is_v6, end) {
            (false, End::Source) => 12..16,
            (false, End::Target) => 16..20,
            (true, End::Source) => 8..24,
            (true, End::Target) => 24..40,
        }
    }

    /// Where the port of an end stands; both ends of an echo have its identifier.
    pub(super) fn port(&self, end: End) -> Range<usize> {
        match (self.protocol, end) {
            (TCP | UDP, End::Source) => self.body..self.body + 2,
            (TCP | UDP, End::Target) => self.body + 2..self.body + 4,
            _ => self.body + 4..self.body + 6,
        }
    }

    /// Where the checksum of the transport stands.
    pub(super) fn checksum(&self) -> Range<usize> {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            _ => 2,
        };
        self.body + at..self.body + at + 2
    }

    pub(super) fn flow(&self, bytes: &[u8]) -> Option<Flow> {
        let kind = *bytes.get(self.body)?;
        let protocol = match self.protocol {
            _ if self.is_fragment => return None,
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            ICMP if matches!(kind, 0 | 8) => Protocol::Echo,
            ICMP6 if matches!(kind, 128 | 129) => Protocol::Echo,
            _ => return None,
        };
        let end = |end| {
            let port = self.port(end);
            SocketAddr::new(address(&bytes[self.address(end)]), word(&bytes[port]))
        };
        Some(Flow {
            protocol,
            source: end(End::Source),
            target: end(End::Target),
        })
    }
}

pub(super) fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub(super) fn address(bytes: &[u8]) -> IpAddr {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(four).into()
    } else {
        let sixteen: [u8; 16] = bytes.try_into().expect("an address has 4 or 16 bytes");
        Ipv6Addr::from(sixteen).into()
    }
}
