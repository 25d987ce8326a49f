//! What arrived and waits for an application: the message inbox and each skill's queue.
//!
//! A queue has at most one owner among the clients. Without an owner nothing
//! is acknowledged; the senders' windows bound what waits. An owner gets only
//! so much at a time: a slow one costs no memory and holds up nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use waymesh_proto::class::Stream;
use waymesh_proto::envelope::Envelope;
use waymesh_proto::ids::Incarnation;
use waymesh_proto::link::Path;

use crate::app::{ClientId, InboundId};
use crate::peer::PeerKey;

/// Messages that an owner may have unacknowledged; more wait in the inbox.
/// Chosen: enough to keep a fast reader busy.
pub const OWNER_MESSAGES: usize = 256;
/// Bytes that an owner may have unacknowledged, one message apart.
pub const OWNER_BYTES: usize = 1024 * 1024;
/// Messages of lossy classes that wait; the oldest makes room. Chosen.
pub const LOSSY_INBOX_MAX: usize = 256;

/// One message that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) peer: PeerKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) stream: Stream,
    pub(crate) seq: u64,
    pub(crate) envelope: Envelope,
    pub(crate) expires: Instant,
    pub(crate) redelivered: bool,
    pub(crate) path: Path,
}

/// The message inbox.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    owner: Option<ClientId>,
    observers: Vec<ClientId>,
    waiting: VecDeque<Arrived>,
    handed: BTreeMap<InboundId, Arrived>,
    handed_bytes: usize,
    lossy_waiting: usize,
    /// No waiting message expires before this.
    earliest: Option<Instant>,
}

impl Inbox {
    pub(crate) const fn owner(&self) -> Option<ClientId> {
        self.owner
    }

    pub(crate) fn observers(&self) -> &[ClientId] {
        &self.observers
    }

    /// False when another client owns it.
    pub(crate) fn claim(&mut self, client: ClientId) -> bool {
        let free = self.owner.is_none_or(|owner| owner == client);
        if free {
            self.owner = Some(client);
        }
        free
    }

    pub(crate) fn observe(&mut self, client: ClientId) {
        if !self.observers.contains(&client) {
            self.observers.push(client);
        }
    }

    /// A client is gone: what it had and did not acknowledge waits again, first.
    pub(crate) fn release(&mut self, client: ClientId) {
        self.observers.retain(|observer| *observer != client);
        if self.owner != Some(client) {
            return;
        }
        self.owner = None;
        self.handed_bytes = 0;
        for (_, mut arrived) in std::mem::take(&mut self.handed).into_iter().rev() {
            arrived.redelivered = true;
            self.lossy_waiting += usize::from(!arrived.stream.class().is_reliable());
            self.note_expiry(arrived.expires);
            self.waiting.push_front(arrived);
        }
    }

    fn note_expiry(&mut self, expires: Instant) {
        self.earliest = Some(self.earliest.map_or(expires, |at| at.min(expires)));
    }

    /// Adds a message; gives the one that had to make room.
    pub(crate) fn push(&mut self, arrived: Arrived) -> Option<Arrived> {
        let lossy = |a: &Arrived| !a.stream.class().is_reliable();
        let mut dropped = None;
        if lossy(&arrived) {
            if self.lossy_waiting == LOSSY_INBOX_MAX {
                let oldest = self.waiting.iter().position(lossy);
                dropped = oldest.and_then(|at| self.waiting.remove(at));
                self.lossy_waiting -= 1;
            }
            self.lossy_waiting += 1;
        }
        self.note_expiry(arrived.expires);
        self.waiting.push_back(arrived);
        dropped
    }

    /// A peer has a new life: of what waits from earlier ones only the newest
    /// `keep` bytes stay. Gives the messages that made room.
    pub(crate) fn evict_orphans(
        &mut self,
        peer: PeerKey,
        life: Incarnation,
        keep: u64,
    ) -> Vec<Arrived> {
        let mut room = keep;
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        let mut evicted = Vec::new();
        while let Some(arrived) = self.waiting.pop_back() {
            let bytes = arrived.envelope.payload.bytes.len() as u64;
            // What came by mailbox is bounded there, and stays until it is taken.
            let linked = arrived.path != Path::Mailbox;
            let orphan = arrived.peer == peer && arrived.incarnation != life && linked;
            if orphan && bytes > room {
                room = 0;
                self.lossy_waiting -= usize::from(!arrived.stream.class().is_reliable());
                evicted.push(arrived);
                continue;
            }
            room -= if orphan { bytes } else { 0 };
            kept.push_front(arrived);
        }
        self.waiting = kept;
        evicted
    }

    /// The next message for the owner, if it may have one more.
    pub(crate) fn hand_out(&mut self, inbound: InboundId) -> Option<(ClientId, &Arrived)> {
        let owner = self.owner?;
        let size = self.waiting.front()?.envelope.payload.bytes.len();
        let fits = self.handed.is_empty()
            || (self.handed.len() < OWNER_MESSAGES && self.handed_bytes + size <= OWNER_BYTES);
        if !fits {
            return None;
        }
        let arrived = self.waiting.pop_front()?;
        self.lossy_waiting -= usize::from(!arrived.stream.class().is_reliable());
        self.handed_bytes += size;
        Some((owner, self.handed.entry(inbound).or_insert(arrived)))
    }

    /// The owner acknowledged a message; `None` when it is not the owner's.
    pub(crate) fn consume(&mut self, client: ClientId, inbound: InboundId) -> Option<Arrived> {
        if self.owner != Some(client) {
            return None;
        }
        let arrived = self.handed.remove(&inbound)?;
        self.handed_bytes -= arrived.envelope.payload.bytes.len();
        Some(arrived)
    }

    /// Takes a waiting message whose life is over.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Arrived> {
        if self.earliest.is_none_or(|at| at > now) {
            return None;
        }
        let Some(at) = self.waiting.iter().position(|a| a.expires <= now) else {
            self.earliest = self.waiting.iter().map(|a| a.expires).min();
            return None;
        };
        let arrived = self.waiting.remove(at)?;
        self.lossy_waiting -= usize::from(!arrived.stream.class().is_reliable());
        Some(arrived)
    }

    /// When [`Inbox::take_expired`] may have something to do.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.earliest
    }
}
