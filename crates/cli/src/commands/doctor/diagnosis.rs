//! What the findings come to, for programs and for people.

use serde::Serialize;
use waymesh_net::probe::verdict::{Facts, PeerKind, Prospect, prospects};
use waymesh_proto::control::Origin;

use super::advice::advice;
use super::checks::{Check, Findings, State};
use super::subject::Subject;
use crate::output::{Look, Tell, or_dash, table, word};

/// The whole answer. No key is ever absent.
#[derive(Debug, Serialize)]
pub(super) struct Diagnosis {
    /// Whether there is at least one path to other agents.
    pub(super) ok: bool,
    registry: Option<Origin>,
    checks: Findings,
    paths: [Prospect; 3],
    advice: Vec<String>,
}

impl Diagnosis {
    pub(super) fn new(subject: &Subject, checks: Findings) -> Self {
        let facts = facts(subject, &checks);
        let paths = prospects(facts);
        Self {
            ok: paths
                .iter()
                .any(|path| path.path.is_some() || path.otherwise.is_some()),
            registry: subject.registry.as_ref().map(|r| r.origin.clone()),
            advice: advice(subject, &checks, &facts),
            paths,
            checks,
        }
    }
}

/// What the checks say for certain.
fn facts(subject: &Subject, checks: &Findings) -> Facts {
    let relays = checks.turn.iter().any(|turn| turn.check.is_passed());
    let nat = checks.nat.found.as_ref();
    Facts {
        registry: subject
            .registry
            .as_ref()
            .map(|_| checks.websocket.is_passed() || checks.long_poll.is_passed()),
        udp: match checks.udp.state {
            State::Passed => Some(true),
            // One silent server may be none at all: that it relays by TCP, or the silence of
            // another one, says that UDP is what is missing.
            State::Failed if relays || checks.stun_silent > 1 => Some(false),
            _ => None,
        },
        mapping: nat.and_then(|nat| nat.mapping),
        filtering: nat.and_then(|nat| nat.filtering),
        relay: checks
            .turn
            .iter()
            .any(|turn| turn.check.state != State::Skipped)
            .then_some(relays),
    }
}

impl Tell for Diagnosis {
    fn text(&self, look: Look) -> String {
        let checks = &self.checks;
        let mut rows = vec![
            row("name", &checks.dns),
            row("TCP", &checks.tcp),
            row("TCP 443", &checks.tcp_443),
            row("proxy", &checks.proxy),
            row("TLS", &checks.tls),
            row("WebSocket", &checks.websocket),
            row("long-poll", &checks.long_poll),
            row("UDP", &checks.udp),
            row("NAT", &checks.nat),
            row("MTU", &checks.mtu),
            row("IPv6", &checks.ipv6),
        ];
        for turn in &checks.turn {
            rows.push(row(&turn.url.to_string(), &turn.check));
        }
        let local: Vec<_> = checks
            .local_addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        let registry = or_dash(self.registry.as_ref());
        let mut text = format!(
            "registry   {registry}\nthis host  {}\n\n",
            match local.is_empty() {
                true => "no address but loopback".to_owned(),
                false => local.join(", "),
            }
        );
        text.push_str(&table(look, &["check", "result", "what was found"], rows));
        text.push_str("\n\n");
        let header = ["to a peer that is", "path", "because"];
        text.push_str(&table(look, &header, self.paths.iter().map(path).collect()));
        if !self.advice.is_empty() {
            text.push_str("\n\nWhat would help:");
        }
        for advice in &self.advice {
            text.push_str(&format!("\n  - {advice}"));
        }
        text
    }
}

fn row<T>(name: &str, check: &Check<T>) -> Vec<String> {
    let state = match check.state {
        State::Passed => "ok",
        State::Failed => "FAILED",
        State::Unknown => "unknown",
        State::Skipped => "-",
    };
    vec![name.to_owned(), state.to_owned(), check.what.clone()]
}

fn path(prospect: &Prospect) -> Vec<String> {
    let peer = match prospect.peer {
        PeerKind::Public => "public",
        PeerKind::Cone => "behind a cone NAT",
        PeerKind::Symmetric => "behind a symmetric NAT",
    };
    let shown = match (prospect.path, prospect.otherwise) {
        (Some(path), _) => word(&path),
        (None, Some(least)) => format!("unknown, at least {}", word(&least)),
        (None, None) => "none".to_owned(),
    };
    vec![peer.to_owned(), shown, prospect.reason.to_owned()]
}
