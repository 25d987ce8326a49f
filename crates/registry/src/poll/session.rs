//! One long-poll session: the end that HTTP requests use, and the end that is
//! a carrier.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use futures_util::{StreamExt, sink, stream};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, mpsc, watch};
use tokio::time::timeout;
use waymesh_proto::poll::{
    POLL_BODY_MAX_BYTES, POLL_HEAD_BYTES, POLL_IDLE_MS, POLL_WAIT_MS, PollMessage,
};
use waymesh_proto::{AgentId, Fault};

use crate::carrier::{Gone, Incoming, Outgoing, Outlet, Received};

/// Bodies that wait for the connection; one more waits at most
/// [`TAKE_IN_TIMEOUT`]. Chosen: one is read while the next arrives.
const IN_TO_CONNECTION_CAP: usize = 1;

/// Messages that wait for a `GET` beside the connection's own queue; one more
/// waits there. Chosen: the parts of a few items.
const CONNECTION_TO_OUT_CAP: usize = 16;

/// How long a body may wait until the connection takes it. Chosen.
const TAKE_IN_TIMEOUT: Duration = Duration::from_secs(10);

const WAIT: Duration = Duration::from_millis(POLL_WAIT_MS);
const IDLE: Duration = Duration::from_millis(POLL_IDLE_MS);

/// The end that HTTP requests use.
#[derive(Debug)]
pub(super) struct Session {
    key: AgentId,
    to_connection: mpsc::Sender<Vec<Received>>,
    /// Held by the request whose body is read: one at a time.
    reading: AsyncMutex<()>,
    /// What is to be sent; not here while a `GET` has it.
    out: Mutex<Option<Out>>,
    turn: watch::Sender<Turn>,
}

/// Whether somebody waits for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nobody, since a while.
    Nobody,
    /// A `GET` waits.
    Waiting,
    /// A `GET` was given up by its sender: the session is over.
    GivenUp,
    /// All was fetched, and nothing will come any more.
    Empty,
}

/// The messages to the node.
#[derive(Debug)]
struct Out {
    queue: mpsc::Receiver<Outgoing>,
    /// What did not fit into the last body.
    next: Option<Outgoing>,
    /// Whether the connection has sent its last.
    is_over: bool,
}

/// The session has ended, or is of no more use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    /// It has ended.
    Over,
    /// Another request of this kind is under way.
    Busy,
    /// The connection takes nothing for long.
    TooSlow,
}

/// The end that is a carrier.
pub(super) struct Carrier {
    session: Arc<Session>,
    from_in: mpsc::Receiver<Vec<Received>>,
    to_out: mpsc::Sender<Outgoing>,
}

impl Session {
    /// A new session of whoever holds this key.
    pub(super) fn new(key: AgentId) -> (Arc<Self>, Carrier) {
        let (to_connection, from_in) = mpsc::channel(IN_TO_CONNECTION_CAP);
        let (to_out, queue) = mpsc::channel(CONNECTION_TO_OUT_CAP);
        let session = Arc::new(Self {
            key,
            to_connection,
            reading: AsyncMutex::default(),
            out: Mutex::new(Some(Out {
                queue,
                next: None,
                is_over: false,
            })),
            turn: watch::Sender::new(Turn::Nobody),
        });
        let carrier = Carrier {
            session: Arc::clone(&session),
            from_in,
            to_out,
        };
        (session, carrier)
    }

    /// Who may use it.
    pub(super) const fn key(&self) -> AgentId {
        self.key
    }

    /// To be held while a body is read, so that a session costs one body of memory.
    pub(super) fn begin_in(&self) -> Result<AsyncMutexGuard<'_, ()>, Unserved> {
        self.reading.try_lock().map_err(|_| Unserved::Busy)
    }

    /// Tells the connection that the node is alive, unless a body waits that
    /// says so too.
    pub(super) fn is_alive(&self) {
        let _ = self.to_connection.try_send(vec![Received::Alive]);
    }

    /// Hands the messages of one body to the connection.
    pub(super) async fn take_in(&self, messages: Vec<Received>) -> Result<(), Unserved> {
        match timeout(TAKE_IN_TIMEOUT, self.to_connection.send(messages)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unserved::Over),
            Err(_) => Err(Unserved::TooSlow),
        }
    }

    /// Waits for messages and gives them as a body, which is empty when none
    /// came or the connection wants a sign of life. Whoever drops this before
    /// it is done ends the session: messages may be lost then.
    pub(super) async fn give_out(&self) -> Result<Vec<u8>, Unserved> {
        let mut fetch = Fetch::begin(self)?;
        let out = fetch.out.as_mut().ok_or(Unserved::Busy)?;
        let body = match timeout(WAIT, out.next()).await {
            Ok(first) => first.map(|first| out.body(first)),
            Err(_) => Some(Vec::new()),
        };
        let is_over = out.is_over || body.is_none();
        fetch.end(if is_over { Turn::Empty } else { Turn::Nobody });
        body.ok_or(Unserved::Over)
    }

    /// Returns when no `GET` was waiting for long, or one was given up. Cancel safe.
    async fn abandoned(&self) {
        let mut turn = self.turn.subscribe();
        loop {
            let waits = turn.wait_for(|turn| *turn != Turn::Nobody);
            match timeout(IDLE, waits).await {
                Ok(Ok(turn)) if *turn == Turn::Waiting => {}
                Ok(_) | Err(_) => return,
            }
            let Ok(_) = turn.wait_for(|turn| *turn != Turn::Waiting).await else {
                return;
            };
        }
    }

    /// Returns when a `GET` has fetched all that there was. Cancel safe.
    pub(super) async fn emptied(&self) {
        let over = |turn: &Turn| matches!(turn, Turn::Empty | Turn::GivenUp);
        // The sender is this session's own.
        let _ = self.turn.subscribe().wait_for(over).await;
    }
}

