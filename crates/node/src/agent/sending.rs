//! Messages that an agent sends, and what becomes of them.

use std::time::Duration;

use tokio::sync::watch;
use waymesh_core::app::Command;
use waymesh_proto::api::SendState;
use waymesh_proto::class::Class;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{MessageId, Name};
use waymesh_proto::ipc::Wait;
use waymesh_proto::link::Path;

use super::desk::Letter;
use super::{Agent, gone};
use crate::client::new_id;

/// How a message is sent.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// The delivery class.
    pub class: Class,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it may take.
    pub ttl: Duration,
    /// What to wait for.
    pub wait: Wait,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            class: Class::Control,
            priority: Priority::Normal,
            ttl: Duration::from_millis(waymesh_proto::limits::TTL_DEFAULT_MS),
            wait: Wait::Queued,
        }
    }
}

/// What is known of a message; `None` before the node has said anything.
pub(super) type Known = Option<(SendState, Option<Path>, Option<Fault>)>;

/// A message that was sent, and what is known of it. Dropping it changes
/// nothing for the message.
#[derive(Debug)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// What is known.
    pub state: SendState,
    /// The path it took, once known.
    pub path: Option<Path>,
    fault: Option<Fault>,
    class: Class,
    later: watch::Receiver<Known>,
}

impl Sent {
    /// Waits until something more is known; `None` when nothing more will be.
    /// States that follow each other closely may be skipped but for the last.
    /// Of a lossy class nothing after `Queued` is known. Cancel safe.
    pub async fn changed(&mut self) -> Option<SendState> {
        while !self.state.is_final() {
            self.later.changed().await.ok()?;
            if self.take_news() {
                return Some(self.state);
            }
        }
        None
    }

    /// Waits until the message is in the receiver's mailbox, or its fate is
    /// known. Of a lossy class it returns at once. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why it was not delivered, or `shutting_down` when the node is gone.
    pub async fn until(&mut self, wait: Wait) -> Result<(), Fault> {
        loop {
            if let Some(fault) = &self.fault {
                return Err(fault.clone());
            }
            if wait.is_over(self.state) || !self.class.is_reliable() {
                return Ok(());
            }
            if self.changed().await.is_none() {
                return Err(gone());
            }
        }
    }

    /// Why the message was not delivered.
    pub const fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Takes what was told; says whether it is another state than before.
    fn take_news(&mut self) -> bool {
        let told = self.later.borrow_and_update().clone();
        let Some((state, path, fault)) = told else {
            return false;
        };
        let is_news = state != self.state;
        (self.state, self.path, self.fault) = (state, path, fault);
        is_news
    }
}

