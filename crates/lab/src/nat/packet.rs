//! One IP packet: whose it is, and the same with other addresses.
//!
//! Knows IPv4 and IPv6, UDP, TCP, ICMP echo, and ICMP errors with the packet that they
//! quote. Checksums are patched, not computed anew (RFC 1624), so that a broken one stays
//! broken. Extension headers of IPv6 and fragments have no [`Flow`].

mod build;
mod checksum;
#[cfg(test)]
mod samples;
mod shape;

use std::net::{IpAddr, SocketAddr};

pub(crate) use build::{RST, SYN};
use shape::{ICMP6, Shape, TCP, UDP, address, word};

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
}

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

#[cfg(test)]
mod tests;
