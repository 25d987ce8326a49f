//! STUN and TURN (RFC 8489, RFC 8656): the words, their framing on streams, and both sides.
//!
//! - [`message`]: reading and writing messages; [`credential`] signs and verifies them.
//! - [`client`]: an allocation on a server of others.
//! - [`framing`]: where a message ends in a stream, and ChannelData.
//! - [`stream`]: a TCP or TLS connection to a server of others.
//! - [`server`]: the side that relays.
//!
//! Nothing but [`stream`] has a socket or a clock. The bytes come from anybody: what reads
//! them borrows, checks every length once, and neither panics nor logs. The
//! cryptography is that of `stun-types`; its message reader is not used, since
//! it reads past the length that a message announces and logs a warning for
//! every malformed one, which a stranger may send as often as he likes.

pub mod client;
pub mod credential;
pub mod framing;
pub mod message;
pub mod server;
pub mod stream;
