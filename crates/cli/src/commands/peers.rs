//! `waymesh peers`: how this node reaches its peers now, and why so.

use serde::Serialize;
use waymesh_proto::Fault;
use waymesh_proto::api::PeerStatus;

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, or_dash, table, word};
use crate::sidecar::Sidecar;

const EXAMPLES: &str = "\
Examples:
  waymesh peers
  waymesh peers --json | jq -r 'select(.state == \"linked\") | .agent'";

/// How this node reaches its peers now, and why so
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

/// One peer is one line of JSON; for people all are one table.
#[derive(Debug, Serialize)]
struct Peers(Vec<PeerStatus>);

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Peer<'a>(&'a PeerStatus);

pub(crate) async fn run(_: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut sidecar = Sidecar::of(context).await?;
    let peers = Peers(sidecar.peers(context.timeout).await?);
    if context.out.is_json() {
        peers
            .0
            .iter()
            .for_each(|peer| context.out.tell(&Peer(peer)));
    } else {
        context.out.tell(&peers);
    }
    Ok(Outcome::Done)
}

impl Tell for Peer<'_> {
    fn text(&self, _: Look) -> String {
        self.0.agent.to_string()
    }
}

impl Tell for Peers {
    fn text(&self, look: Look) -> String {
        if self.0.is_empty() {
            return "No peers yet. A link is made on first use: try waymesh ping NAME.".to_owned();
        }
        let header = [
            "agent",
            "state",
            "path",
            "transport",
            "candidates",
            "over",
            "round trip",
            "reason",
        ];
        table(look, &header, self.0.iter().map(row).collect())
    }
}

fn row(peer: &PeerStatus) -> Vec<String> {
    let end = |kind| or_dash(Option::map(kind, |kind| word(&kind)));
    vec![
        peer.agent.to_string(),
        word(&peer.state),
        or_dash(peer.path.map(|path| word(&path))),
        or_dash(peer.transport.map(|transport| word(&transport))),
        format!(
            "{} / {}",
            end(peer.local_candidate),
            end(peer.remote_candidate)
        ),
        or_dash(peer.protocol.map(|protocol| word(&protocol))),
        or_dash(peer.rtt_ms.map(|ms| format!("{ms:.2} ms"))),
        peer.reason.clone(),
    ]
}
