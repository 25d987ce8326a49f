//! The far side of a benchmark, a child process of `waymesh bench`.

use waymesh_bench::Role;
use waymesh_proto::{Code, Fault};

use crate::Outcome;

/// A hidden command; its argument is written by the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    role: Role,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Fault> {
    args.role
        .run()
        .await
        .map(|()| Outcome::Done)
        .map_err(|error| Fault::new(Code::Internal, error.to_string()))
}
