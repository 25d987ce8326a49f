//! What arrives: into the inbox, to a skill, or as the answer to a call.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;
use waymesh_proto::class::Stream;
use waymesh_proto::envelope::{Envelope, Kind, Payload, Priority};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, MessageId, Name, SkillName};
use waymesh_proto::limits::{MESSAGE_MAX_BYTES, NODE_INBOX_MAX_BYTES};
use waymesh_proto::link::Path;

use super::{Mesh, faults};
use crate::app::{ClientId, Event};
use crate::calls::{OpenCall, Work};
use crate::inbound::{Released, WINDOW_MAX_BYTES};
use crate::inbox::Arrived;
use crate::peer::PeerKey;
use crate::policy::Request;

/// Calls that one client works on at a time; more wait unacknowledged. Chosen.
pub(super) const WORKS_MAX: usize = 256;
/// Bytes of answers that may wait for one peer before its further calls wait
/// too. Chosen: four of the largest.
const REPLIES_MAX_BYTES: usize = 4 * MESSAGE_MAX_BYTES;

impl Mesh {
    pub(super) fn take_arrivals(&mut self, now: Instant, key: PeerKey) {
        loop {
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            let link_path = peer.link_path();
            let Some((incarnation, stream, released)) = peer.streams.poll_ready() else {
                return;
            };
            let mailed = peer.mail.has(incarnation, stream, released.seq);
            let path = link_path.filter(|_| !mailed).unwrap_or(Path::Mailbox);
            self.report_gap(key, stream, released.missing);
            match Envelope::decode(&released.envelope) {
                Ok(envelope) => {
                    let arrived = arrived(key, incarnation, (stream, released), envelope, path);
                    self.dispatch(now, arrived);
                }
                Err(_) => {
                    self.counters.bad_envelopes += 1;
                    let place = (incarnation, stream, released.seq);
                    self.refuse_at(now, key, place, Code::BadRequest);
                }
            }
        }
    }

    fn report_gap(&mut self, key: PeerKey, stream: Stream, missing: u64) {
        let (Some(owner), Some(peer)) = (self.inbox.owner(), self.peers.get(&key)) else {
            return;
        };
        if missing > 0 {
            let from = peer.name.clone();
            let class = stream.class();
            self.tell(
                owner,
                Event::Gap {
                    from,
                    class,
                    missing,
                },
            );
        }
    }

    pub(super) fn dispatch(&mut self, now: Instant, arrived: Arrived) {
        let waits = matches!(arrived.envelope.kind, Kind::Message | Kind::CapabilityCall);
        if waits && self.inbox_bytes > NODE_INBOX_MAX_BYTES as u64 {
            self.counters.inbox_full += 1;
            return self.refuse(now, &arrived, Code::QueueFull);
        }
        if !self.permits(&arrived) {
            self.counters.messages_denied += 1;
            return self.refuse(now, &arrived, Code::Unauthorized);
        }
        match arrived.envelope.kind {
            Kind::Message => {
                if let Some(dropped) = self.inbox.push(arrived) {
                    self.counters.lossy_dropped_in += 1;
                    self.consume(now, &dropped);
                }
                self.hand_out(now);
            }
            Kind::CapabilityCall => self.dispatch_call(now, arrived),
            Kind::CapabilityResponse | Kind::Error => self.dispatch_answer(now, arrived),
            Kind::Cancel => self.dispatch_cancel(now, &arrived),
            Kind::StreamChunk | Kind::Publish | Kind::Status | Kind::Heartbeat => {
                self.counters.bad_envelopes += 1;
                self.refuse(now, &arrived, Code::NotSupportedYet);
            }
        }
    }

    /// Whether the policy lets the sender do what it asks for.
    fn permits(&self, arrived: &Arrived) -> bool {
        let envelope = &arrived.envelope;
        let request = match (envelope.kind, &envelope.skill) {
            (Kind::Message, _) => Request::Message,
            (Kind::CapabilityCall, Some(skill)) => Request::Skill(skill),
            // What this node asked for may be answered.
            _ => return true,
        };
        let peer = self.peers.get(&arrived.peer);
        let member = peer.and_then(|peer| peer.member.as_ref());
        member.is_some_and(|m| self.config.policy.permits(&m.name, &m.roles, request))
    }

