//! What clients want.

use std::time::{Duration, Instant};

use waymesh_proto::api::{Detail, NetworkStatus, PeerStatus, SendState};
use waymesh_proto::class::{Class, Stream};
use waymesh_proto::envelope::{Envelope, Kind, Payload, Priority};
use waymesh_proto::error::{Code, Executed, Fault, Retry};
use waymesh_proto::frame::HEADER_MAX_BYTES;
use waymesh_proto::ids::{MessageId, Name, SkillName};
use waymesh_proto::limits::{
    CONTENT_TYPE_MAX_BYTES, LOSSY_FRAME_MAX_BYTES, MESSAGE_MAX_BYTES, OPEN_CALLS_MAX,
    TTL_DEFAULT_MS,
};

use super::{Mesh, Sent, clamped, faults};
use crate::app::{ClientId, Command, Event, InboundId, RegistryCommand, Storing};
use crate::calls::OpenCall;
use crate::peer::{Peer, PeerKey, Wanted};

/// Largest payload on a lossy channel, bytes: with envelope and headers it fits one packet.
pub const LOSSY_MESSAGE_MAX_BYTES: usize = LOSSY_FRAME_MAX_BYTES - 160;
/// Messages of a lossy class that wait for a link; the oldest makes room. Chosen.
const LOSSY_OUTBOX_MAX: usize = 256;
/// How long the receiving program has to take a message that its sender wants to know
/// durable, before it goes into the mailbox too. Chosen: a program that reads is faster.
const PARK_AFTER: Duration = Duration::from_millis(500);

/// The bytes of an envelope, if they fit what its channel carries.
fn encoded(envelope: &Envelope, class: Class) -> Result<Vec<u8>, Fault> {
    let kind = envelope.payload.content_type.as_deref();
    if kind.is_some_and(|kind| kind.len() > CONTENT_TYPE_MAX_BYTES) {
        return Err(faults::bad_content_type());
    }
    let bytes = envelope.encode();
    // A frame on a lossy channel holds a message whole, with the frame's first byte and headers.
    if !class.is_reliable() && bytes.len() + HEADER_MAX_BYTES + 1 > LOSSY_FRAME_MAX_BYTES {
        return Err(faults::too_large(
            envelope.payload.bytes.len(),
            LOSSY_MESSAGE_MAX_BYTES,
        ));
    }
    Ok(bytes)
}

impl Mesh {
    /// A client came. One that missed the announcement that the own certificate
    /// ends soon is told now.
    pub fn add_client(&mut self, now: Instant, client: ClientId) {
        self.clients.insert(client);
        if let Some(remaining) = self.announced_end(now) {
            self.tell(client, Event::CertificateExpiring { remaining });
        }
    }

    /// A client is gone: its calls are withdrawn, its skills and inbox are free.
    pub fn remove_client(&mut self, now: Instant, client: ClientId) {
        self.clients.remove(&client);
        self.inbox.release(client);
        self.sent.retain(|_, sent| sent.client != client);
        self.finds.retain(|_, owner| *owner != client);
        for id in self.calls.of(|call| call.client == client) {
            self.cancel(now, client, id);
        }
        let skills: Vec<SkillName> = self
            .skills
            .iter()
            .filter(|(_, skill)| skill.owner == client)
            .map(|(name, _)| name.clone())
            .collect();
        for work in self.works.of(|work| work.owner == client) {
            self.reply(now, client, work, Err(faults::handler_lost(None)));
        }
        for skill in skills {
            self.drop_skill(now, &skill);
        }
        for peer in self.peers.values_mut() {
            peer.waiters.retain(|waiter| waiter.client != client);
        }
        self.events.retain(|(to, _)| *to != client);
    }

