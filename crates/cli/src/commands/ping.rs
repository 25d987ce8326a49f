//! `waymesh ping`: a round trip to a peer.

use serde::Serialize;
use waymesh_proto::Fault;
use waymesh_proto::api::Via;
use waymesh_proto::ids::Name;
use waymesh_proto::link::Path;

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, word};
use crate::sidecar::Sidecar;

const EXAMPLES: &str = "\
Examples:
  waymesh ping bob
  waymesh ping bob --count 5 --json | jq .rtt_ms

The first ping makes a link if there is none; waymesh peers shows it.";

/// Measure the round trip to a peer, making a link if there is none
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the peer
    peer: Name,
    /// How many round trips
    #[arg(long, short = 'c', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

#[derive(Debug, Serialize)]
struct Answered {
    ok: bool,
    peer: Name,
    path: Path,
    rtt_ms: f64,
}

impl Tell for Answered {
    fn text(&self, _: Look) -> String {
        format!(
            "{} answered in {:.2} ms ({})",
            self.peer,
            self.rtt_ms,
            word(&self.path)
        )
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut sidecar = Sidecar::of(context).await?;
    for _ in 0..args.count {
        let pong = sidecar
            .ping(&args.peer, Via::InUse, context.timeout)
            .await?;
        context.out.tell(&Answered {
            ok: true,
            peer: args.peer.clone(),
            path: pong.path,
            rtt_ms: pong.rtt_ms,
        });
    }
    Ok(Outcome::Done)
}