    fn dispatch_call(&mut self, now: Instant, arrived: Arrived) {
        let life = self.peers.get(&arrived.peer).and_then(|p| p.streams.peer());
        if life != Some(arrived.incarnation) {
            // Its caller is gone.
            return self.refuse(now, &arrived, Code::StaleIncarnation);
        }
        let Some(name) = arrived.envelope.skill.clone() else {
            self.counters.bad_envelopes += 1;
            return self.refuse(now, &arrived, Code::BadRequest);
        };
        let Some(skill) = self.skills.get_mut(&name) else {
            return self.answer_unknown_skill(now, &arrived, &name);
        };
        if arrived.expires <= now {
            // Sent again after its caller gave up: nobody waits for the work.
            self.counters.expired_in += 1;
            return self.refuse(now, &arrived, Code::Expired);
        }
        skill.waiting.push_back(arrived);
        self.dispatch_waiting(now);
    }

    /// Whether so many answers to a peer wait that it gets no more work done first.
    pub(super) fn owes_too_much(&self, key: PeerKey) -> bool {
        let peer = self.peers.get(&key);
        peer.is_some_and(|peer| peer.streams.bytes_of(Stream::Replies) > REPLIES_MAX_BYTES)
    }

    /// Whether a peer may be told of a call that was put off until it takes its answers.
    pub(super) fn takes_answers_again(&mut self, key: PeerKey) -> bool {
        let takes = !self.owes_too_much(key);
        let peer = self.peers.get_mut(&key).filter(|_| takes);
        peer.is_some_and(|peer| std::mem::take(&mut peer.has_call_put_off))
    }

    /// The handler is entered: from here on the call counts as taken.
    fn enter(&mut self, now: Instant, owner: ClientId, skill: SkillName, arrived: Arrived) {
        let Some((from, agent_id)) = self.identity(arrived.peer) else {
            return;
        };
        self.consume(now, &arrived);
        if self.works.contains(agent_id, arrived.envelope.id) {
            return;
        }
        let call = self.new_inbound();
        let work = Work {
            owner,
            peer: arrived.peer,
            caller: agent_id,
            incarnation: arrived.incarnation,
            id: arrived.envelope.id,
            deadline: arrived.expires,
        };
        self.works.insert(call, work);
        let event = Event::Call {
            call,
            id: arrived.envelope.id,
            from,
            agent_id,
            skill,
            remaining: arrived.expires.saturating_duration_since(now),
            redelivered: arrived.redelivered,
            payload: arrived.envelope.payload,
        };
        self.tell(owner, event);
    }

    /// Enters handlers for calls whose owner has a hand free and whose caller
    /// takes its answers. The others wait, unacknowledged.
    pub(super) fn dispatch_waiting(&mut self, now: Instant) {
        let names: Vec<SkillName> = self
            .skills
            .iter()
            .filter(|(_, skill)| !skill.waiting.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            while let Some(skill) = self.skills.get_mut(&name) {
                let owner = skill.owner;
                if self.works.owned_by(owner) >= WORKS_MAX {
                    break;
                }
                let waiting = std::mem::take(&mut skill.waiting);
                let ready = waiting.iter().position(|a| !self.owes_too_much(a.peer));
                let Some(skill) = self.skills.get_mut(&name) else {
                    break;
                };
                skill.waiting = waiting;
                let Some(arrived) = ready.and_then(|at| skill.waiting.remove(at)) else {
                    break;
                };
                let key = arrived.peer;
                self.enter(now, owner, name.clone(), arrived);
                self.refresh_after_consume(now, key);
            }
        }
    }

