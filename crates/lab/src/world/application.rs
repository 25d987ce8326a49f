//! Applications: what they do with what their nodes tell them. Readers
//! acknowledge, handlers answer, and the model hears of everything.

use std::time::Duration;

use waymesh_core::app::{ClientId, Command, Event, InboundId};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::MessageId;
use waymesh_proto::link::Path;

use super::host::{AgentsAndPeers, host_of};
use super::model::calls::Excuse;
use super::model::letters::Story;
use super::model::{Arrival, Life};
use super::report::{Checked, Invariant, Violation, hold};
use super::schedule::{Flavor, Reading};
use super::workload::{Skill, reply};
use super::{Due, World, telling};

/// A link that has been up so long is up on both sides.
const LINK_IS_WHOLE: Duration = Duration::from_secs(6);

impl World {
    /// A client of a host was told something.
    pub(super) fn hear(&mut self, life: Life, client: ClientId, event: Event) -> Checked {
        let (now, at) = (self.now, life.host);
        self.trace.note(now - self.start, || {
            format!("{at} hears {}", telling::client_event(&event))
        });
        match event {
            Event::State {
                id, state, fault, ..
            } => {
                let to = self.model.letters.get(&id).map(|letter| letter.to);
                let code = fault.as_ref().map(|fault| fault.code);
                let members = &self.model.members;
                let may_refuse = to
                    .zip(code)
                    .is_some_and(|(to, code)| members.may_refuse(now, at, to, code));
                let story = Story {
                    may_refuse,
                    came_back: self.model.mails.was_returned(&id),
                };
                let letters = &mut self.model.letters;
                letters.handle_state(now, id, state, fault.as_ref(), story)
            }
            Event::Answer {
                id, outcome, path, ..
            } => {
                self.counts.answers_by_mail += u64::from(path == Some(Path::Mailbox));
                let lost = outcome
                    .as_ref()
                    .is_err_and(|fault| fault.code == Code::PeerLost);
                let calm = self.plan.flavor == Flavor::Calm;
                hold!(
                    !lost || !calm,
                    PeerLostIsTrue,
                    "{id} was lost, but nothing ever broke"
                );
                let excuse = self.excuse(at, id, outcome.as_ref().err());
                self.model
                    .calls
                    .handle_answer(now, id, &outcome, &self.model.lives, excuse)
            }
            Event::Message {
                inbound: Some(inbound),
                id,
                agent_id,
                class,
                redelivered,
                path,
                payload,
                ..
            } => {
                let from = host_of(agent_id);
                if path == Path::Mailbox {
                    self.counts.given_by_mail += 1;
                } else {
                    self.counts.given_by_link += 1;
                    let posted = self.model.mails.was_posted(&id);
                    self.counts.moved_to_link += u64::from(posted);
                }
                hold!(
                    self.model.members.permits_messages(from, at),
                    PolicyHolds,
                    "{id} of host {from} came to host {at}, which does not let it in"
                );
                hold!(
                    !self.model.mails.is_marked(&id, &self.hosts[at].resumed),
                    MarksHold,
                    "{id} came to {life:?}, which began with its mark"
                );
                let bytes = &payload.bytes;
                let arrival = Arrival {
                    id,
                    at: life,
                    client,
                    from,
                    class,
                    redelivered,
                    was_pushed_before: self.model.mails.was_pushed_before(&id, life),
                    bytes,
                };
                self.model
                    .letters
                    .handle_given(now, &self.model.lives, &arrival)?;
                self.read(life, client, inbound, id)
            }
            Event::Call {
                call,
                id,
                agent_id,
                skill,
                remaining,
                redelivered,
                ..
            } => {
                let from = host_of(agent_id);
                hold!(
                    self.model.members.permits_call(from, at, &skill),
                    PolicyHolds,
                    "host {from} called {skill} of host {at}, which does not let it"
                );
                self.model.calls.handle_entered(
                    now,
                    id,
                    life,
                    client,
                    (call, redelivered),
                    remaining,
                )?;
                self.work(life, client, call, id);
                Ok(())
            }
            Event::CallCancelled { call, reason } => {
                self.model
                    .calls
                    .handle_released(now, life, call, &reason, &self.model.lives)
            }
            Event::Pong { id, outcome } => self.model.waits.handle_answer(now, id, outcome.is_ok()),
            Event::Agents { id, outcome } => {
                self.model.waits.handle_answer(now, id, outcome.is_ok())
            }
            Event::Done { id, outcome } => {
                // Claims and offers are no questions; they cannot fail here.
                if self.hosts[at].worker == client {
                    return self.model.waits.handle_answer(now, id, outcome.is_ok());
                }
                hold!(
                    outcome.is_ok(),
                    AnsweredOnce,
                    "a claim of host {at} failed: {outcome:?}"
                );
                Ok(())
            }
            Event::Peers { peers, .. } => {
                self.hosts[at].told = AgentsAndPeers { peers };
                Ok(())
            }
            Event::Gap { missing, .. } => self.model.letters.handle_gap(missing),
            Event::PeerDisconnected { peer } => {
                if let Some(id) = peer.agent_id {
                    self.hosts[at].note_silent(host_of(id), true);
                }
                let expired = peer.reason.contains("certificate has expired");
                self.counts.links_expired += u64::from(expired);
                let gentle = self.plan.flavor.is_gentle();
                let whole = self.hosts[at].last_link_lived >= LINK_IS_WHOLE;
                hold!(
                    !gentle || !whole,
                    LinksOutliveTheRegistry,
                    "host {at} lost its link to {}: {}",
                    peer.agent,
                    peer.reason
                );
                Ok(())
            }
            Event::PathChanged { peer } => {
                if peer.path == Some(Path::Mailbox) {
                    self.counts.fell_to_mail += 1;
                    self.hosts[at].on_mail.insert(peer.agent);
                } else {
                    self.counts.moved_to_better += 1;
                }
                Ok(())
            }
            Event::PeerConnected { peer } => {
                if let Some(id) = peer.agent_id {
                    self.hosts[at].note_silent(host_of(id), false);
                }
                let moved = self.hosts[at].on_mail.remove(&peer.agent);
                self.counts.rose_to_link += u64::from(moved);
                Ok(())
            }
            Event::CertificateExpiring { remaining } => {
                self.counts.expiries_announced += 1;
                let host = &mut self.hosts[at];
                host.owed_notices.remove(&client);
                hold!(
                    host.ends_soon(now) && host.ends == Some(now + remaining),
                    ExpiryIsTold,
                    "host {at} is told that {remaining:?} are left, and its certificate ends at {:?}",
                    host.ends.map(|ends| ends - self.start)
                );
                Ok(())
            }
            // Nobody asks for it here.
            Event::Message { inbound: None, .. } | Event::Network { .. } => Ok(()),
        }
    }

