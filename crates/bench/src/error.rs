//! What can go wrong in a measurement.

use std::time::Duration;

use waymesh_proto::Fault;

/// A measurement that could not be finished. There are no partial figures: fix the
/// cause and run the measure again.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A socket, pipe or file of the benchmark failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A child process ended or said something unexpected.
    #[error("the child process for {role} failed: {why}")]
    Child {
        /// Its role.
        role: &'static str,
        /// What happened.
        why: String,
    },
    /// A contestant broke its own protocol.
    #[error("{contestant}: {why}")]
    Contestant {
        /// The contestant.
        contestant: &'static str,
        /// What happened.
        why: String,
    },
    /// A node refused or failed.
    #[error("waymesh: {0}")]
    Waymesh(#[from] Fault),
    /// Nothing happened for so long that the run was given up.
    #[error("{what} took longer than {limit:?}")]
    Stuck {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl BenchError {
    /// Wraps an I/O error, saying what was being done.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// An error of a contestant's own.
    pub(crate) fn contestant(contestant: &'static str, why: impl ToString) -> Self {
        Self::Contestant {
            contestant,
            why: why.to_string(),
        }
    }
}
