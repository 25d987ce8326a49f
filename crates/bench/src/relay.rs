//! TURN relays side by side: ours and coturn, each a process of its own, and the
//! same client for both.
//!
//! ```text
//!  client ──ChannelData──▶ relay ──UDP──▶ peer
//!    ▲                                      │ now and then, directly:
//!    └──────────────────────────────────────┘ how much has arrived
//! ```
//!
//! The client sends prepared datagrams by plain sockets, so that what is
//! measured is the relay and not a client's state machine; that opens the way.

mod channel;
mod peer;
mod server;

pub(crate) use channel::{Allocation, Channel, local_socket};
pub(crate) use peer::{Echo, Sink};
pub(crate) use server::Server;
