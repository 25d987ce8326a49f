//! Applications: what they do with what their nodes tell them. Readers
//! acknowledge, handlers answer, and the model hears of everything.

use std::time::Duration;

use waymesh_core::app::{ClientId, Command, Event, InboundId};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::MessageId;

use super::host::{AgentsAndPeers, host_of};
use super::model::{Arrival, Life};
use super::report::{Checked, Invariant, Violation, hold};
use super::schedule::Reading;
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
            } => self
                .model
                .letters
                .handle_state(now, id, state, fault.as_ref()),
            Event::Answer { id, outcome, .. } => {
                let lost = outcome
                    .as_ref()
                    .is_err_and(|fault| fault.code == Code::PeerLost);
                let gentle = self.plan.flavor.is_gentle();
                hold!(
                    !lost || !gentle,
                    PeerLostIsTrue,
                    "{id} was lost, but no link ever broke"
                );
                let went = self
                    .model
                    .calls
                    .target_of(&id)
                    .is_some_and(|to| self.hosts[to].skills_came_and_went);
                self.model
                    .calls
                    .handle_answer(now, id, &outcome, &self.model.lives, went)
            }
            Event::Message {
                inbound: Some(inbound),
                id,
                agent_id,
                class,
                redelivered,
                payload,
                ..
            } => {
                let from = host_of(agent_id);
                let bytes = &payload.bytes;
                let arrival = Arrival {
                    id,
                    at: life,
                    client,
                    from,
                    class,
                    redelivered,
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
                remaining,
                ..
            } => {
                self.model
                    .calls
                    .handle_entered(now, id, life, client, call, remaining)?;
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
            Event::Message { inbound: None, .. }
            | Event::PeerConnected { .. }
            | Event::PathChanged { .. } => Ok(()),
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
