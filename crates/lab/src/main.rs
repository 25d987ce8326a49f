//! `waymesh-lab`: runs the simulated world, and trouble with real processes, from the
//! command line.

mod kill;
mod nat;
mod runner;
mod stage;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use clap::{Args, Parser, Subcommand};

/// Tests the cores of waymesh in a world of their own, and its processes in trouble.
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
    /// Kills real processes under a load of mailbox messages; fails when one is lost.
    Kill(kill::Args),
    /// Brings real processes into trouble of other kinds; fails when it does harm.
    Trouble(trouble::Args),
    /// Puts real processes into networks of every kind (as root).
    Nat(nat::Args),
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

fn main() -> Result<ExitCode> {
    match Cli::parse().verb {
        Verb::World(args) => Ok(world(&args)),
        Verb::Kill(args) => kill::run(&args),
        Verb::Trouble(args) => trouble::run(&args),
        Verb::Nat(args) => nat::run(&args),
    }
}

fn world(args: &WorldArgs) -> ExitCode {
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

/// The binary whose processes are to run: the named one, or the one beside this program.
fn binary(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => {
            let own = std::env::current_exe().context("finding this program")?;
            Ok(own.with_file_name("waymesh"))
        }
    }
}
