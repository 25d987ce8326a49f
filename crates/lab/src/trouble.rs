//! Trouble with real processes, one case after the other: each brings about one harm and
//! checks that it stays small and is told.

mod flood;
mod flooder;
mod full_disk;
mod letters;
mod search;
mod secrets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

/// The exit code when something could not be tried here; `./test` knows it.
const SKIPPED: u8 = 77;

/// Which cases to try.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The binary whose processes are in trouble [default: `waymesh` beside this program]
    #[arg(long, value_name = "PATH")]
    waymesh: Option<PathBuf>,
    /// The cases [default: all]
    #[arg(value_enum)]
    cases: Vec<Case>,
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// The registry's disk is full
    FullDisk,
    /// The registry's files and memory are searched for what it must not know
    Secrets,
    /// One member floods the registry
    Flood,
}

/// How a case has ended when nothing was wrong.
#[derive(Debug)]
enum Outcome {
    /// What was seen.
    Held(String),
    /// Why it could not be tried.
    Skipped(String),
}

impl Case {
    fn play(self, binary: &Path) -> Result<Outcome> {
        match self {
            Self::FullDisk => full_disk::play(binary),
            Self::Secrets => secrets::play(binary),
            Self::Flood => flood::play(binary),
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is the program's output")]
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let binary = crate::binary(args.waymesh.as_deref())?;
    let all = Case::value_variants();
    let cases = if args.cases.is_empty() {
        all
    } else {
        &args.cases
    };
    let (mut failed, mut skipped) = (0, 0);
    for case in cases {
        let name = case
            .to_possible_value()
            .map_or_else(String::new, |v| v.get_name().to_owned());
        match case.play(&binary) {
            Ok(Outcome::Held(seen)) => println!("{name}: {seen}"),
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("SKIPPED: {name}: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("VIOLATION: {name}: {error:#}");
            }
        }
    }
    Ok(match (failed, skipped) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(SKIPPED),
        _ => ExitCode::FAILURE,
    })
}
