//! The streams' side of the mailbox: which message goes into it next, and what
//! became of those that went.

use std::time::Instant;

use waymesh_proto::class::Stream;
use waymesh_proto::frame::FrameWriter;
use waymesh_proto::ids::{Incarnation, ItemId, MessageId};

use super::Streams;
use crate::outbound::{Copy, Letter, Outbound, Scope, Verdict};

impl Streams {
    /// Has a message posted from then on although a link works, unless it is settled before.
    pub fn park(&mut self, stream: Stream, seq: u64, at: Instant) {
        if let Some(outbound) = self.outbound.get_mut(&stream) {
            outbound.park(seq, at);
        }
    }

    /// When a message is to be posted although a link works.
    pub fn park_due(&self) -> Option<Instant> {
        self.outbound.values().filter_map(Outbound::park_due).min()
    }

    /// Whether a message waits for the mailbox.
    pub fn has_letter(&self, now: Instant, scope: Scope) -> bool {
        self.letter_turn(now, scope).is_some()
    }

    /// Takes the next message for the mailbox, streams in turn by weight as on a link.
    pub fn next_letter(&mut self, now: Instant, scope: Scope) -> Option<(Stream, Letter)> {
        let stream = self.letter_turn(now, scope)?;
        let letter = self.outbound.get_mut(&stream)?.next_letter(now, scope)?;
        let cost = letter.envelope.len() as u64 * 16 / u64::from(stream.weight());
        *self.served.entry(stream).or_default() += cost.max(1);
        Some((stream, letter))
    }

    fn letter_turn(&self, now: Instant, scope: Scope) -> Option<Stream> {
        let waiting = |o: &Outbound| o.has_letter(now, scope);
        let streams = self.outbound.iter().filter(|(_, o)| waiting(o));
        let served = |stream: &Stream| self.served.get(stream).copied().unwrap_or_default();
        streams.map(|(stream, _)| *stream).min_by_key(served)
    }

    /// Writes what has arrived of every stream, told before or not: a letter
    /// may be the first thing that gets through.
    pub fn put_all_acks(&mut self, writer: &mut FrameWriter) {
        for inbound in self.inbound.values_mut().filter(|i| i.has_ack()) {
            for section in inbound.take_all_acks() {
                writer.put(&section);
            }
        }
    }

    /// See [`Outbound::handle_posting`].
    pub fn handle_posting(
        &mut self,
        stream: Stream,
        seq: u64,
        item: ItemId,
        life: Option<Incarnation>,
    ) {
        if let Some(outbound) = self.outbound.get_mut(&stream) {
            outbound.handle_posting(seq, item, life);
        }
    }

    /// The peer is connected in this life: it may get everything that was posted.
    pub fn handle_reachable(&mut self, life: Incarnation) {
        for outbound in self.outbound.values_mut() {
            outbound.handle_reachable(life);
        }
    }

    /// The item of a message is durable. Gives the message when that is news.
    pub fn handle_stored(&mut self, stream: Stream, seq: u64) -> Option<MessageId> {
        self.outbound.get_mut(&stream)?.handle_stored(seq)
    }

    /// See [`Outbound::handle_handed`].
    pub fn handle_handed(&mut self, stream: Stream, seq: u64) {
        if let Some(outbound) = self.outbound.get_mut(&stream) {
            outbound.handle_handed(seq);
        }
    }

    /// See [`Outbound::handle_unhanded`].
    pub fn handle_unhanded(&mut self) {
        for outbound in self.outbound.values_mut() {
            outbound.handle_unhanded();
        }
    }

    /// See [`Outbound::handle_lost`].
    pub fn handle_lost(&mut self, stream: Stream, seq: u64) {
        if let Some(outbound) = self.outbound.get_mut(&stream) {
            outbound.handle_lost(seq);
        }
    }

    /// The item of a message is not on its way any more.
    pub fn handle_back(&mut self, stream: Stream, seq: u64) {
        if let Some(outbound) = self.outbound.get_mut(&stream) {
            outbound.handle_back(seq);
        }
    }

    /// The peer cannot open the item of a message.
    pub fn handle_unreadable(&mut self, stream: Stream, seq: u64) {
        if let Some(outbound) = self.outbound.get_mut(&stream) {
            outbound.handle_unreadable(seq);
        }
    }

    /// The registry says that the mailbox will not deliver a message.
    pub fn handle_undelivered(&mut self, stream: Stream, seq: u64, verdict: Verdict) {
        let outbound = self.outbound.get_mut(&stream);
        let ending = outbound.and_then(|outbound| outbound.handle_undelivered(seq, verdict));
        self.note_settled(stream, ending);
    }

    /// Items whose messages are settled since the last call.
    pub fn take_closed(&mut self) -> Vec<(ItemId, Copy)> {
        let outbound = self.outbound.values_mut();
        outbound.flat_map(Outbound::take_closed).collect()
    }
}
