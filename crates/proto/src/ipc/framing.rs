//! Cuts a byte stream into lines and the raw bytes behind them.
//!
//! A line that is refused leaves the stream usable as long as it is certain
//! where the next line starts: when the line says in a readable way how many
//! bytes follow, or cannot possibly have said so. Otherwise a payload could be
//! taken for requests, so the stream ends there.

use std::mem;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RequestId, bad};
use crate::error::{Code, Fault};
use crate::limits::IPC_LINE_MAX_BYTES;

/// Bytes of room that a [`Decoder`] offers for one read. Chosen: some dozens of
/// calls, or an eighth of what a Unix socket buffers by default.
pub const READ_BYTES: usize = 16 * 1024;

/// Most bytes behind a refused line that are read and thrown away, so that the
/// connection stays usable. Past it the connection ends. Chosen: sixteen messages.
const SKIP_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A line of one direction of the protocol.
pub trait Incoming: Sized {
    /// Reads a line; the second value is how many raw bytes follow it.
    ///
    /// # Errors
    ///
    /// A [`Fault`] that tells the sender what is wrong with the line.
    fn parse(line: &str) -> Result<(Self, Option<u64>), Fault>;

    /// The id of the request that the line is, or answers.
    fn id(&self) -> Option<&RequestId>;

    /// Refuses a payload of too many bytes before any of it is read.
    ///
    /// # Errors
    ///
    /// `message_too_large`.
    fn check_size(bytes: u64) -> Result<(), Fault>;

    /// Takes the raw bytes that followed the line.
    ///
    /// # Errors
    ///
    /// A [`Fault`] that tells the sender what is wrong with the bytes.
    fn complete(&mut self, bytes: Vec<u8>) -> Result<(), Fault>;
}

/// A line that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The id that it carries, if that can be told.
    pub id: Option<RequestId>,
    /// What is wrong with it.
    pub fault: Fault,
    /// Whether the stream cannot be read any further.
    pub fatal: bool,
}

enum State<T> {
    Line,
    Payload {
        item: T,
        left: usize,
        bytes: Vec<u8>,
    },
    Skip {
        left: u64,
    },
    Ended,
}

/// Cuts a byte stream into items of type `T`. Holds at most one line and one payload.
///
/// The program appends what it read to [`Decoder::room`] and then calls
/// [`Decoder::poll`] until it gives `None`.
pub struct Decoder<T> {
    buffer: Vec<u8>,
    /// Bytes before this one are consumed.
    start: usize,
    /// Bytes before this one hold no line end.
    scanned: usize,
    state: State<T>,
}

impl<T: Incoming> Default for Decoder<T> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            state: State::Line,
        }
    }
}

