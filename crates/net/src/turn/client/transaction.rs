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
            again: (delivery == Delivery::Datagrams).then_some((now + PAUSE_FIRST, PAUSE_FIRST)),
        }
    }

    /// It is given up then at the latest.
    pub(super) fn end_by(&mut self, at: Instant) {
        self.until = self.until.min(at);
    }

    fn wakes_at(&self) -> Instant {
        match self.again {
            Some((at, _)) => at.min(self.until),
            None => self.until,
        }
    }
}

/// What is to be done about a request that has waited.
#[derive(Debug)]
pub(super) enum Due {
    /// Send it again.
    Again(Vec<u8>),
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

    pub(super) fn find(&self, id: TransactionId) -> Option<&Transaction> {
        self.open.iter().find(|t| t.id == id)
    }

    pub(super) fn take(&mut self, id: TransactionId) -> Option<Transaction> {
        let at = self.open.iter().position(|t| t.id == id)?;
        Some(self.open.swap_remove(at))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.iter().map(Transaction::wakes_at).min()
    }

    /// Takes what is due, one at a time.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        let at = self.open.iter().position(|t| t.wakes_at() <= now)?;
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
