//! How much is measured.

use std::path::PathBuf;
use std::time::Duration;

use crate::measure::Measure;

/// The size of a run. [`Settings::new`] gives figures that repeat within a few percent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The binary that is started again for the far sides.
    pub program: PathBuf,
    /// The arguments before a role, which the binary must pass to [`crate::Role::run`].
    pub role_args: Vec<String>,
    /// What to measure, in this order.
    pub measures: Vec<Measure>,
    /// Round trips of each contestant.
    pub round_trips: u32,
    /// Rounds among which the contestants take turns.
    pub rounds: u32,
    /// Messages of each contestant and size, one way.
    pub one_way_messages: u32,
    /// Links that are set up one after the other.
    pub setups: u32,
    /// Links that exist at the same time when memory is measured.
    pub memory_links: u32,
    /// How long an idle node's use of the processor is watched.
    pub idle_time: Duration,
    /// Meshes that are started.
    pub mesh_runs: u32,
    /// Nodes of a mesh.
    pub mesh_nodes: u32,
    /// Messages by mailbox, one after the other.
    pub mailbox_messages: u32,
    /// Senders that fill the mailbox of one receiver.
    pub stored_senders: u32,
    /// Messages of each of them; all together fit a mailbox.
    pub stored_messages: u32,
    /// Messages that are sealed and opened.
    pub sealed_messages: u32,
    /// Nodes that join at the same moment.
    pub joining_nodes: u32,
    /// Round trips through each relay.
    pub relay_round_trips: u32,
    /// Datagrams through each relay, one way.
    pub relay_datagrams: u32,
    /// Allocations that are held at once; each takes an open file here and there.
    pub relay_allocations: u32,
}

impl Settings {
    /// The sizes that the project's figures are made with.
    ///
    /// 20,000 round trips put 200 samples above the 99th percentile.
    pub fn new(program: PathBuf, role_args: Vec<String>) -> Self {
        Self {
            program,
            role_args,
            measures: Measure::LINK.to_vec(),
            round_trips: 20_000,
            rounds: 20,
            one_way_messages: 200_000,
            setups: 100,
            memory_links: 100,
            idle_time: Duration::from_secs(20),
            mesh_runs: 20,
            mesh_nodes: 10,
            mailbox_messages: 2_000,
            stored_senders: 10,
            stored_messages: 900,
            sealed_messages: 5_000,
            joining_nodes: 1_000,
            relay_round_trips: 20_000,
            relay_datagrams: 1_000_000,
            relay_allocations: 500,
        }
    }

    /// A tenth of everything: a look, not a figure to publish.
    #[must_use]
    pub fn quick(mut self) -> Self {
        self.round_trips /= 10;
        self.rounds = 5;
        self.one_way_messages /= 10;
        self.setups /= 10;
        self.memory_links /= 5;
        self.idle_time /= 5;
        self.mesh_runs /= 10;
        self.mailbox_messages /= 10;
        self.stored_messages /= 10;
        self.sealed_messages /= 10;
        self.joining_nodes /= 10;
        self.relay_round_trips /= 10;
        self.relay_datagrams /= 10;
        self.relay_allocations /= 10;
        self
    }
}
