//! What became of messages and calls, told to the clients that wait for it.

use std::time::Instant;

use waymesh_proto::api::SendState;
use waymesh_proto::class::Stream;
use waymesh_proto::envelope::Priority;
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::{Incarnation, MessageId};
use waymesh_proto::link::Path;

use super::{Mesh, Sent, faults};
use crate::app::{Event, InboundId};
use crate::calls::{OpenCall, Work};
use crate::outbound::Verdict;
use crate::peer::PeerKey;
use crate::streams::Settled;

impl Mesh {
    pub(super) fn report_settled(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        for Settled {
            stream,
            id,
            verdict,
            by_mail,
        } in peer.streams.take_settled()
        {
            if let Some(sent) = self.sent.remove(&id) {
                self.report_sent(id, &sent, verdict, by_mail);
            } else if stream == Stream::Tasks {
                self.report_request(now, id, verdict, by_mail);
            }
        }
    }

    fn report_sent(&mut self, id: MessageId, sent: &Sent, verdict: Verdict, by_mail: bool) {
        let Some(peer) = self.peers.get(&sent.peer) else {
            return;
        };
        let name = &peer.name;
        let (state, fault) = match verdict {
            Verdict::Consumed => (SendState::Delivered, None),
            Verdict::Refused(Code::Expired) | Verdict::Expired => {
                let fault = match verdict {
                    Verdict::Expired => why_expired(peer),
                    _ => Fault::new(
                        Code::Expired,
                        format!("{name} has it, but no application took it in time"),
                    )
                    .with_hint(
                        "attach a reader to the peer's inbox, or give the message more time",
                    ),
                };
                (SendState::Expired, Some(fault))
            }
            Verdict::Refused(code) => {
                let fault = faults::refused(name, "the message", code);
                (SendState::Refused, Some(fault))
            }
            Verdict::Unconfirmed => {
                let fault = Fault::new(
                    Code::Unconfirmed,
                    format!("it was sent, but {name} did not say what became of it"),
                );
                (SendState::Unconfirmed, Some(fault))
            }
        };
        let path = if by_mail {
            Some(Path::Mailbox)
        } else {
            peer.path()
        };
        let event = Event::State {
            id,
            state,
            path,
            fault,
        };
        self.tell(sent.client, event);
    }

