//! What the demo tells: who is there, who is connected to whom, who did what, and what
//! came out.

use std::path::PathBuf;

use serde::Serialize;
use waymesh_proto::api::{PeerState, PeerStatus, SendState, Transport};
use waymesh_proto::ids::Name;
use waymesh_proto::link::{CandidateKind, LinkProtocol, Path};

use crate::output::{Look, Tell, or_dash, table, word};

/// Everything runs.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub(super) event: &'static str,
    pub(super) registry: String,
    pub(super) mesh_fingerprint: String,
    pub(super) agents: Vec<Name>,
    pub(super) file: Option<PathBuf>,
    pub(super) bytes: usize,
}

impl Tell for Ready {
    fn text(&self, _: Look) -> String {
        let names: Vec<_> = self.agents.iter().map(Name::as_str).collect();
        format!(
            "Registry at {}, serving the mesh {}; agents, each a process of its own, \
             let in by an invite: {}",
            self.registry,
            self.mesh_fingerprint,
            names.join(", ")
        )
    }
}

/// The answer of an agent that had never been spoken to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FirstAnswer {
    pub(super) event: &'static str,
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) skill: &'static str,
    pub(super) path: Option<Path>,
    pub(super) request_path: Option<Path>,
    pub(super) elapsed_ms: f64,
}

impl Tell for FirstAnswer {
    fn text(&self, _: Look) -> String {
        format!(
            "\nFirst words: {} asked {}, whom it had never spoken to, and had the answer after \
             {:.2} ms (request by {}, answer by {}), while a link was made.",
            self.from,
            self.to,
            self.elapsed_ms,
            or_dash(self.request_path.map(|path| word(&path))),
            or_dash(self.path.map(|path| word(&path))),
        )
    }
}

/// One link between two agents.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Link {
    event: &'static str,
    from: Name,
    to: Name,
    state: PeerState,
    path: Option<Path>,
    transport: Option<Transport>,
    local_candidate: Option<CandidateKind>,
    remote_candidate: Option<CandidateKind>,
    protocol: Option<LinkProtocol>,
    setup_ms: Option<f64>,
    rtt_ms: Option<f64>,
}

impl Link {
    pub(super) fn new(from: Name, peer: PeerStatus) -> Self {
        Self {
            event: "link",
            from,
            to: peer.agent,
            state: peer.state,
            path: peer.path,
            transport: peer.transport,
            local_candidate: peer.local_candidate,
            remote_candidate: peer.remote_candidate,
            protocol: peer.protocol,
            setup_ms: peer.setup_ms,
            rtt_ms: peer.rtt_ms,
        }
    }

    pub(super) fn is_direct(&self) -> bool {
        self.path == Some(Path::Direct)
    }

    fn row(&self) -> Vec<String> {
        let ends = |end: Option<CandidateKind>| or_dash(end.map(|kind| word(&kind)));
        vec![
            self.from.to_string(),
            self.to.to_string(),
            or_dash(self.path.map(|path| word(&path))),
            or_dash(self.transport.map(|transport| word(&transport))),
            format!(
                "{} / {}",
                ends(self.local_candidate),
                ends(self.remote_candidate)
            ),
            or_dash(self.protocol.map(|protocol| word(&protocol))),
            millis(self.setup_ms),
            millis(self.rtt_ms),
        ]
    }
}

/// All links, one table.
pub(super) fn links_text(links: &[Link], look: Look) -> String {
    let header = [
        "from",
        "to",
        "path",
        "transport",
        "candidates",
        "over",
        "set up",
        "round trip",
    ];
    let rows = links.iter().map(Link::row).collect();
    format!(
        "\nWho is connected to whom:\n{}",
        table(look, &header, rows)
    )
}

/// One part of the work, done.
#[derive(Debug, Serialize)]
pub(super) struct Delegation {
    pub(super) event: &'static str,
    pub(super) part: usize,
    pub(super) worker: Name,
    pub(super) skill: &'static str,
    pub(super) bytes: usize,
    pub(super) words: u64,
    pub(super) path: Option<Path>,
    pub(super) request_path: Option<Path>,
    pub(super) elapsed_ms: f64,
}

impl Delegation {
    pub(super) fn is_direct(&self) -> bool {
        self.path == Some(Path::Direct) && self.request_path == Some(Path::Direct)
    }
}

impl Tell for Delegation {
    fn text(&self, _: Look) -> String {
        format!(
            "part {:>4}: {} counted {} words in {} bytes, {:.1} ms, {}",
            self.part,
            self.worker,
            self.words,
            self.bytes,
            self.elapsed_ms,
            or_dash(self.path.map(|path| word(&path))),
        )
    }
}

/// What became of a message to an agent that was not there.
#[derive(Debug, Serialize)]
pub(super) struct Absence {
    pub(super) event: &'static str,
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) stored_ms: f64,
    pub(super) stored_path: Option<Path>,
    pub(super) state: SendState,
    pub(super) delivered_ms: f64,
}

impl Tell for Absence {
    fn text(&self, _: Look) -> String {
        format!(
            "\nA message to {}, which was stopped: stored after {:.1} ms by {}; {} {:.0} ms after \
             the agent was started again.",
            self.to,
            self.stored_ms,
            or_dash(self.stored_path.map(|path| word(&path))),
            word(&self.state),
            self.delivered_ms,
        )
    }
}

/// What came out. Always the last thing told.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) event: &'static str,
    pub(super) ok: bool,
    pub(super) total_words: u64,
    pub(super) local_words: u64,
    pub(super) matches_local: bool,
    pub(super) links: usize,
    pub(super) all_direct: bool,
    pub(super) delegations: usize,
    pub(super) workers: usize,
    pub(super) first_answer_ms: f64,
    pub(super) first_answer_path: Option<Path>,
    pub(super) absence: SendState,
    pub(super) top_words: Vec<(String, u64)>,
    pub(super) elapsed_ms: f64,
}

impl Tell for Summary {
    fn text(&self, look: Look) -> String {
        let rows = self
            .top_words
            .iter()
            .map(|(word, times)| vec![word.clone(), times.to_string()])
            .collect();
        let verdict = if self.matches_local {
            "the same as counted here"
        } else {
            "NOT the same as counted here"
        };
        let paths = if self.all_direct {
            "all direct"
        } else {
            "not all direct"
        };
        format!(
            "\nMost frequent:\n{}\n\n{} words in all, {verdict} ({}). {} delegations to {} workers over {} links, {paths}, in {:.0} ms.\n\n{NEXT}",
            table(look, &["word", "times"], rows),
            self.total_words,
            self.local_words,
            self.delegations,
            self.workers,
            self.links,
            self.elapsed_ms,
        )
    }
}

/// Commands to try: they work as they stand, in this order.
const NEXT: &str = "\
Try next, the first and the third each in a terminal of its own:
  waymesh registry
  waymesh invite --auto-approve > bob.invite
  waymesh node --name bob --invite @bob.invite --skill echo
  waymesh agents";

fn millis(ms: Option<f64>) -> String {
    or_dash(ms.map(|ms| format!("{ms:.2} ms")))
}

impl Tell for Link {
    fn text(&self, _: Look) -> String {
        self.row().join("  ")
    }
}
