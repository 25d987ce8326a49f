//! `waymesh approve`: lets in who waits.

use serde::Serialize;
use waymesh_authority::{Approval, RENEW_DEFAULT_MS, Seen};
use waymesh_proto::ids::{AgentId, Name, RequestId, Role};
use waymesh_proto::{Code, Fault};
use waymesh_trust::join::VerifiedJoin;
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
  waymesh approve 7kq3mz --role ops   trusts it with this, not with what its invite says

Lets in whom waymesh pending has shown under the request, and nobody else. Without
waymesh pending before, give the fingerprint that the node shows.";

/// Let in who waits under a request
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The request, as waymesh pending and the node show it
    #[arg(value_name = "REQUEST")]
    request: RequestId,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Only if the node has this fingerprint; needed unless waymesh pending has shown it
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
    let mut authority = admin.authority(&status, args.authority.authority_dir)?;
    let seen = authority.seen(&join.request, &join.join_request);
    match (seen.map_err(|error| error.fault())?, args.fingerprint) {
        (_, Some(expected)) if expected != shown => return Err(other_fingerprint(&shown)),
        (Seen::Other, _) => return Err(not_as_shown(&join.request)),
        (Seen::Never, None) => return Err(never_shown(&join.request, &joiner)),
        (Seen::Same, _) | (Seen::Never, Some(_)) => {}
    }
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

fn not_as_shown(request: &RequestId) -> Fault {
    let message =
        format!("what the registry has under {request} is not what waymesh pending showed");
    Fault::new(Code::BadRequest, message)
        .with_hint("run waymesh pending again and compare the fingerprints with those of the node")
}

fn never_shown(request: &RequestId, joiner: &VerifiedJoin) -> Fault {
    let (name, agent_id) = (&joiner.name, &joiner.agent_id);
    let shown = fingerprint(agent_id.as_bytes());
    let message = format!(
        "waymesh pending has not shown {request} yet: it is {name}, agent id {agent_id}, \
         fingerprint {shown}"
    );
    Fault::new(Code::Usage, message).with_hint(format!(
        "waymesh approve {request} --fingerprint FINGERPRINT, as the node itself shows it"
    ))
}

fn other_fingerprint(shown: &str) -> Fault {
    let message = format!("the node that asks has the fingerprint {shown}");
    Fault::new(Code::IdentityChanged, message)
        .with_hint("ask who runs it what the node shows; if it is another one, reject it")
}
