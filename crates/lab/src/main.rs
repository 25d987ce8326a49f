//! `waymesh-lab`: runs the simulated world from the command line.

mod runner;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Tests the cores of waymesh in a world of their own.
#[derive(Debug, Parser)]
#[command(name = "waymesh-lab")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Plays seeded schedules against the reference model; stops at the first violation.
    World(WorldArgs),
}

#[derive(Debug, Args)]
struct WorldArgs {
    /// How many schedules to play.
    #[arg(long, default_value_t = 3_000)]
    schedules: u64,
    /// Seed of the first schedule alone; as a violation names it.
    #[arg(long, conflicts_with = "first")]
    seed: Option<u64>,
    /// Number of the first schedule; each number is a seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Threads; as many as there are processors unless given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Goes on after a violation and lists, at the end, the first seed of each kind.
    #[arg(long)]
    keep_going: bool,
    /// Prints everything that happens; for one schedule.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let Verb::World(args) = Cli::parse().verb;
    runner::run(&runner::Order {
        first: args.seed.unwrap_or(args.first),
        schedules: args.schedules,
        jobs: args
            .jobs
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        keep_going: args.keep_going,
        trace: args.trace && args.schedules == 1,
    })
}
