//! All streams with one peer, and the choice of what goes next on its link.
//!
//! Streams share the link by weight (start-time fair queueing): nobody starves,
//! and a large transfer does not hold up a small reply. A frame carries the
//! acknowledgements that are due and as many messages of one channel as fit.

use std::collections::BTreeMap;
use std::time::Instant;

use waymesh_proto::class::{Class, Stream};
use waymesh_proto::envelope::Priority;
use waymesh_proto::error::Code;
use waymesh_proto::frame::{FrameWriter, Section};
use waymesh_proto::ids::{Incarnation, MessageId};
use waymesh_proto::limits::{FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES};

use crate::inbound::{Abuse, Inbound, Released};
use crate::outbound::{AckOutOfRange, Outbound, Verdict};

/// What became of a message that this node sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The stream it was in.
    pub stream: Stream,
    /// The message.
    pub id: MessageId,
    /// What became of it.
    pub verdict: Verdict,
}

/// The peer broke the rules; its link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It sent what it must not.
    #[error(transparent)]
    Abuse(#[from] Abuse),
    /// It acknowledged what was not sent.
    #[error(transparent)]
    Ack(#[from] AckOutOfRange),
}

/// All streams with one peer.
#[derive(Debug, Default)]
pub struct Streams {
    peer: Option<Incarnation>,
    outbound: BTreeMap<Stream, Outbound>,
    inbound: BTreeMap<Stream, Inbound>,
    /// Virtual time up to which each stream has been served.
    served: BTreeMap<Stream, u64>,
    settled: Vec<Settled>,
}

impl Streams {
    /// The peer's incarnation that the streams are with.
    pub const fn peer(&self) -> Option<Incarnation> {
        self.peer
    }

    /// Messages that wait for this peer, sent or not.
    pub fn waiting(&self) -> usize {
        self.outbound.values().map(Outbound::len).sum()
    }

    /// Bytes of envelopes that wait for this peer, sent or not.
    pub fn bytes(&self) -> usize {
        self.outbound.values().map(Outbound::bytes).sum()
    }

    /// Bytes of envelopes of one stream that wait for this peer, sent or not.
    pub fn bytes_of(&self, stream: Stream) -> usize {
        self.outbound.get(&stream).map_or(0, Outbound::bytes)
    }

    /// Whether nothing was ever sent to or heard from this peer.
    pub fn is_blank(&self) -> bool {
        self.outbound.is_empty() && self.inbound.is_empty()
    }

    /// Bytes of envelopes of this peer that no application has consumed.
    pub fn unconsumed_bytes(&self) -> u64 {
        self.inbound.values().map(Inbound::unconsumed_bytes).sum()
    }

    /// Whether something waits to be sent or answered.
    pub fn wants_link(&self) -> bool {
        self.outbound.values().any(|o| !o.is_empty())
    }

    /// Adds an envelope to a stream and gives its sequence number.
    pub fn push(
        &mut self,
        stream: Stream,
        id: MessageId,
        envelope: Vec<u8>,
        priority: Priority,
        (now, expires): (Instant, Instant),
    ) -> u64 {
        if self.outbound.get(&stream).is_none_or(Outbound::is_empty) {
            // A stream that was idle has no claim to the time it did not use.
            let floor = self.served_floor();
            let served = self.served.entry(stream).or_default();
            *served = floor.max(*served);
        }
        self.outbound
            .entry(stream)
            .or_insert_with(|| Outbound::new(stream))
            .push(id, envelope, priority, now, expires)
    }

    /// Keeps a stream's queue short: drops its oldest message when more than
    /// `most` wait. Gives whether one was dropped.
    pub fn drop_oldest_beyond(&mut self, stream: Stream, most: usize) -> bool {
        let outbound = self.outbound.get_mut(&stream);
        outbound.is_some_and(|o| o.len() > most && o.drop_oldest())
    }

    /// Takes everything back that waits to be sent.
    pub fn forget_outgoing(&mut self) {
        for outbound in self.outbound.values_mut() {
            while outbound.drop_oldest() {}
        }
    }

    fn served_floor(&self) -> u64 {
        let busy = self.outbound.iter().filter(|(_, o)| !o.is_empty());
        busy.filter_map(|(stream, _)| self.served.get(stream))
            .min()
            .copied()
            .unwrap_or_default()
    }

    /// Whether the message may have reached the peer; `None` when it is settled.
    pub fn was_sent(&self, stream: Stream, seq: u64) -> Option<bool> {
        self.outbound.get(&stream)?.was_sent(seq)
    }

    /// Takes a message back; false when it is settled already.
    pub fn withdraw(&mut self, stream: Stream, seq: u64) -> bool {
        self.outbound
            .get_mut(&stream)
            .is_some_and(|o| o.withdraw(seq))
    }

    /// A link to this incarnation of the peer came up. Gives whether the peer
    /// had another incarnation before: its old streams are gone then.
    pub fn handle_link_up(&mut self, now: Instant, peer: Incarnation) -> bool {
        let restarted = self.peer.is_some_and(|old| old != peer);
        let same = self.peer == Some(peer);
        self.peer = Some(peer);
        if restarted {
            self.inbound.clear();
        }
        for outbound in self.outbound.values_mut() {
            outbound.handle_link_up(same);
        }
        for inbound in self.inbound.values_mut() {
            inbound.handle_link_up(now);
        }
        restarted
    }

    /// A section about streams arrived; other sections are ignored.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the link must be closed.
    pub fn handle_section(
        &mut self,
        now: Instant,
        section: &Section<'_>,
    ) -> Result<(), StreamError> {
        match section {
            Section::Message(header, envelope) => self
                .inbound(header.stream)
                .handle_message(now, header, envelope)?,
            Section::Chunk(header, piece) => {
                self.inbound(header.stream)
                    .handle_chunk(now, header, piece)?;
            }
            Section::Ack(ack) => {
                if let Some(outbound) = self.outbound.get_mut(&ack.stream) {
                    let settled = outbound.handle_ack(ack)?;
                    self.note_settled(ack.stream, settled);
                }
            }
            Section::Refused { stream, seq, code } => {
                let settled = self
                    .outbound
                    .get_mut(stream)
                    .and_then(|outbound| outbound.handle_refused(*seq, *code));
                self.note_settled(*stream, settled);
            }
            Section::Hello(_) | Section::Probe(_) | Section::Echo(_) | Section::Goodbye(_) => {}
        }
        Ok(())
    }

    fn inbound(&mut self, stream: Stream) -> &mut Inbound {
        self.inbound
            .entry(stream)
            .or_insert_with(|| Inbound::new(stream))
    }

    fn note_settled(
        &mut self,
        stream: Stream,
        settled: impl IntoIterator<Item = (MessageId, Verdict)>,
    ) {
        self.settled
            .extend(settled.into_iter().map(|(id, verdict)| Settled {
                stream,
                id,
                verdict,
            }));
    }

    /// The next message that may go to the application.
    pub fn poll_ready(&mut self) -> Option<(Stream, Released)> {
        self.inbound
            .iter_mut()
            .find_map(|(stream, inbound)| Some((*stream, inbound.poll_ready()?)))
    }

    /// Takes what became of messages that this node sent.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// The application has a message of this incarnation of the peer.
    pub fn consume(&mut self, now: Instant, peer: Incarnation, stream: Stream, seq: u64) {
        if self.peer == Some(peer) {
            self.inbound(stream).consume(now, seq);
        }
    }

    /// A message of this incarnation of the peer will not be delivered.
    pub fn refuse(
        &mut self,
        now: Instant,
        peer: Incarnation,
        stream: Stream,
        seq: u64,
        code: Code,
    ) {
        if self.peer == Some(peer) {
            self.inbound(stream).refuse(now, seq, code);
        }
    }

    /// What the node can spare for each stream of this peer, bytes.
    pub fn set_window(&mut self, bytes: u64) {
        for inbound in self.inbound.values_mut() {
            inbound.set_window(bytes);
        }
    }

    /// Does what time demands.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (stream, outbound) in &mut self.outbound {
            for (id, verdict) in outbound.handle_timeout(now) {
                let stream = *stream;
                self.settled.push(Settled {
                    stream,
                    id,
                    verdict,
                });
            }
        }
        for inbound in self.inbound.values_mut() {
            inbound.handle_timeout(now);
        }
    }

    /// When [`Streams::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lives = self.outbound.values().filter_map(Outbound::poll_timeout);
        let waits = self.inbound.values().filter_map(Inbound::poll_timeout);
        lives.chain(waits).min()
    }

    /// When an acknowledgement must go out even without company.
    pub fn ack_due(&self) -> Option<Instant> {
        self.inbound.values().filter_map(Inbound::ack_due).min()
    }

    /// Whether the peer owes an acknowledgement.
    pub fn is_unanswered(&self) -> bool {
        self.outbound.values().any(Outbound::is_unanswered)
    }

    /// The channel whose turn it is, and the bytes that its frame could use.
    pub fn next_frame(&self) -> Option<(Class, usize)> {
        let (stream, len) = self
            .outbound
            .iter()
            .filter_map(|(stream, outbound)| Some((*stream, outbound.next_len()?)))
            .min_by_key(|(stream, _)| self.served.get(stream).copied().unwrap_or_default())?;
        Some((stream.class(), len.min(frame_limit(stream.class()))))
    }

    /// Writes the acknowledgements that wait.
    pub fn put_acks(&mut self, writer: &mut FrameWriter) {
        for inbound in self.inbound.values_mut().filter(|i| i.has_ack()) {
            for section in inbound.take_ack() {
                writer.put(&section);
            }
        }
    }

    /// Fills a frame of a channel with messages. Gives whether the peer must answer.
    pub fn put_messages(
        &mut self,
        class: Class,
        writer: &mut FrameWriter,
        room: usize,
        now: Instant,
    ) -> bool {
        let limit = frame_limit(class).min(room);
        let mut any = false;
        loop {
            let turn = self
                .outbound
                .iter()
                .filter(|(stream, o)| stream.class() == class && o.next_len().is_some())
                .map(|(stream, _)| *stream)
                .min_by_key(|stream| self.served.get(stream).copied().unwrap_or_default());
            let Some(stream) = turn else { break };
            let before = writer.len();
            let put = self
                .outbound
                .get_mut(&stream)
                .is_some_and(|outbound| outbound.put_into(writer, limit, now));
            if !put {
                break;
            }
            any = true;
            let cost = (writer.len() - before) as u64 * 16 / u64::from(stream.weight());
            *self.served.entry(stream).or_default() += cost.max(1);
        }
        any && class.is_reliable()
    }
}

/// Largest frame of a channel, bytes.
const fn frame_limit(class: Class) -> usize {
    if class.is_reliable() {
        FRAME_MAX_BYTES
    } else {
        LOSSY_FRAME_MAX_BYTES
    }
}