    /// A client wants something.
    pub fn handle_command(&mut self, now: Instant, client: ClientId, command: Command) {
        match command {
            Command::Send {
                id,
                to,
                class,
                priority,
                ttl,
                storing,
                payload,
            } => {
                let how = (class, priority, ttl, storing);
                let outcome = self.send(now, client, (id, &to), how, payload);
                let (state, fault) = match outcome {
                    Ok(()) => (SendState::Queued, None),
                    Err(fault) => (SendState::Refused, Some(fault)),
                };
                self.tell(
                    client,
                    Event::State {
                        id,
                        state,
                        path: None,
                        fault,
                    },
                );
                self.settle_named(now, &to);
            }
            Command::Call {
                id,
                to,
                skill,
                priority,
                timeout,
                idempotent,
                payload,
            } => {
                let limits = (clamped(timeout), idempotent, priority);
                if let Err(fault) = self.call(now, client, (id, &to), skill, limits, payload) {
                    self.tell_answer(client, id, Err(fault), None, Duration::ZERO);
                }
                self.settle_named(now, &to);
            }
            Command::Cancel { id } => self.cancel(now, client, id),
            Command::Reply { call, outcome } => self.reply(now, client, call, outcome),
            Command::Consumed { message } => self.consumed(now, client, message),
            Command::ClaimInbox { id } => {
                let outcome = self.claim_inbox(client);
                self.tell(client, Event::Done { id, outcome });
                self.hand_out(now);
            }
            Command::Observe { id } => {
                self.inbox.observe(client);
                self.tell(
                    client,
                    Event::Done {
                        id,
                        outcome: Ok(()),
                    },
                );
            }
            Command::OfferSkill { id, spec } => {
                let outcome = self.offer_skill(client, spec);
                self.tell(client, Event::Done { id, outcome });
            }
            Command::WithdrawSkill { id, skill } => {
                let outcome = self.withdraw_skill(now, client, &skill);
                self.tell(client, Event::Done { id, outcome });
            }
            Command::Connect { id, to, timeout } => {
                self.wait_for(now, (client, id), &to, timeout, Wanted::Link);
            }
            Command::Ping {
                id,
                to,
                timeout,
                via,
            } => self.ping(now, (client, id), &to, timeout, via),
            Command::ListPeers { id, attempts } => {
                // Whoever was revoked may have left its name to another.
                let named = self.by_name.values().filter_map(|key| self.peers.get(key));
                let told = |peer: &Peer| PeerStatus {
                    attempts: (attempts == Detail::Attempts).then(|| peer.attempts.list(now)),
                    ..peer.status()
                };
                let peers = named.map(told).collect();
                self.tell(client, Event::Peers { id, peers });
            }
            // It comes here only where there is no network to ask about.
            Command::Network { id, .. } => {
                let status = NetworkStatus::default();
                self.tell(client, Event::Network { id, status });
            }
            Command::FindAgents { id, name, skill } => self.find(client, id, name, skill),
        }
    }

    fn settle_named(&mut self, now: Instant, name: &Name) {
        if let Some(key) = self.by_name.get(name).copied() {
            self.settle(now, key);
        }
    }

    fn send(
        &mut self,
        now: Instant,
        client: ClientId,
        (id, to): (MessageId, &Name),
        (class, priority, ttl, storing): (Class, Priority, Duration, Storing),
        payload: Payload,
    ) -> Result<(), Fault> {
        if self.sent.contains_key(&id) {
            return Err(faults::duplicate());
        }
        let limit = if class.is_reliable() {
            MESSAGE_MAX_BYTES
        } else {
            LOSSY_MESSAGE_MAX_BYTES
        };
        let key = self.admit(to, payload.bytes.len(), limit)?;
        let mut envelope = Envelope::new(Kind::Message, id, payload);
        envelope.priority = priority;
        let envelope = encoded(&envelope, class)?;
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let stream = Stream::from(class);
        let lives = (now, now + clamped(ttl));
        let seq = peer.streams.push(stream, id, envelope, priority, lives);
        if storing == Storing::UnlessTaken && class.is_reliable() {
            peer.streams.park(stream, seq, now + PARK_AFTER);
        }
        if class.is_reliable() {
            self.sent.insert(id, Sent { client, peer: key });
        } else if peer.streams.drop_oldest_beyond(stream, LOSSY_OUTBOX_MAX) {
            self.counters.lossy_dropped_out += 1;
        }
        Ok(())
    }

    /// Whether a payload may go to a peer, and which peer that is.
    pub(super) fn admit(
        &mut self,
        to: &Name,
        bytes: usize,
        limit: usize,
    ) -> Result<PeerKey, Fault> {
        if bytes > limit {
            return Err(faults::too_large(bytes, limit));
        }
        if *to == self.config.name {
            return Err(faults::to_self());
        }
        if !self.has_place(to) {
            return Err(faults::queue_full(to));
        }
        let key = self.peer_named(to);
        if self.is_outbox_full(key, bytes) {
            return Err(faults::queue_full(to));
        }
        match self.peers.get(&key) {
            Some(peer) if peer.link.is_none() => match &peer.distrust {
                // A certificate that has ended is extended as soon as its holder is back.
                Some(fault) if fault.code.retry() == Retry::Never => Err(fault.clone()),
                _ => Ok(key),
            },
            _ => Ok(key),
        }
    }

