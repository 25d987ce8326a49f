//! Who waits for which event of the node, and the task that brings it there.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use waymesh_core::app::{Command, Event};
use waymesh_proto::api::SendState;
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::{MessageId, SkillName};
use waymesh_proto::link::Path;

use super::events::Listener;
use super::sending::Known;
use super::{Call, Message};
use crate::client::ClientSender;

pub(super) type Handler = Arc<dyn Fn(Call) -> Handling + Send + Sync>;
pub(super) type Handling = std::pin::Pin<Box<dyn Future<Output = Result<Payload, Fault>> + Send>>;

/// Who waits for which event. The lock is held for one look-up at a time.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Desk>>);

/// The look-ups.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) answers: BTreeMap<MessageId, oneshot::Sender<Event>>,
    /// The messages of which more will be known; core bounds them.
    pub(super) letters: BTreeMap<MessageId, Letter>,
    pub(super) listeners: Vec<Listener>,
    pub(super) skills: BTreeMap<SkillName, Handler>,
    pub(super) inbox: Option<mpsc::Sender<Message>>,
}

/// A message on its way.
pub(super) struct Letter {
    pub(super) class: Class,
    pub(super) told: watch::Sender<Known>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

fn panicked() -> Fault {
    Fault::new(Code::HandlerFailed, "the skill's handler panicked").with_executed(Executed::Unknown)
}

impl Waiting {
    /// Looks something up or notes it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Desk {
    /// Tells whoever follows a message what is known of it. After a final state
    /// nothing more comes, and of a lossy class only the first is known.
    fn note_state(&mut self, id: MessageId, known: (SendState, Option<Path>, Option<Fault>)) {
        let is_final = known.0.is_final();
        let Some(letter) = self.letters.get(&id) else {
            return;
        };
        letter.told.send_replace(Some(known));
        if is_final || !letter.class.is_reliable() {
            self.letters.remove(&id);
        }
    }

    /// Tells those who listen to everything.
    fn spread(&mut self, event: &Event) {
        self.listeners.retain(|listener| listener.tell(event));
    }
}

/// Brings each event to whoever waits for it.
pub(super) async fn read(
    mut events: mpsc::Receiver<Event>,
    sender: ClientSender,
    waiting: Waiting,
) {
    // Core bounds the calls in hand; they end with the agent.
    let mut handlers = JoinSet::new();
    while let Some(event) = events.recv().await {
        while handlers.try_join_next().is_some() {}
        match event {
            Event::Answer { id, .. }
            | Event::Done { id, .. }
            | Event::Pong { id, .. }
            | Event::Peers { id, .. }
            | Event::Network { id, .. }
            | Event::Agents { id, .. } => {
                if let Some(answer) = waiting.with(|desk| desk.answers.remove(&id)) {
                    let _ = answer.send(event);
                }
            }
            Event::State {
                id,
                state,
                path,
                ref fault,
            } => {
                let known = (state, path, fault.clone());
                waiting.with(|desk| {
                    desk.note_state(id, known);
                    desk.spread(&event);
                });
            }
            Event::Call {
                call,
                from,
                agent_id,
                skill,
                remaining,
                redelivered,
                payload,
                ..
            } => {
                let Some(handler) = waiting.with(|desk| desk.skills.get(&skill).cloned()) else {
                    continue;
                };
                let work = Call {
                    from,
                    agent_id,
                    payload,
                    remaining,
                    redelivered,
                };
                let sender = sender.clone();
                let work = handler(work);
                handlers.spawn(async move {
                    let outcome = AssertUnwindSafe(work).catch_unwind().await;
                    let outcome = outcome.unwrap_or_else(|_| Err(panicked()));
                    let _ = sender.send(Command::Reply { call, outcome }).await;
                });
            }
            Event::Message {
                inbound: Some(inbound),
                from,
                agent_id,
                class,
                redelivered,
                payload,
                path,
                ..
            } => {
                let inbox = waiting.with(|desk| desk.inbox.clone());
                let sender = sender.clone();
                let message = Message {
                    from,
                    agent_id,
                    class,
                    payload,
                    redelivered,
                    path,
                    inbound,
                    sender,
                };
                if let Some(inbox) = inbox {
                    // Core hands out no more than the queue holds; a reader that is gone takes none.
                    let _ = inbox.try_send(message);
                }
            }
            Event::PeerConnected { .. }
            | Event::PeerDisconnected { .. }
            | Event::PathChanged { .. }
            | Event::CertificateExpiring { .. }
            | Event::Gap { .. } => waiting.with(|desk| desk.spread(&event)),
            Event::Message { inbound: None, .. } | Event::CallCancelled { .. } => {}
        }
    }
    waiting.with(|desk| *desk = Desk::default());
}
