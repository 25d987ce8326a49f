//! A control connection that says exactly what a test wants.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use waymesh_proto::Code;
use waymesh_proto::control::{Challenge, ClientMessage, Nonce, Origin, ServerMessage};
use waymesh_registry::Registry;

use super::{Member, PATIENCE, mesh_key};

/// A raw control connection.
pub(crate) struct Raw {
    pub(crate) ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) challenge: Challenge,
    pub(crate) origin: Origin,
}

impl Raw {
    /// Connects and reads the challenge.
    pub(crate) async fn connect(registry: &Registry) -> Self {
        let origin = registry.url().clone();
        let mut raw = Self::connect_to(registry, origin).await;
        raw.challenge = raw.challenge().await;
        raw
    }

    /// Reads the challenge, which comes first.
    pub(crate) async fn challenge(&mut self) -> Challenge {
        match self.next().await {
            ServerMessage::Challenge(challenge) => challenge,
            other => panic!("{other:?}"),
        }
    }

    /// Connects and reads nothing yet.
    pub(crate) async fn connect_to(registry: &Registry, origin: Origin) -> Self {
        let (ws, _) = connect_async(origin.control_url())
            .await
            .expect("a connection");
        Self {
            ws,
            challenge: Self::challenge_of(registry),
            origin,
        }
    }

    /// What stands for the challenge until it has come.
    fn challenge_of(registry: &Registry) -> Challenge {
        Challenge {
            version: 0,
            mesh: mesh_key(),
            registry: registry.key(),
            nonce: Nonce::from_bytes([0; 32]),
        }
    }

    /// Connects and logs in; panics when refused.
    pub(crate) async fn log_in(registry: &Registry, member: &Member, incarnation: u64) -> Self {
        let mut raw = Self::connect(registry).await;
        let (login, pending) = member.login(&raw.origin, &raw.challenge, incarnation);
        raw.say(&ClientMessage::Login(login)).await;
        match raw.next().await {
            ServerMessage::Welcome(welcome) => pending.verify(&welcome).expect("a real registry"),
            other => panic!("{other:?}"),
        };
        raw
    }

    /// Tries to log in and gives the code of the refusal.
    pub(crate) async fn refused(registry: &Registry, member: &Member, incarnation: u64) -> Code {
        let mut raw = Self::connect(registry).await;
        let (login, _) = member.login(&raw.origin, &raw.challenge, incarnation);
        raw.say(&ClientMessage::Login(login)).await;
        raw.error().await
    }

    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        self.say_raw(Message::Text(message.encode().into())).await;
    }

    pub(crate) async fn say_raw(&mut self, message: Message) {
        self.ws.send(message).await.expect("a connection");
    }

    /// The next message that is not about revocations, which follow every
    /// welcome; pings are answered in passing.
    pub(crate) async fn next(&mut self) -> ServerMessage {
        loop {
            match self.next_of_any_kind().await {
                ServerMessage::Revoked { .. } | ServerMessage::Extended { .. } => {}
                other => return other,
            }
        }
    }

    /// The next message.
    pub(crate) async fn next_of_any_kind(&mut self) -> ServerMessage {
        loop {
            match timeout(PATIENCE, self.ws.next()).await.expect("a message") {
                Some(Ok(Message::Text(text))) => {
                    return ServerMessage::decode(text.as_bytes()).expect("a message");
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code of the next message, which must be an error.
    pub(crate) async fn error(&mut self) -> Code {
        match self.next().await {
            ServerMessage::Error { error } => error.code,
            other => panic!("{other:?}"),
        }
    }

    /// Reads until the connection ends.
    pub(crate) async fn closed(&mut self) {
        let end = async {
            while let Some(Ok(message)) = self.ws.next().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        };
        timeout(PATIENCE, end).await.expect("an end");
    }
}
