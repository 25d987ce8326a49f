//! How the rest of the registry learns that the relay's thread has ended.

use std::sync::Arc;

use super::Shared;

/// Whether the relay serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Life {
    /// Its thread runs, or is about to.
    #[default]
    Serving,
    /// Its thread has ended.
    Over,
}

/// What the thread holds as long as it runs: dropping it, by whatever way the thread
/// ends, tells everybody who waits for that.
#[derive(Debug)]
pub(super) struct Running(Arc<Shared>);

impl Running {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the relay's thread panicked: nothing is relayed any more");
        }
        self.0.life.send_replace(Life::Over);
    }
}
