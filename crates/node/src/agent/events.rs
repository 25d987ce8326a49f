//! What an agent is told that answers nothing it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use waymesh_core::app::Event;

use super::Agent;

/// Events that wait for one [`Events`]; one more is counted and not kept. Chosen.
const EVENTS_CAP: usize = 1_024;

/// What happens in the mesh, from [`Agent::events`] on: every state of every
/// message that this agent sends ([`Event::State`]), peers and their paths
/// ([`Event::PeerConnected`], [`Event::PeerDisconnected`], [`Event::PathChanged`]),
/// skipped messages ([`Event::Gap`]), and the coming end of the certificate
/// ([`Event::CertificateExpiring`]).
///
/// Take them all the time: 1,024 wait, more are missed and counted.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the node is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.queue.recv().await
    }

    /// How many events came when too many waited.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// The desk's end of an [`Events`].
#[derive(Debug)]
pub(super) struct Listener {
    queue: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl Listener {
    /// Hands an event over; false when nobody listens any more.
    pub(super) fn tell(&self, event: &Event) -> bool {
        match self.queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// The two ends of one agent's events.
pub(super) fn channel() -> (Listener, Events) {
    let (sender, queue) = mpsc::channel(EVENTS_CAP);
    let missed = Arc::new(AtomicU64::new(0));
    let listener = Listener {
        queue: sender,
        missed: Arc::clone(&missed),
    };
    (listener, Events { queue, missed })
}

impl Agent {
    /// What happens from now on. Each call has a queue of its own.
    pub fn events(&self) -> Events {
        let (listener, events) = channel();
        self.shared
            .waiting
            .with(|desk| desk.listeners.push(listener));
        events
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const EVENT: Event = Event::CertificateExpiring {
        remaining: Duration::from_secs(1),
    };

    #[tokio::test]
    async fn as_many_events_wait_as_the_limit_says_and_one_more_is_counted() {
        let (listener, mut events) = channel();
        for _ in 0..EVENTS_CAP {
            assert!(listener.tell(&EVENT));
        }
        assert_eq!(events.missed(), 0);
        assert!(listener.tell(&EVENT));
        assert_eq!(events.missed(), 1);
        drop(listener);
        let mut seen = 0;
        while events.next().await.is_some() {
            seen += 1;
        }
        assert_eq!(seen, EVENTS_CAP);
    }

    #[test]
    fn a_listener_whose_reader_is_gone_says_so() {
        let (listener, events) = channel();
        drop(events);
        assert!(!listener.tell(&EVENT));
    }
}