    fn read(&mut self, life: Life, client: ClientId, inbound: InboundId, id: MessageId) -> Checked {
        let host = &mut self.hosts[life.host];
        host.in_hand.insert(inbound, id);
        let held = host.in_hand.len();
        hold!(
            held <= waymesh_core::inbox::OWNER_MESSAGES,
            Bounded,
            "a reader was given {held} messages at a time"
        );
        match host.reading {
            Reading::Prompt => self.acknowledge(life, client, inbound),
            Reading::Slow => {
                let at = self.now + self.dice.below(Duration::from_secs(2));
                self.later(
                    at,
                    Due::Acknowledge {
                        life,
                        client,
                        inbound,
                    },
                );
            }
            Reading::Late | Reading::Never => {}
        }
        Ok(())
    }

    /// What explains the error that a call of a host ends with.
    fn excuse(&self, at: usize, id: MessageId, fault: Option<&Fault>) -> Excuse {
        let Some(to) = self.model.calls.target_of(&id) else {
            return Excuse::default();
        };
        let (members, code) = (&self.model.members, fault.map(|fault| fault.code));
        Excuse {
            skills_came_and_went: self.hosts[to].skills_came_and_went,
            may_refuse: code.is_some_and(|code| members.may_refuse(self.now, at, to, code)),
            has_no_link: !self.may_link(at, to),
        }
    }

    /// A reader acknowledges a message, if it is still there and has it.
    pub(super) fn acknowledge(&mut self, life: Life, client: ClientId, inbound: InboundId) {
        if !self.model.lives.is_alive(life) || self.hosts[life.host].reader != Some(client) {
            return;
        }
        if let Some(id) = self.hosts[life.host].in_hand.remove(&inbound) {
            if !self.is_deaf {
                self.model.letters.handle_acked(id, life);
            }
            self.command(life.host, client, Command::Consumed { message: inbound });
        }
    }

    fn work(&mut self, life: Life, client: ClientId, call: InboundId, id: MessageId) {
        let after = match self.model.calls.skill_of(&id) {
            Some(Skill::Fast | Skill::Failing) => Duration::ZERO,
            Some(Skill::Slow) => self.dice.below(Duration::from_secs(3)),
            Some(Skill::Mute | Skill::Missing) | None => return,
        };
        if after.is_zero() {
            self.answer(life, client, call, id);
        } else {
            self.later(
                self.now + after,
                Due::Answer {
                    life,
                    client,
                    call,
                    id,
                },
            );
        }
    }

    /// A handler answers, if it is still there. It may be too late: that is harmless.
    pub(super) fn answer(&mut self, life: Life, client: ClientId, call: InboundId, id: MessageId) {
        if !self.model.lives.is_alive(life) || self.hosts[life.host].server != Some(client) {
            return;
        }
        let failing = self.model.calls.skill_of(&id) == Some(Skill::Failing);
        let outcome = if failing {
            Err(Fault::new(Code::HandlerFailed, "as always"))
        } else {
            Ok(reply(id))
        };
        self.model.calls.handle_replied(self.now, life, call);
        self.command(life.host, client, Command::Reply { call, outcome });
    }
}
