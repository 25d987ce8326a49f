//! `waymesh`, the one binary: it reads the command line, runs one command, and turns
//! what came of it into an exit code: 0 done, 1 failed, 2 wrong usage.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod clock;
mod commands;
mod http;
mod invitation;
mod logging;
mod open_files;
mod output;
mod payload;
mod settings;
mod sidecar;
mod stop;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tokio::task::JoinSet;
use waymesh_proto::{Code, Fault};

use crate::args::Cli;
use crate::output::Output;

/// How a command ended that could tell its own result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It did what it was asked to.
    Done,
    /// It told a result that says `"ok": false`.
    Failed,
}

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;

/// How long background work may go on after a command is done. Chosen: nothing of value
/// runs there any more.
const LINGER: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => run(cli),
        Err(error) => refuse(&error, wants_json(&args)),
    }
}

fn run(cli: Cli) -> ExitCode {
    let out = Output::new(cli.global.json);
    logging::start(&cli);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            out.fail(&Fault::new(
                Code::Internal,
                format!("the runtime does not start: {error}"),
            ));
            return ExitCode::FAILURE;
        }
    };
    // As a task: what wakes the future of `block_on` itself costs a system call each time.
    let mut main = JoinSet::new();
    main.spawn_on(commands::run(cli, out), runtime.handle());
    let ended = match runtime.block_on(main.join_next()) {
        Some(Ok(ended)) => ended,
        // A panic; its message went to standard error.
        _ => Err(Fault::new(Code::Internal, "the command broke off")
            .with_hint("please report what standard error says")),
    };
    runtime.shutdown_timeout(LINGER);
    match ended {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(fault) => {
            out.fail(&fault);
            match fault.code {
                Code::Usage => EXIT_USAGE.into(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether the command line asks for JSON, when it cannot be parsed.
fn wants_json(args: &[OsString]) -> bool {
    args.iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json")
}

/// Prints help and version, or says what is wrong with the command line.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    let out = Output::new(json);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out.verbatim(&error.render().to_string());
            return ExitCode::SUCCESS;
        }
        _ if json => out.fail(&usage_fault(error)),
        _ => out.verbatim(&error.render().to_string()),
    }
    EXIT_USAGE.into()
}

fn usage_fault(error: &clap::Error) -> Fault {
    let is_missing = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_missing {
        return Fault::new(Code::Usage, "a command is missing")
            .with_hint("waymesh --help lists the commands");
    }
    let text = error.render().to_string();
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let message = lines.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    Fault::new(Code::Usage, message).with_hint("waymesh COMMAND --help shows how it is used")
}
