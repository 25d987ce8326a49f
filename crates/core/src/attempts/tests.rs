#![expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]

use std::net::SocketAddr;
use std::time::Duration;

use waymesh_proto::ice::{ServerOutcome, ServerTried};
use waymesh_proto::link::{CandidateKind, TriedCandidate, TriedPair};

use super::*;

fn candidate(kind: CandidateKind) -> TriedCandidate {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    TriedCandidate { kind, address }
}

fn tried(pairs: usize) -> Tried {
    let (local, remote) = (
        candidate(CandidateKind::Host),
        candidate(CandidateKind::Srflx),
    );
    let pair = TriedPair {
        local,
        remote,
        sent: 3,
        answered: 0,
        heard: 0,
        rtt_ms: None,
        error: None,
    };
    Tried {
        local: vec![local],
        remote: vec![remote],
        pairs: vec![pair; pairs],
        ..Tried::default()
    }
}

fn server(url: &str, outcome: ServerOutcome) -> ServerTried {
    ServerTried {
        url: url.parse().expect("a URL"),
        outcome,
        took_ms: 1.0,
    }
}

#[test]
fn what_was_tried_is_told_in_words_that_name_the_cause() {
    let mut all = tried(3);
    let why = "it refused the credentials".into();
    all.servers = vec![
        server("stun:a", ServerOutcome::Waiting),
        server("turn:b", ServerOutcome::Failed { why }),
    ];
    assert_eq!(
        words(&all),
        "no pair of addresses works: 3 pairs tried, none answered; the STUN server stun:a:3478 \
         did not answer; the TURN server turn:b:3478?transport=udp: it refused the credentials"
    );
    all.pairs[0].heard = 1;
    assert!(words(&all).contains("the way to it is blocked"));
    all.local.push(candidate(CandidateKind::Relay));
    assert!(!words(&all).contains("TURN"), "a relay was there");
    all.ice_ms = Some(40.0);
    assert!(words(&all).contains("encrypted channels"));
    assert!(words(&Tried::default()).contains("no address"));
    assert!(words(&tried(1)).ends_with("no TURN server is known to relay through"));
}

#[test]
fn the_last_eight_attempts_are_kept_and_told_newest_first() {
    let now = Instant::now();
    let mut attempts = Attempts::default();
    for number in 1..=ATTEMPTS_MAX as u64 + 1 {
        let (role, purpose) = (AttemptRole::Offered, AttemptPurpose::Connect);
        let at = now + Duration::from_millis(number);
        attempts.begin(at, LinkId::new(number), role, purpose);
    }
    let told = attempts.list(now + Duration::from_millis(20));
    let ages: Vec<f64> = told.iter().map(|attempt| attempt.age_ms).collect();
    assert_eq!(ages, [11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0]);
}

#[test]
fn what_net_tells_after_the_end_makes_a_vague_reason_clear_and_no_other() {
    let now = Instant::now();
    let mut attempts = Attempts::default();
    let (late, other) = (LinkId::new(1), LinkId::new(2));
    for link in [other, late] {
        attempts.begin(now, link, AttemptRole::Offered, AttemptPurpose::Connect);
    }
    attempts.end_late(now, late, "no link came up in 5 s".into());
    let end = End {
        outcome: AttemptOutcome::Unneeded,
        path: None,
        reason: "the peer's attempt took its place".into(),
    };
    attempts.end(now, other, end);
    assert!(attempts.handle_tried(other, tried(1)).is_none());
    let clear = attempts.handle_tried(late, tried(2)).map(str::to_owned);
    assert!(clear.is_some_and(|why| why.contains("2 pairs tried")));
    let told = attempts.list(now);
    assert_eq!(told[1].reason, "the peer's attempt took its place");
    assert!(told.iter().all(|attempt| attempt.tried.is_some()));
}
