//! What happened.

/// What a server has done since its start, and has now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Allocations now.
    pub allocations: u64,
    /// Members who have allocations now.
    pub members: u64,
    /// Allocations made.
    pub allocations_made: u64,
    /// Allocations that ended because nobody prolonged them.
    pub allocations_expired: u64,
    /// Allocations given up for a newer one of the same member.
    pub allocations_replaced: u64,
    /// Binding requests answered.
    pub bindings: u64,
    /// Requests without credentials, or with an old nonce, that got a challenge.
    pub challenges: u64,
    /// Requests whose credentials were wrong, expired or of a removed member.
    pub refused_credentials: u64,
    /// Allocations refused with 486.
    pub refused_quota: u64,
    /// Requests refused with 508.
    pub refused_capacity: u64,
    /// Peers refused with 403.
    pub refused_peers: u64,
    /// Requests refused with another code.
    pub refused_other: u64,
    /// Datagrams relayed to peers.
    pub to_peers: u64,
    /// Their payload, bytes.
    pub to_peers_bytes: u64,
    /// Datagrams relayed to clients.
    pub to_clients: u64,
    /// Their payload, bytes.
    pub to_clients_bytes: u64,
    /// Dropped: no message that a server takes.
    pub malformed: u64,
    /// Dropped: requests of sources that asked too often without credentials.
    pub dropped_strangers: u64,
    /// Dropped: data of a client without allocation, channel or permission, and of peers without permission.
    pub dropped_unpermitted: u64,
    /// Dropped: data to an address of this host where no relay is.
    pub dropped_own: u64,
    /// Dropped: more than a member may have relayed, or ask.
    pub dropped_rate: u64,
}
