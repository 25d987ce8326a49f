//! `waymesh peers`: how this node reaches its peers now, and why so.

pub(super) mod attempts;

use serde::Serialize;
use waymesh_proto::api::PeerStatus;
use waymesh_proto::ids::Name;
use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, or_dash, table, word};
use crate::sidecar::Sidecar;

const EXAMPLES: &str = "\
Examples:
  waymesh peers
  waymesh peers -v bob                 what was tried to reach bob, and why it ended so
  waymesh peers --json | jq -r 'select(.state == \"linked\") | .agent'
  waymesh peers -v --json | jq '.attempts[0].tried.pairs'";

/// How this node reaches its peers now, and why so
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only this peer
    peer: Option<Name>,
    /// Also the last attempts to make a link: addresses, checks, servers, times
    #[arg(long, short = 'v')]
    verbose: bool,
}

/// One peer is one line of JSON; for people all are one table.
#[derive(Debug, Serialize)]
struct Peers(Vec<PeerStatus>);

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Peer<'a>(&'a PeerStatus);

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut sidecar = Sidecar::of(context).await?;
    let mut peers = match args.verbose {
        true => sidecar.attempts(context.timeout).await?,
        false => sidecar.peers(context.timeout).await?,
    };
    if let Some(name) = &args.peer {
        peers.retain(|peer| peer.agent == *name);
        if peers.is_empty() {
            return Err(unknown(name));
        }
    }
    let peers = Peers(peers);
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

fn unknown(name: &Name) -> Fault {
    let message = format!("this node has had nothing to do with {name} so far");
    Fault::new(Code::UnknownPeer, message).with_hint(format!(
        "a link is made on first use: try waymesh ping {name}; waymesh agents lists who there is"
    ))
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
        let mut text = table(look, &header, self.0.iter().map(row).collect());
        for peer in &self.0 {
            if let Some(told) = &peer.attempts {
                text.push_str(&attempts::text(look, peer, told));
            }
        }
        text
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
