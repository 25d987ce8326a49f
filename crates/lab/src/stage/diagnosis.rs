//! What `waymesh doctor` says, as far as the lab reads it.

use serde::Deserialize;
use waymesh_proto::Fault;
use waymesh_proto::ice::IceUrl;
use waymesh_proto::link::{Path, TriedCandidate};

/// What a network gives to a peer of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Foreseen {
    pub(crate) peer: String,
    pub(crate) path: Option<Path>,
    pub(crate) otherwise: Option<Path>,
}

/// What was found.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Checks {
    pub(crate) route: Failure,
    pub(crate) nat: Found<Nat>,
    pub(crate) servers: Found<Servers>,
    pub(crate) turn: Vec<Turn>,
}

/// One check.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Found<T> {
    pub(crate) found: Option<T>,
}

/// Why a check has failed, if it has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: Option<Fault>,
}

/// What a NAT does, in doctor's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Nat {
    pub(crate) mapping: Option<String>,
    pub(crate) filtering: Option<String>,
}

/// Whose word the servers are, and what the node that runs makes of them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Servers {
    pub(crate) source: String,
    pub(crate) candidates: Vec<TriedCandidate>,
}

/// A TURN server by one of its URLs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Turn {
    pub(crate) url: IceUrl,
    pub(crate) reach: String,
}
