//! `waymesh doctor`: what this network lets through, which path that gives, and what to change.

mod advice;
mod checks;
mod diagnosis;
mod servers;
mod subject;
mod told;

use std::path::PathBuf;
use std::time::Duration;

use waymesh_proto::Fault;
use waymesh_proto::control::Origin;

use self::diagnosis::Diagnosis;
use self::subject::Subject;
use super::Context;
use super::ice_args::ServerArgs;
use crate::Outcome;

/// How long one check may take, unless --timeout is shorter. Chosen: TCP sends its third
/// packet after 3 s, and a network that needs longer carries no conversation.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  waymesh doctor                                   with the membership of the node here
  waymesh doctor --registry https://mesh.example:7700
  waymesh doctor --stun-url stun:stun.example.org --json | jq .paths

Members alone are told STUN and TURN servers, and log in to them: the node that runs with
--data-dir is asked, or where none runs the registry, by a login in its place that peers may
see for a moment. That login is a new life of the agent: a node that runs elsewhere on a copy of
the data directory is put out by it. Without a membership the servers are looked for on the registry's own port,
and TURN is reached but not tried.

Nothing is guessed: what cannot be known from here is unknown. Each check takes 5 s at most, or
--timeout where that is shorter. Exit status 0 when there is at least one path to other agents,
else 1.";

/// Find out what this network lets through, which path to peers it gives, and what to change
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The registry to reach [default: that of the node in the data directory]
    #[arg(long, env = "WAYMESH_REGISTRY", value_name = "URL")]
    registry: Option<Origin>,
    /// TLS authorities to trust too, PEM: where TLS is intercepted, or the registry's is private
    #[arg(long, env = "WAYMESH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    servers: ServerArgs,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let subject = Subject::new(args, context)?;
    let spinner = context
        .out
        .progress("trying what this network lets through");
    let limit = context.timeout.min(CHECK_LIMIT);
    let findings = checks::run(&subject, limit).await;
    spinner.finish_and_clear();
    let diagnosis = Diagnosis::new(&subject, findings);
    context.out.tell(&diagnosis);
    Ok(match diagnosis.ok {
        true => Outcome::Done,
        false => Outcome::Failed,
    })
}
