//! Transaction ids.

use aws_lc_rs::digest::{SHA256, digest};

use crate::turn::message::TransactionId;

/// Transaction ids that nobody else can guess: whoever could would be believed
/// where answers are not signed (RFC 8489 §16.1.2).
pub(crate) struct Ids {
    seed: [u8; 32],
    next: u64,
}

impl Ids {
    /// `seed` is secret and random.
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, next: 0 }
    }

    pub(crate) fn next(&mut self) -> TransactionId {
        let mut input = [0; 40];
        input[..32].copy_from_slice(&self.seed);
        input[32..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        let hash = digest(&SHA256, &input);
        let mut id = [0; 12];
        id.copy_from_slice(&hash.as_ref()[..12]);
        TransactionId::new(id)
    }
}

impl std::fmt::Debug for Ids {
    /// Without the seed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").field("next", &self.next).finish()
    }
}