impl Agent {
    /// Sends a message and waits for what the options say. What becomes of it
    /// afterwards the answer tells: [`Sent::changed`], [`Sent::until`].
    ///
    /// # Errors
    ///
    /// `queue_full`, `message_too_large`, `unknown_peer` and the like; with
    /// [`Wait::Stored`] and [`Wait::Delivered`] also why it was not delivered.
    pub async fn send(
        &self,
        to: &Name,
        payload: Payload,
        options: SendOptions,
    ) -> Result<Sent, Fault> {
        let (id, class) = (new_id(), options.class);
        let (told, later) = watch::channel(None);
        self.shared
            .waiting
            .with(|desk| desk.letters.insert(id, Letter { class, told }));
        let command = Command::Send {
            id,
            to: to.clone(),
            class,
            priority: options.priority,
            ttl: options.ttl,
            storing: crate::client::storing(options.wait),
            payload,
        };
        self.tell(command).await?;
        let mut sent = Sent {
            id,
            state: SendState::Queued,
            path: None,
            fault: None,
            class,
            later,
        };
        let answered = sent.later.wait_for(Option::is_some).await.is_ok();
        if !answered {
            return Err(gone());
        }
        sent.take_news();
        sent.until(options.wait).await?;
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use waymesh_core::app::Event;
    use waymesh_proto::error::Code;

    use super::*;
    use crate::client::{Change, Hall, entrance};

    /// An agent, and the node's ends of it.
    async fn agent() -> (Agent, Hall, mpsc::Sender<Event>) {
        let (door, mut hall) = entrance();
        let agent = Agent::new(door.open());
        let Some(Change::Came(_, events)) = hall.changes.recv().await else {
            panic!("no client came");
        };
        (agent, hall, events)
    }

    /// Sends with these options; the node says these states, then more when it is asked.
    async fn sent(
        (class, wait): (Class, Wait),
        states: &[SendState],
    ) -> (Result<Sent, Fault>, Agent, Hall, mpsc::Sender<Event>) {
        let (agent, mut hall, events) = agent().await;
        let options = SendOptions {
            class,
            wait,
            ..SendOptions::default()
        };
        let to = "bob".parse().expect("a name");
        let node = async {
            let Some((_, Command::Send { id, .. })) = hall.commands.recv().await else {
                panic!("not a send");
            };
            for state in states {
                events.send(event(id, *state)).await.expect("a client");
            }
        };
        let (sent, ()) = tokio::join!(agent.send(&to, Payload::json("1"), options), node);
        (sent, agent, hall, events)
    }

    fn event(id: MessageId, state: SendState) -> Event {
        let failed = state.is_final() && state != SendState::Delivered;
        Event::State {
            id,
            state,
            path: None,
            fault: failed.then(|| Fault::new(Code::Expired, "too late")),
        }
    }

    #[tokio::test]
    async fn a_send_returns_when_what_it_waits_for_is_known_and_tells_the_rest() {
        let wait = (Class::Control, Wait::Stored);
        let states = [SendState::Queued, SendState::Stored];
        let (sent, _agent, _hall, events) = sent(wait, &states).await;
        let mut sent = sent.expect("sent");
        assert_eq!(sent.state, SendState::Stored);
        let id = sent.id;
        // What was known already is no news.
        let again = event(id, SendState::Stored);
        events.send(again).await.expect("a client");
        let last = event(id, SendState::Delivered);
        events.send(last).await.expect("a client");
        assert_eq!(sent.changed().await, Some(SendState::Delivered));
        assert_eq!(sent.changed().await, None);
        assert_eq!(sent.until(Wait::Delivered).await, Ok(()));
    }

    #[tokio::test]
    async fn a_late_failure_is_told_to_who_asks_again() {
        let (sent, _agent, _hall, events) =
            sent((Class::Control, Wait::Queued), &[SendState::Queued]).await;
        let mut sent = sent.expect("sent");
        let failed = event(sent.id, SendState::Expired);
        events.send(failed).await.expect("a client");
        let fault = sent.until(Wait::Stored).await.expect_err("too late");
        assert_eq!(fault.code, Code::Expired);
        assert_eq!(sent.fault(), Some(&fault));
        assert_eq!(sent.until(Wait::Queued).await, Err(fault));
    }

    #[tokio::test]
    async fn of_a_lossy_message_nobody_learns_more_than_that_it_is_queued() {
        let (sent, agent, ..) =
            sent((Class::Telemetry, Wait::Delivered), &[SendState::Queued]).await;
        let mut sent = sent.expect("sent");
        assert_eq!(sent.state, SendState::Queued);
        assert_eq!(sent.changed().await, None);
        let kept = agent.shared.waiting.with(|desk| desk.letters.len());
        assert_eq!(kept, 0);
    }

    #[tokio::test]
    async fn a_node_that_stops_ends_the_waiting_with_an_error() {
        let (sent, _agent, hall, events) =
            sent((Class::Control, Wait::Queued), &[SendState::Queued]).await;
        let mut sent = sent.expect("sent");
        drop((hall, events));
        let fault = sent.until(Wait::Delivered).await.expect_err("gone");
        assert_eq!(fault.code, Code::ShuttingDown);
    }

    #[tokio::test]
    async fn every_state_of_every_message_is_an_event() {
        let (agent, _hall, events) = agent().await;
        let mut heard = agent.events();
        let id = new_id();
        for state in [SendState::Queued, SendState::Stored, SendState::Delivered] {
            let event = event(id, state);
            events.send(event.clone()).await.expect("a client");
            assert_eq!(heard.next().await, Some(event));
        }
    }
}
