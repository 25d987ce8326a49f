//! `waymesh registry`: who introduces the agents to each other.

use std::net::SocketAddr;

use serde::Serialize;
use waymesh_proto::{Code, Fault};
use waymesh_registry::{Registry, RegistryConfig};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell};
use crate::settings::Home;
use crate::stop::{self, StdinGuard};

const EXAMPLES: &str = "\
Examples:
  waymesh registry                                     listens on 127.0.0.1:7700
  waymesh registry --listen 127.0.0.1:0 --data-dir /tmp/registry --json

It knows who is there and what they can do, and passes on what two agents need to
connect. It never carries what they say: agents that are linked go on without it.";

/// Run a registry, which introduces the agents to each other
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        env = "WAYMESH_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:7700"
    )]
    listen: SocketAddr,
    /// The URL that nodes connect to, when it is not the listening address
    #[arg(long, env = "WAYMESH_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Stop when standard input closes, so that the registry never outlives its parent
    #[arg(long)]
    stdin_guard: bool,
}

#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    url: String,
    listen: SocketAddr,
    mesh: String,
    version: &'static str,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut stopped = Box::pin(stop::requested(StdinGuard::from(args.stdin_guard))?);
    let config = RegistryConfig {
        listen: args.listen,
        data_dir: context.data_dir(Home::Registry)?,
        public_url: args.public_url,
    };
    let mut registry = Registry::start(config)
        .await
        .map_err(|error| error.fault())?;
    context.out.tell(&Ready {
        event: "ready",
        url: registry.url().to_owned(),
        listen: registry.local_addr(),
        mesh: registry.mesh().to_string(),
        version: env!("CARGO_PKG_VERSION"),
    });
    tokio::select! {
        () = registry.failed() => Err(Fault::new(
            Code::Internal,
            "a part of the registry has ended by itself; its log says why",
        )),
        () = &mut stopped => {
            registry.stop().await;
            Ok(Outcome::Done)
        }
    }
}

impl Tell for Ready {
    fn text(&self, _: Look) -> String {
        format!(
            "the registry is at {0}\nadd an agent: waymesh node --name NAME --registry {0}",
            self.url
        )
    }
}
