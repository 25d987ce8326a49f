//! One IP packet: whose it is, and the same with other addresses.
//!
//! Knows IPv4 and IPv6, UDP, TCP, ICMP echo, and ICMP errors with the packet that they
//! quote. Checksums are patched, not computed anew (RFC 1624), so that a broken one stays
//! broken. Extension headers of IPv6 and fragments have no [`Flow`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// No protocol (RFC 8200 §4.7).
const NOTHING: u8 = 59;

/// Bytes of an IPv4 header without options (RFC 791 §3.1), and of an IPv6 header (RFC 8200 §3).
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Bytes of a quoted packet's transport header that every ICMP error has (RFC 792).
const QUOTED: usize = 8;

/// Bytes of an ICMP error before the packet that it quotes.
const ICMP_HEADER: usize = 8;

/// What runs above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
    /// ICMP echo; its identifier stands for the port of the side that asks.
    Echo,
}

/// Between which two ends a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Target,
}

/// Bytes that are no packet that can be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP packet that can be routed")]
pub(crate) struct Malformed;

/// A packet whose header is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    shape: Shape,
}

/// Where things stand in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    is_v6: bool,
    protocol: u8,
    /// Where the transport header begins.
    body: usize,
    is_fragment: bool,
    /// Where the packet that an ICMP error quotes begins, and its own shape.
    quoted: Option<(usize, Box<Shape>)>,
}

impl Shape {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
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

    fn address(&self, end: End) -> Range<usize> {
        match (self.is_v6, end) {
            (false, End::Source) => 12..16,
            (false, End::Target) => 16..20,
            (true, End::Source) => 8..24,
            (true, End::Target) => 24..40,
        }
    }

    /// Where the port of an end stands; both ends of an echo have its identifier.
    fn port(&self, end: End) -> Range<usize> {
        match (self.protocol, end) {
            (TCP | UDP, End::Source) => self.body..self.body + 2,
            (TCP | UDP, End::Target) => self.body + 2..self.body + 4,
            _ => self.body + 4..self.body + 6,
        }
    }

    /// Where the checksum of the transport stands.
    fn checksum(&self) -> Range<usize> {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            _ => 2,
        };
        self.body + at..self.body + at + 2
    }

    fn flow(&self, bytes: &[u8]) -> Option<Flow> {
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

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn address(bytes: &[u8]) -> IpAddr {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(four).into()
    } else {
        let sixteen: [u8; 16] = bytes.try_into().expect("an address has 4 or 16 bytes");
        Ipv6Addr::from(sixteen).into()
    }
}

