//! How often somebody without credentials may ask.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use super::bucket::{Bucket, Rate};
use super::limits::Limits;

/// Buckets. Sources that fall into one share it; which do, nobody outside
/// knows. Chosen: 1 MiB, and an attacker who forges all sources must send
/// [`Limits::strangers_per_second`] to each of them to lock everybody out.
const BUCKETS: usize = 65_536;

/// A budget for each source, in a table of fixed size.
#[derive(Debug)]
pub(super) struct Strangers {
    buckets: Box<[Bucket]>,
    rate: Rate,
    hasher: RandomState,
    seed: u64,
}

impl Strangers {
    pub(super) fn new(seed: &[u8; 32], limits: &Limits, now: Instant) -> Self {
        Self {
            buckets: vec![Bucket::full(now); BUCKETS].into(),
            rate: Rate {
                per_second: u64::from(limits.strangers_per_second),
                burst: u64::from(limits.strangers_burst),
            },
            hasher: RandomState::new(),
            seed: seed.first_chunk().copied().map_or(0, u64::from_le_bytes),
        }
    }

    /// Whether this source may have one more answer.
    pub(super) fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        let index = self.index(source);
        self.buckets[index].take(now, self.rate, 1)
    }

    /// Whether it may have one, without counting it.
    pub(super) fn would_admit(&self, now: Instant, source: IpAddr) -> bool {
        self.buckets[self.index(source)].has_one(now, self.rate)
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
