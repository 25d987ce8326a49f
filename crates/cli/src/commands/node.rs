//! `waymesh node`: the sidecar that carries one agent's identity and links.

use std::path::PathBuf;

use serde::Serialize;
use waymesh_node::skills::Builtin;
use waymesh_node::{Node, NodeConfig, NodeInfo, Topology};
use waymesh_proto::ids::{AgentId, Incarnation, Name};
use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell};
use crate::settings::Home;
use crate::stop::{self, StdinGuard};

const EXAMPLES: &str = "\
Examples:
  waymesh node --name bob --registry http://127.0.0.1:7700 --skill echo
  waymesh node --name alice --registry http://127.0.0.1:7700 --data-dir /tmp/alice

The data directory holds the agent's key: the name belongs to it from its first use on.
Programs talk to the node through node.sock in that directory (JSON lines).";

/// Run a node: one agent's identity and links, for programs beside it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The agent's name: 1 to 63 characters of a-z, 0-9 and -
    #[arg(long, env = "WAYMESH_NAME")]
    name: Name,
    /// The registry that introduces the agents to each other
    #[arg(long, env = "WAYMESH_REGISTRY", value_name = "URL")]
    registry: String,
    /// Offer a built-in skill: echo, wordcount or sleep; may be given several times
    #[arg(long = "skill", value_name = "SKILL")]
    skills: Vec<Builtin>,
    /// When links are made: on first use, or at once to every agent
    #[arg(long, env = "WAYMESH_TOPOLOGY", value_enum, default_value_t = When::OnDemand)]
    topology: When,
    /// Stop when standard input closes, so that the node never outlives its parent
    #[arg(long)]
    stdin_guard: bool,
}

/// When links are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// On first use
    #[value(name = "on_demand", alias = "on-demand")]
    OnDemand,
    /// At once, to every agent
    #[value(name = "full_mesh", alias = "full-mesh")]
    FullMesh,
}

#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    ipc: Option<PathBuf>,
    name: Name,
    agent_id: AgentId,
    incarnation: Incarnation,
    registry: String,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Registered {
    event: &'static str,
    name: Name,
    registry: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut stopped = Box::pin(stop::requested(StdinGuard::from(args.stdin_guard))?);
    let data_dir = context.data_dir(Home::Node)?;
    let mut config = NodeConfig::new(args.name, args.registry, data_dir);
    config.builtins = args.skills.into_iter().collect();
    config.topology = match args.topology {
        When::OnDemand => Topology::OnDemand,
        When::FullMesh => Topology::FullMesh,
    };
    let mut node = Node::start(config).await?;
    context.out.tell(&Ready::new(node.info()));
    tokio::select! {
        registered = node.registered() => registered?,
        () = &mut stopped => return goodbye(node).await,
    }
    context.out.tell(&Registered::new(node.info()));
    tokio::select! {
        why = node.stopped() => Err(why.unwrap_or_else(|| {
            Fault::new(Code::Internal, "the node has stopped by itself")
        })),
        () = &mut stopped => goodbye(node).await,
    }
}

async fn goodbye(node: Node) -> Result<Outcome, Fault> {
    node.stop().await;
    Ok(Outcome::Done)
}

impl Ready {
    fn new(info: &NodeInfo) -> Self {
        Self {
            event: "ready",
            ipc: info.ipc.clone(),
            name: info.name.clone(),
            agent_id: info.agent_id,
            incarnation: info.incarnation,
            registry: info.registry.clone(),
            version: info.version,
        }
    }
}

impl Tell for Ready {
    fn text(&self, _: Look) -> String {
        let ipc = match &self.ipc {
            Some(path) => format!(", for programs on {}", path.display()),
            None => String::new(),
        };
        format!("{} ({}) is up{ipc}", self.name, self.agent_id)
    }
}

impl Registered {
    fn new(info: &NodeInfo) -> Self {
        Self {
            event: "registered",
            name: info.name.clone(),
            registry: info.registry.clone(),
        }
    }
}

impl Tell for Registered {
    fn text(&self, _: Look) -> String {
        format!("{} is registered at {}", self.name, self.registry)
    }
}