/// The Internet checksum over some bytes, not yet inverted (RFC 1071).
fn sum(bytes: &[u8], begin: u32) -> u32 {
    bytes.chunks(2).fold(begin, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum after `old` became `new`, both of an even length (RFC 1624 eqn. 3).
fn patched(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let without = old.chunks(2).fold(u32::from(!checksum), |sum, pair| {
        sum + u32::from(!word(pair))
    });
    !fold(sum(new, without))
}

impl Packet {
    /// Reads a packet as it came from a device.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let shape = Shape::read(&bytes)?;
        Ok(Self { bytes, shape })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.shape.is_v6
    }

    pub(crate) fn ip(&self, end: End) -> IpAddr {
        address(&self.bytes[self.shape.address(end)])
    }

    /// Between which ends it goes; `None` of an ICMP error, a fragment and unknown protocols.
    pub(crate) fn flow(&self) -> Option<Flow> {
        self.shape.flow(&self.bytes)
    }

    /// The flow of the packet that an ICMP error quotes.
    pub(crate) fn quoted(&self) -> Option<Flow> {
        let (at, shape) = self.shape.quoted.as_ref()?;
        shape.flow(&self.bytes[*at..])
    }

    /// Whether routers may not fragment it.
    pub(crate) fn is_whole(&self) -> bool {
        self.shape.is_v6 || self.bytes[6] & 0x40 != 0
    }

    /// What a TCP segment carries, its sequence number, and its flags.
    pub(crate) fn segment(&self) -> Option<Segment<'_>> {
        let tcp = match self.shape {
            Shape {
                protocol: TCP,
                is_fragment: false,
                body,
                ..
            } => self.bytes.get(body..)?,
            _ => return None,
        };
        let payload = tcp.get(usize::from(tcp[12] >> 4) * 4..)?;
        Some(Segment {
            sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            acknowledged: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
            flags: tcp[13],
            payload,
        })
    }

    /// Gives one end another address and port.
    ///
    /// Only packets with a [`Flow`] have ports; of others the address alone is changed.
    pub(crate) fn set(&mut self, end: End, to: SocketAddr) {
        let shape = &self.shape;
        let has_flow = shape.flow(&self.bytes).is_some();
        let (ip, port) = (shape.address(end), shape.port(end));
        let checksum = shape.checksum();
        let covers_ip = matches!(shape.protocol, TCP | UDP | ICMP6) && !shape.is_fragment;
        let has_checksum =
            has_flow && !(shape.protocol == UDP && word(&self.bytes[checksum.clone()]) == 0);
        let (is_v6, is_udp) = (shape.is_v6, shape.protocol == UDP);

        let old = self.bytes[ip.clone()].to_vec();
        match to.ip() {
            IpAddr::V4(to) => self.bytes[ip.clone()].copy_from_slice(&to.octets()),
            IpAddr::V6(to) => self.bytes[ip.clone()].copy_from_slice(&to.octets()),
        }
        if !is_v6 {
            self.patch(10..12, &old, ip.clone());
        }
        if has_checksum && covers_ip {
            self.patch(checksum.clone(), &old, ip);
        }
        if has_flow {
            let old = self.bytes[port.clone()].to_vec();
            self.bytes[port.clone()].copy_from_slice(&to.port().to_be_bytes());
            if has_checksum {
                self.patch(checksum.clone(), &old, port);
                if is_udp && word(&self.bytes[checksum.clone()]) == 0 {
                    self.bytes[checksum].copy_from_slice(&[0xff, 0xff]);
                }
            }
        }
        if self.shape.quoted.is_some() && is_v6 {
            self.sum_icmp();
        }
    }

    /// Gives one end of the packet that an ICMP error quotes another address and port.
    ///
    /// The checksum of the quoted transport is left as it was: it may have been cut off,
    /// and no host looks at it.
    pub(crate) fn set_quoted(&mut self, end: End, to: SocketAddr) {
        let Some((at, shape)) = self.shape.quoted.clone() else {
            return;
        };
        let ip = shape.address(end);
        let ip = at + ip.start..at + ip.end;
        let port = shape.port(end);
        let old = self.bytes[ip.clone()].to_vec();
        match to.ip() {
            IpAddr::V4(to) => self.bytes[ip.clone()].copy_from_slice(&to.octets()),
            IpAddr::V6(to) => self.bytes[ip.clone()].copy_from_slice(&to.octets()),
        }
        if !shape.is_v6 {
            self.patch(at + 10..at + 12, &old, ip);
        }
        self.bytes[at + port.start..at + port.end].copy_from_slice(&to.port().to_be_bytes());
        self.sum_icmp();
    }

    /// Patches the checksum at one place after the bytes at another changed.
    fn patch(&mut self, checksum: Range<usize>, old: &[u8], changed: Range<usize>) {
        let new = patched(
            word(&self.bytes[checksum.clone()]),
            old,
            &self.bytes[changed],
        );
        self.bytes[checksum].copy_from_slice(&new.to_be_bytes());
    }

    /// Computes the checksum of an ICMP message anew.
    fn sum_icmp(&mut self) {
        let body = self.shape.body;
        self.bytes[body + 2..body + 4].fill(0);
        let begin = if self.shape.is_v6 { self.pseudo() } else { 0 };
        let checksum = !fold(sum(&self.bytes[body..], begin));
        self.bytes[body + 2..body + 4].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The sum over the pseudo header of the transport (RFC 8200 §8.1, RFC 9293 §3.1).
    fn pseudo(&self) -> u32 {
        let length = (self.bytes.len() - self.shape.body) as u32;
        let ends = [End::Source, End::Target].map(|end| self.shape.address(end));
        let addresses = ends
            .into_iter()
            .fold(0, |so_far, at| sum(&self.bytes[at], so_far));
        addresses + (length >> 16) + (length & 0xffff) + u32::from(self.shape.protocol)
    }

    /// The ICMP error that tells the sender that this packet is too big for a link
    /// (RFC 1191 §4, RFC 4443 §3.2), as if its target's router had sent it.
    pub(crate) fn too_big(&self, mtu: u16) -> Self {
        let (kind, code) = if self.is_v6() { (2, 0) } else { (3, 4) };
        self.error(kind, code, u32::from(mtu))
    }

    fn error(&self, kind: u8, code: u8, rest: u32) -> Self {
        // As much of the packet as fits the smallest link (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
        let quoted = &self.bytes[..self.bytes.len().min(500)];
        let mut body = vec![kind, code, 0, 0];
        body.extend_from_slice(&rest.to_be_bytes());
        body.extend_from_slice(quoted);
        let protocol = if self.is_v6() { ICMP6 } else { ICMP };
        let (from, to) = (self.ip(End::Target), self.ip(End::Source));
        let mut error = Self::build(protocol, from, to, &body);
        error.sum_icmp();
        error
    }

    /// A TCP reset of the flow that this segment belongs to, towards one of its ends
    /// (RFC 9293 §3.5.2): towards the target as if the source had sent it.
    pub(crate) fn reset(&self, towards: End) -> Option<Self> {
        let (flow, segment) = (self.flow()?, self.segment()?);
        let (from, to, sequence) = match towards {
            End::Target => (flow.source, flow.target, segment.sequence),
            End::Source => (flow.target, flow.source, segment.acknowledged),
        };
        let mut tcp = Vec::with_capacity(20);
        tcp.extend_from_slice(&from.port().to_be_bytes());
        tcp.extend_from_slice(&to.port().to_be_bytes());
        tcp.extend_from_slice(&sequence.to_be_bytes());
        tcp.extend_from_slice(&[0, 0, 0, 0, 5 << 4, RST, 0, 0, 0, 0, 0, 0]);
        let mut reset = Self::build(TCP, from.ip(), to.ip(), &tcp);
        reset.sum_transport();
        Some(reset)
    }

    /// A UDP datagram.
    #[cfg(test)]
    pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Self {
        let length = u16::try_from(payload.len() + 8).expect("a datagram fits a packet");
        let mut udp = Vec::with_capacity(payload.len() + 8);
        udp.extend_from_slice(&from.port().to_be_bytes());
        udp.extend_from_slice(&to.port().to_be_bytes());
        udp.extend_from_slice(&length.to_be_bytes());
        udp.extend_from_slice(&[0, 0]);
        udp.extend_from_slice(payload);
        let mut packet = Self::build(UDP, from.ip(), to.ip(), &udp);
        packet.sum_transport();
        packet
    }

    /// A TCP segment.
    #[cfg(test)]
    pub(crate) fn tcp(
        from: SocketAddr,
        to: SocketAddr,
        (sequence, flags): (u32, u8),
        payload: &[u8],
    ) -> Self {
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&from.port().to_be_bytes());
        tcp.extend_from_slice(&to.port().to_be_bytes());
        tcp.extend_from_slice(&sequence.to_be_bytes());
        tcp.extend_from_slice(&[0, 0, 0, 0, 5 << 4, flags, 0, 0, 0, 0, 0, 0]);
        tcp.extend_from_slice(payload);
        let mut packet = Self::build(TCP, from.ip(), to.ip(), &tcp);
        packet.sum_transport();
        packet
    }

    /// An ICMP echo request.
    #[cfg(test)]
    pub(crate) fn echo(from: IpAddr, to: IpAddr, identifier: u16) -> Self {
        let (protocol, kind) = if from.is_ipv6() {
            (ICMP6, 128)
        } else {
            (ICMP, 8)
        };
        let [high, low] = identifier.to_be_bytes();
        let mut packet = Self::build(protocol, from, to, &[kind, 0, 0, 0, high, low, 0, 1]);
        packet.sum_icmp();
        packet
    }

    /// Computes the checksum of TCP or UDP anew.
    fn sum_transport(&mut self) {
        let at = self.shape.checksum();
        self.bytes[at.clone()].fill(0);
        let checksum = !fold(sum(&self.bytes[self.shape.body..], self.pseudo()));
        self.bytes[at].copy_from_slice(&checksum.to_be_bytes());
    }

    /// A packet around a transport header and payload, whose checksum is left as it is.
    fn build(protocol: u8, from: IpAddr, to: IpAddr, body: &[u8]) -> Self {
        let mut bytes = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = (IPV4_HEADER + body.len()) as u16;
                let mut header = vec![0x45, 0];
                header.extend_from_slice(&length.to_be_bytes());
                header.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
                header.extend_from_slice(&from.octets());
                header.extend_from_slice(&to.octets());
                let checksum = !fold(sum(&header, 0));
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend_from_slice(&(body.len() as u16).to_be_bytes());
                header.extend_from_slice(&[protocol, 64]);
                header.extend_from_slice(&from.octets());
                header.extend_from_slice(&to.octets());
                header
            }
            _ => unreachable!("both ends of a packet are of one family"),
        };
        bytes.extend_from_slice(body);
        Self::parse(bytes).expect("what is built here can be read")
    }

    /// Whether all checksums hold.
    #[cfg(test)]
    pub(crate) fn is_sound(&self) -> bool {
        let shape = &self.shape;
        let header = shape.is_v6 || fold(sum(&self.bytes[..shape.body], 0)) == 0xffff;
        let begin = if shape.protocol == ICMP {
            0
        } else {
            self.pseudo()
        };
        header && fold(sum(&self.bytes[shape.body..], begin)) == 0xffff
    }
}