impl<T> std::fmt::Debug for Decoder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.buffer.len() - self.start;
        f.debug_struct("Decoder")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl<T: Incoming> Decoder<T> {
    /// The buffer to append read bytes to, with room for [`READ_BYTES`] more.
    pub fn room(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// The next whole item, or `None` until more bytes are there.
    ///
    /// # Errors
    ///
    /// [`Rejected`] for a line that is not what it should be. After a fatal one
    /// there is nothing more.
    pub fn poll(&mut self) -> Result<Option<T>, Rejected> {
        loop {
            match mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(None),
                State::Line => {
                    let Some((from, to)) = self.next_line()? else {
                        self.state = State::Line;
                        return Ok(None);
                    };
                    self.state = State::Line;
                    if let Some(item) = self.line(from, to)? {
                        return Ok(Some(item));
                    }
                }
                State::Skip { left } => {
                    let taken = left.min(self.waiting() as u64);
                    self.start += usize::try_from(taken).unwrap_or(usize::MAX);
                    if taken < left {
                        self.state = State::Skip { left: left - taken };
                        return Ok(None);
                    }
                    self.state = State::Line;
                }
                State::Payload {
                    mut item,
                    left,
                    mut bytes,
                } => {
                    let taken = left.min(self.waiting());
                    bytes.extend_from_slice(&self.buffer[self.start..self.start + taken]);
                    self.start += taken;
                    if taken < left {
                        let left = left - taken;
                        self.state = State::Payload { item, left, bytes };
                        return Ok(None);
                    }
                    self.state = State::Line;
                    item.complete(bytes).map_err(|fault| Rejected {
                        id: item.id().cloned(),
                        fault,
                        fatal: false,
                    })?;
                    return Ok(Some(item));
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Where the next line is, without its end. Leaves the state `Ended` when it is too long.
    fn next_line(&mut self) -> Result<Option<(usize, usize)>, Rejected> {
        let from = self.start;
        let search = self.scanned.max(from);
        let end = self.buffer[search..].iter().position(|b| *b == b'\n');
        let length = end.map_or(self.waiting(), |at| search + at - from);
        if length > IPC_LINE_MAX_BYTES {
            return Err(line_too_long());
        }
        let Some(at) = end else {
            self.scanned = self.buffer.len();
            return Ok(None);
        };
        self.start = search + at + 1;
        Ok(Some((from, search + at)))
    }

    /// Reads one line; `None` when it is blank or its payload is still to come.
    fn line(&mut self, from: usize, to: usize) -> Result<Option<T>, Rejected> {
        let line = &self.buffer[from..to];
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let outcome = std::str::from_utf8(line)
            .map_err(|_| not_utf8())
            .and_then(|text| one_object(text).and_then(T::parse));
        let (item, bytes) = match outcome {
            Ok(parsed) => parsed,
            Err(fault) => return Err(self.refuse(from, to, fault)),
        };
        let Some(bytes) = bytes else {
            return Ok(Some(item));
        };
        if let Err(fault) = T::check_size(bytes) {
            return Err(self.refuse(from, to, fault));
        }
        let left = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.state = State::Payload {
            item,
            left,
            bytes: Vec::with_capacity(left),
        };
        Ok(None)
    }

    /// Refuses a line and decides whether the stream goes on behind it.
    fn refuse(&mut self, from: usize, to: usize, fault: Fault) -> Rejected {
        let line = &self.buffer[from..to];
        let marks = std::str::from_utf8(line).ok().and_then(Marks::read);
        let (id, left) = match marks {
            Some(marks) => (marks.id(), marks.bytes()),
            None if may_announce_bytes(line) => (None, None),
            None => (None, Some(0)),
        };
        let left = left.filter(|left| *left <= SKIP_MAX_BYTES);
        self.state = match left {
            Some(left) => State::Skip { left },
            None => State::Ended,
        };
        Rejected {
            id,
            fault,
            fatal: left.is_none(),
        }
    }
}

/// The two fields of a refused line that matter for what follows it.
#[derive(Deserialize)]
struct Marks<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    bytes: Option<&'a RawValue>,
}

impl<'a> Marks<'a> {
    fn read(line: &'a str) -> Option<Self> {
        one_object(line)
            .ok()
            .and_then(|line| serde_json::from_str(line).ok())
    }

    fn id(&self) -> Option<RequestId> {
        let text: String = serde_json::from_str(self.id?.get()).ok()?;
        text.parse().ok()
    }

    /// How many bytes follow, `None` when the line does not say so readably.
    fn bytes(&self) -> Option<u64> {
        match self.bytes {
            None => Some(0),
            Some(raw) => serde_json::from_str(raw.get()).ok(),
        }
    }
}

/// Whether a line that cannot be read might say that bytes follow it.
fn may_announce_bytes(line: &[u8]) -> bool {
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
    has(b"bytes") || has(b"\\u")
}

fn one_object(line: &str) -> Result<&str, Fault> {
    if line.trim_start().starts_with('{') {
        return Ok(line);
    }
    Err(bad("the line is not a JSON object")
        .with_hint("send one JSON object a line, for example {\"type\":\"list_peers\"}"))
}

fn not_utf8() -> Fault {
    Fault::new(Code::NotUtf8, "the line is not UTF-8")
        .with_hint("lines are JSON in UTF-8; send other bytes as \"bytes\": N behind a line")
}

fn line_too_long() -> Rejected {
    let fault = Fault::new(
        Code::LineTooLong,
        format!("the line is longer than {IPC_LINE_MAX_BYTES} bytes"),
    )
    .with_hint("send a large payload as \"bytes\": N behind the line; the connection is closed");
    Rejected {
        id: None,
        fault,
        fatal: true,
    }
}
