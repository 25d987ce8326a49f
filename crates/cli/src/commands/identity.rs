//! `waymesh identity`: who the node of a data directory is, running or not.

use std::path::PathBuf;

use serde::Serialize;
use waymesh_node::Home as NodeHome;
use waymesh_proto::ids::{AgentId, Incarnation, Name};
use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, or_dash};
use crate::settings::Home;
use crate::sidecar::Sidecar;

/// What to do with it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Identity {
    /// Show the agent id, which is the public key, and what a running node says of itself
    #[command(after_help = "Example:\n  waymesh identity show --data-dir /tmp/alice")]
    Show,
}

#[derive(Debug, Serialize)]
struct Shown {
    ok: bool,
    agent_id: AgentId,
    data_dir: PathBuf,
    running: bool,
    name: Option<Name>,
    incarnation: Option<Incarnation>,
    registry: Option<String>,
}

pub(crate) async fn run(identity: Identity, context: &Context) -> Result<Outcome, Fault> {
    let Identity::Show = identity;
    let data_dir = context.data_dir(Home::Node)?;
    let agent_id = NodeHome::peek(&data_dir)?.ok_or_else(|| {
        Fault::new(
            Code::Storage,
            format!("there is no identity in {}", data_dir.display()),
        )
        .with_hint("waymesh node makes one on its first start; --data-dir names its folder")
    })?;
    let node = Sidecar::attach(&data_dir, context.timeout).await.ok();
    let hello = node.as_ref().map(Sidecar::hello);
    context.out.tell(&Shown {
        ok: true,
        agent_id,
        data_dir,
        running: hello.is_some(),
        name: hello.map(|hello| hello.agent.clone()),
        incarnation: hello.map(|hello| hello.incarnation),
        registry: hello.and_then(|hello| hello.registry.clone()),
    });
    Ok(Outcome::Done)
}

impl Tell for Shown {
    fn text(&self, _: Look) -> String {
        format!(
            "agent id     {}\nfolder       {}\nrunning      {}\nname         {}\nincarnation  {}\nregistry     {}",
            self.agent_id,
            self.data_dir.display(),
            if self.running { "yes" } else { "no" },
            or_dash(self.name.as_ref()),
            or_dash(self.incarnation),
            or_dash(self.registry.as_ref()),
        )
    }
}
