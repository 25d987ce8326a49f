//! What the log is told of what goes wrong again and again: once aloud.

use std::collections::BTreeSet;

use waymesh_proto::Code;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The registry refuses a message of this node.
    Refusal,
    /// A record of the directory is not believed.
    Record,
    /// An item of the mailbox is not taken.
    Item,
    /// A revocation is not the mesh's.
    Revocation,
    /// An extension of the own certificate does not hold.
    Extension,
}

/// What the log has been told on one connection, so that whoever talks
/// nonsense does not fill it.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeSet<(Subject, u16)>);

impl Complaints {
    /// Says it, as a warning the first time and for who looks closer after that.
    pub(super) fn tell(&mut self, subject: Subject, code: Code, why: &dyn std::fmt::Display) {
        if self.0.insert((subject, code.number())) {
            tracing::warn!(?subject, %code, %why, "the registry is not believed, or refuses");
        } else {
            tracing::debug!(?subject, %code, %why, "again: the registry is not believed, or refuses");
        }
    }
}
