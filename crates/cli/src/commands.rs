//! One file a command: its flags, what it does, and what it tells.

pub(crate) mod agents;
pub(crate) mod approve;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod bench_role;
pub(crate) mod call;
pub(crate) mod demo;
pub(crate) mod doctor;
mod ice_args;
pub(crate) mod identity;
pub(crate) mod invite;
pub(crate) mod node;
pub(crate) mod peers;
pub(crate) mod pending;
pub(crate) mod ping;
pub(crate) mod registry;
pub(crate) mod reject;
pub(crate) mod revoke;
pub(crate) mod send;

use std::path::PathBuf;
use std::time::Duration;

use waymesh_proto::Fault;

use crate::Outcome;
use crate::args::{Cli, Command};
use crate::output::Output;
use crate::settings::{self, Dwelling, Home};

/// What every command knows.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) out: Output,
    pub(crate) timeout: Duration,
    data_dir: Option<PathBuf>,
}

impl Context {
    /// The data directory that was named, if one was.
    pub(crate) fn named_data_dir(&self) -> Option<PathBuf> {
        self.data_dir.clone()
    }

    /// The data directory that was named, or the program's own.
    pub(crate) fn data_dir(&self, home: Home) -> Result<PathBuf, Fault> {
        settings::data_dir(self.data_dir.clone(), home)
    }

    /// Whose the data directory is that was named, or that there is.
    pub(crate) fn dwelling(&self) -> Result<Dwelling, Fault> {
        settings::dwelling(self.data_dir.clone())
    }
}

/// Runs the command that the command line names.
pub(crate) async fn run(cli: Cli, out: Output) -> Result<Outcome, Fault> {
    let context = Context {
        out,
        timeout: cli.global.timeout,
        data_dir: cli.global.data_dir,
    };
    match cli.command {
        Command::Demo(args) => demo::run(args, &context).await,
        Command::Registry(args) => registry::run(*args, &context).await,
        Command::Invite(args) => invite::run(args, &context).await,
        Command::Pending(args) => pending::run(args, &context).await,
        Command::Approve(args) => approve::run(args, &context).await,
        Command::Reject(args) => reject::run(args, &context).await,
        Command::Revoke(args) => revoke::run(args, &context).await,
        Command::Audit(args) => audit::run(args, &context).await,
        Command::Node(args) => node::run(args, &context).await,
        Command::Agents(args) => agents::run(args, &context).await,
        Command::Peers(args) => peers::run(args, &context).await,
        Command::Send(args) => send::run(args, &context).await,
        Command::Call(args) => call::run(args, &context).await,
        Command::Doctor(args) => doctor::run(args, &context).await,
        Command::Ping(args) => ping::run(args, &context).await,
        Command::Identity(identity) => identity::run(identity, &context).await,
        Command::Bench(bench) => bench::run(bench, &context).await,
        Command::BenchRole(args) => bench_role::run(args).await,
    }
}