/// A `GET` that has the queue as long as it waits.
struct Fetch<'a> {
    session: &'a Session,
    out: Option<Out>,
}

impl<'a> Fetch<'a> {
    fn begin(session: &'a Session) -> Result<Self, Unserved> {
        let mut place = session.out.lock().unwrap_or_else(PoisonError::into_inner);
        match place.take() {
            Some(out) => {
                session.turn.send_replace(Turn::Waiting);
                Ok(Self {
                    session,
                    out: Some(out),
                })
            }
            None if *session.turn.borrow() == Turn::Waiting => Err(Unserved::Busy),
            None => Err(Unserved::Over),
        }
    }

    /// Gives the queue back.
    fn end(mut self, turn: Turn) {
        let mut place = self
            .session
            .out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = self.out.take();
        self.session.turn.send_replace(turn);
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if self.out.is_some() {
            self.session.turn.send_replace(Turn::GivenUp);
        }
    }
}

impl Out {
    /// The next thing to send; `None` at the end. Cancel safe.
    async fn next(&mut self) -> Option<Outgoing> {
        match self.next.take() {
            Some(next) => Some(next),
            None => self.queue.recv().await,
        }
    }

    /// A body of a message and of all that waits behind it and fits.
    fn body(&mut self, first: Outgoing) -> Vec<u8> {
        let mut body = Vec::new();
        let mut next = Some(first);
        while let Some(out) = next {
            if let Some(message) = message(&out) {
                if !body.is_empty() && body.len() + len(&message) > POLL_BODY_MAX_BYTES {
                    self.next = Some(out);
                    break;
                }
                message.put(&mut body);
            }
            self.is_over = matches!(out, Outgoing::Close);
            if self.is_over {
                self.queue.close();
                break;
            }
            next = self.queue.try_recv().ok();
        }
        body
    }
}

/// What there is to send; nothing to end a session or to ask for a sign of
/// life: the answer itself is enough.
fn message(out: &Outgoing) -> Option<PollMessage<'_>> {
    match out {
        Outgoing::Text(text) => Some(PollMessage::Text(text)),
        Outgoing::Binary(bytes) => Some(PollMessage::Binary(bytes)),
        Outgoing::Ping | Outgoing::Close => None,
    }
}

/// What a message takes of a body, bytes.
const fn len(message: &PollMessage<'_>) -> usize {
    POLL_HEAD_BYTES
        + match message {
            PollMessage::Text(text) => text.len(),
            PollMessage::Binary(bytes) => bytes.len(),
        }
}

impl Carrier {
    /// Both directions, as the connection wants them. Nothing comes in any more
    /// once nobody polls.
    pub(super) fn split(self) -> (impl Incoming, impl Outlet) {
        let Self {
            session,
            mut from_in,
            to_out,
        } = self;
        let bodies = stream::poll_fn(move |cx| from_in.poll_recv(cx));
        let incoming = bodies
            .map(stream::iter)
            .flatten()
            .map(Ok::<_, Fault>)
            .take_until(Box::pin(async move { session.abandoned().await }));
        let outlet = sink::unfold(to_out, |to_out, out| async move {
            to_out.send(out).await.map_err(|_| Gone)?;
            Ok(to_out)
        });
        (incoming, Box::pin(outlet))
    }
}

/// The messages of a body.
pub(super) fn received(message: PollMessage<'_>) -> Received {
    match message {
        PollMessage::Text(text) => Received::Text(Utf8Bytes::from(text)),
        PollMessage::Binary(bytes) => Received::Binary(Bytes::copy_from_slice(bytes)),
    }
}

#[cfg(test)]
mod tests;
