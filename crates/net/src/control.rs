//! A node's end of the control WebSocket: text frames out and in.
//!
//! It knows nothing of what the frames say, keeps no state beyond the
//! connection, and never tries again; pings of the other side are answered
//! while somebody receives. There is no TLS here yet: `ws://` only.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use waymesh_proto::control::CONTROL_MAX_BYTES;

/// How long the good-bye of [`ControlSocket::close`] may take. Chosen.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// An open connection.
#[derive(Debug)]
pub struct ControlSocket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time; try again later.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The address does not resolve or refuses connections; try again later.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Whoever answers there is not a registry; check the URL.
    #[error("no control WebSocket there: {0}")]
    Handshake(Box<WsError>),
}

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other side has closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// A message larger than [`CONTROL_MAX_BYTES`] or one that is not text.
    #[error("the other side sent what no registry sends: {0}")]
    Unreadable(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(Box<WsError>),
}

/// Why a message was not sent; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The other side does not read.
    #[error("the other side did not read for {0:?}")]
    Timeout(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(Box<WsError>),
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Text(String),
    /// A ping or pong: the other side is alive.
    Alive,
}

impl ControlSocket {
    /// Connects to a `ws://` URL.
    ///
    /// # Errors
    /// A [`ConnectError`], after `limit` at the latest.
    pub async fn connect(url: &str, limit: Duration) -> Result<Self, ConnectError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(CONTROL_MAX_BYTES))
            .max_frame_size(Some(CONTROL_MAX_BYTES));
        // Boxed: the handshake's future is large.
        let connecting = Box::pin(connect_async_with_config(url, Some(config), true));
        match timeout(limit, connecting).await {
            Ok(Ok((stream, _))) => Ok(Self { stream }),
            Ok(Err(WsError::Io(error))) => Err(ConnectError::Io(error)),
            Ok(Err(error)) => Err(ConnectError::Handshake(Box::new(error))),
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    /// Sends one message. Not cancel safe: a message whose send was dropped may
    /// or may not arrive.
    ///
    /// # Errors
    /// A [`SendError`], after `limit` at the latest.
    pub async fn send(&mut self, text: String, limit: Duration) -> Result<(), SendError> {
        match timeout(limit, self.stream.send(Message::Text(text.into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SendError::Broken(Box::new(error))),
            Err(_) => Err(SendError::Timeout(limit)),
        }
    }

    /// Waits for whatever comes next. Cancel safe.
    ///
    /// # Errors
    /// A [`ReceiveError`], after which nothing more comes.
    pub async fn receive(&mut self) -> Result<Received, ReceiveError> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Received::Text(text.to_string())),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Received::Alive),
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                Err(ReceiveError::Unreadable("a frame that is not text".into()))
            }
            Some(Ok(Message::Close(_))) | None => Err(ReceiveError::Closed),
            Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => {
                Err(ReceiveError::Closed)
            }
            Some(Err(error @ (WsError::Capacity(_) | WsError::Utf8(_)))) => {
                Err(ReceiveError::Unreadable(error.to_string()))
            }
            Some(Err(error)) => Err(ReceiveError::Broken(Box::new(error))),
        }
    }

    /// Says good-bye, if that can be done quickly.
    pub async fn close(mut self) {
        // Either way the connection ends here.
        let _ = timeout(CLOSE_TIMEOUT, self.stream.close(None)).await;
    }
}
