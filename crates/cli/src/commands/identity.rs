//! `waymesh identity`: who the node of a data directory is, running or not.

mod rotate;
mod show;

use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::settings::Home;

const ROTATE_EXAMPLES: &str = "\
Example:
  waymesh identity rotate --data-dir /tmp/alice

The agent id stays, and with it its name, its messages and what others know of it: the old
key signs that the new one follows it. The old key is destroyed. Stop the node before.";

/// What to do with it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Identity {
    /// Show who it is, its key and its certificate, and what a running node says of itself
    #[command(after_help = "Example:\n  waymesh identity show --data-dir /tmp/alice")]
    Show,
    /// Give it a new key, and keep who it is
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate,
}

pub(crate) async fn run(identity: Identity, context: &Context) -> Result<Outcome, Fault> {
    let data_dir = context.data_dir(Home::Node)?;
    match identity {
        Identity::Show => show::run(data_dir, context).await,
        Identity::Rotate => rotate::run(data_dir, context),
    }
}

fn nobody(data_dir: &std::path::Path) -> Fault {
    Fault::new(
        Code::Storage,
        format!("there is no identity in {}", data_dir.display()),
    )
    .with_hint("waymesh node makes one on its first start; --data-dir names its folder")
}
