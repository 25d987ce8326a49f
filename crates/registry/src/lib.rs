//! The waymesh registry: directory, presence, signaling and mailboxes for one mesh.
//!
//! [`Registry::start`] opens the data directory, the database, the port and
//! the admin socket, and runs until [`Registry::stop`]. What is allowed is
//! decided by [`waymesh_core::registry`]; who somebody is, by
//! [`waymesh_trust`]; this crate joins them with sockets and a disk:
//!
//! ```text
//!  websocket, poll ──▶ connection ──Input──▶ driver (owns the rules) ──Outbox──▶ connection
//!             http ───────────────Input──▶     │        ▲
//!            admin ───────────────Input──▶     ▼        │ reports
//!                                            writer (owns the database)
//! ```
//!
//! Beside it, on a thread of its own, runs the STUN and TURN server: [`turn`].
//!
//! It is never in the data path of a direct link. It can neither read a message nor
//! forge a signal nor admit a member: receivers verify signatures and
//! certificates themselves, and the mesh key is never here.

pub mod admin;
mod carrier;
mod clock;
mod config;
mod connection;
mod data_dir;
mod driver;
mod engine;
mod guard;
mod handshake;
mod http;
mod ice;
mod listener;
mod metrics;
mod origins;
mod outbox;
mod poll;
mod program;
mod proofs;
mod rates;
mod server;
mod source;
mod start_error;
mod storage;
mod tls;
pub mod turn;
mod writer;

pub use config::{ConfigError, RegistryConfig, Tls};
pub use ice::{IceConfig, IceConfigError, TurnAuth, TurnConfig};
pub use program::Registry;
pub use start_error::StartError;
pub use storage::StorageError;
pub use tls::TlsError;
