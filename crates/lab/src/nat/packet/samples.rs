//! Packets that tests send, and whether what became of them is sound.

use std::net::{IpAddr, SocketAddr};

use super::Packet;
use super::checksum::{fold, sum};
use super::shape::{ICMP, ICMP6, TCP, UDP};

impl Packet {
    /// A UDP datagram.
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

    /// Whether all checksums hold.
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
