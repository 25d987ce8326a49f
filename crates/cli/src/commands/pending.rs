//! `waymesh pending`: who waits to be let in.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use waymesh_proto::ids::{AgentId, InviteId, Name, RequestId};
use waymesh_proto::{Code, Fault};
use waymesh_registry::admin::{PendingJoin, Status};
use waymesh_trust::{fingerprint, join};

use super::Context;
use super::invite::AuthorityArgs;
use crate::Outcome;
use crate::admin::Admin;
use crate::clock::spoken;
use crate::output::{Look, Tell, or_dash, table};

const EXAMPLES: &str = "\
Examples:
  waymesh pending
  waymesh pending --json | jq -r .request

Before you approve, compare both fingerprints with those that the node shows: its own,
and that of the mesh. What is shown here is remembered beside the mesh key, and waymesh
approve lets nobody else in under the same request.";

/// List who waits to be let in
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    authority: AuthorityArgs,
}

/// One request is one line of JSON; for people all are one table.
#[derive(Debug, Serialize)]
struct Requests {
    waiting: Vec<Waiting>,
    mesh_fingerprint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Waiting {
    request: RequestId,
    name: Name,
    agent_id: AgentId,
    fingerprint: String,
    mesh_fingerprint: Option<String>,
    address: IpAddr,
    waiting_ms: u64,
    with: With,
    invite: Option<InviteId>,
    approved: bool,
}

/// What somebody asks to join with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum With {
    Invite,
    Code,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut admin = Admin::of(context).await?;
    let status = admin.status().await?;
    let mesh_fingerprint = status.mesh.map(|mesh| fingerprint(mesh.as_bytes()));
    let joins = admin.pending().await?;
    if status.mesh.is_some() {
        remember(&admin, &status, args, &joins)?;
    }
    let mut waiting = Vec::new();
    for join in joins {
        waiting.push(Waiting::new(join, mesh_fingerprint.clone())?);
    }
    if context.out.is_json() {
        waiting.iter().for_each(|one| context.out.tell(one));
    } else {
        context.out.tell(&Requests {
            waiting,
            mesh_fingerprint,
        });
    }
    Ok(Outcome::Done)
}

/// Where the authority is elsewhere, approving takes the fingerprint.
fn remember(
    admin: &Admin,
    status: &Status,
    args: Args,
    joins: &[PendingJoin],
) -> Result<(), Fault> {
    let mut authority = match admin.authority(status, args.authority.authority_dir) {
        Err(fault) if fault.code == Code::NoAuthority => return Ok(()),
        authority => authority?,
    };
    let shown: Vec<_> = joins
        .iter()
        .map(|join| (&join.request, &join.join_request))
        .collect();
    authority
        .remember_shown(&shown)
        .map_err(|error| error.fault())
}

impl Waiting {
    /// What the joiner has signed: the registry's word is not enough to let somebody in.
    fn new(join: PendingJoin, mesh_fingerprint: Option<String>) -> Result<Self, Fault> {
        let joiner = join::verify(&join.join_request).map_err(|error| error.fault())?;
        Ok(Self {
            fingerprint: fingerprint(joiner.agent_id.as_bytes()),
            request: join.request,
            name: joiner.name,
            agent_id: joiner.agent_id,
            mesh_fingerprint,
            address: join.address,
            waiting_ms: join.waiting_ms,
            with: match join.invite {
                Some(_) => With::Invite,
                None => With::Code,
            },
            invite: join.invite,
            approved: join.approved,
        })
    }

    fn row(&self) -> Vec<String> {
        let with = match self.with {
            With::Invite => "invite",
            With::Code => "code",
        };
        let state = match self.approved {
            true => "approved, not fetched yet".to_owned(),
            false => spoken(Duration::from_millis(self.waiting_ms)),
        };
        vec![
            self.request.to_string(),
            self.name.to_string(),
            self.fingerprint.clone(),
            self.address.to_string(),
            with.to_owned(),
            state,
        ]
    }
}

impl Tell for Waiting {
    fn text(&self, _: Look) -> String {
        self.row().join("  ")
    }
}

impl Tell for Requests {
    fn text(&self, look: Look) -> String {
        if self.waiting.is_empty() {
            return "Nobody waits to be let in.".to_owned();
        }
        let header = [
            "request",
            "name",
            "fingerprint",
            "address",
            "with",
            "waiting",
        ];
        let rows = self.waiting.iter().map(Waiting::row).collect();
        format!(
            "{}\nThe mesh's fingerprint, which the node must show too: {}",
            table(look, &header, rows),
            or_dash(self.mesh_fingerprint.as_ref()),
        )
    }
}