    fn call(
        &mut self,
        now: Instant,
        client: ClientId,
        (id, to): (MessageId, &Name),
        skill: SkillName,
        (timeout, idempotent, priority): (Duration, bool, Priority),
        payload: Payload,
    ) -> Result<(), Fault> {
        if self.calls.contains(&id) {
            return Err(faults::duplicate());
        }
        if self.calls.len() >= OPEN_CALLS_MAX {
            return Err(faults::queue_full(to));
        }
        let key = self.admit(to, payload.bytes.len(), MESSAGE_MAX_BYTES)?;
        let mut envelope = Envelope::new(Kind::CapabilityCall, id, payload);
        envelope.priority = priority;
        envelope.skill = Some(skill.clone());
        let bytes = encoded(&envelope, Class::Tasks)?;
        let repeat = idempotent.then(|| bytes.clone());
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let lives = (now, now + timeout);
        let seq = peer.streams.push(Stream::Tasks, id, bytes, priority, lives);
        let call = OpenCall {
            client,
            peer: key,
            skill,
            started: now,
            timeout,
            seq,
            repeat,
            entered: false,
            entered_by_mail: false,
            may_have_run: false,
        };
        self.calls.insert(id, call);
        Ok(())
    }

    fn cancel(&mut self, now: Instant, client: ClientId, id: MessageId) {
        let Some(call) = self.calls.remove_if(&id, |call| call.client == client) else {
            return;
        };
        self.withdraw_call(now, id, &call);
        let elapsed = now.saturating_duration_since(call.started);
        self.tell_answer(client, id, Err(faults::cancelled()), None, elapsed);
        self.settle(now, call.peer);
    }

    /// Takes a request back, or tells the peer that nobody waits any more.
    pub(super) fn withdraw_call(&mut self, now: Instant, id: MessageId, call: &OpenCall) {
        let Some(peer) = self.peers.get_mut(&call.peer) else {
            return;
        };
        let sent = peer.streams.was_sent(Stream::Tasks, call.seq, None);
        let posted = peer.streams.is_by_mail(Stream::Tasks, call.seq);
        // One that is on its way is not to come again, on another link or to a later life.
        peer.streams.withdraw(Stream::Tasks, call.seq);
        if sent == Some(false) && posted == Some(false) {
            return;
        }
        let mut envelope = Envelope::new(Kind::Cancel, id, Payload::json(""));
        envelope.correlation = Some(id);
        let lives = (now, now + Duration::from_millis(TTL_DEFAULT_MS));
        peer.streams.push(
            Stream::Replies,
            id,
            envelope.encode(),
            Priority::Normal,
            lives,
        );
    }

    fn reply(
        &mut self,
        now: Instant,
        client: ClientId,
        call: InboundId,
        outcome: Result<Payload, Fault>,
    ) {
        if self.works.owner(call) != Some(client) {
            return;
        }
        let Some(work) = self.works.remove(call) else {
            return;
        };
        let outcome = outcome.and_then(|payload| {
            let kind = payload.content_type.as_deref().unwrap_or_default();
            let fault = match payload.bytes.len() {
                bytes if bytes > MESSAGE_MAX_BYTES => faults::too_large(bytes, MESSAGE_MAX_BYTES),
                _ if kind.len() > CONTENT_TYPE_MAX_BYTES => faults::bad_content_type(),
                _ => return Ok(payload),
            };
            Err(fault.with_executed(Executed::Unknown))
        });
        self.send_reply(
            now,
            (work.peer, work.incarnation),
            (work.id, work.deadline),
            outcome,
        );
        self.settle(now, work.peer);
        self.dispatch_waiting(now);
    }

    fn consumed(&mut self, now: Instant, client: ClientId, message: InboundId) {
        let Some(arrived) = self.inbox.consume(client, message) else {
            return;
        };
        self.consume(now, &arrived);
        self.settle(now, arrived.peer);
        self.hand_out(now);
    }

    fn claim_inbox(&mut self, client: ClientId) -> Result<(), Fault> {
        if self.inbox.claim(client) {
            return Ok(());
        }
        Err(Fault::new(
            Code::AlreadyOwned,
            "another client of this node owns the message inbox",
        )
        .with_hint("attach as an observer, or stop the other client"))
    }

    fn find(
        &mut self,
        client: ClientId,
        id: MessageId,
        name: Option<Name>,
        skill: Option<SkillName>,
    ) {
        if self.registry_up {
            self.finds.insert(id, client);
            self.registry_commands
                .push_back(RegistryCommand::Find { id, name, skill });
        } else {
            let outcome = Err(super::directory::unreachable());
            self.tell(client, Event::Agents { id, outcome });
        }
    }
}