/// Flags of a TCP segment (RFC 9293 §3.1).
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(v6: bool) -> [SocketAddr; 3] {
        if v6 {
            [
                "[2001:db8::1]:5000",
                "[2001:db8:1::2]:53",
                "[2001:db8:2::7]:443",
            ]
        } else {
            ["192.168.1.2:5000", "203.0.113.1:53", "198.51.100.9:443"]
        }
        .map(|text| text.parse().expect("an address"))
    }

    #[test]
    fn a_rewritten_packet_has_the_new_ends_and_sound_checksums() {
        for v6 in [false, true] {
            let [a, b, c] = ends(v6);
            let packets = [
                Packet::datagram(a, b, b"odd"),
                Packet::tcp(a, b, (7, SYN), b"hello"),
                Packet::echo(a.ip(), b.ip(), 77),
            ];
            for mut packet in packets {
                assert!(packet.is_sound(), "{packet:?}");
                packet.set(End::Source, c);
                assert!(packet.is_sound(), "{packet:?}");
                let flow = packet.flow().expect("it has a flow");
                assert_eq!((flow.source, flow.target.ip()), (c, b.ip()));
                packet.set(End::Target, a);
                assert!(packet.is_sound(), "{packet:?}");
                assert_eq!(packet.flow().map(|flow| flow.target), Some(a));
            }
        }
    }

    #[test]
    fn an_error_quotes_what_it_is_about_and_both_can_be_rewritten() {
        for v6 in [false, true] {
            let [a, b, c] = ends(v6);
            let sent = Packet::datagram(a, b, &[1; 900]);
            let mut error = sent.too_big(1280);
            assert!(error.is_sound() && error.flow().is_none());
            assert_eq!(error.quoted(), sent.flow());
            error.set_quoted(End::Source, c);
            error.set(End::Target, c);
            assert!(error.is_sound(), "{error:?}");
            assert_eq!(error.quoted().map(|flow| flow.source), Some(c));
            assert_eq!(error.ip(End::Target), c.ip());
        }
    }

    #[test]
    fn a_reset_goes_to_either_end() {
        let [a, b, _] = ends(false);
        let segment = Packet::tcp(a, b, (41, 0x10), b"no");
        let reset = segment.reset(End::Target).expect("TCP can be reset");
        assert!(reset.is_sound());
        assert_eq!(reset.flow(), segment.flow());
        assert_eq!(
            reset.segment().map(|s| (s.sequence, s.flags)),
            Some((41, RST))
        );
        let back = segment.reset(End::Source).expect("TCP can be reset");
        assert_eq!(
            back.flow().map(|flow| (flow.source, flow.target)),
            Some((b, a))
        );
    }

    #[test]
    fn a_fragment_has_no_flow() {
        let [a, b, _] = ends(false);
        let mut bytes = Packet::datagram(a, b, b"x").bytes().to_vec();
        bytes[6] |= 0x20;
        let packet = Packet::parse(bytes).expect("its header is whole");
        assert_eq!(packet.flow(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            if let Ok(mut packet) = Packet::parse(bytes) {
                let [a, b, _] = ends(v6);
                let _ = (packet.flow(), packet.quoted(), packet.segment(), packet.is_whole());
                packet.set(End::Source, a);
                packet.set_quoted(End::Target, b);
                let _ = (packet.too_big(1280), packet.reset(End::Source));
            }
        }
    }
}
