//! How much of everything the rules let be: each limit with its unit, its
//! reason and what happens past it.

use std::time::Duration;

/// How long a new connection may take to log in. Chosen: many round trips of a bad line.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Names that one registry binds; a login with one more is refused with
/// `rate_limited`. Chosen: names and keys take some megabytes.
pub const AGENTS_MAX: usize = 16_384;

/// Skills and rules of all agents together, offline ones too, bytes of JSON;
/// what does not fit is refused with `rate_limited`. Chosen: 4 KiB for each of
/// [`AGENTS_MAX`] agents; parsed, they take several times as much memory.
pub const ALL_SKILLS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Agents of one page of [`super::Registry::find`] at most. Chosen.
pub const PAGE_MAX_AGENTS: usize = 1_024;

/// Where a page of [`super::Registry::find`] ends even with fewer agents, bytes of
/// JSON; a single agent always fits. Chosen.
pub const PAGE_MAX_BYTES: usize = 1024 * 1024;

/// Questions of one connection that may wait for their answer; one more is
/// refused with `queue_full`. Chosen: all names that may be watched, and as
/// many finds.
pub const LISTINGS_MAX: usize = 2 * WATCHED_NAMES_MAX;

/// Connections at a time; one more is refused with `rate_limited`. Chosen.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Connections that have not logged in at a time; one more is refused with
/// `rate_limited`. Chosen: strangers leave a quarter to members.
pub const STRANGERS_MAX: usize = 3_072;

/// The same from one address, or one IPv6 network of 64 bits; not from this
/// machine. Chosen: a thousand nodes of one site may come back at once.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 1_024;

/// Connections that wait for an admin's approval at a time; one more is refused
/// with `rate_limited`. Chosen.
pub const JOINING_MAX: usize = 256;

/// The same from one address that is not this machine's. Chosen: a quarter.
pub const JOINING_PER_ADDRESS_MAX: usize = 64;

/// How long a connection may wait for an admin's approval; after it the joiner
/// asks again. Chosen.
pub const JOIN_WAIT: Duration = Duration::from_secs(600);

/// Requests to join that may wait for an admin; one more is refused with
/// `rate_limited`. Chosen: more than a person looks through.
pub const PENDING_JOINS_MAX: usize = 256;

/// The same from one address that is not this machine's. Chosen: a quarter.
pub const PENDING_PER_ADDRESS_MAX: usize = 64;

/// How long a request to join is remembered, decided or not. Chosen: a week.
pub const PENDING_JOIN_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Pairing codes that may be in use; one more is refused with `queue_full`.
/// Chosen: one of fifteen thousand numbers guesses one.
pub const PAIRING_CODES_MAX: usize = 64;

/// Pairing codes that one address may try within [`CODE_TRIES_WITHIN`]; one
/// more is refused with `rate_limited`.
pub const CODE_TRIES_MAX: usize = 5;

/// The time in which tries of pairing codes are counted.
pub const CODE_TRIES_WITHIN: Duration = Duration::from_secs(60);

/// Addresses whose tries are remembered; tries of one more are refused with
/// `rate_limited`. Chosen.
pub const TRIED_ADDRESSES_MAX: usize = 4_096;

/// Revocations that are remembered, for ever; one more is refused with
/// `queue_full`. Chosen: as many as there may be names.
pub const REVOCATIONS_MAX: usize = AGENTS_MAX;

/// Logins of one agent at once after a pause; one more is refused with
/// `rate_limited`. Chosen: a node that flaps for a while.
pub const LOGINS_BURST: u32 = 30;

/// How often one agent may log in in the long run. Chosen.
pub const LOGIN_EVERY: Duration = Duration::from_secs(1);

/// How often one agent may tell new skills, rules or sealing keys in the long
/// run; one more is refused with `rate_limited`. Chosen: everybody who watches
/// it is told each time, and whoever cannot read so much is cut off.
pub const SAYING_EVERY: Duration = Duration::from_millis(25);

