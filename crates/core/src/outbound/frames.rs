//! A stream's side of a link: what goes into the next frame, as the window allows.

use std::time::Instant;

use waymesh_proto::envelope::Priority;
use waymesh_proto::frame::{self, FrameWriter, Piece, Section};

use super::letters::Copy;
use super::{Outbound, Turn, turn_of};

/// Smallest piece worth a chunk header, bytes. Chosen.
const MIN_PIECE_BYTES: usize = 512;

impl Outbound {
    /// Bytes that the next thing to send takes in a frame at most; `None` when
    /// nothing may go: all is sent, or the receiver's window is full.
    pub fn next_len(&self) -> Option<usize> {
        let (_, _, seq) = self.next_turn()?;
        let entry = self.entries.get(&seq)?;
        Some(frame::HEADER_MAX_BYTES + (entry.envelope.len() - entry.sent))
    }

    /// Whose turn it is among those that may go. When the window has no room for the next
    /// new message, those that are begun go on: else they would wait for room that only
    /// their own end makes.
    fn next_turn(&self) -> Option<Turn> {
        let first = *self.unsent.first()?;
        if self.fits_window(first) {
            return Some(first);
        }
        (0..=Priority::Critical as u8).find_map(|urgency| {
            let begun = (urgency, 1, 0)..(urgency + 1, 0, 0);
            self.unsent.range(begun).next().copied()
        })
    }

    fn fits_window(&self, (_, _, seq): Turn) -> bool {
        self.entries.get(&seq).is_some_and(|entry| {
            entry.in_flight
                || self.in_flight_messages == 0
                || (self.in_flight_messages < self.window_messages
                    && self.in_flight_bytes + entry.envelope.len() as u64 <= self.window_bytes)
        })
    }

    /// Writes the next message, or as much of it as fits, into a frame of at
    /// most `limit` bytes. False when not even a useful piece fits.
    pub fn put_into(&mut self, writer: &mut FrameWriter, limit: usize, now: Instant) -> bool {
        let Some(turn) = self.next_turn() else {
            return false;
        };
        let seq = turn.2;
        let room = limit.saturating_sub(writer.len());
        let header = self.header(seq, now);
        let Some(entry) = self.entries.get_mut(&seq) else {
            return false;
        };
        let total = entry.envelope.len();
        let taken = if entry.sent == 0 && frame::message_len(&header, total) <= room {
            writer.put(&Section::Message(header, &entry.envelope));
            total
        } else {
            let fits = room.saturating_sub(frame::chunk_overhead(&header, total));
            let piece = fits.min(total - entry.sent);
            if piece < MIN_PIECE_BYTES.min(total - entry.sent) || !self.stream.class().is_reliable()
            {
                return false;
            }
            // A message that would fit an empty frame whole is not worth cutting.
            if entry.sent == 0 && !writer.is_empty() && total < limit / 2 {
                return false;
            }
            let offset = entry.sent;
            writer.put(&Section::Chunk(
                header,
                Piece {
                    total: total as u64,
                    offset: offset as u64,
                    bytes: &entry.envelope[offset..offset + piece],
                },
            ));
            piece
        };
        self.note_sent(seq, turn, taken);
        true
    }

    fn note_sent(&mut self, seq: u64, turn: Turn, taken: usize) {
        self.unsent.remove(&turn);
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        entry.sent += taken;
        entry.chunks += 1;
        if !entry.in_flight {
            entry.in_flight = true;
            self.unreceived += 1;
            self.in_flight_messages += 1;
            self.in_flight_bytes += entry.envelope.len() as u64;
        }
        if entry.sent < entry.envelope.len() {
            self.unsent.insert(turn_of(self.stream, seq, entry));
        } else {
            entry.linked = true;
            entry.reached = entry.reached.or(self.life);
            if !self.stream.class().is_reliable() {
                self.remove(seq, Copy::Unneeded);
            }
        }
    }
}