    fn dispatch_answer(&mut self, now: Instant, arrived: Arrived) {
        self.consume(now, &arrived);
        let key = arrived.peer;
        let envelope = arrived.envelope;
        let Some(id) = envelope.correlation else {
            self.counters.bad_envelopes += 1;
            return;
        };
        let Some(call) = self.calls.remove_if(&id, |call| call.peer == key) else {
            self.counters.late_replies += 1;
            return;
        };
        let request_path = self.request_path(&call);
        if let Some(peer) = self.peers.get_mut(&key) {
            // An answer proves that the request arrived, acknowledged or not.
            peer.streams.withdraw(Stream::Tasks, call.seq);
        }
        let outcome = match envelope.fault {
            Some(fault) => Err(call.fault_of(fault)),
            None => Ok(envelope.payload),
        };
        let elapsed = now.saturating_duration_since(call.started);
        let event = Event::Answer {
            id,
            outcome,
            path: Some(arrived.path),
            request_path,
            elapsed,
        };
        self.tell(call.client, event);
    }

    /// The path that the request of an answered call took.
    fn request_path(&self, call: &OpenCall) -> Option<Path> {
        let peer = self.peers.get(&call.peer)?;
        let by_mail = peer.streams.is_by_mail(Stream::Tasks, call.seq);
        if by_mail.unwrap_or(call.entered_by_mail) {
            return Some(Path::Mailbox);
        }
        peer.path()
    }

    fn dispatch_cancel(&mut self, now: Instant, arrived: &Arrived) {
        self.consume(now, arrived);
        let (Some((_, caller)), Some(id)) =
            (self.identity(arrived.peer), arrived.envelope.correlation)
        else {
            return;
        };
        if let Some(call) = self.works.find(caller, id) {
            if let Some(work) = self.works.remove(call) {
                let reason = faults::cancelled();
                self.tell(work.owner, Event::CallCancelled { call, reason });
            }
            return;
        }
        let mut unneeded = Vec::new();
        for skill in self.skills.values_mut() {
            let ours = |a: &Arrived| a.peer == arrived.peer && a.envelope.id == id;
            while let Some(at) = skill.waiting.iter().position(ours) {
                unneeded.extend(skill.waiting.remove(at));
            }
        }
        for arrived in unneeded {
            self.consume(now, &arrived);
        }
    }

    /// A peer has a new life: nobody waits for the calls of its earlier ones,
    /// and of its earlier messages only so many are kept.
    pub(super) fn drop_orphans(&mut self, now: Instant, key: PeerKey, life: Incarnation) {
        let orphan = |a: &Arrived| a.peer == key && a.incarnation != life;
        let mut orphans = Vec::new();
        for skill in self.skills.values_mut() {
            let (dropped, kept) = std::mem::take(&mut skill.waiting)
                .into_iter()
                .partition::<VecDeque<_>, _>(orphan);
            skill.waiting = kept;
            orphans.extend(dropped);
        }
        orphans.extend(self.inbox.evict_orphans(key, life, WINDOW_MAX_BYTES));
        self.counters.orphans_dropped += orphans.len() as u64;
        for arrived in orphans {
            self.refuse(now, &arrived, Code::StaleIncarnation);
        }
    }

    pub(super) fn answer_unknown_skill(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        name: &SkillName,
    ) {
        if self.owes_too_much(arrived.peer) {
            self.refuse(now, arrived, Code::UnknownSkill);
            return self.refresh_after_consume(now, arrived.peer);
        }
        self.consume(now, arrived);
        let known: Vec<&str> = self.skills.keys().map(SkillName::as_str).collect();
        let fault = faults::unknown_skill(&self.config.name, name, &known);
        let call = (arrived.envelope.id, arrived.expires);
        self.send_reply(now, (arrived.peer, arrived.incarnation), call, Err(fault));
        self.refresh_after_consume(now, arrived.peer);
    }

    pub(super) fn send_reply(
        &mut self,
        now: Instant,
        (key, incarnation): (PeerKey, Incarnation),
        (call, deadline): (MessageId, Instant),
        outcome: Result<Payload, Fault>,
    ) {
        let id = self.reply_id(call);
        let mut envelope = match outcome {
            Ok(payload) => Envelope::new(Kind::CapabilityResponse, id, payload),
            Err(fault) => {
                let mut envelope = Envelope::new(Kind::Error, id, Payload::json("null"));
                envelope.fault = Some(fault);
                envelope
            }
        };
        envelope.correlation = Some(call);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.streams.peer() == Some(incarnation) {
            peer.streams.push(
                Stream::Replies,
                id,
                envelope.encode(),
                Priority::Normal,
                (now, deadline),
            );
        }
    }

