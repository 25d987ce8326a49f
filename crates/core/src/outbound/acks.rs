//! What the peer says of what it got: acknowledged, received, refused.

use std::time::Instant;

use waymesh_proto::error::Code;
use waymesh_proto::frame::Ack;
use waymesh_proto::seqset::SeqSet;

use super::letters::{Copy, mail_turn};
use super::{Ending, Outbound, Verdict, turn_of};

/// The peer acknowledged what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an acknowledgement of a message that was never sent")]
pub struct AckOutOfRange;

impl Outbound {
    /// The peer said what it has and what it allows. Gives what became settled by it.
    ///
    /// # Errors
    ///
    /// The peer acknowledged a sequence number that was never used.
    pub fn handle_ack(&mut self, now: Instant, ack: &Ack) -> Result<Vec<Ending>, AckOutOfRange> {
        let highest = |set: &SeqSet| set.ranges().last().map_or(set.cumulative(), |(_, end)| end);
        if highest(&ack.received).max(highest(&ack.consumed)) > self.last_seq {
            return Err(AckOutOfRange);
        }
        self.window_messages = ack.window_messages;
        self.window_bytes = ack.window_bytes;
        let mut settled = Vec::new();
        for (start, end) in spans(&ack.consumed, self.consumed.cumulative()) {
            let seqs: Vec<u64> = self
                .entries
                .range(start..=end)
                .map(|(seq, _)| *seq)
                .collect();
            for seq in seqs {
                // One that a link has carried may leave its copy behind.
                let linked = self.entries.get(&seq).is_some_and(|entry| entry.linked);
                let copy = if linked {
                    Copy::Unneeded
                } else {
                    Copy::Collected
                };
                let entry = self.remove(seq, copy);
                settled.extend(entry.map(|entry| entry.ending(Verdict::Consumed)));
            }
        }
        self.consumed.merge(&ack.consumed);
        for (start, end) in spans(&ack.received, self.consumed.cumulative()) {
            for (seq, entry) in self.entries.range_mut(start..=end) {
                if !entry.received {
                    entry.received = true;
                    entry.reached = entry.reached.or(self.life);
                    self.unposted.remove(&mail_turn(self.stream, *seq, entry));
                    self.unreceived -= u64::from(entry.in_flight);
                    // Received on an earlier link, told on this one: no need to send it again.
                    if entry.sent < entry.envelope.len() {
                        self.unsent.remove(&turn_of(self.stream, *seq, entry));
                        entry.sent = entry.envelope.len();
                        if !entry.in_flight {
                            entry.in_flight = true;
                            self.in_flight_messages += 1;
                            self.in_flight_bytes += entry.envelope.len() as u64;
                        }
                    }
                }
            }
        }
        self.peer_has.clone_from(&ack.received);
        self.nudge(now);
        Ok(settled)
    }

    /// The peer refused a message. Where an earlier incarnation of it may have
    /// had the message, that says nothing of what became of it there.
    pub fn handle_refused(&mut self, seq: u64, code: Code) -> Option<Ending> {
        self.remove(seq, Copy::Collected).map(|entry| {
            entry.ending(if entry.redelivered {
                Verdict::Unconfirmed
            } else {
                Verdict::Refused(code)
            })
        })
    }
}

/// The ranges of a set without what lies at or below a mark that is known already.
fn spans(set: &SeqSet, known: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = (set.cumulative() > known).then_some((known + 1, set.cumulative()));
    first.into_iter().chain(set.ranges())
}
