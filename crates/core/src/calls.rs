//! Calls: those that this node's clients make and those that its skills answer.
//!
//! A call ends exactly once: with the peer's answer, its deadline, a cancel, or
//! the loss of the peer. Losing a link ends none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_proto::error::{Executed, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, MessageId, SkillName};

use crate::app::{ClientId, InboundId};
use crate::peer::PeerKey;

/// A call that a client of this node waits for.
#[derive(Debug)]
pub(crate) struct OpenCall {
    pub(crate) client: ClientId,
    pub(crate) peer: PeerKey,
    pub(crate) skill: SkillName,
    pub(crate) started: Instant,
    pub(crate) timeout: Duration,
    /// The request's place in the stream of requests.
    pub(crate) seq: u64,
    /// The request itself, kept when it may be repeated.
    pub(crate) repeat: Option<Vec<u8>>,
    /// Whether the peer's application has taken the request.
    pub(crate) entered: bool,
    /// Whether it came to it by mailbox.
    pub(crate) entered_by_mail: bool,
    /// Whether an earlier life of the peer may have run it.
    pub(crate) may_have_run: bool,
}

impl OpenCall {
    pub(crate) fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    fn kept_bytes(&self) -> usize {
        self.repeat.as_ref().map_or(0, Vec::len)
    }

    /// What a fault says of the call as a whole: that it did not run now does
    /// not say that an earlier life of the peer did not run it.
    pub(crate) fn fault_of(&self, mut fault: Fault) -> Fault {
        if self.may_have_run {
            fault.executed = Some(Executed::Unknown);
        }
        fault
    }
}

/// The calls of this node's clients.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    calls: BTreeMap<MessageId, OpenCall>,
    kept_bytes: usize,
    deadlines: BTreeSet<(Instant, MessageId)>,
    by_peer: BTreeSet<(PeerKey, MessageId)>,
}

impl OpenCalls {
    /// Whether a client waits for an answer of this peer.
    pub(crate) fn await_peer(&self, key: PeerKey) -> bool {
        let first = MessageId::from_bytes([0; 16]);
        let next = self.by_peer.range((key, first)..).next();
        next.is_some_and(|(peer, _)| *peer == key)
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn contains(&self, id: &MessageId) -> bool {
        self.calls.contains_key(id)
    }

    /// Bytes of requests that are kept to be repeated.
    pub(crate) const fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    pub(crate) fn insert(&mut self, id: MessageId, call: OpenCall) {
        self.deadlines.insert((call.deadline(), id));
        self.by_peer.insert((call.peer, id));
        self.kept_bytes += call.kept_bytes();
        self.calls.insert(id, call);
    }

    pub(crate) fn get_mut(&mut self, id: &MessageId) -> Option<&mut OpenCall> {
        self.calls.get_mut(id)
    }

    /// Ends a call if `with` says that it is the right one.
    pub(crate) fn remove_if(
        &mut self,
        id: &MessageId,
        with: impl Fn(&OpenCall) -> bool,
    ) -> Option<OpenCall> {
        if !with(self.calls.get(id)?) {
            return None;
        }
        let call = self.calls.remove(id)?;
        self.deadlines.remove(&(call.deadline(), *id));
        self.by_peer.remove(&(call.peer, *id));
        self.kept_bytes -= call.kept_bytes();
        Some(call)
    }

    pub(crate) fn take_overdue(&mut self, now: Instant) -> Option<(MessageId, OpenCall)> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        Some((id, self.remove_if(&id, |_| true)?))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn of(&self, with: impl Fn(&OpenCall) -> bool) -> Vec<MessageId> {
        self.calls
            .iter()
            .filter(|(_, call)| with(call))
            .map(|(id, _)| *id)
            .collect()
    }
}

/// A call that a skill of this node works on.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) owner: ClientId,
    pub(crate) peer: PeerKey,
    pub(crate) caller: AgentId,
    pub(crate) incarnation: Incarnation,
    pub(crate) id: MessageId,
    pub(crate) deadline: Instant,
}

/// The calls that skills of this node work on.
#[derive(Debug, Default)]
pub(crate) struct Works {
    works: BTreeMap<InboundId, Work>,
    by_caller: BTreeMap<(AgentId, MessageId), InboundId>,
    deadlines: BTreeSet<(Instant, InboundId)>,
    owned: BTreeMap<ClientId, usize>,
}

impl Works {
    pub(crate) fn contains(&self, caller: AgentId, id: MessageId) -> bool {
        self.by_caller.contains_key(&(caller, id))
    }

    /// Calls that a client has in hand.
    pub(crate) fn owned_by(&self, owner: ClientId) -> usize {
        self.owned.get(&owner).copied().unwrap_or_default()
    }

    pub(crate) fn insert(&mut self, inbound: InboundId, work: Work) {
        self.by_caller.insert((work.caller, work.id), inbound);
        self.deadlines.insert((work.deadline, inbound));
        *self.owned.entry(work.owner).or_default() += 1;
        self.works.insert(inbound, work);
    }

    pub(crate) fn remove(&mut self, inbound: InboundId) -> Option<Work> {
        let work = self.works.remove(&inbound)?;
        self.by_caller.remove(&(work.caller, work.id));
        self.deadlines.remove(&(work.deadline, inbound));
        if let Some(owned) = self.owned.get_mut(&work.owner) {
            *owned -= 1;
            if *owned == 0 {
                self.owned.remove(&work.owner);
            }
        }
        Some(work)
    }

    pub(crate) fn owner(&self, inbound: InboundId) -> Option<ClientId> {
        self.works.get(&inbound).map(|work| work.owner)
    }

    pub(crate) fn find(&self, caller: AgentId, id: MessageId) -> Option<InboundId> {
        self.by_caller.get(&(caller, id)).copied()
    }

    pub(crate) fn take_overdue(&mut self, now: Instant) -> Option<(InboundId, Work)> {
        let (deadline, inbound) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        Some((inbound, self.remove(inbound)?))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn of(&self, with: impl Fn(&Work) -> bool) -> Vec<InboundId> {
        self.works
            .iter()
            .filter(|(_, work)| with(work))
            .map(|(inbound, _)| *inbound)
            .collect()
    }
}
