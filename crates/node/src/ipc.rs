//! The IPC server: agents' programs on a Unix socket become clients of the node.
//!
//! [`waymesh_net::local`] owns the file and who may open it, `server` accepts,
//! and one task a connection (`connection`) moves bytes: lines become requests,
//! `session` turns requests into core's commands and core's events into
//! lines. `client` is the other end of the socket, for the command line.
//! What the words are is proto's; what they do is core's.
//!
//! Invariant: a client that does not read costs at most [`connection::Limits`]
//! of memory and holds up nobody but itself.

mod client;
mod connection;
mod patience;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub use client::IpcClient;
pub use connection::Limits;
pub use server::{Clients, Commands, Events, IpcServer};
pub use waymesh_net::local::BindError;

/// The name of the socket within a node's data directory.
pub const SOCKET_NAME: &str = "node.sock";
