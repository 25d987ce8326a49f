//! Whether senders respect the windows of their receivers, seen from outside:
//! by the frames alone.
//!
//! Only what is certainly on its way is counted, so a sender may know of more.
//! Streams of calls are left out: a call can be withdrawn, which no frame tells.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use waymesh_core::outbound::{WINDOW_INITIAL_BYTES, WINDOW_INITIAL_MESSAGES};
use waymesh_proto::class::Stream;
use waymesh_proto::frame::{Ack, FrameReader, Header, Section};
use waymesh_proto::seqset::SeqSet;

use super::model::Life;
use super::report::{Checked, Invariant, Violation, hold};

const WATCHED: [Stream; 2] = [Stream::Control, Stream::Bulk];

/// One message on its way.
#[derive(Debug)]
struct Open {
    bytes: u64,
    until: Instant,
}

/// What one life of a sender has on its way to one host in one stream.
#[derive(Debug)]
struct Flow {
    to: Life,
    window_messages: u64,
    window_bytes: u64,
    open: BTreeMap<u64, Open>,
    received: SeqSet,
}

impl Flow {
    fn new(to: Life) -> Self {
        Self {
            to,
            window_messages: WINDOW_INITIAL_MESSAGES,
            window_bytes: WINDOW_INITIAL_BYTES,
            open: BTreeMap::new(),
            received: SeqSet::default(),
        }
    }

    fn handle_sent(&mut self, now: Instant, header: &Header, bytes: u64) -> Checked {
        self.open
            .retain(|seq, open| *seq >= header.lowest && open.until > now);
        if self.open.contains_key(&header.seq) {
            return Ok(());
        }
        let under_way: u64 = self.open.values().map(|open| open.bytes).sum();
        let fits = (self.open.len() as u64) < self.window_messages
            && under_way + bytes <= self.window_bytes;
        hold!(
            fits || self.open.is_empty(),
            Windows,
            "{} messages of {under_way} bytes are on their way to {:?} in {:?}, whose window is {}/{}, and one of {bytes} follows",
            self.open.len(),
            self.to,
            header.stream,
            self.window_messages,
            self.window_bytes
        );
        let until = now + Duration::from_millis(header.life_ms);
        self.open.insert(header.seq, Open { bytes, until });
        Ok(())
    }

    fn handle_ack(&mut self, ack: &Ack) {
        self.window_messages = ack.window_messages;
        self.window_bytes = ack.window_bytes;
        self.open.retain(|seq, _| !ack.consumed.contains(*seq));
        self.received.merge(&ack.received);
    }
}

/// What all senders have on their way.
#[derive(Debug, Default)]
pub struct Windows {
    flows: BTreeMap<(Life, usize, Stream), Flow>,
}

impl Windows {
    /// A link came up at a sender: what was not received is not on its way any more.
    pub fn handle_up(&mut self, from: Life, to: Life) {
        for stream in WATCHED {
            let flow = self
                .flows
                .entry((from, to.host, stream))
                .or_insert_with(|| Flow::new(to));
            if flow.to != to {
                *flow = Flow::new(to);
            }
            let Flow { open, received, .. } = flow;
            open.retain(|seq, _| received.contains(*seq));
        }
    }

    /// A sender sends a frame.
    ///
    /// # Errors
    ///
    /// It begins a message for which the receiver's window has no room.
    pub fn handle_sent(&mut self, now: Instant, from: Life, to: Life, frame: &[u8]) -> Checked {
        for section in sections(frame) {
            let (header, bytes) = match &section {
                Section::Message(header, envelope) => (header, envelope.len() as u64),
                Section::Chunk(header, piece) => (header, piece.total),
                _ => continue,
            };
            let flow = self.flows.get_mut(&(from, to.host, header.stream));
            if let Some(flow) = flow.filter(|flow| flow.to == to) {
                flow.handle_sent(now, header, bytes)?;
            }
        }
        Ok(())
    }

    /// A sender opens an item of its receiver; `frame` counts if both mean the same lives.
    pub fn handle_mail(&mut self, at: Life, from: Life, frame: Option<&Vec<u8>>) {
        for stream in WATCHED {
            let flow = self
                .flows
                .entry((at, from.host, stream))
                .or_insert_with(|| Flow::new(from));
            if flow.to < from {
                *flow = Flow::new(from);
            }
        }
        if let Some(frame) = frame {
            self.handle_got(at, from, frame);
        }
    }

    /// A sender gets a frame of its receiver.
    pub fn handle_got(&mut self, at: Life, from: Life, frame: &[u8]) {
        for section in sections(frame) {
            let stream = match &section {
                Section::Ack(ack) => ack.stream,
                Section::Refused { stream, .. } => *stream,
                _ => continue,
            };
            let flow = self.flows.get_mut(&(at, from.host, stream));
            let Some(flow) = flow.filter(|flow| flow.to == from) else {
                continue;
            };
            match section {
                Section::Ack(ack) => flow.handle_ack(&ack),
                Section::Refused { seq, .. } => drop(flow.open.remove(&seq)),
                _ => {}
            }
        }
    }
}

fn sections(frame: &[u8]) -> impl Iterator<Item = Section<'_>> {
    FrameReader::new(frame)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
}
