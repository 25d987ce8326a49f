//! Invites: leave to become a member, handed out by an admin as one line of text.
//!
//! An invite has a key of its own and the mesh key's *delegation* to it: which
//! names and roles it may give, how often, until when, and whether an admin
//! must approve. The holder of a pre-approved invite issues its own
//! certificate with the invite's key; the holder of any other signs its
//! request to join with it. The invite also says whom to trust: the mesh key,
//! and the pin of the registry's TLS key when no authority vouches for it.
//!
//! Names, roles and times are in the delegation and checked by every peer. How
//! many an invite has admitted is known to the registry alone.

mod delegation;
mod error;
mod secret;
#[cfg(test)]
mod tests;

pub(crate) use delegation::verify_token;
pub use delegation::{DELEGATED_NAMES_MAX, Grant, VerifiedDelegation, delegate, verify_delegation};
pub use error::InviteError;
pub use secret::{Applicant, InviteSecret};
