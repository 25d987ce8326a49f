//! The waymesh registry: directory, presence and signaling for one mesh.
//!
//! [`Registry::start`] opens the data directory, the database and the port,
//! and runs until [`Registry::stop`]. What is allowed is decided by
//! [`waymesh_core::registry`]; who somebody is, by [`waymesh_trust::login`];
//! this crate joins them with sockets and a disk:
//!
//! ```text
//!  connection ──Input──▶ driver (owns the rules) ──Outbox──▶ connection
//!  http       ──Input──▶    │        ▲
//!                           ▼        │ tickets
//!                         writer (owns the database)
//! ```
//!
//! It is never in the data path of a link, and cannot forge a signal: receivers
//! verify the sender's signature themselves.

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
mod writer;

pub use config::{ConfigError, RegistryConfig, Tls};
pub use program::Registry;
pub use start_error::StartError;
pub use storage::StorageError;
pub use tls::TlsError;
