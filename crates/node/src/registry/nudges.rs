//! What the driver wants of the task beside core's commands. Each counts once,
//! however often it was said before the task heard it.

use tokio::sync::Notify;

/// The wishes that wait for the task.
#[derive(Debug, Default)]
pub(super) struct Nudges {
    /// The connection may be dead: it is to be checked, or made at once.
    pub(super) network_changed: Notify,
    /// The credentials of a TURN server are refused.
    pub(super) servers_refused: Notify,
}
