//! The names whose identity was learnt, written down without holding up the driver.
//!
//! A task writes the newest list whenever it has changed; changes that come
//! while it writes are written together.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use waymesh_proto::ids::{AgentId, Name};

use crate::home::{Home, HomeError};

type Pins = Vec<(Name, AgentId)>;

/// The names and a task that keeps them.
#[derive(Debug)]
pub(crate) struct PinBook {
    pins: watch::Sender<Pins>,
    writer: JoinHandle<()>,
}

impl PinBook {
    /// Reads what earlier lives learnt.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub(crate) fn open(home: Arc<Home>) -> Result<Self, HomeError> {
        let (pins, changes) = watch::channel(home.pins()?);
        #[expect(
            clippy::disallowed_methods,
            reason = "PinBook keeps the handle and awaits it"
        )]
        let writer = tokio::spawn(write(home, changes));
        Ok(Self { pins, writer })
    }

    /// All names known by now.
    pub(crate) fn known(&self) -> Pins {
        self.pins.borrow().clone()
    }

    /// Takes a name in.
    pub(crate) fn add(&self, pin: (Name, AgentId)) {
        self.pins.send_modify(|pins| pins.push(pin));
    }

    /// Waits until everything is written.
    pub(crate) async fn close(self) {
        drop(self.pins);
        let _ = self.writer.await;
    }
}

async fn write(home: Arc<Home>, mut changes: watch::Receiver<Pins>) {
    while changes.changed().await.is_ok() {
        let pins = changes.borrow_and_update().clone();
        let home = Arc::clone(&home);
        let written = tokio::task::spawn_blocking(move || home.store_pins(&pins)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "the names that were learnt could not be kept");
        }
    }
}
