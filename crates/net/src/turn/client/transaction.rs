//! Requests that wait for their answers: retransmission and limits (RFC 8489 §6.2).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::turn::credential::Key;
use crate::turn::message::{Method, TransactionId};

/// The first pause before a request is sent again, which doubles up to
/// [`PAUSE_MAX`]. RFC 8489 §6.2.1 says 500 ms where nothing is known; servers
/// are nearer, and a request more costs nothing. Chosen.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// The longest pause: seven attempts fit into [`ANSWER_WITHIN`], of which at a loss of
/// 10 % each way all fail once in 100,000 times. Chosen.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long an answer may take: a failure is told in less than 5 s. Chosen.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(4_500);

/// How long a refusal that is not signed waits for an answer that is. Servers do not
/// sign all of them (coturn: 437, 441), and who can inject but not suppress
/// messages must not end an allocation. Chosen: as the first pause.
const DOUBT: Duration = Duration::from_millis(250);

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// An allocation.
    Allocate,
    /// That it be kept.
    Refresh,
    /// That it be removed.
    Release(Then),
    /// That these peers may send.
    Permissions(Vec<IpAddr>),
    /// A short form for this peer.
    Channel {
        /// Its number.
        number: u16,
        /// Who.
        peer: SocketAddr,
    },
}

/// What follows when an allocation has been removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: the client is closed.
    Nothing,
    /// A new one: the old was left over from an earlier client.
    Allocate,
}

/// A request and when it was sent.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) asked: Asked,
    /// What the answer is to be signed with; none for a request without credentials.
    pub(super) key: Option<Key>,
    /// When it left first: what it grants is counted from here.
    pub(super) since: Instant,
    /// How often it was signed anew because the server wanted it.
    pub(super) stale: u8,
    /// Which credentials it was signed with.
    pub(super) generation: u32,
    bytes: Vec<u8>,
    until: Instant,
    /// A refusal that is not signed, and when it is believed.
    doubted: Option<(Instant, Vec<u8>)>,
    /// By a stream there is nothing to be sent again.
    again: Option<(Instant, Duration)>,
}

impl Asked {
    pub(super) const fn method(&self) -> Method {
        match self {
            Self::Allocate => Method::Allocate,
            Self::Refresh | Self::Release(_) => Method::Refresh,
            Self::Permissions(_) => Method::CreatePermission,
            Self::Channel { .. } => Method::ChannelBind,
        }
    }
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// They may be lost: sent again.
    Datagrams,
    /// They may not.
    Stream,
}

impl Transaction {
    pub(super) fn new(
        id: TransactionId,
        asked: Asked,
        bytes: Vec<u8>,
        now: Instant,
        delivery: Delivery,
    ) -> Self {
        Self {
            id,
            asked,
            key: None,
            since: now,
            stale: 0,
            generation: 0,
            bytes,
            until: now + ANSWER_WITHIN,
            doubted: None,
            again: (delivery == Delivery::Datagrams).then_some((now + PAUSE_FIRST, PAUSE_FIRST)),
        }
    }

    /// It is given up then at the latest.
    pub(super) fn end_by(&mut self, at: Instant) {
        self.until = self.until.min(at);
    }

    fn wakes_at(&self) -> Instant {
        let again = self.again.map(|(at, _)| at);
        let doubted = self.doubted.as_ref().map(|(at, _)| *at);
        let early = doubted.or(again);
        early.map_or(self.until, |at| at.min(self.until))
    }
}

/// What is to be done about a request that has waited.
#[derive(Debug)]
pub(super) enum Due {
    /// Send it again.
    Again(Vec<u8>),
    /// Believe this refusal: nothing better has come.
    Refused(Transaction, Vec<u8>),
    /// No answer came.
    Over(Transaction),
}

/// The requests that wait for an answer; how many there are is for the client to bound.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: Vec<Transaction>,
}

impl Transactions {
    pub(super) fn add(&mut self, transaction: Transaction) {
        self.open.push(transaction);
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn any(&self, is: impl Fn(&Asked) -> bool) -> bool {
        self.open.iter().any(|t| is(&t.asked))
    }

    /// When one that asks for this was sent first.
    pub(super) fn since(&self, asked: &Asked) -> Option<Instant> {
        let asks = self.open.iter().filter(|t| t.asked == *asked);
        asks.map(|t| t.since).min()
    }

    pub(super) fn find(&self, id: TransactionId) -> Option<&Transaction> {
        self.open.iter().find(|t| t.id == id)
    }

    pub(super) fn take(&mut self, id: TransactionId) -> Option<Transaction> {
        let at = self.open.iter().position(|t| t.id == id)?;
        Some(self.open.swap_remove(at))
    }

    /// Keeps a refusal that is not signed, the first one.
    pub(super) fn doubt(&mut self, id: TransactionId, now: Instant, refusal: &[u8]) {
        let open = self.open.iter_mut().find(|t| t.id == id);
        if let Some(transaction) = open.filter(|t| t.doubted.is_none()) {
            transaction.doubted = Some((now + DOUBT, refusal.to_vec()));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.iter().map(Transaction::wakes_at).min()
    }

    /// Takes what is due, one at a time.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        let at = self.open.iter().position(|t| t.wakes_at() <= now)?;
        if let Some((_, refusal)) = self.open[at].doubted.take() {
            return Some(Due::Refused(self.open.swap_remove(at), refusal));
        }
        if self.open[at].until <= now {
            return Some(Due::Over(self.open.swap_remove(at)));
        }
        let transaction = &mut self.open[at];
        let (_, pause) = transaction.again?;
        let pause = (pause * 2).min(PAUSE_MAX);
        // From now, not from when it was due: after a sleep it is sent once.
        transaction.again = Some((now + pause, pause));
        Some(Due::Again(transaction.bytes.clone()))
    }
}
