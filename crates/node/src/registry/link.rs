//! The task's outer loop: connect, log in, serve, and again after a pause.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use waymesh_core::app::{RegistryCommand, RegistryEvent};
use waymesh_core::backoff::{Backoff, REGISTRY_PAUSE_MAX};
use waymesh_net::control::{ControlSocket, Received};
use waymesh_proto::control::{
    CONTROL_VERSION, Challenge, ClientMessage, InstanceId, Nonce, Origin, ServerMessage,
};
use waymesh_proto::{Code, Fault, MessageId};
use waymesh_trust::Keypair;
use waymesh_trust::login::{self, Pin, Who};

use super::session::Session;
use super::signals::Signals;
use super::state::Counters;
use super::{LinkConfig, News};

/// How long the connection to the registry may take. Chosen.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long each step of the login may take; the registry allows as much.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the registry may take to read one message. Chosen.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a session must last before its end counts as a new trouble, and
/// the next attempt is immediate. Chosen.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Why the task ends for good.
#[derive(Debug)]
pub(super) enum Ended {
    /// The driver has closed its end.
    ByDriver,
    /// The registry, or the check of it, says that trying again would not help.
    Fatal(Fault),
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better next time.
    Passing(Fault),
    /// The link ends too.
    Final(Ended),
}

impl Trouble {
    pub(super) fn passing(error: impl std::fmt::Display) -> Self {
        Self::Passing(Fault::new(Code::RegistryUnreachable, error.to_string()))
    }

    /// What an error means that is known to be the registry's own, or that
    /// comes before there is a registry to lose.
    pub(super) fn from_fault(fault: Fault) -> Self {
        match fault.code {
            Code::NameTaken
            | Code::IdentityInUse
            | Code::WrongRegistry
            | Code::RegistryIdentityChanged => Self::Final(Ended::Fatal(fault)),
            _ => Self::Passing(fault),
        }
    }
}

/// The task's state over all connections.
#[derive(Debug)]
pub(super) struct Link {
    origin: Origin,
    keypair: Keypair,
    who: Who,
    pinned: Option<Pin>,
    /// Whether this process has been logged in: links may exist that no
    /// stranger on the registry's port may end.
    has_logged_in: bool,
    signals: Signals,
    backoff: Backoff,
    /// Why the registry is away, as the log has said it.
    told_away: Option<Code>,
    pub(super) counters: Arc<Counters>,
    pub(super) news: mpsc::Sender<News>,
}

