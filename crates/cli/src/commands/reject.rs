//! `waymesh reject`: turns away who waits.

use serde::Serialize;
use waymesh_proto::Fault;
use waymesh_proto::ids::{AgentId, Name, RequestId};

use super::Context;
use super::invite::AuthorityArgs;
use crate::Outcome;
use crate::admin::Admin;
use crate::clock::unix_ms;
use crate::output::{Look, Tell};

const EXAMPLES: &str = "\
Examples:
  waymesh reject 7kq3mz
  waymesh reject 7kq3mz --reason 'the fingerprint is another one'";

/// Turn away who waits under a request
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The request, as waymesh pending and the node show it
    #[arg(value_name = "REQUEST")]
    request: RequestId,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// What the node is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Rejected {
    ok: bool,
    request: RequestId,
    name: Name,
    agent_id: AgentId,
    reason: Option<String>,
}

impl Tell for Rejected {
    fn text(&self, _: Look) -> String {
        format!("{} is turned away", self.name)
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut admin = Admin::of(context).await?;
    let status = admin.status().await?;
    let join = admin.pending_join(&args.request).await?;
    let mut authority = admin.authority(&status, args.authority.authority_dir)?;
    authority
        .reject(&join.request, &join.join_request, unix_ms())
        .map_err(|error| error.fault())?;
    admin
        .reject(join.request.clone(), args.reason.clone())
        .await?;
    context.out.tell(&Rejected {
        ok: true,
        request: join.request,
        name: join.name,
        agent_id: join.agent_id,
        reason: args.reason,
    });
    Ok(Outcome::Done)
}
