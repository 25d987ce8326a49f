//! Kills real processes under a load of mailbox messages, and checks that the states of
//! messages stay true.
//!
//! Senders and receivers are programs beside real nodes that use the mailbox alone; one pair
//! makes links too when that is wanted. The [`reaper`] kills the registry, receivers and senders with
//! SIGKILL, alone or together, and starts them again; every line that a program hears goes
//! into the [`ledger`], which knows what may be true. At the end nothing may be open.

mod ledger;
mod letter;
mod reaper;
mod receiver;
mod report;
mod sender;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::stage::{self, Reach, Stage};
use ledger::Ledger;
use reaper::Reaper;
use report::Report;

/// What to kill, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The binary whose processes are killed [default: `waymesh` beside this program]
    #[arg(long, value_name = "PATH")]
    waymesh: Option<PathBuf>,
    /// Kills of each kind: of the registry, of receivers, of senders
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Programs that send
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    senders: u8,
    /// Programs that receive
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    receivers: u8,
    /// Lets the first sender and the first receiver make a link; all others never do
    #[arg(long)]
    link: bool,
    /// Most things that happen to messages between two kills
    #[arg(long, default_value_t = 400)]
    pace: u64,
    /// What the choice of victims and moments begins with [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the figures as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let seed = args.seed.unwrap_or_else(rand::random);
    let ledger = Arc::new(Ledger::default());
    let mut stage = Stage::set(&crate::binary(args.waymesh.as_deref())?)?;
    let first = if args.link {
        Reach::Links
    } else {
        Reach::Mailbox
    };
    let crowd = (args.senders, args.receivers, first);
    let mut reaper = Reaper::begin(&mut stage, &ledger, crowd, seed)?;
    let outcome = reaper
        .reap(args.kills, args.pace)
        .and_then(|()| reaper.settle());
    if let Err(error) = outcome {
        ledger.violated(format!("the run could not go on: {error:#}"));
    }
    let kills = reaper.end();
    for line in stage.panics()? {
        ledger.violated(format!("a process panicked: {line}"));
    }
    let found = stage::integrity(stage.places())?;
    if found != "ok" {
        ledger.violated(format!("the registry's database is damaged: {found}"));
    }
    let report = Report::new(seed, kills, ledger.end(), began.elapsed());
    report.print(args.json);
    Ok(report.code())
}
