//! The decisions of waymesh as sans-IO state machines.
//!
//! Core is told what happened, when it happened and what is random; it answers
//! with what must be done. It takes only verified types and never reads a
//! clock, a socket or a file.

#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod app;
mod attempts;
pub mod backoff;
pub mod calls;
pub mod counters;
pub mod inbound;
pub mod inbox;
mod link;
pub mod liveness;
mod mail;
pub mod mesh;
pub mod outbound;
mod peer;
pub mod policy;
pub mod registry;
pub mod session;
pub mod streams;

pub use mesh::{Mesh, MeshConfig, Topology};
