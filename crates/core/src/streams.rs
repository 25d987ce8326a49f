//! All streams with one peer, and the choice of what goes next on its link.
//!
//! Streams share the link by weight (start-time fair queueing): nobody starves,
//! and a large transfer does not hold up a small reply. A frame carries the
//! acknowledgements that are due and as many messages of one channel as fit.

mod letters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use waymesh_proto::class::{Class, Stream};
use waymesh_proto::envelope::Priority;
use waymesh_proto::error::Code;
use waymesh_proto::frame::{FrameWriter, Header, Section};
use waymesh_proto::ids::{Incarnation, ItemId, MessageId};
use waymesh_proto::limits::{FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES};
use waymesh_proto::seqset::SeqSet;

use crate::inbound::{Abuse, Inbound, Released};
use crate::outbound::{AckOutOfRange, Ending, Outbound, Verdict};

/// What became of a message that this node sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The stream it was in.
    pub stream: Stream,
    /// The message.
    pub id: MessageId,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether only the mailbox has carried it.
    pub by_mail: bool,
}

/// Earlier lives of a peer whose messages may still lie in the mailbox. Chosen:
/// of older ones nothing is taken, and they expire there.
const PAST_LIVES_MAX: usize = 4;

/// What became of a message that the mailbox handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The application has it, or will not get it.
    Done,
    /// The application of an earlier life of this node had it.
    DoneBefore,
    /// It waits for the application.
    Waits,
    /// There is no room for it now.
    NoRoom,
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
    /// What the peer's earlier lives sent: nobody acknowledges it, and the
    /// mailbox may still hand some of it out.
    past: BTreeMap<Incarnation, BTreeMap<Stream, Inbound>>,
    /// What an earlier life of this node had consumed.
    marks: BTreeMap<(Incarnation, Stream), SeqSet>,
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
        self.outbound.is_empty() && self.inbound.is_empty() && self.past.is_empty()
    }

    /// Says what an earlier life of this node had consumed of a stream.
    pub fn add_mark(&mut self, life: Incarnation, stream: Stream, consumed: SeqSet) {
        self.marks.insert((life, stream), consumed);
    }

    /// Bytes of envelopes of this peer that no application has consumed.
    pub fn unconsumed_bytes(&self) -> u64 {
        let past = self.past.values().flat_map(BTreeMap::values);
        let all = self.inbound.values().chain(past);
        all.map(Inbound::unconsumed_bytes).sum()
    }

    /// Whether there is room in any stream since the last call that was not there before.
    pub fn take_freed(&mut self) -> bool {
        let past = self.past.values_mut().flat_map(BTreeMap::values_mut);
        let all = self.inbound.values_mut().chain(past);
        all.fold(false, |freed, inbound| inbound.take_freed() | freed)
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
            .or_insert_with(|| Outbound::toward(stream, self.peer))
            .push(id, envelope, priority, now, expires)
    }

    /// Keeps a stream's queue short: drops its oldest message when more than
    /// `most` wait. Gives whether one was dropped.
    pub fn drop_oldest_beyond(&mut self, stream: Stream, most: usize) -> bool {
        let outbound = self.outbound.get_mut(&stream);
        outbound.is_some_and(|o| o.len() > most && o.drop_oldest())
    }

    /// Takes everything back that waits to be sent or for a verdict. Gives what
    /// may have reached the peer.
    pub fn forget_outgoing(&mut self) -> BTreeSet<MessageId> {
        let outbound = self.outbound.values_mut();
        outbound.flat_map(Outbound::drop_all).collect()
    }

    fn served_floor(&self) -> u64 {
        let busy = self.outbound.iter().filter(|(_, o)| !o.is_empty());
        busy.filter_map(|(stream, _)| self.served.get(stream))
            .min()
            .copied()
            .unwrap_or_default()
    }

    /// Whether the message may have reached a life of the peer, one before
    /// `before` if that is given; `None` when it is settled.
    pub fn was_sent(&self, stream: Stream, seq: u64, before: Option<Incarnation>) -> Option<bool> {
        self.outbound.get(&stream)?.was_sent(seq, before)
    }

    /// Whether only the mailbox has carried the message so far; `None` when it is settled.
    pub fn is_by_mail(&self, stream: Stream, seq: u64) -> Option<bool> {
        self.outbound.get(&stream)?.is_by_mail(seq)
    }

    /// Takes a message back; false when it is settled already.
    pub fn withdraw(&mut self, stream: Stream, seq: u64) -> bool {
        self.outbound
            .get_mut(&stream)
            .is_some_and(|o| o.withdraw(seq))
    }

    /// A link to this incarnation of the peer came up. Gives whether the peer
    /// had another incarnation before: its streams are past then.
    pub fn handle_link_up(&mut self, now: Instant, life: Incarnation) -> bool {
        let restarted = self.meet(life);
        for outbound in self.outbound.values_mut() {
            outbound.handle_link_up(life);
        }
        self.repeat_acks(now);
        restarted
    }

    /// An item that is not followed any more cannot be opened.
    pub fn forget_item(&mut self, item: ItemId) {
        for outbound in self.outbound.values_mut() {
            outbound.forget_item(item);
        }
    }

    /// The peer needs to hear again what this side has.
    pub fn repeat_acks(&mut self, now: Instant) {
        for inbound in self.inbound.values_mut() {
            inbound.handle_link_up(now);
        }
    }

    /// The peer was heard in this life, on whatever path. Gives whether it had another before.
    pub fn meet(&mut self, life: Incarnation) -> bool {
        let old = self.peer.replace(life);
        let Some(old) = old.filter(|old| *old != life) else {
            return false;
        };
        let mut inbound = std::mem::take(&mut self.inbound);
        inbound.values_mut().for_each(Inbound::end);
        if !inbound.is_empty() {
            self.past.insert(old, inbound);
        }
        // The mailbox may have handed out some of this life before a link's life came up.
        if let Some(inbound) = self.past.remove(&life) {
            self.inbound = inbound;
        }
        while self.past.len() > PAST_LIVES_MAX {
            self.past.pop_first();
        }
        for outbound in self.outbound.values_mut() {
            outbound.meet(life);
        }
        true
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
                    let settled = outbound.handle_ack(now, ack)?;
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
            Section::Hello(_)
            | Section::Probe(_)
            | Section::Echo(_)
            | Section::Goodbye(_)
            | Section::Revoked(_)
            | Section::Adopted => {}
        }
        Ok(())
    }

    fn inbound(&mut self, stream: Stream) -> &mut Inbound {
        let mark = self.peer.and_then(|life| self.marks.get(&(life, stream)));
        self.inbound
            .entry(stream)
            .or_insert_with(|| begun(stream, mark))
    }

    /// The receiving half of a stream of any life, if there is one or may be one.
    fn inbound_of(&mut self, life: Incarnation, stream: Stream) -> Option<&mut Inbound> {
        if self.peer == Some(life) {
            return Some(self.inbound(stream));
        }
        if !self.past.contains_key(&life) && self.past.len() >= PAST_LIVES_MAX {
            return None;
        }
        let mark = self.marks.get(&(life, stream));
        let past = self.past.entry(life).or_default();
        Some(past.entry(stream).or_insert_with(|| begun(stream, mark)))
    }

    fn note_settled(&mut self, stream: Stream, settled: impl IntoIterator<Item = Ending>) {
        self.settled
            .extend(settled.into_iter().map(|ending| Settled {
                stream,
                id: ending.id,
                verdict: ending.verdict,
                by_mail: ending.by_mail,
            }));
    }

    /// The next message that may go to the application, and the life of the peer that sent it.
    pub fn poll_ready(&mut self) -> Option<(Incarnation, Stream, Released)> {
        let life = self.peer;
        let present = self
            .inbound
            .iter_mut()
            .find_map(|(stream, inbound)| Some((life?, *stream, inbound.poll_ready()?)));
        present.or_else(|| {
            let past = self.past.iter_mut();
            let mut streams =
                past.flat_map(|(life, streams)| streams.iter_mut().map(|s| (*life, s)));
            streams
                .find_map(|(life, (stream, inbound))| Some((life, *stream, inbound.poll_ready()?)))
        })
    }

    /// The mailbox handed out a message of a life of the peer.
    ///
    /// # Errors
    ///
    /// [`Abuse`]: the message is not taken.
    pub fn handle_mail(
        &mut self,
        now: Instant,
        life: Incarnation,
        header: &Header,
        envelope: &[u8],
    ) -> Result<Receipt, Abuse> {
        let Some(inbound) = self.inbound_of(life, header.stream) else {
            return Ok(Receipt::NoRoom);
        };
        if !inbound.has(header.seq) && !inbound.has_room(header, envelope.len()) {
            return Ok(Receipt::NoRoom);
        }
        inbound.handle_message(now, header, envelope)?;
        Ok(if inbound.was_done_before(header.seq) {
            Receipt::DoneBefore
        } else if inbound.is_done_with(header.seq) {
            Receipt::Done
        } else {
            Receipt::Waits
        })
    }

    /// What the application has of a stream of a life of the peer.
    pub fn done(&self, life: Incarnation, stream: Stream) -> SeqSet {
        let streams = if self.peer == Some(life) {
            Some(&self.inbound)
        } else {
            self.past.get(&life)
        };
        let inbound = streams.and_then(|streams| streams.get(&stream));
        inbound.map(Inbound::done).unwrap_or_default()
    }

    /// Takes what became of messages that this node sent.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// The application has a message of this incarnation of the peer.
    pub fn consume(&mut self, now: Instant, peer: Incarnation, stream: Stream, seq: u64) {
        if let Some(inbound) = self.inbound_of(peer, stream) {
            inbound.consume(now, seq);
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
        if let Some(inbound) = self.inbound_of(peer, stream) {
            inbound.refuse(now, seq, code);
        }
    }

    /// What the node can spare for each stream of this peer, bytes.
    pub fn set_window(&mut self, bytes: u64) {
        let past = self.past.values_mut().flat_map(BTreeMap::values_mut);
        for inbound in self.inbound.values_mut().chain(past) {
            inbound.set_window(bytes);
        }
    }

    /// Does what time demands.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (stream, outbound) in &mut self.outbound {
            for ending in outbound.handle_timeout(now) {
                self.settled.push(Settled {
                    stream: *stream,
                    id: ending.id,
                    verdict: ending.verdict,
                    by_mail: ending.by_mail,
                });
            }
        }
        let past = self.past.values_mut().flat_map(BTreeMap::values_mut);
        for inbound in self.inbound.values_mut().chain(past) {
            inbound.handle_timeout(now);
        }
    }

    /// When [`Streams::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lives = self.outbound.values().filter_map(Outbound::poll_timeout);
        let past = self.past.values().flat_map(BTreeMap::values);
        let inbound = self.inbound.values().chain(past);
        let waits = inbound.filter_map(Inbound::poll_timeout);
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

fn begun(stream: Stream, mark: Option<&SeqSet>) -> Inbound {
    match mark {
        Some(consumed) => Inbound::resumed(stream, consumed),
        None => Inbound::new(stream),
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
