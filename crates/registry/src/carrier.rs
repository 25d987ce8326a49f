//! What carries a control connection: a WebSocket here, HTTP long-poll in
//! `poll`. [`crate::connection::serve`] runs over either.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::{Sink, SinkExt, Stream, StreamExt, future};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use waymesh_core::registry::ConnId;
use waymesh_proto::control::Origin;
use waymesh_proto::{AgentId, Code, Fault};

/// Who is at the other end, as far as the carrier can tell.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// The connection's number, never used before.
    pub(crate) conn: ConnId,
    /// The address that it comes from.
    pub(crate) address: IpAddr,
    /// The key that every request proves to hold, where the carrier asks for
    /// proofs: only this key may log in or join.
    pub(crate) key: Option<AgentId>,
    /// Every origin of this registry under which the connection may have been
    /// made: a login must name one of them.
    pub(crate) origins: Arc<[Origin]>,
    /// The SHA-256 of the key that TLS was spoken with to whoever connected
    /// here; `None` without TLS, which another program may speak for the registry.
    pub(crate) tls_key: Option<[u8; 32]>,
}

/// Something that a carrier brought from the node.
#[derive(Debug)]
pub(crate) enum Received {
    /// A control message.
    Text(Utf8Bytes),
    /// A mailbox message.
    Binary(Bytes),
    /// A sign of life.
    Alive,
}

/// Something that a carrier is to bring to the node.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A control message.
    Text(Utf8Bytes),
    /// A mailbox message.
    Binary(Bytes),
    /// Ask for a sign of life.
    Ping,
    /// There is nothing more to come.
    Close,
}

/// What comes in. It ends when the node is gone; a fault says what the node did
/// wrong when it can still be told, and nothing more can be read after it.
pub(crate) trait Incoming: Stream<Item = Result<Received, Fault>> + Unpin + Send {}
impl<T: Stream<Item = Result<Received, Fault>> + Unpin + Send> Incoming for T {}

/// What goes out. An error says that the node is gone.
pub(crate) trait Outlet: Sink<Outgoing, Error = Gone> + Unpin + Send {}
impl<T: Sink<Outgoing, Error = Gone> + Unpin + Send> Outlet for T {}

/// The node is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// Both directions of a WebSocket.
pub(crate) fn websocket(socket: WebSocket) -> (impl Incoming, impl Outlet) {
    let (sink, stream) = socket.split();
    let incoming = stream
        .take_while(|received| future::ready(!is_end(received)))
        .filter_map(|received| future::ready(read(received)));
    let outlet = sink
        .sink_map_err(|_| Gone)
        .with(|outgoing| future::ready(Ok(frame_of(outgoing))));
    (incoming, outlet)
}

fn is_end(received: &Result<Message, axum::Error>) -> bool {
    matches!(received, Ok(Message::Close(_)))
}

fn read(received: Result<Message, axum::Error>) -> Option<Result<Received, Fault>> {
    match received {
        Ok(Message::Text(text)) => Some(Ok(Received::Text(text))),
        Ok(Message::Binary(bytes)) => Some(Ok(Received::Binary(bytes))),
        Ok(Message::Ping(_) | Message::Pong(_)) => Some(Ok(Received::Alive)),
        Ok(Message::Close(_)) => None,
        Err(error) => fault_of(error).map(Err),
    }
}

/// What to tell a node whose stream is broken; `None` when nobody would hear it:
/// the stream ends by itself then.
fn fault_of(error: axum::Error) -> Option<Fault> {
    let error = error.into_inner().downcast::<WsError>().ok()?;
    match *error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => Some(Fault::new(
            Code::TooLarge,
            format!("the message of {size} bytes is larger than {max_size}"),
        )),
        WsError::Utf8(_) => Some(Fault::new(Code::NotUtf8, "the message is not UTF-8")),
        WsError::Protocol(error) => Some(Fault::new(Code::BadRequest, error.to_string())),
        _ => None,
    }
}

fn frame_of(outgoing: Outgoing) -> Message {
    match outgoing {
        Outgoing::Text(text) => Message::Text(text),
        Outgoing::Binary(bytes) => Message::Binary(bytes),
        Outgoing::Ping => Message::Ping(Bytes::new()),
        Outgoing::Close => Message::Close(None),
    }
}
