//! `waymesh agents`: who is in the mesh, and what they can do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use waymesh_node::Home as NodeHome;
use waymesh_proto::api::AgentRecord;
use waymesh_proto::control::Origin;
use waymesh_proto::ids::{Name, Role, SkillName};
use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::admin::Admin;
use crate::http::{self, Wanted, Way};
use crate::output::{Look, Tell, table};
use crate::settings::Dwelling;
use crate::sidecar::Sidecar;

const EXAMPLES: &str = "\
Examples:
  waymesh agents                              asks through the node, or beside the registry
  waymesh agents --data-dir /tmp/registry     asks the registry in that folder
  waymesh agents --skill wordcount --json | jq -r .name

For a node that does not run the registry itself is asked, in its name.";

/// List the agents that the registry knows, and their skills
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the registry is, for a node that does not run [default: where it was]
    #[arg(long, env = "WAYMESH_REGISTRY", value_name = "URL")]
    registry: Option<Origin>,
    /// TLS authorities to trust too, in PEM form, for a node that does not run
    #[arg(long, env = "WAYMESH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Only the agent with this name
    #[arg(long)]
    name: Option<Name>,
    /// Only agents with this skill
    #[arg(long)]
    skill: Option<SkillName>,
}

/// One agent is one line of JSON; for people all are one table.
#[derive(Debug, Serialize)]
struct Agents {
    found: Vec<AgentRecord>,
    filtered: bool,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Agent<'a>(&'a AgentRecord);

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let filtered = args.name.is_some() || args.skill.is_some();
    let found = find(args, context).await?;
    if context.out.is_json() {
        found
            .iter()
            .for_each(|agent| context.out.tell(&Agent(agent)));
    } else {
        context.out.tell(&Agents { found, filtered });
    }
    Ok(Outcome::Done)
}

async fn find(args: Args, context: &Context) -> Result<Vec<AgentRecord>, Fault> {
    let wanted = Wanted {
        name: args.name,
        skill: args.skill,
    };
    match context.dwelling()? {
        Dwelling::Registry(dir) => {
            let mut admin = Admin::open(dir, context.timeout).await?;
            let mut agents = admin.agents(wanted.name).await?;
            if let Some(skill) = &wanted.skill {
                agents.retain(|agent| agent.skills.iter().any(|offer| offer.name == *skill));
            }
            Ok(agents)
        }
        Dwelling::Node(dir) => {
            let way = Way {
                registry: args.registry,
                ca: args.ca,
            };
            of_node(&dir, wanted, &way, context.timeout).await
        }
    }
}

/// Through the node while it runs; a member's directory is enough without it.
async fn of_node(
    dir: &Path,
    wanted: Wanted,
    way: &Way,
    limit: Duration,
) -> Result<Vec<AgentRecord>, Fault> {
    match Sidecar::attach(dir, limit).await {
        Ok(mut node) => node.agents(wanted.name, wanted.skill, limit).await,
        Err(fault) if fault.code != Code::NodeNotRunning => Err(fault),
        Err(fault) => match NodeHome::peek_membership(dir)? {
            Some(_) => http::agents(dir, way, &wanted, limit).await,
            None => Err(fault),
        },
    }
}

impl Tell for Agent<'_> {
    fn text(&self, _: Look) -> String {
        self.0.name.to_string()
    }
}

impl Tell for Agents {
    fn text(&self, look: Look) -> String {
        if self.found.is_empty() {
            return match self.filtered {
                true => "No such agent; without --name and --skill all are listed.",
                false => "No agents. Invite one with waymesh invite.",
            }
            .to_owned();
        }
        let rows = self.found.iter().map(row).collect();
        table(
            look,
            &["agent", "online", "roles", "skills", "agent id"],
            rows,
        )
    }
}

fn row(agent: &AgentRecord) -> Vec<String> {
    let skills: Vec<_> = agent.skills.iter().map(|s| s.name.as_str()).collect();
    let roles: Vec<_> = agent.roles.iter().map(Role::as_str).collect();
    vec![
        agent.name.to_string(),
        if agent.online { "yes" } else { "no" }.to_owned(),
        roles.join(", "),
        skills.join(", "),
        agent.agent_id.to_string(),
    ]
}
