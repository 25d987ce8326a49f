//! node

pub mod ipc;
