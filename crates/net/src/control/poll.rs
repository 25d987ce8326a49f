//! The control connection as HTTP long-poll, where no WebSocket passes (`spec/http.md`).
//!
//! Two connections carry one session: a `GET` that waits for messages, and
//! `POST`s that carry messages to the registry. Every request proves the
//! possession of the key that opened the session. After any error the session
//! is over; what it has lost is said again on the next.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Buf, Bytes};
use tokio::time::timeout;
use waymesh_proto::PollId;
use waymesh_proto::control::CONTROL_MAX_BYTES;
use waymesh_proto::http::{POLL_IN_PATH, POLL_OUT_PATH, POLL_PATH, SESSION_HEADER};
use waymesh_proto::poll::{POLL_BODY_MAX_BYTES, POLL_HEAD_BYTES, PollMessage, PollOpened};

use super::error::{ConnectError, ReceiveError, RequestError, SendError};
use super::http::{Answer, Ask, Client, ERROR_MAX_BYTES};
use super::meter::Meter;
use super::target::Target;
use super::{Deadline, Message, NotConnected, Received};

/// Where a body of several messages is closed, bytes. Chosen: some parts of an
/// item share a round trip, and a slow line still carries it in seconds.
const BATCH_BYTES: usize = 256 * 1024;

/// What a request brings, with the client that made it.
type Asked = (Client, Result<Answer, RequestError>);

/// A request on its way.
type Waiting = Pin<Box<dyn Future<Output = Asked> + Send>>;

/// The half that sends.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    session: String,
}

/// The half that receives.
pub(super) struct Receiver {
    session: String,
    meter: Meter,
    turn: Turn,
    /// What is left of the last answer.
    body: Bytes,
}

/// Whose turn it is.
enum Turn {
    /// Ours, to ask again.
    Idle(Client),
    /// The registry's, to answer.
    Waiting(Waiting),
    /// Nobody's: the session is over.
    Over,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Opens a session.
pub(super) async fn connect(
    target: &Target,
    deadline: Deadline,
) -> Result<(Sender, Receiver), NotConnected> {
    let opened = deadline.limit(target, open(target)).await;
    let (client, session) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error @ ConnectError::Handshake(_))) | Err(error) => {
            return Err(NotConnected::NotPassed(error));
        }
        Ok(Err(error)) => return Err(NotConnected::Failed(error)),
    };
    Ok(halves(client, session))
}

async fn open(target: &Target) -> Result<(Client, PollId), ConnectError> {
    if target.prover().is_none() {
        let why = "there is no key to prove who asks";
        return Err(ConnectError::Handshake(why.into()));
    }
    let mut client = Client::new(target.clone());
    let ask = Ask {
        method: "POST",
        path: POLL_PATH,
        headers: &[],
        body: Bytes::new(),
        answer_max_bytes: ERROR_MAX_BYTES,
    };
    let answer = client.ask(&ask).await?;
    if answer.status != StatusCode::CREATED {
        return Err(answer.into_error().into());
    }
    let opened: PollOpened = serde_json::from_slice(&answer.body)
        .map_err(|_| ConnectError::Handshake("the session has no id".into()))?;
    Ok((client, opened.session))
}

fn halves(client: Client, session: PollId) -> (Sender, Receiver) {
    let session = session.to_string();
    let waiting = client.sibling();
    let receiver = Receiver {
        session: session.clone(),
        meter: waiting.meter().clone(),
        turn: Turn::Idle(waiting),
        body: Bytes::new(),
    };
    (Sender { client, session }, receiver)
}

impl From<RequestError> for ConnectError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Connect(error) => error,
            RequestError::Refused(fault) => Self::Refused(fault),
            RequestError::Unreadable(why) | RequestError::Broken(why) => Self::Handshake(why),
        }
    }
}

impl Sender {
    /// Sends messages in order, as few requests as they fit into.
    pub(super) async fn send_all(
        &mut self,
        messages: Vec<Message>,
        limit: Duration,
    ) -> Result<(), SendError> {
        let mut body = Vec::new();
        for message in messages {
            let message = match &message {
                Message::Text(text) => PollMessage::Text(text),
                Message::Binary(bytes) => PollMessage::Binary(bytes),
            };
            if !body.is_empty() && body.len() + len(&message) > BATCH_BYTES {
                self.post(std::mem::take(&mut body), limit).await?;
            }
            message.put(&mut body);
        }
        if body.is_empty() {
            return Ok(());
        }
        self.post(body, limit).await
    }

