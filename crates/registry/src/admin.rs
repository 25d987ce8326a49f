//! Admin commands: a registry is asked over the Unix socket in its data
//! directory while it runs, and through its database while it is stopped.
//!
//! `api` has the words. `desk` answers them, the same way in both cases: what
//! concerns members goes to the driver and its rules. `socket` puts a desk
//! behind a socket that only the registry's own user can open; [`Client`] is
//! the other end of it, or starts driver and rules itself, without any port,
//! for as long as it lives.
//!
//! Invariant: whoever answers holds the lock of the data directory.

mod api;
mod client;
mod desk;
mod lines;
mod socket;

pub use api::{ADMIN_LINE_MAX_BYTES, Answer, Order, PendingJoin, Reply, Request, Status};
pub use client::{AdminError, Client};

pub(crate) use desk::{Address, Desk, Running};
pub(crate) use socket::AdminSocket;
