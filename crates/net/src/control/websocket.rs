//! The control connection as a WebSocket (RFC 6455).

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
    USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message as WsMessage};
use waymesh_proto::control::{CONTROL_MAX_BYTES, CONTROL_PATH};
use waymesh_proto::{Code, Fault};

use super::dial::{Io, dial};
use super::error::{ConnectError, ReceiveError, SendError};
use super::http::{AGENT, Connection, ERROR_MAX_BYTES, coded};
use super::meter::Meter;
use super::target::Target;
use super::{Deadline, Message, NotConnected, Received};

/// What is read from the socket at once, bytes. Chosen: a node has one of these.
const READ_BUFFER_BYTES: usize = 16 * 1024;

type Stream = WebSocketStream<Io>;

/// The half that sends.
#[derive(Debug)]
pub(super) struct Sender(SplitSink<Stream, WsMessage>);

/// The half that receives.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: SplitStream<Stream>,
    meter: Meter,
}

/// Connects and upgrades.
pub(super) async fn connect(
    target: &Target,
    deadline: Deadline,
) -> Result<(Sender, Receiver), NotConnected> {
    let meter = Meter::default();
    let io = deadline.limit(target, dial(target.way(), &meter)).await;
    let io = io.flatten().map_err(NotConnected::Failed)?;
    let upgraded = deadline.limit(target, upgrade(target, io)).await;
    let (sink, stream) = upgraded.map_err(NotConnected::NotPassed)??.split();
    Ok((Sender(sink), Receiver { stream, meter }))
}

/// The client's part of the opening handshake (RFC 6455 §4.1).
async fn upgrade(target: &Target, io: Io) -> Result<Stream, NotConnected> {
    let key = generate_key();
    let request = Request::get(CONTROL_PATH)
        .header(HOST, &target.way().authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .header(USER_AGENT, AGENT)
        .body(Default::default())
        .map_err(not_passed)?;
    let mut connection = Connection::start(io).await.map_err(not_passed)?;
    let response = connection.exchange(request).await;
    let response = response.map_err(|e| not_passed(e.into_error()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(not_upgraded(connection, response).await);
    }
    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(not_passed("the answer to the upgrade is for another one"));
    }
    let (io, early) = connection.upgrade(response).await.map_err(not_passed)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(CONTROL_MAX_BYTES))
        .max_frame_size(Some(CONTROL_MAX_BYTES));
    let early = early.into();
    Ok(WebSocketStream::from_partially_read(io, early, Role::Client, Some(config)).await)
}

fn not_passed(why: impl std::fmt::Display) -> NotConnected {
    NotConnected::NotPassed(ConnectError::Handshake(why.to_string()))
}

/// What another answer than an upgrade means.
async fn not_upgraded(mut connection: Connection, response: Response<Incoming>) -> NotConnected {
    let status = response.status();
    let body = connection.body(response, ERROR_MAX_BYTES).await;
    match body.ok().and_then(|body| coded(&body)) {
        Some(fault) if is_refusal(&fault) => NotConnected::Failed(ConnectError::Refused(fault)),
        _ => not_passed(format_args!("HTTP {status} instead of an upgrade")),
    }
}

/// Whether an error is the registry's last word. It is not where the registry
/// has seen no upgrade, because something on the way took it out; and codes
/// that are not known may be anybody's.
fn is_refusal(fault: &Fault) -> bool {
    !matches!(fault.code, Code::BadRequest | Code::Unrecognized)
}

impl Sender {
    /// Sends messages in order and waits until the system has them.
    pub(super) async fn send_all(
        &mut self,
        messages: Vec<Message>,
        limit: Duration,
    ) -> Result<(), SendError> {
        for message in messages {
            let message = match message {
                Message::Text(text) => WsMessage::Text(text.into()),
                Message::Binary(bytes) => WsMessage::Binary(bytes.into()),
            };
            in_time(limit, self.0.feed(message)).await?;
        }
        in_time(limit, self.0.flush()).await
    }

    /// Says good-bye.
    pub(super) async fn close(&mut self) {
        // Either way the connection ends here.
        let _ = self.0.close().await;
    }
}

async fn in_time(
    limit: Duration,
    sent: impl Future<Output = Result<(), WsError>>,
) -> Result<(), SendError> {
    match timeout(limit, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(SendError::Broken(error.to_string())),
        Err(_) => Err(SendError::Timeout(limit)),
    }
}

impl Receiver {
    /// Counts what comes.
    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Waits for whatever comes next. Cancel safe.
    pub(super) async fn receive(&mut self) -> Result<Received, ReceiveError> {
        poll_fn(|cx| {
            let next = self.stream.poll_next_unpin(cx);
            let has_moved = self.meter.take_moved();
            match next {
                Poll::Ready(Some(Ok(message))) => Poll::Ready(received(message)),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Err(trouble(error))),
                Poll::Ready(None) => Poll::Ready(Err(ReceiveError::Closed)),
                Poll::Pending if has_moved => Poll::Ready(Ok(Received::Alive)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

fn received(message: WsMessage) -> Result<Received, ReceiveError> {
    match message {
        WsMessage::Text(text) => Ok(Received::Text(text.as_str().to_owned())),
        WsMessage::Binary(bytes) => Ok(Received::Binary(bytes.into())),
        WsMessage::Ping(_) | WsMessage::Pong(_) => Ok(Received::Alive),
        WsMessage::Close(_) => Err(ReceiveError::Closed),
        WsMessage::Frame(_) => Err(ReceiveError::Unreadable("a raw frame".into())),
    }
}

fn trouble(error: WsError) -> ReceiveError {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => ReceiveError::Closed,
        WsError::Capacity(_) | WsError::Utf8(_) | WsError::Protocol(_) => {
            ReceiveError::Unreadable(error.to_string())
        }
        error => ReceiveError::Broken(error.to_string()),
    }
}