/// What each begun KiB of it costs beside. Chosen: 160 KiB a second.
pub const SAYING_KIB_EVERY: Duration = Duration::from_micros(6_250);

/// How much of both may come at once after a pause. Chosen: 1,000 times or
/// 4 MiB, which is less than what may wait for one connection; 256 short
/// skills that are offered one by one pass.
pub const SAYINGS_BURST: Duration = Duration::from_secs(25);

/// Items that one connection may post each second in the long run; one more is
/// refused with `rate_limited`. Chosen: ten such senders stay below what one
/// disk stores.
pub const POSTS_PER_SECOND: u32 = 2_000;

/// Items that one connection may post at once after a pause. Chosen.
pub const POSTS_BURST: u32 = 4_000;

/// Bytes of items that one connection may post each second in the long run. Chosen.
pub const POST_BYTES_PER_SECOND: u32 = 16_000_000;

/// Bytes of items that one connection may post at once after a pause. Chosen:
/// what one sender may have in eight mailboxes.
pub const POST_BYTES_BURST: u32 = 64_000_000;

/// Items that may be pushed on one connection and not be settled; the next
/// waits. Chosen: a round trip of 50 ms lets 2,500 a second through.
pub const PUSH_WINDOW_ITEMS: usize = 128;

/// Bytes of items that may be pushed on one connection and not be settled; the
/// next waits, but one item always fits. Chosen: one item of the largest size
/// and nearly another.
pub const PUSH_WINDOW_BYTES: usize = 2 * 1024 * 1024;

/// Largest item that replaces the last one of its sender, bytes; a larger one
/// is refused with `too_large`. Chosen: such items are in no quota.
pub const REPLACEABLE_MAX_BYTES: usize = 64 * 1024;

/// Items of all mailboxes together; one more is refused with `mailbox_full`.
/// Chosen: their index takes some hundred megabytes. One sender may have a
/// tenth ([`waymesh_proto::limits::MAILBOX_SENDER_PARTS`]).
pub const MAILBOXES_MAX_ITEMS: usize = 1_000_000;

/// Bytes of the items of all mailboxes together. Chosen.
pub const MAILBOXES_MAX_BYTES: usize = 16 * 1024 * 1024 * 1024;

/// Items that may wait to be written to the disk; one more is refused with
/// `queue_full`. Chosen: a second of a slow disk. One sender may have a tenth.
pub const UNWRITTEN_MAX_ITEMS: usize = 8_192;

/// Bytes of the items that may wait to be written to the disk. Chosen: as much
/// as one mailbox holds. One sender may have a tenth.
pub const UNWRITTEN_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Names that one connection may watch; one more is refused with `queue_full`.
/// Chosen: whoever wants more watches all.
pub const WATCHED_NAMES_MAX: usize = 1_024;

/// Refused messages after which a connection is closed. Chosen: a newer
/// program that tries new verbs survives, a flood does not.
pub const REFUSED_MESSAGES_MAX: u32 = 16;

/// How long the credentials for a TURN server are good, unless the membership
/// ends before; new ones are told at half of it. Chosen: an hour of relayed
/// traffic is the most that a stolen one is worth.
pub const SERVERS_LIFE: Duration = Duration::from_secs(3_600);

/// How often one connection may ask for its servers in the long run. Chosen:
/// a node asks when a server has refused its credentials.
pub const SERVERS_ASKED_EVERY: Duration = Duration::from_secs(10);

/// How often it may ask at once after a pause; one more is refused with
/// `rate_limited`. Chosen.
pub const SERVERS_ASKED_BURST: u32 = 8;

/// Signals that one connection may send each second in the long run; one more
/// is answered with `rate_limited`. Chosen: a node that tries every link once a
/// second to fifty peers stays below.
pub const SIGNALS_PER_SECOND: u32 = 200;

/// Signals that one connection may send at once after a pause. Chosen: a node
/// that starts calls a hundred peers, with ten candidates each.
pub const SIGNALS_BURST: u32 = 1_000;
