//! `waymesh revoke`: ends a membership or takes an invite back, for ever.

use serde::Serialize;
use waymesh_authority::{Act, Authority};
use waymesh_proto::control::MemberRecord;
use waymesh_proto::ids::{AgentId, InviteId, Name};
use waymesh_proto::{Code, Fault};
use waymesh_trust::certificate;

use super::Context;
use super::invite::AuthorityArgs;
use crate::Outcome;
use crate::admin::Admin;
use crate::clock::unix_ms;
use crate::output::{Look, Tell};

const EXAMPLES: &str = "\
Examples:
  waymesh revoke mallory
  waymesh revoke --agent-id AGENT_ID     a member that never came, from waymesh audit
  waymesh revoke --invite INVITE_ID      an invite, and whom it has let in by itself

Nodes that are connected hear of it within a second and drop their links. A member that
was revoked does not come back: invite it anew with a new --data-dir.";

/// End a membership, or take an invite back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    authority: AuthorityArgs,
}

/// Exactly one of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The name of the member
    name: Option<Name>,
    /// The identity of the member
    #[arg(long, value_name = "AGENT_ID")]
    agent_id: Option<AgentId>,
    /// The id of an invite, as waymesh invite --json and waymesh audit tell it
    #[arg(long, value_name = "INVITE_ID")]
    invite: Option<InviteId>,
}

#[derive(Debug, Serialize)]
struct Revoked {
    ok: bool,
    name: Option<Name>,
    agent_id: Option<AgentId>,
    invite: Option<InviteId>,
}

impl Tell for Revoked {
    fn text(&self, _: Look) -> String {
        match (&self.name, &self.agent_id, &self.invite) {
            (Some(name), Some(agent_id), _) => {
                format!("{name} (agent id {agent_id}) is no member any more")
            }
            (None, Some(agent_id), _) => format!("{agent_id} is no member any more"),
            (None, None, Some(invite)) => format!("nobody joins by the invite {invite} any more"),
            (Some(_), None, _) | (None, None, None) => String::new(),
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut admin = Admin::of(context).await?;
    let status = admin.status().await?;
    let mut claimed = Vec::new();
    if let Some(name) = &args.target.name {
        claimed = admin.members(Some(name.clone())).await?;
    }
    let mut authority: Authority = admin.authority(&status, args.authority.authority_dir)?;
    let agent_id = match (&args.target.name, args.target.agent_id) {
        (Some(name), _) => Some(id_of(&authority, &claimed, name)?),
        (None, agent_id) => agent_id,
    };
    let (name, invite) = (args.target.name, args.target.invite);
    let now_ms = unix_ms();
    let revocation = match (agent_id, invite) {
        (Some(agent_id), _) => authority.revoke_member(agent_id, name.as_ref(), now_ms),
        (None, Some(invite)) => authority.revoke_invite(invite, now_ms),
        (None, None) => return Err(Fault::new(Code::Usage, "there is nobody to revoke")),
    };
    let revocation = revocation.map_err(|error| error.fault())?;
    admin.revoke(revocation).await?;
    context.out.tell(&Revoked {
        ok: true,
        name,
        agent_id,
        invite,
    });
    Ok(Outcome::Done)
}

/// Whose name it is, by what the authority itself has approved and, for whom an
/// invite let in, by certificates: never by the registry's word alone, which
/// could have somebody else revoked.
fn id_of(authority: &Authority, claimed: &[MemberRecord], name: &Name) -> Result<AgentId, Fault> {
    let mut found = authority.approved(name);
    let mesh = authority.mesh_key();
    for member in claimed {
        match certificate::verify_renewable(&member.certificate, &mesh, unix_ms()) {
            Ok(proven) if proven.name != *name || found.contains(&proven.agent_id) => {}
            // The name has gone on to somebody else since.
            Ok(proven) if !found.is_empty() && is_revoked(authority, proven.agent_id) => {}
            Ok(proven) => found.push(proven.agent_id),
            Err(error) => tracing::debug!(%error, "a certificate of the registry does not hold"),
        }
    }
    match found[..] {
        [agent_id] => Ok(agent_id),
        [] => Err(nobody(name)),
        _ => Err(several(name, &found)),
    }
}

fn is_revoked(authority: &Authority, member: AgentId) -> bool {
    let mut acts = authority.entries().iter().map(|entry| &entry.act);
    acts.any(|act| matches!(act, Act::RevokeMember { agent_id, .. } if *agent_id == member))
}

fn nobody(name: &Name) -> Fault {
    let message = format!("no member is known to have had the name {name}");
    Fault::new(Code::UnknownPeer, message)
        .with_hint("waymesh agents lists the members; --agent-id revokes one that never came")
}

fn several(name: &Name, found: &[AgentId]) -> Fault {
    let ids: Vec<_> = found.iter().map(ToString::to_string).collect();
    let message = format!("several were let in as {name}: {}", ids.join(", "));
    Fault::new(Code::Usage, message)
        .with_hint("revoke each that is meant with --agent-id; waymesh audit tells who is who")
}
