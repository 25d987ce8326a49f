//! STUN as a client speaks it (RFC 8489): how a host learns its address as a
//! server sees it, without sockets.

pub mod binding;
pub(crate) mod ids;
