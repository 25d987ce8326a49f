//! Sealing: what makes a message unreadable for whoever carries it.
//!
//! Every agent has a *sealing key* (X25519) apart from its identity and says
//! which by a statement that its current key signs. A message is sealed with
//! HPKE (RFC 9180) to that key: base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, ChaCha20-Poly1305. `info` binds label, mesh, sender, receiver
//! and sealing key; the item's header, which the registry reads, is the
//! additional data. HPKE says nothing of the sender, so a signature by it is
//! inside, over mesh, header and content, with its certificate.
//!
//! A receiver holds the private halves of old keys as long as sealed messages
//! may still come, and destroys them then.

mod content;
mod error;
mod key;
mod seal;
#[cfg(test)]
mod tests;

pub use content::Content;
pub use error::{OpenError, SealError};
pub(crate) use key::verify_without_time;
pub use key::{SEALING_LIFE_MAX_MS, SealTo, SealingKey, verify_statement};
pub use seal::{Opened, SEAL_LABEL, SEALED_LABEL, open, seal};
