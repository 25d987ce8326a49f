//! Packets that gates and lines make: errors and resets.

use std::net::IpAddr;

use super::checksum::{fold, sum};
use super::shape::{ICMP, ICMP6, IPV4_HEADER, TCP};
use super::{End, Packet};

/// Flags of a TCP segment (RFC 9293 §3.1).
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;

impl Packet {
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

    /// A packet around a transport header and payload, whose checksum is left as it is.
    pub(super) fn build(protocol: u8, from: IpAddr, to: IpAddr, body: &[u8]) -> Self {
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
}
