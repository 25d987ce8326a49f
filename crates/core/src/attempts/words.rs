//! Why no link came of an attempt, in a sentence for its user.

use waymesh_proto::ice::{ServerOutcome, ServerTried};
use waymesh_proto::link::{CandidateKind, Tried, TriedPair};

/// Servers that a sentence names; the record has all.
const NAMED_MAX: usize = 2;

/// What was tried and came to nothing.
pub(crate) fn words(tried: &Tried) -> String {
    let mut text = what_failed(tried);
    if tried.ice_ms.is_none() && !has_relay(tried) {
        for server in tried.servers.iter().take(NAMED_MAX) {
            if let Some(why) = what_a_server_did(server) {
                text.push_str("; ");
                text.push_str(&why);
            }
        }
        if !tried
            .servers
            .iter()
            .any(|server| server.url.scheme().relays())
        {
            text.push_str("; no TURN server is known to relay through");
        }
    }
    text
}

fn what_failed(tried: &Tried) -> String {
    if tried.ice_ms.is_some() {
        return "a pair of addresses works, but the encrypted channels did not come up".into();
    }
    if tried.local.is_empty() {
        return "this host has no address to make a link from".into();
    }
    if tried.remote.is_empty() {
        return "the peer told no address".into();
    }
    let answered = tried.pairs.iter().filter(|pair| pair.answered > 0).count();
    let count = match tried.pairs.len() {
        0 => return "no pair of addresses could be tried".into(),
        1 => "1 pair tried".to_owned(),
        count => format!("{count} pairs tried"),
    };
    let outcome = match answered {
        0 => one_way(&tried.pairs),
        1 => "1 answered, too late",
        _ => "some answered, too late",
    };
    format!("no pair of addresses works: {count}, {outcome}")
}

/// Nothing was answered: whether the peer was heard at least.
fn one_way(pairs: &[TriedPair]) -> &'static str {
    if pairs.iter().any(|pair| pair.heard > 0) {
        "none answered, though checks of the peer arrived: the way to it is blocked"
    } else if pairs.iter().all(|pair| pair.error.is_some()) {
        "nothing could be sent"
    } else {
        "none answered"
    }
}

fn has_relay(tried: &Tried) -> bool {
    let relays = |kind| kind == CandidateKind::Relay;
    tried.local.iter().any(|candidate| relays(candidate.kind))
}

/// What a server that should have helped did instead.
fn what_a_server_did(server: &ServerTried) -> Option<String> {
    let what = if server.url.scheme().relays() {
        "TURN"
    } else {
        "STUN"
    };
    let url = &server.url;
    match &server.outcome {
        ServerOutcome::Waiting => Some(format!("the {what} server {url} did not answer")),
        ServerOutcome::Failed { why } => Some(format!("the {what} server {url}: {why}")),
        ServerOutcome::Gave { .. } | ServerOutcome::NotNeeded => None,
    }
}
