//! What the findings come to, for programs and for people.

use serde::Serialize;
use waymesh_net::probe::verdict::{Facts, PeerKind, Prospect, prospects};
use waymesh_proto::control::Origin;
use waymesh_proto::ice::IceTransport;

use super::advice::advice;
use super::checks::{Check, Findings, Reach, State};
use super::subject::Subject;
use super::told::Source;
use crate::commands::peers::attempts;
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
        let facts = facts(&checks, subject.registry.as_ref().map(|r| &r.origin));
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
fn facts(checks: &Findings, origin: Option<&Origin>) -> Facts {
    let nat = checks.nat.found.as_ref();
    let is_reached = checks.websocket.is_passed() || checks.long_poll.is_passed();
    Facts {
        registry: origin.map(|_| is_reached),
        udp: udp(checks, origin.filter(|_| is_reached)),
        mapping: nat.and_then(|nat| nat.mapping),
        filtering: nat.and_then(|nat| nat.filtering),
        relay: relay(checks),
    }
}

/// Whether UDP passes. One silent server may be none at all; that it answers TCP, that it is
/// the registry itself, which is reached and says so, or another one's silence say that UDP is
/// what is missing.
fn udp(checks: &Findings, reached: Option<&Origin>) -> Option<bool> {
    let by_ipv6 = checks
        .ipv6
        .found
        .is_some_and(|found| found.mapped.is_some());
    if checks.udp.is_passed() || by_ipv6 {
        return Some(true);
    }
    let answers_tcp = checks
        .turn
        .iter()
        .any(|turn| turn.reach != Reach::Nothing && turn.url.transport() == IceTransport::Tcp);
    let stun = &checks.examined.stun;
    let is_itself =
        reached.is_some_and(|registry| stun.iter().any(|server| server.is_of(registry)));
    let is_certain = answers_tcp || is_itself || checks.stun_silent > 1;
    (checks.udp.state == State::Failed && checks.stun_silent > 0 && is_certain).then_some(false)
}

/// Whether a relay is there, as far as it was tried.
fn relay(checks: &Findings) -> Option<bool> {
    let any = |reach| checks.turn.iter().any(|turn| turn.reach == reach);
    if any(Reach::Allocated) {
        return Some(true);
    }
    let is_told = matches!(&checks.servers.found, Some(found) if found.source != Source::Nobody);
    let is_assumed = checks.turn.iter().any(|turn| turn.owner.is_assumed());
    let is_known = is_told || !(checks.turn.is_empty() || is_assumed);
    (is_known && !any(Reach::Answered)).then_some(false)
}

impl Tell for Diagnosis {
    fn text(&self, look: Look) -> String {
        let checks = &self.checks;
        let mut rows = vec![
            row("route", &checks.route),
            row("name", &checks.dns),
            row("TCP", &checks.tcp),
            row("TCP 443", &checks.tcp_443),
            row("proxy", &checks.proxy),
            row("TLS", &checks.tls),
            row("WebSocket", &checks.websocket),
            row("long-poll", &checks.long_poll),
            row("servers", &checks.servers),
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
        if let Some(found) = &checks.servers.found
            && found.source == Source::Node
        {
            text.push_str("\n\nWhat the node here offers to peers, and what it was given:");
            text.push_str(&format!(
                "\n  offers  {}",
                attempts::candidates(&found.candidates)
            ));
            for server in &found.tried {
                text.push_str(&format!("\n  asked   {}", attempts::of_server(server)));
            }
        }
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
