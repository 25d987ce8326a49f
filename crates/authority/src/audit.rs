//! The audit log: every act of the authority, so that a cut or an edit shows.
//!
//! A line is an [`Entry`] as JSON. It has the SHA-256 of the line before it,
//! so no line can be changed, left out or put in between. The head has the
//! number of lines and the hash of the last one, signed by the mesh key, so
//! that no line can be taken from the end either. A line is written and synced
//! first, the head after it, and only then is the act handed out. So a crash may
//! leave a whole line behind the head or a part of one, and nothing else; as
//! anybody could have written it and nothing came of it, it is dropped.

mod log;
mod verify;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MeshKey, Origin};
use waymesh_proto::{AgentId, InviteId, Name, RequestId, Role};

pub(crate) use log::Log;
pub use verify::{Audit, AuditError, verify_audit};

/// What the signature of the head covers before the number of lines (8 bytes,
/// big-endian) and the hash of the last one.
pub(crate) const HEAD_LABEL: &str = "waymesh audit v1";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position, from 1.
    pub seq: u64,
    /// When it was written, Unix time in milliseconds.
    pub time_ms: u64,
    /// What was done.
    #[serde(flatten)]
    pub act: Act,
    /// SHA-256 of the line before it, in hexadecimal; of nothing for the first.
    pub prev: String,
}

/// An act of the authority, and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// A log began: of a new mesh, or in place of one that was put away.
    Begin {
        /// The mesh.
        mesh: MeshKey,
    },
    /// An invite was made.
    Invite {
        /// The invite.
        invite: InviteId,
        /// The registry that admits.
        registry: Origin,
        /// The names that it may give; `None` is any.
        names: Option<Vec<Name>>,
        /// The roles that its members get.
        roles: Vec<Role>,
        /// How many it admits; `None` is any number.
        count: Option<NonZeroU32>,
        /// Whether it admits without an admin.
        pre_approved: bool,
        /// Until when it admits, Unix time in milliseconds.
        expires_ms: u64,
        /// Until when its members' certificates may be extended, Unix time in milliseconds.
        renew_until_ms: u64,
    },
    /// A pairing code was given out; which, is not written down.
    PairingCode {
        /// Until when it is good, Unix time in milliseconds.
        expires_ms: u64,
    },
    /// A request to join was approved.
    Approve {
        /// The request.
        request: RequestId,
        /// The new member.
        name: Name,
        /// Its identity.
        agent_id: AgentId,
        /// The fingerprint of its identity, as the admin saw it.
        fingerprint: String,
        /// What it may be trusted with.
        roles: Vec<Role>,
        /// The invite that it came with.
        invite: Option<InviteId>,
        /// Until when its certificate may be extended, Unix time in milliseconds.
        renew_until_ms: u64,
    },
    /// A request to join was rejected.
    Reject {
        /// The request.
        request: RequestId,
        /// Who asked.
        name: Name,
        /// Its identity.
        agent_id: AgentId,
    },
    /// A member was revoked.
    RevokeMember {
        /// Its identity.
        agent_id: AgentId,
        /// The name that the admin revoked it by.
        name: Option<Name>,
    },
    /// A line behind the signed head was dropped: what a crash has left of an act
    /// that was not done, or what somebody else has written.
    Dropped {
        /// SHA-256 of the line, in hexadecimal.
        sha256: String,
    },
    /// An invite was revoked, and with it whom it has admitted by itself.
    RevokeInvite {
        /// The invite.
        invite: InviteId,
    },
}
