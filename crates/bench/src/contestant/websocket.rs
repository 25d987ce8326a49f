//! A WebSocket (RFC 6455) of binary messages, by tokio-tungstenite.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async};

use super::{answer, check_report, op, payload};
use crate::child::Child;
use crate::error::BenchError;
use crate::role::{Role, announce};
use crate::settings::Settings;

const NAME: &str = "WebSocket";

fn failed(error: tokio_tungstenite::tungstenite::Error) -> BenchError {
    BenchError::contestant(NAME, error)
}

/// The measuring side.
pub(crate) struct Near {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    _far: Child,
}

impl Near {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, BenchError> {
        let (far, address) = Child::start(settings, &Role::Websocket).await?;
        let (socket, _) = connect_async(format!("ws://{address}/"))
            .await
            .map_err(failed)?;
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream
                .set_nodelay(true)
                .map_err(BenchError::io("connecting a WebSocket"))?;
        }
        Ok(Self { socket, _far: far })
    }

    async fn recv(&mut self) -> Result<Bytes, BenchError> {
        match self.socket.next().await {
            Some(Ok(message)) => Ok(message.into_data()),
            Some(Err(error)) => Err(failed(error)),
            None => Err(BenchError::contestant(NAME, "the far side closed")),
        }
    }

    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        let message = Message::binary(message.to_vec());
        self.socket.send(message).await.map_err(failed)?;
        self.recv().await.map(drop)
    }

    pub(crate) async fn one_way(&mut self, size: u32, count: u32) -> Result<(), BenchError> {
        let message = Message::binary(payload(op::COUNT, size));
        for _ in 0..count {
            self.socket.feed(message.clone()).await.map_err(failed)?;
        }
        let report = Message::binary(vec![op::REPORT]);
        self.socket.send(report).await.map_err(failed)?;
        let report = self.recv().await?;
        check_report(NAME, &report, count)
    }
}

/// The answering side: one connection after the other.
pub(crate) async fn serve() -> Result<(), BenchError> {
    let what = "the WebSocket echo";
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(BenchError::io(what))?;
    announce(listener.local_addr().map_err(BenchError::io(what))?)?;
    loop {
        let (stream, _) = listener.accept().await.map_err(BenchError::io(what))?;
        stream.set_nodelay(true).map_err(BenchError::io(what))?;
        let mut socket = accept_async(stream).await.map_err(failed)?;
        let mut counted = 0;
        while let Some(Ok(Message::Binary(message))) = socket.next().await {
            if let Some(reply) = answer(&message, &mut counted) {
                let reply = Message::binary(reply);
                socket.send(reply).await.map_err(failed)?;
            }
        }
    }
}
