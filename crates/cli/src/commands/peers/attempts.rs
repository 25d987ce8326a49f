//! The attempts to make a link, in words: when, who, what for, what came of it, and what
//! was tried.

use std::fmt::Write;
use std::time::Duration;

use waymesh_proto::api::{Attempt, AttemptOutcome, AttemptPurpose, AttemptRole, PeerStatus};
use waymesh_proto::ice::{ServerOutcome, ServerTried};
use waymesh_proto::link::{Tried, TriedCandidate, TriedPair};

use crate::clock::spoken;
use crate::output::{Look, or_dash, table, word};

/// Pairs that are shown of an attempt, the most telling first; `--json` has all.
const PAIRS_SHOWN: usize = 12;

/// What was tried for a peer.
pub(super) fn text(look: Look, peer: &PeerStatus, attempts: &[Attempt]) -> String {
    let mut text = format!("\n\n{}: {}", peer.agent, peer.reason);
    if attempts.is_empty() {
        text.push_str("\n  No attempt to make a link so far: one is made on first use.");
    }
    for attempt in attempts {
        let _ = write!(text, "\n\n  {}", headline(attempt, peer));
        if let Some(tried) = &attempt.tried {
            text.push_str(&of_tried(look, tried, attempt.outcome));
        }
    }
    text
}

/// `4 min 2 s ago this node offered a link, since there was none: direct after 12 ms (linked)`.
fn headline(attempt: &Attempt, peer: &PeerStatus) -> String {
    let when = match attempt.age_ms {
        age if age < 1_000.0 => format!("{age:.0} ms ago"),
        age => format!(
            "{} ago",
            spoken(Duration::from_secs_f64(age.max(0.0) / 1e3))
        ),
    };
    let who = match attempt.role {
        AttemptRole::Offered => "this node offered a link".to_owned(),
        AttemptRole::Answered => format!("{} offered a link", peer.agent),
    };
    let what_for = match attempt.purpose {
        AttemptPurpose::Connect => "since there was none",
        AttemptPurpose::Recover => "since the one in use may be dead",
        AttemptPurpose::Upgrade => "since the one in use is relayed",
    };
    let path = or_dash(attempt.path.map(|path| word(&path)));
    let took = format!("{:.0} ms", attempt.took_ms);
    let outcome = match attempt.outcome {
        AttemptOutcome::Trying => format!("being tried for {took}"),
        AttemptOutcome::Linked => format!("{path} after {took}"),
        AttemptOutcome::Unneeded => format!("{path} after {took}, and not needed"),
        AttemptOutcome::Failed => format!("failed after {took}"),
    };
    format!("{when} {who}, {what_for}: {outcome} ({})", attempt.reason)
}

fn of_tried(look: Look, tried: &Tried, outcome: AttemptOutcome) -> String {
    let mut text = String::new();
    let _ = write!(text, "\n    here   {}", candidates(&tried.local));
    let _ = write!(text, "\n    there  {}", candidates(&tried.remote));
    for server in &tried.servers {
        let _ = write!(text, "\n    asked  {}", of_server(server));
    }
    if let Some(why) = diagnosis(tried, outcome) {
        let _ = write!(text, "\n    so     {why}");
    }
    let mut pairs: Vec<_> = tried.pairs.iter().collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.answered, pair.heard, pair.sent)));
    let left_out = pairs.len().saturating_sub(PAIRS_SHOWN);
    let rows: Vec<_> = pairs.into_iter().take(PAIRS_SHOWN).map(row).collect();
    if !rows.is_empty() {
        let header = [
            "here",
            "there",
            "sent",
            "answered",
            "heard",
            "round trip",
            "",
        ];
        for line in table(look, &header, rows).lines() {
            let _ = write!(text, "\n    {line}");
        }
    }
    if left_out > 0 {
        let _ = write!(text, "\n    and {left_out} more pairs (--json has all)");
    }
    text
}

/// Candidates in one line.
pub(in crate::commands) fn candidates(candidates: &[TriedCandidate]) -> String {
    if candidates.is_empty() {
        return "no address known".to_owned();
    }
    let shown: Vec<_> = candidates.iter().map(candidate).collect();
    shown.join(", ")
}

