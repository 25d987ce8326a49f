//! The authority: the holder of the mesh key.
//!
//! It is a directory that only admin commands open. Whoever holds it admits
//! and revokes members; nobody else can, and the registry least of all: its
//! process never opens the directory, and `tools/check_layers.py` sees to it
//! that neither the registry's crate nor the node's even links this one.
//!
//! ```text
//! authority/           0700
//!   mesh.key           0600   the seed of the mesh key, 32 bytes
//!   audit.log          0600   every act, a line of JSON each, chained by hashes
//!   audit.head         0600   how far the log goes, signed by the mesh key
//!   pending.shown      0600   the requests to join that the admin was shown last
//!   authority.lock     0600   held while it is open
//! ```
//!
//! Every act is in the log, and on disk, before what it makes is handed out.
//! The time is an argument, Unix time in milliseconds; randomness is drawn here.

#![forbid(unsafe_code)]

mod acts;
mod audit;
mod directory;
mod error;
mod shown;
#[cfg(test)]
mod tests;

pub use acts::{Approval, Authority, NewInvite, RENEW_DEFAULT_MS};
pub use audit::{Act, Audit, AuditError, Entry, verify_audit};
pub use directory::LOCK_WAIT;
pub use error::AuthorityError;
pub use shown::{SHOWN_MAX, Seen};
