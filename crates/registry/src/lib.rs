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

mod carrier;
mod config;
mod connection;
mod data_dir;
mod driver;
mod guard;
mod http;
mod listener;
mod metrics;
mod outbox;
mod program;
mod server;
mod storage;
mod writer;

pub use config::{RegistryConfig, StartError};
pub use program::Registry;
pub use storage::StorageError;