impl Link {
    pub(super) fn new(
        config: LinkConfig,
        origin: Origin,
        counters: Arc<Counters>,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            origin,
            signals: Signals::new(config.keypair.clone(), config.incarnation),
            keypair: config.keypair,
            who: Who {
                name: config.name,
                incarnation: config.incarnation,
                instance: InstanceId::from_bytes(rand::random()),
            },
            pinned: config.pinned,
            backoff: Backoff::new(REGISTRY_PAUSE_MAX),
            has_logged_in: false,
            told_away: None,
            counters,
            news,
        }
    }

    /// Runs until the driver closes its end or the registry refuses for good.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<RegistryCommand>) {
        let ended = loop {
            match self.attempt(&mut commands).await {
                Trouble::Final(ended) => break ended,
                Trouble::Passing(fault) => self.log_away(&fault),
            }
            self.counters.failed_attempts.add();
            self.backoff
                .handle_failure(Instant::now(), &mut rand::rng());
            if let Err(ended) = self.pause(&mut commands).await {
                break ended;
            }
        };
        if let Ended::Fatal(fault) = ended {
            // The driver may have gone at the same moment.
            let _ = self.news.send(News::Fatal(fault)).await;
        }
    }

    /// Says in the log that the registry is away, once for each reason, however often it is tried.
    fn log_away(&mut self, fault: &Fault) {
        let (registry, code) = (&self.origin, fault.code);
        if self.told_away.replace(code) == Some(code) {
            tracing::debug!(%code, why = %fault, %registry, "the registry is still not connected");
        } else {
            tracing::warn!(%code, why = %fault, %registry, "the registry is not connected; trying again until it is");
        }
    }

    /// One connection from its first packet to its end.
    async fn attempt(&mut self, commands: &mut mpsc::Receiver<RegistryCommand>) -> Trouble {
        let news = self.news.clone();
        let counters = Arc::clone(&self.counters);
        let connected = offline(commands, &news, &counters, self.log_in()).await;
        let (socket, pin) = match connected {
            Ok(Ok(logged_in)) => logged_in,
            Ok(Err(trouble)) => return trouble,
            Err(ended) => return Trouble::Final(ended),
        };
        let since = Instant::now();
        let trouble = self.serve(socket, pin, commands).await;
        if since.elapsed() >= STEADY_AFTER {
            self.backoff.reset();
        }
        trouble
    }

    async fn serve(
        &mut self,
        socket: ControlSocket,
        pin: Pin,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Trouble {
        self.counters.logins.add();
        self.has_logged_in = true;
        if self.told_away.take().is_some() {
            tracing::info!(registry = %self.origin, "the registry is connected again");
        }
        if self.pinned.replace(pin).is_none() && self.news.send(News::Pinned(pin)).await.is_err() {
            return Trouble::Final(Ended::ByDriver);
        }
        let news = self.news.clone();
        let session = Session::new(socket, pin.mesh, &mut self.signals, &self.counters, &news);
        let trouble = session.run(commands).await;
        match news.send(News::Event(RegistryEvent::Disconnected)).await {
            Ok(()) => trouble,
            Err(_) => Trouble::Final(Ended::ByDriver),
        }
    }

    async fn log_in(&self) -> Result<(ControlSocket, Pin), Trouble> {
        let url = self.origin.control_url();
        let mut socket = ControlSocket::connect(&url, CONNECT_TIMEOUT)
            .await
            .map_err(Trouble::passing)?;
        let challenge = match next_message(&mut socket).await? {
            ServerMessage::Challenge(challenge) => check_version(challenge)?,
            other => return Err(self.unexpected(other)),
        };
        let nonce = Nonce::from_bytes(rand::random());
        let pinned = self.pinned.as_ref();
        let (login, pending) = login::answer(
            &self.keypair,
            &self.who,
            &self.origin,
            &challenge,
            pinned,
            nonce,
        )
        .map_err(|e| self.distrusted(e.fault()))?;
        let text = ClientMessage::Login(login).encode();
        socket
            .send(text, SEND_TIMEOUT)
            .await
            .map_err(Trouble::passing)?;
        let pin = match next_message(&mut socket).await? {
            ServerMessage::Welcome(welcome) => pending
                .verify(&welcome)
                .map_err(|e| self.distrusted(e.fault()))?,
            other => return Err(self.unexpected(other)),
        };
        Ok((socket, pin))
    }

    /// What it means that the other side is not who it should be: at the start
    /// the user has to know, later it may be anybody on the registry's port.
    fn distrusted(&self, fault: Fault) -> Trouble {
        if self.has_logged_in {
            Trouble::Passing(fault)
        } else {
            Trouble::from_fault(fault)
        }
    }

    /// What it means that the other side refuses the login. It has proved
    /// nothing by then, so it cannot end a node that knows its registry.
    fn unexpected(&self, message: ServerMessage) -> Trouble {
        match message {
            ServerMessage::Error { error } if self.pinned.is_some() => Trouble::Passing(error),
            ServerMessage::Error { error } => Trouble::from_fault(error),
            _ => Trouble::passing("the other side does not follow the login"),
        }
    }

    async fn pause(&self, commands: &mut mpsc::Receiver<RegistryCommand>) -> Result<(), Ended> {
        let Some(at) = self.backoff.not_before() else {
            return Ok(());
        };
        let sleep = tokio::time::sleep_until(at.into());
        offline(commands, &self.news, &self.counters, sleep).await
    }
}

fn check_version(challenge: Challenge) -> Result<Challenge, Trouble> {
    if challenge.version == CONTROL_VERSION {
        return Ok(challenge);
    }
    Err(Trouble::passing(format_args!(
        "the registry speaks version {} of the protocol, this node version {CONTROL_VERSION}",
        challenge.version
    )))
}

/// The next message of a login.
async fn next_message(socket: &mut ControlSocket) -> Result<ServerMessage, Trouble> {
    let message = async {
        loop {
            if let Received::Text(text) = socket.receive().await.map_err(Trouble::passing)? {
                return ServerMessage::decode(text.as_bytes()).map_err(Trouble::passing);
            }
        }
    };
    tokio::time::timeout(LOGIN_TIMEOUT, message)
        .await
        .map_err(|_| Trouble::passing("the registry does not answer the login"))?
}

/// Runs a future while the registry is away: what core wants is answered or
/// dropped meanwhile, because core asks again after `Connected`.
async fn offline<T>(
    commands: &mut mpsc::Receiver<RegistryCommand>,
    news: &mpsc::Sender<News>,
    counters: &Counters,
    future: impl Future<Output = T>,
) -> Result<T, Ended> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return Ok(output),
            command = commands.recv() => match command {
                None => return Err(Ended::ByDriver),
                Some(RegistryCommand::Find { id, .. }) => {
                    counters.commands_offline.add();
                    if news.send(unreachable_answer(id)).await.is_err() {
                        return Err(Ended::ByDriver);
                    }
                }
                Some(_) => counters.commands_offline.add(),
            },
        }
    }
}

/// The answer to a find that the registry will not give.
pub(super) fn unreachable_answer(id: MessageId) -> News {
    let fault = Fault::new(
        Code::RegistryUnreachable,
        "the registry is not connected at the moment",
    )
    .with_hint("the node tries again by itself; check that the registry runs");
    let outcome = Err(fault);
    News::Event(RegistryEvent::Found { id, outcome })
}