    fn report_request(&mut self, now: Instant, id: MessageId, verdict: Verdict, by_mail: bool) {
        match verdict {
            Verdict::Consumed => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.entered = true;
                    call.entered_by_mail = by_mail;
                }
            }
            Verdict::Refused(code) if code != Code::Expired => {
                let Some(call) = self.calls.remove_if(&id, |_| true) else {
                    return;
                };
                let peer = self.peers.get(&call.peer);
                let fault = peer.map(|peer| faults::refused(&peer.name, "the call", code));
                let fault = fault
                    .unwrap_or_else(|| Fault::new(code, "the peer refused the call"))
                    .with_executed(Executed::No);
                let elapsed = now.saturating_duration_since(call.started);
                self.tell_answer(call.client, id, Err(call.fault_of(fault)), None, elapsed);
            }
            // The call's own deadline tells; and that nobody knows what became of it.
            Verdict::Unconfirmed => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.may_have_run = true;
                }
            }
            Verdict::Refused(_) | Verdict::Expired => {}
        }
    }

    pub(super) fn end_overdue_call(&mut self, now: Instant, id: MessageId, call: &OpenCall) {
        let Some(peer) = self.peers.get(&call.peer) else {
            return;
        };
        let sent = peer.streams.was_sent(Stream::Tasks, call.seq, None);
        // Settled without an answer: entered, or expired at the same moment unsent.
        let sent = sent.unwrap_or(call.entered);
        let fault = faults::not_reached(
            peer,
            &format!("the call of {}", call.skill),
            call.timeout,
            sent,
            Code::Timeout,
        );
        // A request in the mailbox may be collected before it is withdrawn.
        let posted = peer.streams.is_by_mail(Stream::Tasks, call.seq);
        let fault = match fault.executed {
            Some(Executed::No) if posted == Some(true) => fault.with_executed(Executed::Unknown),
            _ => fault,
        };
        self.withdraw_call(now, id, call);
        self.tell_answer(
            call.client,
            id,
            Err(call.fault_of(fault)),
            None,
            call.timeout,
        );
        self.settle(now, call.peer);
    }

    pub(super) fn end_overdue_work(&mut self, call: InboundId, work: &Work) {
        let reason = Fault::new(Code::Timeout, "the caller's deadline has passed");
        self.tell(work.owner, Event::CallCancelled { call, reason });
    }

    /// The peer has a new incarnation: what its old one was working on is lost,
    /// and what it was waiting for is needed no more.
    pub(super) fn handle_restarted(&mut self, now: Instant, key: PeerKey) {
        let Some(incarnation) = self.peers.get(&key).and_then(|peer| peer.streams.peer()) else {
            return;
        };
        self.lose_calls(now, key, Some(incarnation), "it restarted");
        self.drop_orphans(now, key, incarnation);
        for call in self
            .works
            .of(|work| work.peer == key && work.incarnation != incarnation)
        {
            if let Some(work) = self.works.remove(call) {
                let reason = Fault::new(Code::PeerLost, "the caller restarted");
                self.tell(work.owner, Event::CallCancelled { call, reason });
            }
        }
        for id in self.calls.of(|call| call.peer == key && call.entered) {
            self.repeat(now, id);
        }
    }

    /// The peer is gone: calls that it may have taken will not be answered.
    pub(super) fn handle_lost(&mut self, now: Instant, key: PeerKey, why: &str) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.reason = format!("the peer is lost: {why}");
        }
        self.lose_calls(now, key, None, why);
    }

    /// Ends the calls that the peer, or a life of it before `life`, may have taken.
    fn lose_calls(&mut self, now: Instant, key: PeerKey, life: Option<Incarnation>, why: &str) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let name = peer.name.clone();
        let taken = |call: &OpenCall| {
            call.peer == key
                && peer
                    .streams
                    .was_sent(Stream::Tasks, call.seq, life)
                    .unwrap_or(call.entered)
        };
        for id in self.calls.of(taken) {
            let fault = faults::peer_lost(&name, why, Executed::Unknown);
            match self.calls.get_mut(&id) {
                // It may be repeated, so it goes on.
                Some(call) if call.repeat.is_some() => call.may_have_run = true,
                _ => self.end_call(now, id, fault),
            }
        }
    }

    fn end_call(&mut self, now: Instant, id: MessageId, fault: Fault) {
        let Some(call) = self.calls.remove_if(&id, |_| true) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&call.peer) {
            peer.streams.withdraw(Stream::Tasks, call.seq);
        }
        let elapsed = now.saturating_duration_since(call.started);
        self.tell_answer(call.client, id, Err(call.fault_of(fault)), None, elapsed);
    }

    /// Sends a request again that the peer's earlier incarnation had taken.
    fn repeat(&mut self, now: Instant, id: MessageId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (Some(envelope), Some(peer)) = (call.repeat.clone(), self.peers.get_mut(&call.peer))
        else {
            return;
        };
        let lives = (now, call.deadline());
        call.seq = peer
            .streams
            .push(Stream::Tasks, id, envelope, Priority::Normal, lives);
        call.entered = false;
    }

    /// Nothing that waits for the peer may go to it. Of what may have reached
    /// it before, nobody can say what became, unless the peer itself lets
    /// nothing in.
    pub(super) fn fail_all(&mut self, now: Instant, key: PeerKey, fault: &Fault) {
        let gone = self
            .peers
            .get_mut(&key)
            .map(|p| p.streams.forget_outgoing());
        let mut begun = gone.unwrap_or_default();
        if fault.code == Code::Unauthorized {
            begun.clear();
        }
        for id in self.calls.of(|call| call.peer == key) {
            let entered = self.calls.get_mut(&id).is_some_and(|call| call.entered);
            let executed = if entered || begun.contains(&id) {
                Executed::Unknown
            } else {
                Executed::No
            };
            self.end_call(now, id, fault.clone().with_executed(executed));
        }
        let gone: Vec<MessageId> = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.peer == key)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(sent) = self.sent.remove(&id) {
                let state = if begun.contains(&id) {
                    SendState::Unconfirmed
                } else {
                    SendState::Refused
                };
                let fault = Some(fault.clone());
                self.tell(
                    sent.client,
                    Event::State {
                        id,
                        state,
                        path: None,
                        fault,
                    },
                );
            }
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            for waiter in std::mem::take(&mut peer.waiters) {
                self.tell_waiter(waiter.client, waiter.id, waiter.wants, Err(fault.clone()));
            }
        }
    }
}

fn why_expired(peer: &crate::peer::Peer) -> Fault {
    let waited = std::time::Duration::ZERO;
    let mut fault = faults::not_reached(peer, "the message", waited, false, Code::Expired);
    fault.message = match fault.code {
        Code::UnknownPeer => format!(
            "no agent called {} appeared while the message lived",
            peer.name
        ),
        Code::PeerOffline => format!("{} was not connected while the message lived", peer.name),
        _ => format!(
            "the message did not reach {} in its life: {}",
            peer.name, peer.reason
        ),
    };
    fault
}
