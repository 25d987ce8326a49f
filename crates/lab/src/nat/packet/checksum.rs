//! Checksums: patched where bytes change, computed anew where a packet is made.

use std::ops::Range;

use super::shape::word;
use super::{End, Packet};

/// The Internet checksum over some bytes, not yet inverted (RFC 1071).
pub(super) fn sum(bytes: &[u8], begin: u32) -> u32 {
    bytes.chunks(2).fold(begin, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    })
}

pub(super) fn fold(mut sum: u32) -> u16 {
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
    /// Patches the checksum at one place after the bytes at another changed.
    pub(super) fn patch(&mut self, checksum: Range<usize>, old: &[u8], changed: Range<usize>) {
        let new = patched(
            word(&self.bytes[checksum.clone()]),
            old,
            &self.bytes[changed],
        );
        self.bytes[checksum].copy_from_slice(&new.to_be_bytes());
    }

    /// Computes the checksum of an ICMP message anew.
    pub(super) fn sum_icmp(&mut self) {
        let body = self.shape.body;
        self.bytes[body + 2..body + 4].fill(0);
        let begin = if self.shape.is_v6 { self.pseudo() } else { 0 };
        let checksum = !fold(sum(&self.bytes[body..], begin));
        self.bytes[body + 2..body + 4].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The sum over the pseudo header of the transport (RFC 8200 §8.1, RFC 9293 §3.1).
    pub(super) fn pseudo(&self) -> u32 {
        let length = (self.bytes.len() - self.shape.body) as u32;
        let ends = [End::Source, End::Target].map(|end| self.shape.address(end));
        let addresses = ends
            .into_iter()
            .fold(0, |so_far, at| sum(&self.bytes[at], so_far));
        addresses + (length >> 16) + (length & 0xffff) + u32::from(self.shape.protocol)
    }

    /// Computes the checksum of TCP or UDP anew.
    pub(super) fn sum_transport(&mut self) {
        let at = self.shape.checksum();
        self.bytes[at.clone()].fill(0);
        let checksum = !fold(sum(&self.bytes[self.shape.body..], self.pseudo()));
        self.bytes[at].copy_from_slice(&checksum.to_be_bytes());
    }
}
