//! A broadcast: one request, a message to every linked peer, one answer.

use std::time::Duration;

use waymesh_core::app::Command;
use waymesh_proto::api::{PeerState, PeerStatus, SendState};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::ids::MessageId;
use waymesh_proto::ipc::{self, Outcome, Outcomes, RequestId, Wait};

use super::answers::Known;
use super::{Open, Session};

/// A broadcast before it is cut into messages.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) id: Option<RequestId>,
    pub(super) payload: Payload,
    pub(super) class: Class,
    pub(super) priority: Priority,
    pub(super) ttl: Duration,
    pub(super) wait: Wait,
}

/// A broadcast whose messages are on their way.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Option<RequestId>,
    pub(super) wait: Wait,
    pub(super) waiting: usize,
    pub(super) outcomes: Vec<Outcome>,
}

impl Session {
    /// Takes what is known of one message of a broadcast; answers when all are known.
    pub(super) fn part(
        &mut self,
        group_id: MessageId,
        id: MessageId,
        known: Known,
    ) -> Option<ipc::Event> {
        let group = self.groups.get_mut(&group_id)?;
        let is_final = known.state.is_final();
        let outcome = group
            .outcomes
            .iter_mut()
            .find(|outcome| outcome.message_id == id)?;
        outcome.state = known.state;
        outcome.path = known.path;
        outcome.error = known.error;
        if group.wait == Wait::Delivered && !is_final {
            return None;
        }
        self.open.remove(&id);
        group.waiting -= 1;
        if group.waiting > 0 {
            return None;
        }
        let group = self.groups.remove(&group_id)?;
        self.answered(group.id.as_ref());
        let peers = group.outcomes;
        Some(ipc::Event::result(group.id, &Outcomes { peers }))
    }

    /// Answers a request for the peers, or sends a broadcast to those that are linked.
    pub(super) fn peers(
        &mut self,
        id: MessageId,
        peers: Vec<PeerStatus>,
        mut new_id: impl FnMut() -> MessageId,
    ) -> Option<ipc::Event> {
        let spread = match self.open.remove(&id)? {
            Open::Broadcast(spread) => spread,
            other => {
                self.open.insert(id, other);
                let request = self.end(id)?;
                return Some(ipc::Event::PeerList { id: request, peers });
            }
        };
        let linked = peers
            .into_iter()
            .filter(|peer| peer.state == PeerState::Linked);
        let outcomes: Vec<_> = linked
            .map(|peer| Outcome {
                peer_id: peer.agent,
                message_id: new_id(),
                state: SendState::Queued,
                path: None,
                error: None,
            })
            .collect();
        if outcomes.is_empty() {
            self.answered(spread.id.as_ref());
            return Some(ipc::Event::result(spread.id, &Outcomes { peers: outcomes }));
        }
        for outcome in &outcomes {
            self.open
                .insert(outcome.message_id, Open::Part { group: id });
            self.commands.push_back(Command::Send {
                id: outcome.message_id,
                to: outcome.peer_id.clone(),
                class: spread.class,
                priority: spread.priority,
                ttl: spread.ttl,
                payload: spread.payload.clone(),
            });
        }
        let group = Group {
            id: spread.id,
            wait: spread.wait,
            waiting: outcomes.len(),
            outcomes,
        };
        self.groups.insert(id, group);
        None
    }
}
