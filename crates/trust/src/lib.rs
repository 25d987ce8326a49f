//! Keys, signatures and the exact bytes that they cover.
//!
//! This crate proves who said something: it signs and verifies signals between
//! nodes and the mutual login of node and registry. It owns no file, no socket
//! and no clock; seeds, nonces and the time are arguments. What it returns
//! from a `verify` is what core may believe.

#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod keys;
pub mod login;
pub mod signal;

pub use keys::{BadSignature, Keypair};
