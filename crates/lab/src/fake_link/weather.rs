//! What the fake network does to what is sent over it.

use std::time::Duration;

/// The conditions between two nodes; the default is a fine day on a LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Least time from one node to the other.
    pub delay: Duration,
    /// Up to this much is added to each message by chance: unordered ones overtake each other.
    pub jitter: Duration,
    /// Messages lost in a thousand. Reliable classes pay with a retransmission's delay instead.
    pub loss_per_mille: u32,
    /// Bytes a second in each direction.
    pub bytes_per_second: u64,
    /// Bytes that a link holds before it would block.
    pub window_bytes: usize,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(100),
            loss_per_mille: 0,
            bytes_per_second: 100_000_000,
            window_bytes: 64 * 1024,
        }
    }
}

impl Weather {
    /// Time on the wire of so many bytes.
    pub(super) fn transmission(&self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(self.bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Time after which a lost message is sent again: SCTP's least RTO is a
    /// second, but most losses are seen by later acknowledgements.
    pub(super) fn retransmission(&self) -> Duration {
        self.delay * 3 + Duration::from_millis(50)
    }
}
