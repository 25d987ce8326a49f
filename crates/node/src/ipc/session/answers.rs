//! Core's events as lines for the client that waits for them.

use waymesh_core::app::{Event, InboundId};
use waymesh_proto::api::{PeerStatus, SendState};
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{MessageId, Name};
use waymesh_proto::ipc::{self, Agents, Follow, Outcome, PeerChange, Pong, Route};
use waymesh_proto::link::Path;

use super::{Open, Session};

/// What is known of a message now.
pub(super) struct Known {
    pub(super) state: SendState,
    pub(super) path: Option<Path>,
    pub(super) error: Option<Fault>,
}

impl Known {
    fn of(self, message_id: MessageId, peer_id: Name) -> Outcome {
        Outcome {
            peer_id,
            message_id,
            state: self.state,
            path: self.path,
            error: self.error,
        }
    }
}

impl Session {
    pub(in crate::ipc) fn event(
        &mut self,
        event: Event,
        new_id: impl FnMut() -> MessageId,
    ) -> Option<ipc::Event> {
        match event {
            Event::Done { id, outcome } => match (self.end(id)?, outcome) {
                (request, Err(fault)) => Some(ipc::Event::Error { id: request, fault }),
                (Some(request), Ok(())) => Some(ipc::Event::Ok { id: request }),
                (None, Ok(())) => None,
            },
            Event::State {
                id,
                state,
                path,
                fault,
            } => self.state(
                id,
                Known {
                    state,
                    path,
                    error: fault,
                },
            ),
            Event::Answer {
                id,
                outcome,
                path,
                request_path,
                elapsed,
            } => {
                let request = self.end(id)?;
                Some(match outcome {
                    Ok(payload) => ipc::Event::Result {
                        id: request,
                        payload,
                        route: Some(Route {
                            message_id: Some(id),
                            path,
                            request_path,
                            elapsed,
                        }),
                    },
                    Err(fault) => ipc::Event::Error { id: request, fault },
                })
            }
            Event::Message {
                inbound,
                id,
                from,
                agent_id,
                class,
                redelivered,
                path,
                payload,
            } => {
                let delivery = inbound.map(|InboundId(number)| number);
                self.deliveries.extend(delivery);
                Some(ipc::Event::Message {
                    delivery,
                    message_id: id,
                    from,
                    agent_id,
                    class,
                    redelivered,
                    path,
                    payload,
                })
            }
            Event::Call {
                call,
                id,
                from,
                agent_id,
                skill,
                remaining,
                redelivered,
                payload,
            } => {
                self.calls.insert(call.0);
                Some(ipc::Event::Call {
                    call_id: call.0,
                    message_id: id,
                    from,
                    agent_id,
                    skill,
                    remaining,
                    redelivered,
                    payload,
                })
            }
            Event::CallCancelled { call, reason } => {
                let was_open = self.calls.remove(&call.0);
                was_open.then_some(ipc::Event::CallCancelled {
                    call_id: call.0,
                    fault: reason,
                })
            }
            Event::Pong { id, outcome } => {
                let request = self.end(id)?;
                Some(match outcome {
                    Ok((path, rtt)) => ipc::Event::result(request, &Pong::new(path, rtt)),
                    Err(fault) => ipc::Event::Error { id: request, fault },
                })
            }
            Event::Peers { id, peers } => self.peers(id, peers, new_id),
            Event::Agents { id, outcome } => {
                let request = self.end(id)?;
                Some(match outcome {
                    Ok(agents) => ipc::Event::result(request, &Agents { agents }),
                    Err(fault) => ipc::Event::Error { id: request, fault },
                })
            }
            Event::Network { id, status } => {
                let request = self.end(id)?;
                Some(ipc::Event::result(request, &status))
            }
            Event::PeerConnected { peer } => changed(PeerChange::PeerConnected, peer),
            Event::PeerDisconnected { peer } => changed(PeerChange::PeerDisconnected, peer),
            Event::PathChanged { peer } => changed(PeerChange::PathChanged, peer),
            Event::CertificateExpiring { remaining } => {
                Some(ipc::Event::CertificateExpiring { remaining })
            }
            Event::Gap {
                from,
                class,
                missing,
            } => Some(ipc::Event::Gap {
                from,
                class,
                missing,
            }),
        }
    }

    /// Tells what is known of a message: to its request until that is answered,
    /// then as much as the client wants. Bad news is always told, and nothing twice.
    fn state(&mut self, id: MessageId, known: Known) -> Option<ipc::Event> {
        if let Some(Open::Part { group }) = self.open.get(&id) {
            let group = *group;
            return self.part(group, id, known);
        }
        let Some(Open::Send(sending)) = self.open.get_mut(&id) else {
            return None;
        };
        let is_final = known.state.is_final();
        // Nobody learns what becomes of a lossy message.
        let is_over = is_final || !sending.class.is_reliable();
        let is_news = sending.known.replace(known.state) != Some(known.state);
        let answers = !sending.is_answered && (is_over || sending.wait.is_over(known.state));
        sending.is_answered |= answers;
        let request = sending.id.take_if(|_| answers).or(sending.id.clone());
        let is_bad = is_final && known.state != SendState::Delivered;
        let is_wanted = request.is_some() || is_bad || sending.follow == Follow::States;
        let to = sending.to.clone();
        if is_over {
            self.open.remove(&id);
        }
        if answers {
            self.answered(request.as_ref());
        }
        (is_wanted && is_news).then(|| ipc::Event::State {
            last: if request.is_some() { answers } else { is_over },
            id: request,
            outcome: known.of(id, to),
        })
    }
}

fn changed(change: PeerChange, peer: PeerStatus) -> Option<ipc::Event> {
    Some(ipc::Event::Peer { change, peer })
}