    async fn post(&mut self, body: Vec<u8>, limit: Duration) -> Result<(), SendError> {
        let ask = Ask {
            method: "POST",
            path: POLL_IN_PATH,
            headers: &[
                (SESSION_HEADER, &self.session),
                ("content-type", "application/octet-stream"),
            ],
            body: body.into(),
            answer_max_bytes: ERROR_MAX_BYTES,
        };
        let answer = timeout(limit, Box::pin(self.client.ask(&ask)))
            .await
            .map_err(|_| SendError::Timeout(limit))?;
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(answer.into_error().into()),
            Err(error) => Err(error.into()),
        }
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

impl From<RequestError> for SendError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(fault) => Self::Refused(fault),
            error => Self::Broken(error.to_string()),
        }
    }
}

impl Receiver {
    /// Counts what comes.
    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Waits for whatever comes next. Cancel safe: the request goes on.
    pub(super) async fn receive(&mut self) -> Result<Received, ReceiveError> {
        let received = self.receive_or_fail().await;
        if received.is_err() {
            self.turn = Turn::Over;
            self.body.clear();
        }
        received
    }

    async fn receive_or_fail(&mut self) -> Result<Received, ReceiveError> {
        if self.body.is_empty() {
            match poll_fn(|cx| self.poll_answer(cx)).await {
                Some(answer) => self.body = body_of(answer?)?,
                None => return Ok(Received::Alive),
            }
        }
        self.next_of_body()
    }

    /// The answer to the `GET`, or `None` while only its bytes come.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Answer, ReceiveError>>> {
        let mut waiting = match std::mem::replace(&mut self.turn, Turn::Over) {
            Turn::Idle(client) => Box::pin(wait(client, self.session.clone())) as Waiting,
            Turn::Waiting(waiting) => waiting,
            Turn::Over => return Poll::Ready(Some(Err(ReceiveError::Closed))),
        };
        let polled = waiting.as_mut().poll(cx);
        let has_moved = self.meter.take_moved();
        match polled {
            Poll::Ready((client, Ok(answer))) => {
                self.turn = Turn::Idle(client);
                Poll::Ready(Some(Ok(answer)))
            }
            Poll::Ready((_, Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => {
                self.turn = Turn::Waiting(waiting);
                if has_moved {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                }
            }
        }
    }

    /// Takes a message off the last answer; an empty one is a sign of life.
    fn next_of_body(&mut self) -> Result<Received, ReceiveError> {
        let mut rest = self.body.as_ref();
        let message = PollMessage::take(&mut rest)
            .map_err(|error| ReceiveError::Unreadable(error.to_string()))?
            .map_or(Ok(Received::Alive), received)?;
        let read_bytes = self.body.len() - rest.len();
        self.body.advance(read_bytes);
        Ok(message)
    }
}

async fn wait(mut client: Client, session: String) -> Asked {
    let ask = Ask {
        method: "GET",
        path: POLL_OUT_PATH,
        headers: &[(SESSION_HEADER, &session)],
        body: Bytes::new(),
        answer_max_bytes: POLL_BODY_MAX_BYTES,
    };
    let answer = client.ask(&ask).await;
    (client, answer)
}

fn body_of(answer: Answer) -> Result<Bytes, ReceiveError> {
    match answer.status {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(answer.body),
        StatusCode::GONE => Err(ReceiveError::Closed),
        _ => Err(answer.into_error().into()),
    }
}

fn received(message: PollMessage<'_>) -> Result<Received, ReceiveError> {
    match message {
        PollMessage::Text(text) if text.len() <= CONTROL_MAX_BYTES => {
            Ok(Received::Text(text.to_owned()))
        }
        PollMessage::Binary(bytes) if bytes.len() <= CONTROL_MAX_BYTES => {
            Ok(Received::Binary(bytes.to_vec()))
        }
        PollMessage::Text(_) | PollMessage::Binary(_) => Err(ReceiveError::Unreadable(format!(
            "a message larger than {CONTROL_MAX_BYTES} bytes"
        ))),
    }
}

impl From<RequestError> for ReceiveError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(fault) => Self::Refused(fault),
            RequestError::Unreadable(why) => Self::Unreadable(why),
            error => Self::Broken(error.to_string()),
        }
    }
}