fn candidate(candidate: &TriedCandidate) -> String {
    format!("{} {}", word(&candidate.kind), candidate.address)
}

/// What came of a server, in one line.
pub(in crate::commands) fn of_server(server: &ServerTried) -> String {
    let took = server.took_ms;
    let outcome = match &server.outcome {
        ServerOutcome::Waiting => format!("no answer in {took:.0} ms so far"),
        ServerOutcome::Gave { address } => format!("gave {address} in {took:.0} ms"),
        ServerOutcome::NotNeeded => "not needed: another way to it was faster".to_owned(),
        ServerOutcome::Failed { why } => format!("failed after {took:.0} ms: {why}"),
    };
    format!("{}: {outcome}", server.url)
}

fn row(pair: &TriedPair) -> Vec<String> {
    vec![
        candidate(&pair.local),
        candidate(&pair.remote),
        pair.sent.to_string(),
        pair.answered.to_string(),
        pair.heard.to_string(),
        or_dash(pair.rtt_ms.map(|ms| format!("{ms:.2} ms"))),
        pair.error.clone().unwrap_or_default(),
    ]
}

/// What the checks say about why there is no link over them.
fn diagnosis(tried: &Tried, outcome: AttemptOutcome) -> Option<&'static str> {
    if matches!(outcome, AttemptOutcome::Linked | AttemptOutcome::Unneeded) {
        return None;
    }
    let any = |count: fn(&TriedPair) -> u32| tried.pairs.iter().any(|pair| count(pair) > 0);
    Some(if tried.remote.is_empty() {
        "the peer has not told any address: it has not answered, or is not there"
    } else if any(|pair| pair.answered) {
        "checks were answered, so the way is open; what came after them did not get through"
    } else if any(|pair| pair.heard) {
        "the peer's checks arrive here, but no answer does: something lets only one direction through"
    } else if any(|pair| pair.sent) {
        "no check was answered and none arrived: NATs or firewalls in between drop them"
    } else if tried.pairs.is_empty() {
        "the two sides have no addresses of the same kind (IPv4, IPv6)"
    } else {
        "nothing could be sent to any of the peer's addresses"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::link::CandidateKind;

    fn pair(sent: u32, answered: u32, heard: u32) -> TriedPair {
        let end = |kind, address: &str| TriedCandidate {
            kind,
            address: address.parse().expect("an address"),
        };
        TriedPair {
            local: end(CandidateKind::Host, "10.0.0.2:1"),
            remote: end(CandidateKind::Srflx, "198.51.100.1:2"),
            sent,
            answered,
            heard,
            rtt_ms: None,
            error: None,
        }
    }

    fn tried(pairs: Vec<TriedPair>) -> Tried {
        Tried {
            remote: vec![pair(0, 0, 0).remote],
            pairs,
            ..Tried::default()
        }
    }

    #[test]
    fn the_checks_tell_in_which_direction_nothing_passes() {
        let why =
            |tried| diagnosis(&tried, AttemptOutcome::Failed).expect("a failure has a reason");
        assert!(why(Tried::default()).contains("has not told any address"));
        assert!(why(tried(vec![])).contains("no addresses of the same kind"));
        assert!(why(tried(vec![pair(0, 0, 0)])).contains("nothing could be sent"));
        assert!(why(tried(vec![pair(9, 0, 0)])).contains("drop them"));
        assert!(why(tried(vec![pair(9, 0, 0), pair(9, 0, 1)])).contains("only one direction"));
        assert!(why(tried(vec![pair(9, 1, 1)])).contains("the way is open"));
        let linked = tried(vec![pair(1, 1, 1)]);
        assert_eq!(diagnosis(&linked, AttemptOutcome::Linked), None);
    }

    #[test]
    fn the_most_telling_pairs_are_shown_and_the_rest_is_counted() {
        let mut pairs = vec![pair(1, 0, 0); PAIRS_SHOWN];
        pairs.push(pair(7, 7, 7));
        let text = of_tried(Look::Plain, &tried(pairs), AttemptOutcome::Linked);
        let first = text
            .lines()
            .find(|line| line.contains("198.51.100.1:2 ") && line.contains(" 7 "));
        assert!(first.is_some(), "{text}");
        assert!(
            text.ends_with("and 1 more pairs (--json has all)"),
            "{text}"
        );
    }
}
