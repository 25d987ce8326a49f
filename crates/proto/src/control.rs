//! The control messages that a node and the registry exchange (`spec/control.md`).
//!
//! They travel as text frames of JSON on one WebSocket, a message a frame,
//! each an object with a `type`; sealed items travel beside them as binary
//! frames ([`crate::mailbox`]). Where no WebSocket passes, the same messages
//! travel by HTTP long-poll. This module owns their shape and their
//! decoders; who may say what and when is decided by core's registry rules,
//! and what the signatures cover by trust. A decoder ignores keys that it does
//! not know, so that newer programs can add some, and refuses everything else
//! that it did not expect with a coded error.

mod client;
mod decode;
mod keys;
mod origin;
mod pairing;
mod server;
#[cfg(test)]
mod tests;

pub use client::{
    ClientMessage, Join, Login, Outcome, PeerRules, Settle, SkillsError, check_skills,
};
pub use decode::DecodeError;
pub use keys::{InstanceId, MeshKey, Nonce, RegistryKey, Signature};
pub use origin::{Origin, OriginError};
pub use pairing::{PAIRING_CODE_LIFE_MS, PAIRING_CODES, PairingCode, PairingCodeError};
pub use server::{Challenge, MemberRecord, Posted, PostedState, Returned, ServerMessage, Welcome};

/// Where the registry serves the control WebSocket.
pub const CONTROL_PATH: &str = "/v1/control";

/// The version of this protocol that a challenge announces.
pub const CONTROL_VERSION: u32 = 2;

/// Largest control message in either direction, bytes of JSON: all skills of
/// one agent and their frame fit. A larger one is refused with `too_large`.
pub const CONTROL_MAX_BYTES: usize = 512 * 1024;

/// Where a message that carries agents is cut into several, bytes of JSON.
/// Chosen; one agent more than fits exactly may pass it.
pub const AGENTS_PART_BYTES: usize = 64 * 1024;

/// Agents of the largest mesh in which members are introduced to each other
/// ahead of need. Chosen: when all of 128 come at once, each hears of 128 at
/// 1.3 KB, which is 21 MB together; that grows with the square of their number.
pub const INTRODUCED_MAX_AGENTS: usize = 128;

/// Bytes of JSON of all introductions to one node. Chosen: twice what as many
/// agents with papers of the usual size take.
pub const INTRODUCED_MAX_BYTES: usize = 256 * 1024;

/// How often the registry pings a silent or talking connection, milliseconds. Chosen.
pub const PING_INTERVAL_MS: u64 = 5_000;

/// Silence after which either side gives the connection up, milliseconds: two pings missed.
pub const SILENCE_MAX_MS: u64 = 10_000;

/// Items that one `settled` message names at most; more are `too_large`. Chosen.
pub const SETTLED_MAX: usize = 256;

/// Names and roles of one [`PeerRules`] altogether; more are `too_large`. Chosen.
pub const RULES_MAX: usize = 1_024;
