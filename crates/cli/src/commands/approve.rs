//! `waymesh approve`: lets in who waits.

use serde::Serialize;
use waymesh_authority::{Approval, RENEW_DEFAULT_MS};
use waymesh_proto::ids::{AgentId, Name, RequestId, Role};
use waymesh_proto::{Code, Fault};
use waymesh_trust::{certificate, fingerprint, join};

use super::Context;
use super::invite::AuthorityArgs;
use crate::Outcome;
use crate::admin::Admin;
use crate::clock::unix_ms;
use crate::output::{Look, Tell};

const EXAMPLES: &str = "\
Examples:
  waymesh pending                     shows the requests and their fingerprints
  waymesh approve 7kq3mz
  waymesh approve 7kq3mz --fingerprint abcd-efgh-ijkl-mnop
  waymesh approve 7kq3mz --role ops   trusts it with this, not with what its invite says";

/// Let in who waits under a request
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The request, as waymesh pending and the node show it
    #[arg(value_name = "REQUEST")]
    request: RequestId,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Only if the node has this fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    /// What the member is trusted with, for policies; may be given several times
    /// [default: what its invite says]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
}

#[derive(Debug, Serialize)]
struct Approved {
    ok: bool,
    request: RequestId,
    name: Name,
    agent_id: AgentId,
    fingerprint: String,
    roles: Vec<Role>,
}

impl Tell for Approved {
    fn text(&self, _: Look) -> String {
        format!("{} ({}) is let in", self.name, self.fingerprint)
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut admin = Admin::of(context).await?;
    let status = admin.status().await?;
    let join = admin.pending_join(&args.request).await?;
    let joiner = join::verify(&join.join_request).map_err(|error| error.fault())?;
    let shown = fingerprint(joiner.agent_id.as_bytes());
    if args.fingerprint.is_some_and(|expected| expected != shown) {
        return Err(other_fingerprint(&shown));
    }
    let mut authority = admin.authority(&status, args.authority.authority_dir)?;
    let approval = Approval {
        request: &join.request,
        join: &join.join_request,
        registry: status.registry,
        invite: join.delegation.as_ref(),
        roles: (!args.roles.is_empty()).then_some(args.roles),
        renew_ms: RENEW_DEFAULT_MS,
    };
    let certificate = authority
        .approve(&approval, unix_ms())
        .map_err(|error| error.fault())?;
    let member = certificate::verify(&certificate, &authority.mesh_key(), unix_ms())
        .map_err(|error| error.fault())?;
    admin.approve(join.request.clone(), certificate).await?;
    context.out.tell(&Approved {
        ok: true,
        request: join.request,
        fingerprint: shown,
        name: member.name,
        agent_id: member.agent_id,
        roles: member.roles,
    });
    Ok(Outcome::Done)
}

fn other_fingerprint(shown: &str) -> Fault {
    let message = format!("the node that asks has the fingerprint {shown}");
    Fault::new(Code::IdentityChanged, message)
        .with_hint("ask who runs it what the node shows; if it is another one, reject it")
}
