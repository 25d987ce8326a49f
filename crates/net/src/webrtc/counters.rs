//! Counts what this endpoint dropped, by reason.

use crate::turn::client::ClientCounters;

/// What an endpoint dropped since it was bound, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that belong to no link: a late packet of a closed link, or a stranger's.
    pub unknown_source: u64,
    /// Datagrams that are neither STUN nor DTLS.
    pub malformed: u64,
    /// Datagrams of a link that its STUN, DTLS or SCTP layer refused without ending the link.
    pub refused: u64,
    /// Datagrams not sent because the queue behind a blocked socket was full.
    pub socket_full: u64,
    /// Datagrams that the kernel refused to send: no route, or too large for the interface.
    pub unsendable: u64,
    /// Datagrams not sent because the relay that was to send them is gone.
    pub relay_gone: u64,
    /// Trickled candidates ignored: too many, not usable here, or unreadable on a link that is up.
    pub candidates_ignored: u64,
    /// Addresses forgotten because a peer was heard from too many others since.
    pub sources_forgotten: u64,
    /// Frames dropped because they came on a channel that no class has.
    pub unknown_channel: u64,
    /// Times that the WebRTC stack panicked and its link was ended.
    pub stack_panics: u64,
    /// What went through TURN servers, and what was dropped on the way to them and from
    /// them, by reason; of those that are given up, too.
    pub relays: ClientCounters,
    /// Messages for TURN servers dropped because the stream to the server, TCP or TLS,
    /// took no more, or was over.
    pub relay_streams_full: u64,
}
