//! One logged-in connection: core's commands out, the registry's messages in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use waymesh_core::app::{RegistryCommand, RegistryEvent};
use waymesh_net::control::{ControlSocket, Received};
use waymesh_proto::control::{
    ClientMessage, DecodeError, SILENCE_MAX_MS, ServerMessage, check_skills,
};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{Code, Fault, MeshId, Name};
use waymesh_trust::signal::SignalError;

use super::News;
use super::finds::{FIND_TIMEOUT, Finds};
use super::link::{Ended, SEND_TIMEOUT, Trouble, unreachable_answer};
use super::signals::{Dropped, Outgoing, Signals};
use super::state::Counters;

/// Silence after which the registry is gone; it pings twice as often.
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// What ends a session.
type Outcome = Result<(), Trouble>;

pub(super) struct Session<'a> {
    socket: ControlSocket,
    mesh: MeshId,
    signals: &'a mut Signals,
    counters: &'a Counters,
    news: &'a mpsc::Sender<News>,
    finds: Finds,
    /// The refusal that the log has told last.
    told_refusal: Option<Code>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        socket: ControlSocket,
        mesh: MeshId,
        signals: &'a mut Signals,
        counters: &'a Counters,
        news: &'a mpsc::Sender<News>,
    ) -> Self {
        Self {
            socket,
            mesh,
            signals,
            counters,
            news,
            finds: Finds::default(),
            told_refusal: None,
        }
    }

    /// Serves until the connection or the driver ends; open finds are answered.
    pub(super) async fn run(mut self, commands: &mut mpsc::Receiver<RegistryCommand>) -> Trouble {
        let trouble = match self.tell(RegistryEvent::Connected).await {
            Ok(()) => self.serve(commands).await,
            Err(trouble) => trouble,
        };
        for id in self.finds.take_all() {
            // When the driver is gone, nobody waits.
            let _ = self.news.send(unreachable_answer(id)).await;
        }
        self.socket.close().await;
        trouble
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<RegistryCommand>) -> Trouble {
        let mut heard = Instant::now();
        loop {
            let outcome = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => return Trouble::Final(Ended::ByDriver),
                },
                received = timeout_at(heard + SILENCE_MAX, self.socket.receive()) => {
                    heard = Instant::now();
                    match received {
                        Ok(Ok(Received::Text(text))) => self.handle_text(&text).await,
                        Ok(Ok(Received::Alive)) => Ok(()),
                        Ok(Err(error)) => Err(Trouble::passing(error)),
                        Err(_) => Err(Trouble::passing("the registry is silent")),
                    }
                }
                () = self.finds.wait() => self.expire_finds().await,
            };
            if let Err(trouble) = outcome {
                return trouble;
            }
        }
    }

    async fn handle_command(&mut self, command: RegistryCommand) -> Outcome {
        let message = match command {
            RegistryCommand::Skills(skills) => match check_skills(&skills) {
                Ok(_) => ClientMessage::Skills { skills },
                Err(error) => {
                    self.counters.messages_refused.add();
                    tracing::warn!(%error, "skills are not published");
                    return Ok(());
                }
            },
            RegistryCommand::Resolve { name } => ClientMessage::Resolve { name },
            RegistryCommand::WatchAll => ClientMessage::WatchAll,
            RegistryCommand::Find { id, name, skill } => {
                if let Err(fault) = self.finds.ask(Instant::now(), id) {
                    let outcome = Err(fault);
                    return self.tell(RegistryEvent::Found { id, outcome }).await;
                }
                ClientMessage::Find { id, name, skill }
            }
            RegistryCommand::Signal {
                to,
                to_incarnation,
                session,
                seq,
                signal,
            } => {
                let outgoing = Outgoing {
                    to,
                    to_incarnation,
                    session,
                    seq,
                    signal,
                };
                match self.signals.sign(self.mesh, unix_ms(), outgoing) {
                    Ok(signal) => ClientMessage::Signal { signal },
                    Err(error) => {
                        self.counters.signals_unsigned.add();
                        tracing::debug!(%error, peer = %to, "signal not sent");
                        return Ok(());
                    }
                }
            }
        };
        self.socket
            .send(message.encode(), SEND_TIMEOUT)
            .await
            .map_err(Trouble::passing)
    }

    async fn expire_finds(&mut self) -> Outcome {
        for id in self.finds.expire(Instant::now()) {
            let fault = Fault::new(
                Code::RegistryUnreachable,
                format!("the registry did not answer within {FIND_TIMEOUT:?}"),
            );
            let outcome = Err(fault);
            self.tell(RegistryEvent::Found { id, outcome }).await?;
        }
        Ok(())
    }

    async fn handle_text(&mut self, text: &str) -> Outcome {
        match ServerMessage::decode(text.as_bytes()) {
            Ok(message) => self.handle_message(message, text.len()).await,
            Err(DecodeError::UnknownType(kind)) => {
                self.counters.messages_unknown.add();
                tracing::debug!(%kind, "the registry says what this version does not know");
                Ok(())
            }
            Err(error) => Err(Trouble::passing(error)),
        }
    }

    async fn handle_message(&mut self, message: ServerMessage, bytes: usize) -> Outcome {
        match message {
            ServerMessage::Records { agents } => {
                for record in agents {
                    self.tell(RegistryEvent::Record(record)).await?;
                }
                Ok(())
            }
            ServerMessage::Found { id, agents, more } => {
                match self.finds.handle_part(id, agents, bytes, more) {
                    Some(outcome) => self.tell(RegistryEvent::Found { id, outcome }).await,
                    None => Ok(()),
                }
            }
            ServerMessage::Unknown { name } => self.tell(RegistryEvent::Unknown { name }).await,
            ServerMessage::Signal { from_name, signal } => {
                self.handle_signal(from_name, &signal).await
            }
            ServerMessage::Undeliverable { to, session } => {
                self.tell(RegistryEvent::Undeliverable { to, session })
                    .await
            }
            ServerMessage::Error { error } => self.handle_error(error),
            ServerMessage::Challenge(_) | ServerMessage::Welcome(_) => {
                Err(Trouble::passing("the registry repeats the login"))
            }
        }
    }

    async fn handle_signal(&mut self, from_name: Name, signal: &SignedSignal) -> Outcome {
        match self.signals.verify(self.mesh, unix_ms(), signal) {
            Ok(body) => self.tell(RegistryEvent::Signal { from_name, body }).await,
            Err(dropped) => {
                tracing::debug!(%from_name, %dropped, "signal dropped");
                self.count_dropped(&dropped);
                Ok(())
            }
        }
    }

    fn count_dropped(&self, dropped: &Dropped) {
        let counter = match dropped {
            Dropped::Unasked => &self.counters.signals_unasked,
            Dropped::Signal(SignalError::BadSignature) => &self.counters.signals_forged,
            Dropped::Signal(SignalError::Stale { .. }) => &self.counters.signals_stale,
            Dropped::Signal(
                SignalError::Body(_) | SignalError::WrongMesh | SignalError::NotForMe,
            ) => &self.counters.signals_misdirected,
        };
        counter.add();
    }

    /// Where the registry cannot go on, it closes next; until then this is only a complaint.
    fn handle_error(&mut self, error: Fault) -> Outcome {
        self.counters.messages_refused.add();
        match Trouble::from_fault(error) {
            Trouble::Passing(fault) => {
                let code = fault.code;
                if self.told_refusal.replace(code) == Some(code) {
                    tracing::debug!(%code, why = %fault, "the registry refuses a message again");
                } else {
                    tracing::warn!(%code, why = %fault, "the registry refuses a message");
                }
                Ok(())
            }
            fatal @ Trouble::Final(_) => Err(fatal),
        }
    }

    async fn tell(&self, event: RegistryEvent) -> Outcome {
        self.news
            .send(News::Event(event))
            .await
            .map_err(|_| Trouble::Final(Ended::ByDriver))
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
