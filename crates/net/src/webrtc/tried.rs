//! What was tried for one link: the record that a failed attempt leaves.
//!
//! The stack does not tell of its checks, so they are counted from the STUN
//! messages that go out and come in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use waymesh_proto::ice::{ServerTried, millis};
use waymesh_proto::link::{CandidateKind, Tried, TriedCandidate, TriedPair};

use super::candidates::{LocalCandidate, RemoteCandidates};

/// Pairs that a record holds; what is checked beside them is not counted. The
/// number of pairs that ICE keeps (RFC 8445 §6.1.2.5).
const PAIRS_MAX: usize = 100;

/// Candidates of this node that a record holds. Chosen: all of some networks
/// that the host moved through while the link was being made.
const LOCAL_MAX: usize = 32;

/// Checks of one pair whose answer is recognised; a later one is not counted.
const CHECKS_REMEMBERED: usize = 4;

/// What identifies a STUN transaction.
pub(super) type TransactionId = [u8; 12];

/// The record of one link.
#[derive(Debug)]
pub(super) struct Record {
    began: Instant,
    /// When DTLS began.
    secured: Option<Instant>,
    local: Vec<LocalCandidate>,
    pairs: Vec<Pair>,
    is_told: bool,
}

#[derive(Debug)]
struct Pair {
    source: SocketAddr,
    remote: SocketAddr,
    sent: u32,
    answered: u32,
    heard: u32,
    rtt: Option<Duration>,
    last_answer: Option<Instant>,
    error: Option<String>,
    checks: [Option<(TransactionId, Instant)>; CHECKS_REMEMBERED],
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            secured: None,
            local: Vec::new(),
            pairs: Vec::new(),
            is_told: false,
        }
    }

    /// Notes a candidate of this node; false when there are too many.
    pub(super) fn note_local(&mut self, candidate: LocalCandidate) -> bool {
        if self.local.contains(&candidate) {
            return true;
        }
        let has_room = self.local.len() < LOCAL_MAX;
        if has_room {
            self.local.push(candidate);
        }
        has_room
    }

    /// The candidate from which packets have this source.
    pub(super) fn local(&self, source: SocketAddr) -> Option<&LocalCandidate> {
        let is_it = |known: &&LocalCandidate| {
            known.source() == source && known.kind != CandidateKind::Srflx
        };
        self.local.iter().find(is_it)
    }

    /// Notes a check on its way out.
    pub(super) fn note_sent(
        &mut self,
        now: Instant,
        source: SocketAddr,
        remote: SocketAddr,
        id: TransactionId,
    ) {
        if let Some(pair) = self.pair(source, remote) {
            pair.sent = pair.sent.saturating_add(1);
            pair.checks.rotate_right(1);
            pair.checks[0] = Some((id, now));
        }
    }

    /// Notes an answer that authenticates.
    pub(super) fn note_answer(&mut self, now: Instant, id: TransactionId) {
        for pair in &mut self.pairs {
            let check = pair.checks.iter_mut();
            let check = check.into_iter().find(|c| c.is_some_and(|c| c.0 == id));
            if let Some((_, sent)) = check.and_then(Option::take) {
                pair.answered = pair.answered.saturating_add(1);
                pair.rtt = Some(now.saturating_duration_since(sent));
                pair.last_answer = Some(now);
                return;
            }
        }
    }

    /// Notes a check of the peer that authenticates.
    pub(super) fn note_heard(&mut self, source: SocketAddr, remote: SocketAddr) {
        if let Some(pair) = self.pair(source, remote) {
            pair.heard = pair.heard.saturating_add(1);
        }
    }

    /// Notes that the socket did not send.
    pub(super) fn note_error(&mut self, source: SocketAddr, remote: SocketAddr, why: &str) {
        let is_it = |pair: &&mut Pair| pair.source == source && pair.remote == remote;
        if let Some(pair) = self.pairs.iter_mut().find(is_it)
            && pair.error.is_none()
        {
            pair.error = Some(why.to_owned());
        }
    }

    /// Notes that DTLS goes over a pair.
    pub(super) fn note_secured(&mut self, now: Instant) {
        self.secured.get_or_insert(now);
    }

    /// Whether a pair from another source than this has been answered since `since`.
    pub(super) fn has_other_way(&self, source: SocketAddr, since: Instant) -> bool {
        self.pairs
            .iter()
            .any(|pair| pair.source != source && pair.last_answer.is_some_and(|at| at >= since))
    }

    /// The record, once.
    pub(super) fn tell(
        &mut self,
        remote: &RemoteCandidates,
        servers: Vec<ServerTried>,
    ) -> Option<Box<Tried>> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let local_of = |source: SocketAddr| TriedCandidate {
            kind: self.local(source).map_or(CandidateKind::Host, |c| c.kind),
            address: source,
        };
        let remote_of = |address: SocketAddr| TriedCandidate {
            kind: remote.kind_of(address),
            address,
        };
        let pairs = self.pairs.iter().map(|pair| TriedPair {
            local: local_of(pair.source),
            remote: remote_of(pair.remote),
            sent: pair.sent,
            answered: pair.answered,
            heard: pair.heard,
            rtt_ms: pair.rtt.map(millis),
            error: pair.error.clone(),
        });
        let seen = self.pairs.iter().map(|pair| remote_of(pair.remote));
        let mut all_remote = remote.named().to_vec();
        for candidate in seen.filter(|seen| seen.kind == CandidateKind::Prflx) {
            if !all_remote.contains(&candidate) {
                all_remote.push(candidate);
            }
        }
        Some(Box::new(Tried {
            local: self.local.iter().map(LocalCandidate::tried).collect(),
            remote: all_remote,
            pairs: pairs.collect(),
            servers,
            ice_ms: self
                .secured
                .map(|at| millis(at.saturating_duration_since(self.began))),
        }))
    }

    fn pair(&mut self, source: SocketAddr, remote: SocketAddr) -> Option<&mut Pair> {
        let is_it = |pair: &Pair| pair.source == source && pair.remote == remote;
        if let Some(at) = self.pairs.iter().position(is_it) {
            return self.pairs.get_mut(at);
        }
        if self.pairs.len() >= PAIRS_MAX {
            return None;
        }
        self.pairs.push(Pair {
            source,
            remote,
            sent: 0,
            answered: 0,
            heard: 0,
            rtt: None,
            last_answer: None,
            error: None,
            checks: [None; CHECKS_REMEMBERED],
        });
        self.pairs.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 9))
    }

    #[test]
    fn checks_and_their_answers_are_counted_by_pair_and_told_once() {
        let now = Instant::now();
        let mut record = Record::new(now);
        record.note_local(LocalCandidate::host(address(1)));
        record.note_sent(now, address(1), address(2), [1; 12]);
        record.note_sent(now, address(1), address(3), [2; 12]);
        let later = now + Duration::from_millis(40);
        record.note_answer(later, [1; 12]);
        record.note_answer(later, [1; 12]);
        record.note_answer(later, [9; 12]);
        record.note_heard(address(1), address(3));
        record.note_error(address(1), address(3), "no route");
        record.note_secured(later);
        assert!(record.has_other_way(address(9), now));
        assert!(!record.has_other_way(address(1), now));
        let remote = RemoteCandidates::default();
        let tried = record.tell(&remote, Vec::new()).expect("the first time");
        let counts: Vec<_> = tried
            .pairs
            .iter()
            .map(|p| (p.sent, p.answered, p.heard, p.rtt_ms))
            .collect();
        assert_eq!(counts, [(1, 1, 0, Some(40.0)), (1, 0, 1, None)]);
        assert_eq!(tried.pairs[1].error.as_deref(), Some("no route"));
        assert_eq!(tried.remote.len(), 2);
        assert_eq!(tried.ice_ms, Some(40.0));
        assert_eq!(record.tell(&remote, Vec::new()), None);
    }

    #[test]
    fn as_many_pairs_as_the_limit_are_recorded_and_one_more_is_not() {
        let mut record = Record::new(Instant::now());
        let remote = |n: usize| SocketAddr::from(([192, 0, 2, 7], 1_000 + n as u16));
        for n in 0..=PAIRS_MAX {
            record.note_heard(address(1), remote(n));
        }
        assert_eq!(record.pairs.len(), PAIRS_MAX);
    }

    #[test]
    fn as_many_candidates_as_the_limit_are_recorded_and_one_more_is_not() {
        let mut record = Record::new(Instant::now());
        for n in 0..LOCAL_MAX {
            assert!(record.note_local(LocalCandidate::host(address(n as u8))));
        }
        assert!(record.note_local(LocalCandidate::host(address(0))));
        assert!(!record.note_local(LocalCandidate::host(address(99))));
    }
}
