//! A broadcast: one request, a message to every peer that is reached, one answer.

use std::time::Duration;

use waymesh_core::app::Command;
use waymesh_proto::api::{PeerState, PeerStatus, SendState};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::ids::MessageId;
use waymesh_proto::ipc::{self, Follow, Outcome, Outcomes, RequestId, Wait};

use super::answers::Known;
use super::{Open, Sending, Session};

/// A broadcast before it is cut into messages.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) id: Option<RequestId>,
    pub(super) payload: Payload,
    pub(super) class: Class,
    pub(super) priority: Priority,
    pub(super) ttl: Duration,
    pub(super) wait: Wait,
    pub(super) follow: Follow,
}

/// A broadcast whose messages are on their way.
#[derive(Debug)]
pub(super) struct Group {
    id: Option<RequestId>,
    class: Class,
    wait: Wait,
    follow: Follow,
    parts: Vec<Part>,
}

/// One message of a broadcast.
#[derive(Debug)]
struct Part {
    outcome: Outcome,
    /// What was waited for is known of it.
    is_done: bool,
}

impl Session {
    /// Takes what is known of one message of a broadcast; answers when enough is known of all.
    pub(super) fn part(
        &mut self,
        group_id: MessageId,
        id: MessageId,
        known: Known,
    ) -> Option<ipc::Event> {
        let group = self.groups.get_mut(&group_id)?;
        let wait = group.wait;
        let part = group
            .parts
            .iter_mut()
            .find(|part| part.outcome.message_id == id)?;
        part.is_done |= wait.is_over(known.state);
        part.outcome.state = known.state;
        part.outcome.path = known.path;
        part.outcome.error = known.error;
        if !group.parts.iter().all(|part| part.is_done) {
            return None;
        }
        let group = self.groups.remove(&group_id)?;
        self.answered(group.id.as_ref());
        for part in &group.parts {
            self.release(&part.outcome, group.class, (wait, group.follow));
        }
        let peers = group.parts.into_iter().map(|part| part.outcome).collect();
        Some(ipc::Event::result(group.id, &Outcomes { peers }))
    }

    /// The broadcast is answered: what becomes of this message is told from now
    /// on as of any other.
    fn release(&mut self, outcome: &Outcome, class: Class, (wait, follow): (Wait, Follow)) {
        self.open.remove(&outcome.message_id);
        if outcome.state.is_final() || !class.is_reliable() {
            return;
        }
        let sending = Sending {
            id: None,
            to: outcome.peer_id.clone(),
            class,
            wait,
            follow,
            is_answered: true,
            known: Some(outcome.state),
        };
        self.open.insert(outcome.message_id, Open::Send(sending));
    }

    /// Answers a request for the peers, or sends a broadcast to those that are reached.
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
        let parts: Vec<_> = peers
            .into_iter()
            .filter(|peer| is_reached(peer.state))
            .map(|peer| Part {
                outcome: Outcome {
                    peer_id: peer.agent,
                    message_id: new_id(),
                    state: SendState::Queued,
                    path: None,
                    error: None,
                },
                is_done: false,
            })
            .collect();
        if parts.is_empty() {
            self.answered(spread.id.as_ref());
            let peers = Vec::new();
            return Some(ipc::Event::result(spread.id, &Outcomes { peers }));
        }
        for Part { outcome, .. } in &parts {
            self.open
                .insert(outcome.message_id, Open::Part { group: id });
            self.commands.push_back(Command::Send {
                id: outcome.message_id,
                to: outcome.peer_id.clone(),
                class: spread.class,
                priority: spread.priority,
                ttl: spread.ttl,
                storing: crate::client::storing(spread.wait),
                payload: spread.payload.clone(),
            });
        }
        let group = Group {
            id: spread.id,
            class: spread.class,
            wait: spread.wait,
            follow: spread.follow,
            parts,
        };
        self.groups.insert(id, group);
        None
    }
}

/// Whether a message to a peer in this state goes somewhere now: over its link
/// or, without one, into its mailbox.
const fn is_reached(state: PeerState) -> bool {
    match state {
        PeerState::Linked | PeerState::Mailbox | PeerState::Connecting => true,
        PeerState::Offline => false,
    }
}
