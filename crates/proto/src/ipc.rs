//! The IPC protocol's words: what an agent's program and its node say to each other.
//!
//! A line of JSON is a request or an event; its field `type` says which. A line
//! may say `"bytes": N`: then N raw bytes follow it and are its payload. This
//! module owns the lines and their framing in both directions, without I/O.
//! It does not decide what a request does. `spec/ipc.md` is the text of it.
//!
//! Requests go program → node ([`Request`]), events node → program ([`Event`]);
//! a [`Decoder`] of either cuts a byte stream into them. No input panics, and
//! a line that is refused costs the connection only when nobody can tell where
//! the next one starts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Code, Fault};
use crate::limits::TTL_MAX_MS;

mod event;
mod framing;
mod payload;
mod request;
#[cfg(test)]
mod tests;

pub use event::{Agents, Event, Hello, Outcome, Outcomes, PeerChange, Pong, Route};
pub use framing::{Decoder, Incoming, READ_BYTES, Rejected};
pub use payload::{INLINE_DEPTH_MAX, INLINE_MAX_BYTES};
pub use request::{Attach, Follow, Request, Verb, Wait};

/// The version of the protocol, as `hello` tells it. It grows when an old
/// client would misunderstand; new verbs, events and fields do not change it.
pub const PROTOCOL: u32 = 1;

/// Longest request id, bytes. Chosen: a UUID or a short path fits.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// How long `call`, `connect` and `ping` may take when the client does not say. Chosen.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The name by which a client knows one of its requests: at most
/// [`REQUEST_ID_MAX_BYTES`] bytes of text, unique among its open requests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl FromStr for RequestId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        if text.len() > REQUEST_ID_MAX_BYTES {
            return Err(bad(format!("the request id is {} bytes long", text.len()))
                .with_hint("an id is a string of at most 128 bytes; a counter will do"));
        }
        Ok(Self(text.into()))
    }
}

impl serde::Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.0)
    }
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(Code::BadRequest, message)
}

/// A duration as the client wrote it, in milliseconds, within what a message may live.
fn duration(field: &str, ms: u64) -> Result<Duration, Fault> {
    if ms == 0 || ms > TTL_MAX_MS {
        return Err(bad(format!("`{field}` is {ms}")).with_hint(format!(
            "it is in milliseconds, from 1 to {TTL_MAX_MS} (7 days)"
        )));
    }
    Ok(Duration::from_millis(ms))
}

/// A duration for a line, in milliseconds with a fraction.
fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// A duration for a line, in whole milliseconds.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration out of a line; nonsense is zero.
fn from_millis(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default()
}
