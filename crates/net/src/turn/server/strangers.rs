//! How often somebody without credentials may ask.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use super::bucket::{Bucket, Rate};
use super::limits::Limits;

/// Buckets. Sources that fall into one share it; which do, nobody outside
/// knows. Chosen: 1 MiB each, and an attacker who forges all sources must send
/// [`Limits::strangers_per_second`] to each of them to lock everybody out.
const BUCKETS: usize = 65_536;

/// Whether a source is known to receive at its address. Whoever forges the
/// address of somebody else uses up what is for sources that have not proved it,
/// and locks him out of nothing but his first challenge by UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Anybody may have sent the datagram.
    Unproved(IpAddr),
    /// It speaks on a stream, or has a nonce that was sent there.
    Proved(IpAddr),
}

/// A budget for each source, in tables of fixed size.
#[derive(Debug)]
pub(super) struct Strangers {
    unproved: Box<[Bucket]>,
    proved: Box<[Bucket]>,
    rate: Rate,
    hasher: RandomState,
    seed: u64,
}

impl Strangers {
    pub(super) fn new(seed: &[u8; 32], limits: &Limits, now: Instant) -> Self {
        Self {
            unproved: vec![Bucket::full(now); BUCKETS].into(),
            proved: vec![Bucket::full(now); BUCKETS].into(),
            rate: Rate {
                per_second: u64::from(limits.strangers_per_second),
                burst: u64::from(limits.strangers_burst),
            },
            hasher: RandomState::new(),
            seed: seed.first_chunk().copied().map_or(0, u64::from_le_bytes),
        }
    }

    /// Whether this source may have one more answer.
    pub(super) fn admit(&mut self, now: Instant, source: Source) -> bool {
        let rate = self.rate;
        let bucket = match source {
            Source::Unproved(ip) => &mut self.unproved[self.index(ip)],
            Source::Proved(ip) => &mut self.proved[self.index(ip)],
        };
        bucket.take(now, rate, 1)
    }

    /// Whether it may have one, without counting it.
    pub(super) fn would_admit(&self, now: Instant, source: Source) -> bool {
        let bucket = match source {
            Source::Unproved(ip) => &self.unproved[self.index(ip)],
            Source::Proved(ip) => &self.proved[self.index(ip)],
        };
        bucket.has_one(now, self.rate)
    }

    fn index(&self, source: IpAddr) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(self.seed);
        match source {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            // A host has a /64.
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
        }
        hasher.finish() as usize % BUCKETS
    }
}
