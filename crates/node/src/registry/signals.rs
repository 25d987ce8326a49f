//! Signing of own signals, and which answers belong to them.
//!
//! An answer names the offer that it answers by its hash. This module fills the
//! hash in and checks it; so a registry cannot pair an answer with another offer.

use std::collections::{BTreeMap, VecDeque};

use waymesh_proto::limits::SIGNALING_MAX_BYTES;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Incarnation, SessionId};
use waymesh_trust::mesh_id;
use waymesh_trust::signal::{self, offer_hash};

use super::own::Own;

/// Offers whose hash is remembered in each direction; the oldest makes room.
/// Chosen: many times the attempts that a node has open.
const OFFERS_MAX: usize = 1_024;

/// What core wants said.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: AgentId,
    pub(super) to_incarnation: Incarnation,
    pub(super) session: SessionId,
    pub(super) seq: u64,
    pub(super) signal: Signal,
}

/// Why an own signal cannot be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignError {
    #[error("an answer to an offer that never came")]
    NoOffer,
    #[error("a signal of {0} bytes, which is more than {SIGNALING_MAX_BYTES}")]
    TooLarge(usize),
}

/// An answer to an offer that was never made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unasked;

/// The hashes of recent offers by peer and session.
#[derive(Debug, Default)]
struct Offers {
    hashes: BTreeMap<(AgentId, SessionId), String>,
    order: VecDeque<(AgentId, SessionId)>,
}

impl Offers {
    fn insert(&mut self, peer: AgentId, session: SessionId, sdp: &str) {
        let key = (peer, session);
        if self.hashes.insert(key, offer_hash(sdp)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > OFFERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }

    fn hash(&self, peer: AgentId, session: SessionId) -> Option<&String> {
        self.hashes.get(&(peer, session))
    }
}

/// The offers of one node, made and got.
#[derive(Debug, Default)]
pub(super) struct Signals {
    made: Offers,
    got: Offers,
}

impl Signals {
    /// Completes and signs a signal.
    pub(super) fn sign(
        &mut self,
        own: &Own,
        incarnation: Incarnation,
        now_ms: u64,
        mut outgoing: Outgoing,
    ) -> Result<SignedSignal, SignError> {
        let (to, session) = (outgoing.to, outgoing.session);
        if let Signal::Answer { offer_hash, .. } = &mut outgoing.signal {
            let hash = self.got.hash(to, session).ok_or(SignError::NoOffer)?;
            offer_hash.clone_from(hash);
        }
        let body = SignalBody {
            mesh: mesh_id(own.mesh()),
            from: own.agent_id(),
            from_incarnation: incarnation,
            to,
            to_incarnation: outgoing.to_incarnation,
            session,
            seq: outgoing.seq,
            issued_ms: now_ms,
            signal: outgoing.signal,
        };
        let signed = signal::sign(&own.keypair, own.certificate(), &body);
        if signed.body.len() > SIGNALING_MAX_BYTES {
            return Err(SignError::TooLarge(signed.body.len()));
        }
        if let Signal::Offer { sdp } = &body.signal {
            self.made.insert(to, session, sdp);
        }
        Ok(signed)
    }

    /// Remembers a verified offer; an answer must be to an offer of this node.
    ///
    /// # Errors
    /// [`Unasked`]; the answer is to be dropped.
    pub(super) fn hear(&mut self, body: &SignalBody) -> Result<(), Unasked> {
        match &body.signal {
            Signal::Offer { sdp } => self.got.insert(body.from, body.session, sdp),
            Signal::Answer { offer_hash, .. } => {
                if self.made.hash(body.from, body.session) != Some(offer_hash) {
                    return Err(Unasked);
                }
            }
            Signal::Candidate { .. } | Signal::Reject { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    struct Node {
        own: Own,
        signals: Signals,
    }

    fn node(seed: u8) -> Node {
        let own = Own::example(seed, NOW_MS);
        let signals = Signals::default();
        Node { own, signals }
    }

    fn say(
        from: &mut Node,
        to: &Node,
        session: u8,
        signal: Signal,
    ) -> Result<SignedSignal, SignError> {
        let outgoing = Outgoing {
            to: to.own.agent_id(),
            to_incarnation: Incarnation::new(1),
            session: SessionId::from_bytes([session; 16]),
            seq: 0,
            signal,
        };
        let incarnation = Incarnation::new(1);
        from.signals.sign(&from.own, incarnation, NOW_MS, outgoing)
    }

    fn hear(by: &mut Node, signal: &SignedSignal) -> Result<(), Unasked> {
        by.signals.hear(&signal.decode_body().expect("a body"))
    }

    fn offer(sdp: &str) -> Signal {
        Signal::Offer { sdp: sdp.into() }
    }

    fn answer() -> Signal {
        Signal::Answer {
            sdp: "answer".into(),
            offer_hash: String::new(),
        }
    }

    #[test]
    fn an_answer_is_believed_by_whoever_made_the_offer() {
        let (mut a, mut b) = (node(1), node(2));
        let offered = say(&mut a, &b, 1, offer("o")).expect("a signal");
        assert_eq!(hear(&mut b, &offered), Ok(()));
        let answered = say(&mut b, &a, 1, answer()).expect("a signal");
        assert_eq!(hear(&mut a, &answered), Ok(()));
    }

    #[test]
    fn an_answer_to_another_offer_of_the_same_session_is_dropped() {
        let (mut a, mut b) = (node(1), node(2));
        let first = say(&mut a, &b, 1, offer("first")).expect("a signal");
        say(&mut a, &b, 1, offer("second")).expect("a signal");
        assert_eq!(hear(&mut b, &first), Ok(()));
        let answered = say(&mut b, &a, 1, answer()).expect("a signal");
        assert_eq!(hear(&mut a, &answered), Err(Unasked));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_dropped_and_not_sent_either() {
        let (a, mut b, mut c) = (node(1), node(2), node(3));
        assert_eq!(say(&mut b, &a, 1, answer()), Err(SignError::NoOffer));
        let offered = say(&mut c, &b, 1, offer("o")).expect("a signal");
        assert_eq!(hear(&mut b, &offered), Ok(()));
        assert_eq!(say(&mut b, &a, 1, answer()), Err(SignError::NoOffer));
        let answered = say(&mut b, &c, 1, answer()).expect("a signal");
        let mut a = a;
        assert_eq!(hear(&mut a, &answered), Err(Unasked));
    }

    #[test]
    fn a_signal_of_the_largest_size_is_sent_and_one_byte_more_is_not() {
        let (mut a, b) = (node(1), node(2));
        let bare = say(&mut a, &b, 1, offer("")).expect("a signal").body.len();
        let largest = "s".repeat(SIGNALING_MAX_BYTES - bare);
        assert!(say(&mut a, &b, 1, offer(&largest)).is_ok());
        let too_large = say(&mut a, &b, 1, offer(&format!("{largest}s")));
        assert_eq!(too_large, Err(SignError::TooLarge(SIGNALING_MAX_BYTES + 1)));
    }

    #[test]
    fn memory_of_offers_is_bounded_and_the_newest_are_kept() {
        let mut offers = Offers::default();
        let peer = AgentId::from_bytes([1; 32]);
        let session = |n: usize| SessionId::from_bytes((n as u128).to_be_bytes());
        for n in 0..=OFFERS_MAX {
            offers.insert(peer, session(n), "o");
        }
        assert_eq!(offers.hashes.len(), OFFERS_MAX);
        assert!(offers.hash(peer, session(0)).is_none());
        assert!(offers.hash(peer, session(OFFERS_MAX)).is_some());
    }
}
