//! `waymesh agents`: who is in the mesh, and what they can do.

use serde::Serialize;
use waymesh_proto::Fault;
use waymesh_proto::api::AgentRecord;
use waymesh_proto::ids::{Name, SkillName};

use super::Context;
use crate::output::{Look, Tell, table};
use crate::sidecar::Sidecar;
use crate::{Outcome, http};

const EXAMPLES: &str = "\
Examples:
  waymesh agents                                     asks through the node in --data-dir
  waymesh agents --registry http://127.0.0.1:7700    asks the registry itself
  waymesh agents --skill wordcount --json | jq -r .name";

/// List the agents that the registry knows, and their skills
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The registry to ask [default: that of the node in --data-dir]
    #[arg(long, env = "WAYMESH_REGISTRY", value_name = "URL")]
    registry: Option<String>,
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
    let found = match &args.registry {
        Some(url) => {
            let (name, skill) = (args.name.as_ref(), args.skill.as_ref());
            http::agents(url, name, skill, context.timeout).await?
        }
        None => {
            Sidecar::of(context)
                .await?
                .agents(args.name, args.skill, context.timeout)
                .await?
        }
    };
    if context.out.is_json() {
        found
            .iter()
            .for_each(|agent| context.out.tell(&Agent(agent)));
    } else {
        context.out.tell(&Agents { found, filtered });
    }
    Ok(Outcome::Done)
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
                false => "No agents. Start one with waymesh node --name NAME --registry URL.",
            }
            .to_owned();
        }
        let rows = self.found.iter().map(row).collect();
        table(look, &["agent", "online", "skills", "agent id"], rows)
    }
}

fn row(agent: &AgentRecord) -> Vec<String> {
    let skills: Vec<_> = agent
        .skills
        .iter()
        .map(|skill| skill.name.as_str())
        .collect();
    vec![
        agent.name.to_string(),
        if agent.online { "yes" } else { "no" }.to_owned(),
        skills.join(", "),
        agent.agent_id.to_string(),
    ]
}
