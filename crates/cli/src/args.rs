//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    agents, approve, audit, bench, bench_role, call, demo, doctor, identity, invite, node, peers,
    pending, ping, registry, reject, revoke, send,
};
use crate::{logging, settings};

const EXAMPLES: &str = "\
Start here:
  waymesh demo                 a registry, four agents and real work, on this machine, in seconds
  waymesh demo notes.txt       the same with a text of yours

By hand, in three terminals:
  waymesh registry --data-dir /tmp/registry
  waymesh invite --data-dir /tmp/registry --auto-approve --reusable > /tmp/invite
  waymesh node --name bob   --invite @/tmp/invite --data-dir /tmp/bob --skill echo
  waymesh node --name alice --invite @/tmp/invite --data-dir /tmp/alice

and in a fourth:
  waymesh agents --data-dir /tmp/alice
  waymesh call bob echo --data '{\"hello\": \"bob\"}' --data-dir /tmp/alice
  waymesh peers --data-dir /tmp/alice

Results go to standard output, logs to standard error. Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Agents find each other and talk, on whatever path works
#[derive(Debug, Parser)]
#[command(name = "waymesh", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Print results as JSON, one object a line, with no key ever absent
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long to wait, as in 500ms, 10s or 2m
    #[arg(long, global = true, env = "WAYMESH_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = settings::duration)]
    pub(crate) timeout: Duration,
    /// The state of the registry or node that is meant [default: in the user's data directory]
    #[arg(long, global = true, env = "WAYMESH_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What to log, as in debug or waymesh_net=trace [default: info for registry and node]
    #[arg(long, global = true, env = "WAYMESH_LOG", value_name = "FILTER", value_parser = logging::filter)]
    pub(crate) log: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Registry(Box<registry::Args>),
    Invite(invite::Args),
    Pending(pending::Args),
    Approve(approve::Args),
    Reject(reject::Args),
    Revoke(revoke::Args),
    Audit(audit::Args),
    Node(node::Args),
    Agents(agents::Args),
    Peers(peers::Args),
    Send(send::Args),
    Call(call::Args),
    Ping(ping::Args),
    Doctor(doctor::Args),
    /// This node's identity
    #[command(subcommand)]
    Identity(identity::Identity),
    /// Measure waymesh and its rivals on this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Play the far side of a benchmark
    #[command(hide = true)]
    BenchRole(bench_role::Args),
}
