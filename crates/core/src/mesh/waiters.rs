//! Clients that wait for a link to a peer, or for a round trip over it.

use std::time::{Duration, Instant};

use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::{MessageId, Name};

use super::{Mesh, clamped, faults};
use crate::app::{ClientId, Event};
use crate::peer::{PeerKey, Waiter, Wanted};

impl Mesh {
    pub(super) fn wait_for(
        &mut self,
        now: Instant,
        (client, id): (ClientId, MessageId),
        to: &Name,
        timeout: Duration,
        wants: Wanted,
    ) {
        match self.admit(to, 0, 0) {
            Ok(key) => {
                let timeout = clamped(timeout);
                if let Some(peer) = self.peers.get_mut(&key) {
                    let waiter = Waiter {
                        client,
                        id,
                        started: now,
                        timeout,
                        wants,
                    };
                    peer.waiters.push(waiter);
                }
                self.serve_waiters(now, key);
                self.settle(now, key);
            }
            Err(fault) => self.tell_waiter(client, id, wants, Err(fault)),
        }
    }

    pub(super) fn serve_waiters(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(link) = &mut peer.link else {
            return;
        };
        let mut token = None;
        for waiter in &mut peer.waiters {
            if waiter.wants == (Wanted::Echo { token: None }) {
                let asked = *token.get_or_insert_with(|| link.liveness.probe(now));
                waiter.wants = Wanted::Echo { token: Some(asked) };
            }
        }
        link.probe = token.or(link.probe);
        let done: Vec<_> = peer
            .waiters
            .extract_if(.., |w| w.wants == Wanted::Link)
            .collect();
        for waiter in done {
            self.tell_waiter(waiter.client, waiter.id, Wanted::Link, Ok(Duration::ZERO));
        }
    }

    pub(super) fn answer_pings(&mut self, key: PeerKey, token: u64, rtt: Duration) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(path) = peer.path() else {
            return;
        };
        let wanted = Wanted::Echo { token: Some(token) };
        let done: Vec<_> = peer.waiters.extract_if(.., |w| w.wants == wanted).collect();
        for waiter in done {
            let outcome = Ok((path, rtt));
            self.tell(
                waiter.client,
                Event::Pong {
                    id: waiter.id,
                    outcome,
                },
            );
        }
    }

    pub(super) fn end_overdue_waiters(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let overdue: Vec<_> = peer
            .waiters
            .extract_if(.., |w| w.deadline() <= now)
            .collect();
        for waiter in overdue {
            if let Some(peer) = self.peers.get(&key) {
                let sent = matches!(waiter.wants, Wanted::Echo { token: Some(_) });
                let late = if sent {
                    Code::Timeout
                } else {
                    Code::LinkFailed
                };
                let mut fault = faults::not_reached(peer, "the probe", waiter.timeout, sent, late);
                fault.executed = None::<Executed>;
                self.tell_waiter(waiter.client, waiter.id, waiter.wants, Err(fault));
            }
        }
    }

    pub(super) fn tell_waiter(
        &mut self,
        client: ClientId,
        id: MessageId,
        wants: Wanted,
        outcome: Result<Duration, Fault>,
    ) {
        let event = match (wants, outcome) {
            (Wanted::Link, outcome) => Event::Done {
                id,
                outcome: outcome.map(|_| ()),
            },
            (Wanted::Echo { .. }, Err(fault)) => Event::Pong {
                id,
                outcome: Err(fault),
            },
            (Wanted::Echo { .. }, Ok(_)) => return,
        };
        self.tell(client, event);
    }
}
