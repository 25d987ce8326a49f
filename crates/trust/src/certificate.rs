//! Certificates: who is a member, under which name, with which key, until when.
//!
//! A certificate is a chain of tokens joined by `~` (`spec/membership.md`):
//!
//! ```text
//! [delegation ~] member [~ extension] [~ rotation]…
//! ```
//!
//! The member token is signed by the mesh key, or by the key of the delegation
//! before it, which the mesh key has signed with limits. The extension, by the
//! registry that the member token names, may move its end and nothing else.
//! The rotations lead from the agent id to the current key.
//!
//! Whether a member or an invite was revoked, how many an invite has admitted
//! and whether a longer chain of rotations was seen before are questions to a
//! memory that this crate does not have; [`Verified`] has what they need.

mod cache;
mod chain;
mod error;
mod issue;
#[cfg(test)]
mod tests;
mod verify;

use waymesh_proto::control::RegistryKey;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::{AgentId, InviteId, MeshId, Name, Role};

use crate::invite::VerifiedDelegation;

pub use cache::{CACHE_MAX_CERTIFICATES, Cache};
pub use chain::{rotations, with_extension, with_rotation};
pub use error::{BeyondInvite, CertificateError, Token};
pub use issue::{Member, extend, issue, issue_delegated};
pub use verify::{verify, verify_renewable};

/// What a certificate proves, once its chain has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The mesh.
    pub mesh: MeshId,
    /// The member's name.
    pub name: Name,
    /// The member's identity: its first key.
    pub agent_id: AgentId,
    /// Its current key, that of its signatures; the same as `agent_id` before any rotation.
    pub key: AgentId,
    /// What it may be trusted with.
    pub roles: Vec<Role>,
    /// When the newest part of the chain was made, Unix time in milliseconds.
    pub issued_ms: u64,
    /// When it ends, with the extension and without leeway, Unix time in milliseconds.
    pub expires_ms: u64,
    /// Until when the registry may extend it, Unix time in milliseconds.
    pub renew_until_ms: u64,
    /// The registry that may extend it.
    pub registry: RegistryKey,
    /// The invite that admitted it without an admin.
    pub invite: Option<InviteId>,
    /// That invite's limits; there whenever `invite` is.
    pub delegation: Option<VerifiedDelegation>,
    /// How often it changed its key.
    pub rotations: u32,
    /// Every key that it had, from `agent_id` to `key`; what [`crate::rotation::goes_on`] compares.
    pub keys: Vec<AgentId>,
    /// SHA-256 of the certificate's text.
    pub hash: [u8; 32],
    /// SHA-256 of the member token: what an extension is made for.
    pub member_hash: [u8; 32],
}

impl Verified {
    /// Whether it holds at this time, give or take [`CLOCK_LEEWAY_MS`].
    ///
    /// # Errors
    /// [`CertificateError::NotYetValid`] or [`CertificateError::Expired`].
    pub fn check_time(&self, now_ms: u64) -> Result<(), CertificateError> {
        self.check_begun(now_ms)?;
        self.check_ends(now_ms, self.expires_ms)
    }

    /// Whether the registry may still extend it at this time, ended or not.
    ///
    /// # Errors
    /// [`CertificateError::NotYetValid`] or [`CertificateError::Expired`].
    pub fn check_renewable(&self, now_ms: u64) -> Result<(), CertificateError> {
        self.check_begun(now_ms)?;
        self.check_ends(now_ms, self.renew_until_ms)
    }

    fn check_begun(&self, now_ms: u64) -> Result<(), CertificateError> {
        let ahead_ms = self.issued_ms.saturating_sub(now_ms);
        if ahead_ms > CLOCK_LEEWAY_MS {
            let name = self.name.clone();
            return Err(CertificateError::NotYetValid { name, ahead_ms });
        }
        Ok(())
    }

    fn check_ends(&self, now_ms: u64, end_ms: u64) -> Result<(), CertificateError> {
        let over_ms = now_ms.saturating_sub(end_ms);
        if over_ms > CLOCK_LEEWAY_MS {
            return Err(CertificateError::Expired {
                name: self.name.clone(),
                over_ms,
                renewable: self.renew_until_ms >= now_ms,
            });
        }
        Ok(())
    }
}
