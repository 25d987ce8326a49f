//! What a message's header says of its place in the stream.

use std::time::Instant;

use waymesh_proto::frame::Header;

use super::Outbound;

/// How long a receiver waits for a lost predecessor of a lossy message that went into the
/// mailbox, milliseconds. Chosen: one that is only late is there by then.
const LOSSY_WAIT_MAX_MS: u64 = 2_000;

/// How many later messages of an unordered lossy stream may overtake one. Chosen:
/// more than a link holds at a time.
const OVERTAKEN_MAX: u64 = 256;

impl Outbound {
    pub(super) fn header(&self, seq: u64, now: Instant) -> Header {
        // One whose life is over is not waited for, though its verdict may be under way.
        let previous = self
            .entries
            .range(..seq)
            .rev()
            .find(|(_, entry)| entry.expires > now)
            .map_or(0, |(seq, _)| *seq);
        let lowest = self.lowest(seq);
        let entry = self.entries.get(&seq);
        let left = |until: Instant| until.saturating_duration_since(now).as_millis() as u64;
        Header {
            stream: self.stream,
            redelivered: entry.is_some_and(|e| e.redelivered),
            seq,
            previous,
            lowest,
            life_ms: entry.map_or(0, |e| left(e.expires)),
            wait_ms: entry.map_or(0, |e| match previous {
                0 => 0,
                _ if self.stream.class().is_reliable() => left(e.wait_until),
                // Nobody tells what became of it, so it is not waited for for long.
                _ => left(e.wait_until).min(LOSSY_WAIT_MAX_MS),
            }),
        }
    }

    /// The lowest that is alive. What is unordered and not kept may still be
    /// overtaken on its way: the last few count as alive.
    fn lowest(&self, seq: u64) -> u64 {
        let class = self.stream.class();
        if !class.is_reliable() && !class.is_ordered() {
            return seq.saturating_sub(OVERTAKEN_MAX).max(1);
        }
        self.entries.first_key_value().map_or(seq, |(seq, _)| *seq)
    }
}
