//! `waymesh ping`: round trips to a peer, on every path that there is.

use serde::Serialize;
use waymesh_proto::api::{PeerState, PeerStatus, Via};
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::Pong;
use waymesh_proto::link::{CandidateKind, LinkProtocol, Path};
use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, word};
use crate::sidecar::Sidecar;

const EXAMPLES: &str = "\
Examples:
  waymesh ping bob                     the link, which is made where there is none, and the mailbox
  waymesh ping bob --via mailbox
  waymesh ping bob --count 5 --json | jq .rtt_ms

waymesh peers -v bob tells what was tried to reach bob; waymesh doctor what this network allows.";

/// Measure the round trip to a peer on every path that there is, making a link if there is none
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the peer
    peer: Name,
    /// Only this way: the link that is up, the mailbox, or the link in use, made if there is none
    #[arg(long, value_enum)]
    via: Option<Way>,
    /// How many round trips on each path
    #[arg(long, short = 'c', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// One of the ways to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// The link that is up
    Link,
    /// Sealed, through the registry
    Mailbox,
    /// The link, made if there is none
    #[value(name = "in_use", alias = "in-use")]
    InUse,
}

impl Way {
    const fn via(self) -> Via {
        match self {
            Self::Link => Via::Link,
            Self::Mailbox => Via::Mailbox,
            Self::InUse => Via::InUse,
        }
    }
}

/// One round trip, or why there was none. No key is ever absent.
#[derive(Debug, Serialize)]
struct Trip {
    ok: bool,
    peer: Name,
    via: Via,
    path: Option<Path>,
    rtt_ms: Option<f64>,
    local_candidate: Option<CandidateKind>,
    remote_candidate: Option<CandidateKind>,
    protocol: Option<LinkProtocol>,
    error: Option<Fault>,
}

impl Tell for Trip {
    fn text(&self, _: Look) -> String {
        let name = match self.path.map(|path| word(&path)) {
            Some(path) => path,
            None if self.via == Via::Mailbox => "mailbox".to_owned(),
            None => "link".to_owned(),
        };
        match (self.rtt_ms, &self.error) {
            (Some(rtt), _) => format!("{name:<8} {rtt:>9.2} ms  {}", self.way())
                .trim_end()
                .to_owned(),
            (None, Some(fault)) => {
                format!("{name:<8}         -     {} ({})", fault.message, fault.code)
            }
            (None, None) => format!("{name:<8}         -"),
        }
    }
}

impl Trip {
    fn new(
        peer: &Name,
        via: Via,
        outcome: Result<Pong, Fault>,
        status: Option<&PeerStatus>,
    ) -> Self {
        let path = outcome.as_ref().ok().map(|pong| pong.path);
        // The candidates are those of the link, if it is what the answer came by.
        let link = status.filter(|status| path != Some(Path::Mailbox) && path == status.path);
        Self {
            ok: outcome.is_ok(),
            peer: peer.clone(),
            via,
            path,
            rtt_ms: outcome.as_ref().ok().map(|pong| pong.rtt_ms),
            local_candidate: link.and_then(|link| link.local_candidate),
            remote_candidate: link.and_then(|link| link.remote_candidate),
            protocol: link.and_then(|link| link.protocol),
            error: outcome.err(),
        }
    }

    /// `host here, srflx there, over UDP`, of a link.
    fn way(&self) -> String {
        match (self.local_candidate, self.remote_candidate, self.protocol) {
            (Some(here), Some(there), Some(protocol)) => format!(
                "{} here, {} there, over {}",
                word(&here),
                word(&there),
                word(&protocol).to_uppercase()
            ),
            _ if self.path == Some(Path::Mailbox) => "sealed, through the registry".to_owned(),
            _ => String::new(),
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut sidecar = Sidecar::of(context).await?;
    seek(&mut sidecar, &args.peer, context).await?;
    let is_self = args.peer == sidecar.hello().agent;
    // The link last: where there is none, it takes the longest.
    let ways = match args.via {
        Some(way) => vec![way.via()],
        None => vec![Via::Mailbox, Via::InUse],
    };
    let mut answered = false;
    let mut failure = None;
    for via in &ways {
        for _ in 0..args.count {
            let outcome = sidecar.ping(&args.peer, *via, context.timeout).await;
            match &outcome {
                Ok(_) => answered = true,
                // Whoever is not there is not there by any path, and nobody pings itself.
                Err(fault) if ways.len() == 1 || fault.code == Code::UnknownPeer || is_self => {
                    return Err(fault.clone());
                }
                Err(fault) => failure = Some(fault.clone()),
            }
            let peers = sidecar.peers(context.timeout).await?;
            let status = peers.iter().find(|peer| peer.agent == args.peer);
            let is_lost = outcome.is_err();
            context
                .out
                .tell(&Trip::new(&args.peer, *via, outcome, status));
            if is_lost {
                break;
            }
        }
    }
    match failure {
        Some(fault) if !answered => Err(fault),
        _ => Ok(Outcome::Done),
    }
}

/// Says at once that there is nobody to answer, where the registry knows; the node itself
/// would wait for the peer to come.
async fn seek(sidecar: &mut Sidecar, name: &Name, context: &Context) -> Result<(), Fault> {
    let peers = sidecar.peers(context.timeout).await?;
    let has_link = |peer: &PeerStatus| peer.agent == *name && peer.state == PeerState::Linked;
    if peers.iter().any(has_link) || *name == sidecar.hello().agent {
        return Ok(());
    }
    match sidecar
        .agents(Some(name.clone()), None, context.timeout)
        .await
    {
        // A registry that is away says nothing of who is there.
        Err(_) => Ok(()),
        Ok(found) => match found.iter().find(|agent| agent.name == *name) {
            Some(agent) if agent.online => Ok(()),
            Some(_) => Err(Fault::new(
                Code::PeerOffline,
                format!("{name} is not connected to the registry, and there is no link to it"),
            )
            .with_hint("waymesh send leaves a message in its mailbox")),
            None => Err(
                Fault::new(Code::UnknownPeer, format!("no agent is called {name}"))
                    .with_hint("`waymesh agents` lists the names that the registry knows"),
            ),
        },
    }
}
