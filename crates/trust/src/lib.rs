//! Keys, signatures and the exact bytes that they cover.
//!
//! This crate proves who said something and who belongs to a mesh: it makes
//! and verifies certificates, invites, revocations, logins, signals and sealed
//! messages. It owns no file, no socket and no clock; seeds, nonces and the
//! time are arguments (only the key that HPKE throws away after one message is
//! drawn inside). What it returns from a `verify` is what core may believe.
//!
//! All trust in members comes from the mesh key:
//!
//! ```text
//! mesh key ── signs ──> member certificate ── names ──> current key ── signs ──> login, signal,
//!     │                      │    ▲                          ▲                   sealed message,
//!     └─> delegation ── signs ────┘ └── extended by the      └── rotations from  sealing key, DPoP
//!            (invite)                   registry it names        the first key
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod certificate;
pub mod directory;
pub mod dpop;
pub mod invite;
pub mod join;
mod jwt;
pub mod keys;
pub mod login;
pub mod revocation;
pub mod rotation;
pub mod sealing;
pub mod signal;
#[cfg(test)]
mod testing;

pub use keys::{BadSignature, Keypair, fingerprint, mesh_id};
