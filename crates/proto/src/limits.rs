//! Limits: each a constant with its unit, its reason and what happens past it.

/// Longest name of an agent or skill, characters (a DNS label, RFC 1035 §2.3.4).
pub const NAME_MAX_CHARS: usize = 63;

/// Largest frame on a link, bytes: the size that every WebRTC stack accepts
/// (RFC 8831 §6.6). Larger messages are cut into chunks.
pub const FRAME_MAX_BYTES: usize = 16 * 1024;

/// Largest frame on a lossy channel, bytes: fits one packet of MTU 1200, so
/// that one loss never costs more than itself.
pub const LOSSY_FRAME_MAX_BYTES: usize = 1_024;

/// Largest message (payload of an envelope), bytes, on every path. Chosen;
/// beyond it a send is refused with `message_too_large`.
pub const MESSAGE_MAX_BYTES: usize = 1024 * 1024;

/// What an envelope may add to its payload, bytes: ids, content type, skill, trace.
pub const ENVELOPE_OVERHEAD_MAX_BYTES: usize = 4 * 1024;

/// Messages that may wait for one peer; one more is refused with `queue_full`.
pub const OUTBOX_MAX_MESSAGES: usize = 1_024;

/// Bytes that may wait for one peer, at least two messages of the largest size.
pub const OUTBOX_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that may wait for all peers of a node together.
pub const NODE_OUTBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of received messages that applications have not acknowledged, for the
/// whole node. Chosen equal to what a node may have waiting to go out.
pub const NODE_INBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Longest content type of a payload, bytes (RFC 6838 §4.2: 127 for each part).
pub const CONTENT_TYPE_MAX_BYTES: usize = 255;

/// Lifetime of a message when the sender names none, milliseconds.
pub const TTL_DEFAULT_MS: u64 = 300_000;

/// Longest lifetime of a message, milliseconds: 7 days.
pub const TTL_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// Largest signaling message, bytes: an SDP with some hundred candidates fits.
pub const SIGNALING_MAX_BYTES: usize = 64 * 1024;

/// Longest header line on the IPC socket, bytes, without the raw bytes behind it.
pub const IPC_LINE_MAX_BYTES: usize = 64 * 1024;

/// Raw bytes that one IPC line may announce: one message.
pub const IPC_BYTES_MAX: usize = MESSAGE_MAX_BYTES;

/// Calls that one node may have open at a time; one more is refused with `queue_full`.
pub const OPEN_CALLS_MAX: usize = 1_024;

/// Skills that one agent may offer.
pub const SKILLS_MAX: usize = 256;

/// Largest description and schema of one skill, bytes of JSON.
pub const SKILL_MAX_BYTES: usize = 16 * 1024;

/// All skills of one agent together, bytes of JSON: sixteen of the largest, or all
/// [`SKILLS_MAX`] of 1 KiB. Chosen; more are refused with `too_large`.
pub const SKILLS_MAX_BYTES: usize = 256 * 1024;

/// Longest certificate with its chain, characters: two JWTs of 1.5 KiB, an
/// extension and twenty rotations fit. Chosen; a longer one is `bad_certificate`.
pub const CERTIFICATE_MAX_BYTES: usize = 16 * 1024;

/// Longest single signed token (JWT), characters. Chosen.
pub const TOKEN_MAX_BYTES: usize = 4 * 1024;

/// Longest invite, characters: a delegation of the largest size, and base64 of
/// all. Chosen; a longer one is `bad_invite`.
pub const INVITE_MAX_BYTES: usize = 2 * TOKEN_MAX_BYTES;

/// Roles that one certificate may give. Chosen.
pub const ROLES_MAX: usize = 16;

/// Largest sealed item, bytes: a message of the largest size, its envelope,
/// acknowledgements of all streams, certificate and sealing overhead.
pub const ITEM_MAX_BYTES: usize =
    MESSAGE_MAX_BYTES + ENVELOPE_OVERHEAD_MAX_BYTES + CERTIFICATE_MAX_BYTES + 32 * 1024;

/// Items that one mailbox stores; one more is refused with `mailbox_full`.
pub const MAILBOX_MAX_ITEMS: usize = 10_000;

/// Bytes that one mailbox stores; more are refused with `mailbox_full`.
pub const MAILBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// The share of a mailbox that one sender may fill is one of this many parts.
pub const MAILBOX_SENDER_PARTS: usize = 10;

/// How far two clocks may be apart, milliseconds: 10 minutes.
pub const CLOCK_LEEWAY_MS: u64 = 600_000;

/// How long a certificate lives before it is extended, milliseconds: 7 days.
pub const CERTIFICATE_LIFE_MS: u64 = 7 * 24 * 3_600_000;
