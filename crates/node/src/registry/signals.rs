//! Signing of own signals and checking of others'.
//!
//! An answer names the offer that it answers by its hash. This module fills the
//! hash in and checks it; so a registry cannot pair an answer with another offer.

use std::collections::{BTreeMap, VecDeque};

use waymesh_proto::limits::SIGNALING_MAX_BYTES;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Incarnation, MeshId, SessionId};
use waymesh_trust::Keypair;
use waymesh_trust::signal::{self, SignalError, offer_hash};

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

/// Why a received signal is dropped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dropped {
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error("an answer to an offer that was never made")]
    Unasked,
}

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

/// The signer and checker of one node.
#[derive(Debug)]
pub(super) struct Signals {
    keypair: Keypair,
    incarnation: Incarnation,
    made: Offers,
    got: Offers,
}

impl Signals {
    pub(super) fn new(keypair: Keypair, incarnation: Incarnation) -> Self {
        Self {
            keypair,
            incarnation,
            made: Offers::default(),
            got: Offers::default(),
        }
    }

    /// Completes and signs a signal.
    pub(super) fn sign(
        &mut self,
        mesh: MeshId,
        now_unix_ms: u64,
        mut outgoing: Outgoing,
    ) -> Result<SignedSignal, SignError> {
        let (to, session) = (outgoing.to, outgoing.session);
        if let Signal::Answer { offer_hash, .. } = &mut outgoing.signal {
            let hash = self.got.hash(to, session).ok_or(SignError::NoOffer)?;
            offer_hash.clone_from(hash);
        }
        let body = SignalBody {
            mesh,
            from: self.keypair.agent_id(),
            from_incarnation: self.incarnation,
            to,
            to_incarnation: outgoing.to_incarnation,
            session,
            seq: outgoing.seq,
            issued_ms: now_unix_ms,
            signal: outgoing.signal,
        };
        let signed = signal::sign(&self.keypair, &body);
        if signed.body.len() > SIGNALING_MAX_BYTES {
            return Err(SignError::TooLarge(signed.body.len()));
        }
        if let Signal::Offer { sdp } = &body.signal {
            self.made.insert(to, session, sdp);
        }
        Ok(signed)
    }

    /// Checks a signal that the registry passed on.
    pub(super) fn verify(
        &mut self,
        mesh: MeshId,
        now_unix_ms: u64,
        signed: &SignedSignal,
    ) -> Result<SignalBody, Dropped> {
        let me = self.keypair.agent_id();
        let body = signal::verify(signed, &me, &mesh, now_unix_ms)?;
        match &body.signal {
            Signal::Offer { sdp } => self.got.insert(body.from, body.session, sdp),
            Signal::Answer { offer_hash, .. } => {
                if self.made.hash(body.from, body.session) != Some(offer_hash) {
                    return Err(Dropped::Unasked);
                }
            }
            Signal::Candidate { .. } | Signal::Reject { .. } => {}
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: MeshId = MeshId::from_bytes([9; 16]);
    const NOW_MS: u64 = 1_800_000_000_000;

    fn node(seed: u8) -> Signals {
        Signals::new(Keypair::from_seed(&[seed; 32]), Incarnation::new(1))
    }

    fn say(
        from: &mut Signals,
        to: &Signals,
        session: u8,
        signal: Signal,
    ) -> Result<SignedSignal, SignError> {
        let outgoing = Outgoing {
            to: to.keypair.agent_id(),
            to_incarnation: Incarnation::new(1),
            session: SessionId::from_bytes([session; 16]),
            seq: 0,
            signal,
        };
        from.sign(MESH, NOW_MS, outgoing)
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
        b.verify(MESH, NOW_MS, &offered).expect("a good offer");
        let answered = say(&mut b, &a, 1, answer()).expect("a signal");
        assert!(a.verify(MESH, NOW_MS, &answered).is_ok());
    }

    #[test]
    fn an_answer_to_another_offer_of_the_same_session_is_dropped() {
        let (mut a, mut b) = (node(1), node(2));
        let first = say(&mut a, &b, 1, offer("first")).expect("a signal");
        say(&mut a, &b, 1, offer("second")).expect("a signal");
        b.verify(MESH, NOW_MS, &first).expect("a good offer");
        let answered = say(&mut b, &a, 1, answer()).expect("a signal");
        assert_eq!(a.verify(MESH, NOW_MS, &answered), Err(Dropped::Unasked));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_dropped_and_not_sent_either() {
        let (mut a, mut b, mut c) = (node(1), node(2), node(3));
        assert_eq!(say(&mut b, &a, 1, answer()), Err(SignError::NoOffer));
        let offered = say(&mut c, &b, 1, offer("o")).expect("a signal");
        b.verify(MESH, NOW_MS, &offered).expect("a good offer");
        assert_eq!(say(&mut b, &a, 1, answer()), Err(SignError::NoOffer));
        let answered = say(&mut b, &c, 1, answer()).expect("a signal");
        assert!(matches!(
            a.verify(MESH, NOW_MS, &answered),
            Err(Dropped::Signal(SignalError::NotForMe))
        ));
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