    /// A new id with the time of the call that it answers.
    fn reply_id(&mut self, call: MessageId) -> MessageId {
        let time = call.as_bytes().iter().take(6);
        let unix_ms = time.fold(0u64, |ms, byte| ms << 8 | u64::from(*byte));
        MessageId::new(unix_ms, self.rng.random())
    }

    /// Gives the inbox's owner as much as it may have.
    pub(super) fn hand_out(&mut self, now: Instant) {
        loop {
            let inbound = self.new_inbound();
            let Some((owner, arrived)) = self.inbox.hand_out(inbound) else {
                return;
            };
            let arrived = arrived.clone();
            let Some((from, agent_id)) = self.identity(arrived.peer) else {
                continue;
            };
            let mut event = Event::Message {
                inbound: None,
                id: arrived.envelope.id,
                from,
                agent_id,
                class: arrived.stream.class(),
                redelivered: arrived.redelivered,
                path: arrived.path,
                payload: arrived.envelope.payload,
            };
            for observer in self.inbox.observers().to_vec() {
                self.tell(observer, event.clone());
            }
            if let Event::Message {
                inbound: handle, ..
            } = &mut event
            {
                *handle = Some(inbound);
            }
            self.tell(owner, event);
            self.refresh_after_consume(now, arrived.peer);
        }
    }

    /// Refuses what waited past its life.
    pub(super) fn expire_arrivals(&mut self, now: Instant) {
        let mut expired = Vec::new();
        while let Some(arrived) = self.inbox.take_expired(now) {
            expired.push(arrived);
        }
        for skill in self.skills.values_mut() {
            while let Some(at) = skill.waiting.iter().position(|a| a.expires <= now) {
                expired.extend(skill.waiting.remove(at));
            }
        }
        for arrived in expired {
            self.counters.expired_in += 1;
            self.refuse(now, &arrived, Code::Expired);
            self.refresh_after_consume(now, arrived.peer);
        }
    }

    pub(super) fn consume(&mut self, now: Instant, arrived: &Arrived) {
        let place = (arrived.incarnation, arrived.stream, arrived.seq);
        if let Some(peer) = self.peers.get_mut(&arrived.peer) {
            peer.streams.consume(now, place.0, place.1, place.2);
        }
        // It may be another peer's than the one whose affairs are settled now.
        self.account(arrived.peer);
        self.release_item(arrived.peer, place);
    }

    fn refuse(&mut self, now: Instant, arrived: &Arrived, code: Code) {
        let place = (arrived.incarnation, arrived.stream, arrived.seq);
        self.refuse_at(now, arrived.peer, place, code);
    }

    fn refuse_at(
        &mut self,
        now: Instant,
        key: PeerKey,
        place: (Incarnation, Stream, u64),
        code: Code,
    ) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.streams.refuse(now, place.0, place.1, place.2, code);
        }
        self.account(key);
        self.release_item(key, place);
    }

    fn refresh_after_consume(&mut self, now: Instant, key: PeerKey) {
        self.account(key);
        self.enqueue(key);
        self.enqueue_mail(now, key);
        self.set_timer(now, key);
    }

    fn identity(&self, key: PeerKey) -> Option<(Name, AgentId)> {
        let peer = self.peers.get(&key)?;
        Some((peer.name.clone(), peer.id?))
    }

    pub(super) fn tell_answer(
        &mut self,
        client: ClientId,
        id: MessageId,
        outcome: Result<Payload, Fault>,
        path: Option<Path>,
        elapsed: Duration,
    ) {
        let request_path = path;
        let event = Event::Answer {
            id,
            outcome,
            path,
            request_path,
            elapsed,
        };
        self.tell(client, event);
    }
}

fn arrived(
    peer: PeerKey,
    incarnation: Incarnation,
    (stream, released): (Stream, Released),
    envelope: Envelope,
    path: Path,
) -> Arrived {
    Arrived {
        peer,
        incarnation,
        stream,
        seq: released.seq,
        envelope,
        expires: released.expires,
        redelivered: released.redelivered,
        path,
    }
}
