//! Moves bytes: the sockets of a node and the protocols that run on them.
//!
//! Net owns SDP, ICE, DTLS, SCTP and their timers and promises what
//! `spec/link.md` says. It has no policy and retries nothing: core decides
//! which links exist, and reads what became of them.
//!
//! - [`webrtc`]: links to peers over one UDP socket.
//! - [`local`]: Unix sockets for the programs of one user.
//! - [`control`]: the connection to the registry.
//! - [`probe`]: what the network lets through.
//! - [`stun`]: the question for one's own address.
//! - [`turn`]: STUN and TURN.
//! - [`udp`]: a socket read and written in batches.

pub mod control;
pub mod local;
pub mod probe;
pub mod stun;
pub mod turn;
pub mod udp;
pub mod webrtc;
