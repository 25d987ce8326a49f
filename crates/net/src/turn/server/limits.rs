//! How much of everything.

use std::time::Duration;

/// How much the server does for whom. What is past a limit is refused with the
/// code that is named, or dropped and counted.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Allocations of the server; one more is refused with 508. Chosen: each has a
    /// socket of its own.
    pub allocations: usize,
    /// Allocations of one member. One more takes the place of the one whose client
    /// was silent longest, if that is at least [`Limits::replace_silent`], else it is
    /// refused with 486. Chosen: UDP, TCP and TLS over two address families, twice
    /// over for addresses that a NAT has just changed, and some in reserve.
    pub allocations_per_member: usize,
    /// How long a client must have been silent for its allocation to be given up
    /// for a newer one of the same member. Chosen: several consent checks (RFC 7675).
    pub replace_silent: Duration,
    /// Peer addresses that one allocation may have permissions for; one more is
    /// refused with 508. Chosen.
    pub permissions: usize,
    /// Channels of one allocation; one more is refused with 508. Chosen.
    pub channels: usize,
    /// Bytes that one member may have relayed in a second, in both directions
    /// together, the payload of each datagram and [`DATAGRAM_COST_BYTES`]; what is
    /// more is dropped. Chosen: 256 Mbit/s.
    pub bytes_per_second: u64,
    /// Bytes that may pass at once after silence. Chosen: a quarter of a second.
    pub burst_bytes: u64,
    /// Requests of one member that are answered in a second; more are dropped.
    /// Chosen: every allocation of a member renews all its permissions and channels
    /// within seconds, and opening sockets in a loop takes a few percent of a core.
    pub requests_per_second: u32,
    /// Requests of one member that are answered at once.
    pub requests_burst: u32,
    /// Answers that one source without credentials gets in a second, and as many
    /// once more when it has proved that it receives there, by a stream or a nonce.
    /// Chosen: an office behind one address comes through, and a forged source gets
    /// 10 KB/s.
    pub strangers_per_second: u32,
    /// Answers that such a source gets at once.
    pub strangers_burst: u32,
    /// Life of an allocation when the client names none (RFC 8656 §7.2).
    pub lifetime: Duration,
    /// Longest life of an allocation (RFC 8656 §7.2). It also ends with its credentials.
    pub lifetime_max: Duration,
    /// How long a nonce is good (RFC 8656 §5: at least hourly).
    pub nonce_lifetime: Duration,
    /// How long credentials are good that the registry gives out.
    pub credential_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 4_096,
            allocations_per_member: 16,
            replace_silent: Duration::from_secs(60),
            permissions: 256,
            channels: 256,
            bytes_per_second: 32 * 1024 * 1024,
            burst_bytes: 8 * 1024 * 1024,
            requests_per_second: 500,
            requests_burst: 2_000,
            strangers_per_second: 100,
            strangers_burst: 200,
            lifetime: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(3_600),
            nonce_lifetime: Duration::from_secs(3_600),
            credential_lifetime: Duration::from_secs(3_600),
        }
    }
}

/// What a datagram costs of [`Limits::bytes_per_second`] beside its payload, bytes:
/// small ones are no cheaper to relay than large ones. Chosen: headers on both sides.
pub const DATAGRAM_COST_BYTES: usize = 64;

/// By how much credentials may outlive [`Limits::credential_lifetime`]: the clock
/// was set back since. Chosen.
pub(super) const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

/// Life of a permission (RFC 8656 §9).
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// Life of a channel (RFC 8656 §12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
