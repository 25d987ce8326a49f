//! The registry without a port: the rules, the database, and the tasks that
//! join them.
//!
//! [`crate::Registry`] opens ports and an admin socket around it. An admin
//! command on a stopped registry runs it as it is, so that there is one
//! implementation of every decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use waymesh_core::registry::{Registry as Rules, Stored};
use waymesh_proto::AgentId;
use waymesh_trust::Keypair;

use crate::clock::Clock;
use crate::connection::Identity;
use crate::data_dir::DataDir;
use crate::driver::{CONNECTIONS_TO_DRIVER_CAP, Driver, Input};
use crate::ice::Ice;
use crate::metrics::Metrics;
use crate::start_error::StartError;
use crate::storage::Storage;
use crate::writer::{WRITER_TO_DRIVER_CAP, Writer};

/// Rules and database at work. Dropping it ends them without good-byes; what
/// has been acknowledged is on disk all the same.
#[derive(Debug)]
pub(crate) struct Engine {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    inputs: mpsc::Sender<Input>,
    stop: watch::Sender<bool>,
    /// The driver and what was added to it.
    loops: JoinSet<()>,
    disk: Disk,
}

/// The writer; it holds the directory's lock until the last byte is out.
#[derive(Debug)]
struct Disk {
    writer: Writer,
    task: JoinSet<()>,
}

/// What a data directory holds, read and not yet at work.
#[derive(Debug)]
pub(crate) struct Opened {
    dir: DataDir,
    keypair: Keypair,
    storage: Storage,
    stored: Stored,
}

impl Opened {
    /// Reads the keys and the database of a data directory.
    ///
    /// # Errors
    /// A [`StartError`].
    pub(crate) fn read(dir: DataDir) -> Result<Self, StartError> {
        let keypair = dir.keypair(&rand::random())?;
        let storage = Storage::open(&dir.database()?)?;
        let stored = storage.load(Clock::now())?;
        Ok(Self {
            dir,
            keypair,
            storage,
            stored,
        })
    }

    pub(crate) const fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Whose credentials from before this start count no more.
    pub(crate) fn expelled(&self) -> BTreeSet<AgentId> {
        self.stored.expelled()
    }
}

impl Engine {
    /// Starts to work on what was read.
    ///
    /// # Errors
    /// A [`StartError`]; nothing is left running then.
    pub(crate) fn start(opened: Opened, ice: Ice) -> Result<Self, StartError> {
        let Opened {
            dir,
            keypair,
            storage,
            stored,
        } = opened;
        storage.begin_run()?;
        let identity = Arc::new(Identity::new(keypair, stored.mesh));
        let mut rules = Rules::new(stored);
        if let Some(life) = ice.lifetime() {
            rules.offer_servers(life);
        }
        let metrics = Arc::new(Metrics::default());
        let (inputs, from_connections) = mpsc::channel(CONNECTIONS_TO_DRIVER_CAP);
        let (stored, from_writer) = mpsc::channel(WRITER_TO_DRIVER_CAP);

        let writer = Writer::default();
        let mut task = JoinSet::new();
        let (own, counts) = (writer.clone(), Arc::clone(&metrics));
        task.spawn_blocking(move || {
            own.run(storage, &stored, &counts);
            drop(dir);
        });

        let stop = watch::Sender::new(false);
        let mut loops = JoinSet::new();
        let (who, counts) = (Arc::clone(&identity), Arc::clone(&metrics));
        let driver = Driver::new(rules, writer.clone(), who, counts, ice);
        loops.spawn(driver.run(from_connections, from_writer, stop.subscribe()));
        Ok(Self {
            identity,
            metrics,
            inputs,
            stop,
            loops,
            disk: Disk { writer, task },
        })
    }

    /// Runs something beside the driver, until [`Engine::stopping`] says so.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.loops.spawn(task);
    }

    /// Changes when the registry stops.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Who the registry is.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The way to the driver, which waits for whoever has it when it stops.
    pub(crate) fn inputs(&self) -> mpsc::Sender<Input> {
        self.inputs.clone()
    }

    /// Returns when a part has ended by itself. Cancel safe.
    pub(crate) async fn failed(&mut self) {
        tokio::select! {
            _ = self.loops.join_next() => {}
            _ = self.disk.task.join_next() => {}
        }
    }

    /// Stops: lets everything end, writes what waits, frees the directory.
    pub(crate) async fn stop(self) {
        let Self {
            inputs,
            stop,
            mut loops,
            mut disk,
            ..
        } = self;
        drop(inputs);
        stop.send_replace(true);
        while loops.join_next().await.is_some() {}
        disk.writer.end();
        while disk.task.join_next().await.is_some() {}
    }
}

impl Drop for Disk {
    /// Lets the writer end, which no abort can.
    fn drop(&mut self) {
        self.writer.end();
    }
}
