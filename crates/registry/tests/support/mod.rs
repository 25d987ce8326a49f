#![allow(dead_code, reason = "no test file uses all of it")]
//! A registry in a temporary directory, and a client that says exactly what a test wants.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::{
    Challenge, ClientMessage, InstanceId, Login, Nonce, Origin, ServerMessage,
};
use waymesh_proto::{Code, Incarnation};
use waymesh_registry::{Registry, RegistryConfig};
use waymesh_trust::Keypair;
use waymesh_trust::login::{self, Pending, Who};

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A registry whose directory outlives it.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) registry: Registry,
}

impl House {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = start(&dir, loopback(0)).await;
        Self { dir, registry }
    }

    /// Stops the registry and starts it again in the same place.
    pub(crate) async fn restart(self) -> Self {
        let addr = self.registry.local_addr();
        self.registry.stop().await;
        let registry = start(&self.dir, addr).await;
        Self {
            dir: self.dir,
            registry,
        }
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn config(dir: &TempDir, listen: SocketAddr) -> RegistryConfig {
    RegistryConfig {
        listen,
        data_dir: dir.path().join("data"),
        public_url: None,
    }
}

async fn start(dir: &TempDir, listen: SocketAddr) -> Registry {
    Registry::start(config(dir, listen))
        .await
        .expect("a registry that starts")
}

/// A raw control connection.
pub(crate) struct Raw {
    pub(crate) ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) challenge: Challenge,
    pub(crate) origin: Origin,
}

impl Raw {
    /// Connects and reads the challenge.
    pub(crate) async fn connect(registry: &Registry) -> Self {
        let origin: Origin = registry.url().parse().expect("an origin");
        let (ws, _) = connect_async(origin.control_url())
            .await
            .expect("a connection");
        let mut raw = Self {
            ws,
            challenge: Self::challenge_of(registry),
            origin,
        };
        match raw.next().await {
            ServerMessage::Challenge(challenge) => raw.challenge = challenge,
            other => panic!("{other:?}"),
        }
        raw
    }

    /// What stands for the challenge until it has come.
    pub(crate) fn challenge_of(registry: &Registry) -> Challenge {
        Challenge {
            version: 0,
            mesh: registry.mesh(),
            registry: registry.key(),
            nonce: Nonce::from_bytes([0; 32]),
        }
    }

    /// Connects and logs in; panics when refused.
    pub(crate) async fn log_in(registry: &Registry, name: &str, key: u8, incarnation: u64) -> Self {
        let mut raw = Self::connect(registry).await;
        let (login, pending) = raw.login(name, key, incarnation);
        raw.say(&ClientMessage::Login(login)).await;
        match raw.next().await {
            ServerMessage::Welcome(welcome) => pending.verify(&welcome).expect("a real registry"),
            other => panic!("{other:?}"),
        };
        raw
    }

    /// Tries to log in and gives the code of the refusal.
    pub(crate) async fn refused(
        registry: &Registry,
        name: &str,
        key: u8,
        incarnation: u64,
    ) -> Code {
        let mut raw = Self::connect(registry).await;
        let (login, _) = raw.login(name, key, incarnation);
        raw.say(&ClientMessage::Login(login)).await;
        raw.error().await
    }

    pub(crate) fn login(&self, name: &str, key: u8, incarnation: u64) -> (Login, Pending) {
        let who = Who {
            name: name.parse().expect("a name"),
            incarnation: Incarnation::new(incarnation),
            instance: InstanceId::from_bytes([u8::try_from(incarnation % 256).expect("small"); 16]),
        };
        let keypair = Keypair::from_seed(&[key; 32]);
        let nonce = Nonce::from_bytes([3; 32]);
        login::answer(&keypair, &who, &self.origin, &self.challenge, None, nonce)
            .expect("no pin, no refusal")
    }

    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        self.say_raw(Message::Text(message.encode().into())).await;
    }

    pub(crate) async fn say_raw(&mut self, message: Message) {
        self.ws.send(message).await.expect("a connection");
    }

    /// The next message; pings are answered in passing.
    pub(crate) async fn next(&mut self) -> ServerMessage {
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

/// Skills that are nearly as large as one agent's may be, and say this.
pub(crate) fn large_skills(text: &str) -> Vec<SkillSpec> {
    let description = format!("{text}{}", " ".repeat(15_000));
    let skills = (0..16).map(|n| SkillSpec {
        name: format!("skill-{n}").parse().expect("a skill name"),
        description: Some(description.clone()),
        schema: None,
        idempotent: false,
    });
    skills.collect()
}

/// Sends one HTTP request and gives the status line's code and the body.
pub(crate) async fn http(addr: SocketAddr, request_line: &str) -> (u16, String) {
    http_with(addr, request_line, &format!("host: {addr}\r\n")).await
}

/// The same with these headers.
pub(crate) async fn http_with(
    addr: SocketAddr,
    request_line: &str,
    headers: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let request = format!("{request_line} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a connection");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("an answer")
        .expect("text");
    let status = answer.get(9..12).and_then(|s| s.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.expect("a status"), body.expect("a body"))
}
