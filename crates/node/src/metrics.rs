//! What a node counts, one documented metric a line.

use waymesh_core::Mesh;
use waymesh_net::webrtc::{Counters as NetCounters, Endpoint};

use crate::registry::CountersSnapshot as RegistryCounters;

/// A node's metrics; a snapshot is a copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metrics {
    /// Clients that were given up because they did not take their events.
    pub slow_clients: u64,
    /// Copies of messages that observers were too slow for.
    pub copies_dropped: u64,
    /// Bytes of messages that wait for peers.
    pub outbox_bytes: u64,
    /// Bytes of peers' messages that applications have not acknowledged.
    pub inbox_bytes: u64,
    /// What core dropped or refused, by reason.
    pub core: waymesh_core::counters::Counters,
    /// What the sockets dropped, by reason.
    pub net: NetCounters,
    /// What the connection to the registry did and dropped, by reason.
    pub registry: RegistryCounters,
}

impl Metrics {
    pub(crate) fn observe(&mut self, mesh: &Mesh, endpoint: &Endpoint) {
        let (outbox, inbox) = mesh.backlog();
        self.outbox_bytes = outbox as u64;
        self.inbox_bytes = inbox;
        self.core = *mesh.counters();
        self.net = endpoint.counters();
    }
}
