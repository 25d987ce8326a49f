//! The words of waymesh and their bytes.
//!
//! This crate owns every format that crosses a process boundary: ids, the
//! envelope, link frames, signaling, the registry's control messages, IPC, API
//! bodies, error codes and limits. It decides nothing: it has no clock, no
//! socket, no runtime and no cryptography. Every decoder takes hostile bytes
//! and answers with a value or a coded error, never with a panic.

#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod api;
pub mod class;
pub mod control;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod http;
pub mod ice;
pub mod ids;
pub mod ipc;
pub mod limits;
pub mod link;
pub mod mailbox;
pub mod membership;
pub mod poll;
pub mod seqset;
pub mod signaling;
mod varint;

pub use class::{Class, Reliability, Stream};
pub use envelope::{Envelope, Kind, Priority};
pub use error::{Code, Executed, Fault, Retry};
pub use ids::{
    AgentId, Incarnation, InviteId, ItemId, KeyId, LinkId, MeshId, MessageId, Name, PollId,
    RequestId, Role, SessionId, SkillName,
};
