//! Clients that wait for a link to a peer, or for a round trip over a path.

use std::time::{Duration, Instant};

use waymesh_proto::api::Via;
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::{MessageId, Name};
use waymesh_proto::link::Path;

use super::{Mesh, Topology, clamped, faults};
use crate::app::{ClientId, Event};
use crate::peer::{PeerKey, Waiter, Wanted};

impl Mesh {
    /// Measures a round trip on the path asked for.
    pub(super) fn ping(
        &mut self,
        now: Instant,
        (client, id): (ClientId, MessageId),
        to: &Name,
        timeout: Duration,
        via: Via,
    ) {
        let key = self.by_name.get(to);
        let falls_back = key.and_then(|key| self.peers.get(key)).is_some_and(|peer| {
            // Links to it fail: what is sent goes by mailbox.
            peer.link.is_none() && peer.mail.in_use && peer.sessions.not_before().is_some()
        });
        let linked = key.and_then(|key| self.peers.get(key));
        let linked = linked.is_some_and(|peer| peer.link.is_some());
        let by_mail = Wanted::MailEcho { asked: None, via };
        let by_link = Wanted::Echo { token: None };
        let wants = match via {
            Via::Mailbox => by_mail,
            Via::InUse if falls_back || !self.makes_links() => by_mail,
            Via::InUse | Via::Link => by_link,
        };
        let missing = if wants == by_mail && !self.registry_up {
            Some(("mailbox", "the node is not connected to its registry"))
        } else if wants == by_link && !self.makes_links() {
            Some(("link", "this node makes none: its topology is mailbox_only"))
        } else if via == Via::Link && !linked {
            Some((
                "link",
                "none to the peer is up, and a ping by link makes none",
            ))
        } else {
            None
        };
        if let Some((path, why)) = missing {
            let fault = faults::path_unavailable(path, why);
            return self.tell_waiter(client, id, wants, Err(fault));
        }
        self.wait_for(now, (client, id), to, timeout, wants);
    }

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
            let via = Via::InUse;
            if matches!(waiter.wants, Wanted::MailEcho { via: of, .. } if of == via) {
                waiter.wants = Wanted::Echo { token: None };
            }
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

    /// The peer answered a probe that went by mailbox.
    pub(super) fn answer_mail_pings(&mut self, now: Instant, key: PeerKey, token: u64) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let asked = |w: &mut Waiter| matches!(w.wants, Wanted::MailEcho { asked: Some((t, _)), .. } if t == token);
        for waiter in peer.waiters.extract_if(.., asked).collect::<Vec<_>>() {
            if let Wanted::MailEcho {
                asked: Some((_, at)),
                ..
            } = waiter.wants
            {
                let (client, id) = (waiter.client, waiter.id);
                let outcome = Ok((Path::Mailbox, now.saturating_duration_since(at)));
                self.tell(client, Event::Pong { id, outcome });
            }
        }
    }

    /// A probe could not be posted: whoever waits for its answer is told why.
    pub(super) fn fail_mail_pings(&mut self, key: PeerKey, token: u64, fault: &Fault) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let asked = |w: &mut Waiter| matches!(w.wants, Wanted::MailEcho { asked: Some((t, _)), .. } if t == token);
        let mut failed: Vec<_> = peer.waiters.extract_if(.., asked).collect();
        if self.config.topology != Topology::MailboxOnly {
            // Whoever asked on the path in use goes on waiting for a link.
            let via = Via::InUse;
            let either =
                |w: &mut Waiter| matches!(w.wants, Wanted::MailEcho { via: of, .. } if of == via);
            for mut waiter in failed.extract_if(.., either) {
                waiter.wants = Wanted::Echo { token: None };
                peer.waiters.push(waiter);
            }
        }
        for waiter in failed {
            self.tell_waiter(waiter.client, waiter.id, waiter.wants, Err(fault.clone()));
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
                let sent = matches!(
                    waiter.wants,
                    Wanted::Echo { token: Some(_) } | Wanted::MailEcho { asked: Some(_), .. }
                );
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
            (Wanted::Echo { .. } | Wanted::MailEcho { .. }, Err(fault)) => Event::Pong {
                id,
                outcome: Err(fault),
            },
            (Wanted::Echo { .. } | Wanted::MailEcho { .. }, Ok(_)) => return,
        };
        self.tell(client, event);
    }
}
