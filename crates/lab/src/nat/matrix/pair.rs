//! One pair: a call between strangers, and then which path they end up on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use waymesh_proto::Priority;
use waymesh_proto::api::{Detail, PeerStatus};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Event, RequestId, Route, Verb};
use waymesh_proto::link::Path;

use super::report::Row;
use crate::nat::site::Door;
use crate::nat::watch::{At, Heard, Watch};

/// How long a pair may take to the best path that there is. Chosen far above the goal.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a path must last to count as the one that a pair ends up on.
const STABLE: Duration = Duration::from_millis(1_500);

/// How long it is looked whether a pair without a link makes one after all. Chosen: beyond
/// the time in which links are made.
const NO_LINK: Duration = Duration::from_secs(6);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

const CALLER: At = 0;
const CALLEE: At = 1;

/// Two members that never spoke to each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) caller: &'a Door,
    pub(super) callee: &'a Door,
    /// The best path that theory allows them.
    pub(super) theory: Path,
}

/// What is known of a pair so far.
#[derive(Debug, Default)]
struct Seen {
    /// The path of each side, and since when.
    paths: [Option<(Path, Instant)>; 2],
    /// When the two first had a link.
    linked: Option<(Path, Instant)>,
    reasons: [String; 2],
}

impl Seen {
    fn hear(&mut self, at: At, moment: Instant, peer: &PeerStatus) {
        self.reasons[at].clone_from(&peer.reason);
        let Some(path) = peer.path else {
            self.paths[at] = None;
            return;
        };
        if self.paths[at].is_none_or(|(old, _)| old != path) {
            self.paths[at] = Some((path, moment));
        }
        if let Some((path, since)) = self.common()
            && path != Path::Mailbox
            && self.linked.is_none()
        {
            self.linked = Some((path, since));
        }
    }

    /// The path that both use, and since when.
    fn common(&self) -> Option<(Path, Instant)> {
        match self.paths {
            [Some((one, since)), Some((other, later))] if one == other => {
                Some((one, since.max(later)))
            }
            _ => None,
        }
    }
}

impl Pair<'_> {
    fn name(&self, at: At) -> &Name {
        match at {
            CALLER => &self.caller.name,
            _ => &self.callee.name,
        }
    }

    pub(super) fn play(self) -> Result<Row> {
        let mut watch = Watch::new([self.caller.attach()?, self.callee.attach()?]);
        let mut seen = Seen::default();

        let begun = Instant::now();
        let first = self.call(&mut watch, CALLER, &mut seen)?;
        let first_answer = begun.elapsed();
        self.settle(&mut watch, &mut seen, begun)?;
        let last = self.call(&mut watch, CALLER, &mut seen)?;
        let back = self.call(&mut watch, CALLEE, &mut seen)?;

        let since = |moment: Instant| moment.saturating_duration_since(begun);
        let common = seen.common();
        let mut path = common.map(|(path, _)| path);
        if [last.path, last.request_path, back.path, back.request_path]
            .iter()
            .any(|used| *used != path)
        {
            // Both say one thing and do another.
            path = None;
        }
        Ok(Row {
            caller: self.caller.kind,
            callee: self.callee.kind,
            theory: self.theory,
            first_answer,
            first_path: first.path,
            linked: seen.linked.map(|(path, moment)| (path, since(moment))),
            path,
            settled: common
                .filter(|(path, _)| *path != Path::Mailbox)
                .map(|(_, at)| since(at)),
            reasons: seen.reasons,
        })
    }

    /// Calls the other side, and hears on meanwhile.
    fn call(&self, watch: &mut Watch, from: At, seen: &mut Seen) -> Result<Route> {
        let payload = Payload::json(r#"{"hello":"there"}"#);
        let request = RequestId::from(rand::random::<u64>());
        let verb = Verb::Call {
            to: self.name(1 - from).clone(),
            skill: "echo".parse()?,
            payload: payload.clone(),
            timeout: PATIENCE,
            idempotent: false,
            priority: Priority::Normal,
        };
        watch.tell(from, request.clone(), verb)?;
        let deadline = Instant::now() + PATIENCE;
        while let Some(heard) = watch.next(deadline)? {
            match heard.event {
                Event::Result {
                    id,
                    payload: back,
                    route,
                } if id.as_ref() == Some(&request) => {
                    ensure!(back == payload, "another answer came than the echo");
                    return route.context("an answer to a call without a route");
                }
                Event::Error { id, fault } if id.as_ref() == Some(&request) => {
                    return Err(fault).context("the call failed");
                }
                _ => self.note(&heard, seen),
            }
        }
        bail!("no answer came");
    }

    /// Waits until both use the path that theory allows, or time is up, and that it lasts.
    fn settle(&self, watch: &mut Watch, seen: &mut Seen, begun: Instant) -> Result<()> {
        for at in [CALLER, CALLEE] {
            let attempts = Detail::Now;
            watch.tell(
                at,
                "peers".parse::<RequestId>()?,
                Verb::ListPeers { attempts },
            )?;
        }
        loop {
            let until = match seen.common() {
                Some((Path::Mailbox, since)) if self.theory == Path::Mailbox => since + NO_LINK,
                Some((path, since)) if path == self.theory => since + STABLE,
                _ => begun + LIMIT,
            };
            match watch.next(until.min(begun + LIMIT))? {
                Some(heard) => self.note(&heard, seen),
                None => return Ok(()),
            }
        }
    }

    fn note(&self, heard: &Heard, seen: &mut Seen) {
        let peers = match &heard.event {
            Event::Peer { peer, .. } => std::slice::from_ref(peer),
            Event::PeerList { peers, .. } => peers.as_slice(),
            _ => return,
        };
        for peer in peers {
            if peer.agent == *self.name(1 - heard.at) {
                seen.hear(heard.at, heard.moment, peer);
            }
        }
    }
}
