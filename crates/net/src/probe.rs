//! What the network that this host is in lets through, found out by trying it.
//!
//! Owns the questions and what the answers mean: what a NAT does to UDP
//! ([`behaviour`], RFC 5780), how large a datagram may be ([`mtu`]), whether a
//! TURN server is reached, how far a connection to the registry gets
//! ([`stream`]), and which paths all of it leaves ([`verdict`]). It keeps nothing, tries
//! nothing twice beyond UDP's retransmissions, and ends within the limit that
//! it is given. What cannot be known stays `None`: nothing is guessed.
//!
//! Decisions are state machines without sockets or clocks ([`Examination`],
//! [`verdict`]); the sockets are in [`udp`], [`stream`] and [`turn`].

pub mod behaviour;
mod binding;
pub mod local;
pub mod mtu;
pub mod stream;
pub mod turn;
pub mod udp;
pub mod verdict;

pub use binding::{Answer, Ask, Examination, Lane, Silence};
