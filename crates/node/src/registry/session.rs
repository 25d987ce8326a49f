//! One logged-in connection: core's commands out, the registry's messages in.
//!
//! ```text
//!  commands ──▶ session ──texts, items──▶ writer ──▶ registry
//!      news ◀──         ◀──────────────────────────
//! ```
//!
//! Session and writer are two branches of one task, so that neither side ever
//! waits for the other to read. What is verified, sealed or opened is done
//! here, one thing a turn: a flood of one kind holds up no other.

mod complaints;
mod hear;
mod silence;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use waymesh_core::app::{RegistryCommand, RegistryEvent};
use waymesh_net::control::{ControlReceiver, ControlSocket, Received};
use waymesh_proto::control::{ClientMessage, check_skills};
use waymesh_proto::ids::Incarnation;
use waymesh_proto::mailbox::Assembly;
use waymesh_proto::membership::SealingStatement;
use waymesh_proto::{Code, Fault, Name};

use super::News;
use super::finds::{FIND_TIMEOUT, Finds};
use super::introductions::Introductions;
use super::link::unreachable_answer;
use super::mail::{Posts, Sealer};
use super::nudges::Nudges;
use super::own::Own;
use super::settlements::Settlements;
use super::signals::{Outgoing, Signals};
use super::state::Counters;
use super::trouble::{Ended, Trouble};
use super::writer::{Lanes, lanes};
use crate::client::unix_ms;
use crate::home::Home;
use crate::marks::MarkBook;
use crate::members::{Members, member};
use crate::sealing_keys::SealingKeys;
use complaints::Complaints;
use silence::Silence;

/// How often a session looks whether its sealing key is due to be replaced, or
/// old ones to be destroyed. Chosen: a fraction of the week that a key is given out.
const KEYS_CHECK: Duration = Duration::from_secs(3_600);

/// What ends a session.
type Outcome = Result<(), Trouble>;

/// What a session works with and leaves behind.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) own: &'a mut Own,
    pub(super) sealing: &'a mut SealingKeys,
    pub(super) signals: &'a mut Signals,
    pub(super) incarnation: Incarnation,
    pub(super) home: &'a Home,
    pub(super) members: &'a Members,
    pub(super) marks: &'a MarkBook,
    pub(super) counters: &'a Counters,
    pub(super) nudges: &'a Nudges,
    /// How long the registry took to answer the login.
    pub(super) round_trip: Duration,
    pub(super) news: &'a mpsc::Sender<News>,
}

pub(super) struct Session<'a> {
    desk: Desk<'a>,
    lanes: Lanes,
    posts: Posts,
    settlements: Settlements<'a>,
    /// There is room for what was put off; to be said after that it was.
    resumes: bool,
    assembly: Assembly,
    finds: Finds,
    introductions: Introductions,
    statement: SealingStatement,
    complaints: Complaints,
    silence: Silence,
}

/// How a session ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) trouble: Trouble,
    /// The network had changed, and the registry has not answered since: the
    /// trouble is hardly the registry's.
    pub(super) was_in_doubt: bool,
}

/// Serves until the connection or the driver ends; open finds are answered.
/// `first` is what the registry is told before anything else.
pub(super) async fn serve(
    desk: Desk<'_>,
    socket: ControlSocket,
    first: ClientMessage,
    commands: &mut mpsc::Receiver<RegistryCommand>,
) -> Ending {
    let (mut sender, receiver) = socket.split();
    let (lanes, writer) = lanes();
    let mut session = Session::new(desk, lanes);
    let trouble = tokio::select! {
        trouble = session.run(receiver, first, commands) => trouble,
        trouble = writer.run(&mut sender) => trouble,
    };
    for id in session.finds.take_all() {
        // When the driver is gone, nobody waits.
        let _ = session.desk.news.send(unreachable_answer(id)).await;
    }
    sender.close().await;
    Ending {
        trouble,
        was_in_doubt: session.silence.is_in_doubt(),
    }
}

impl<'a> Session<'a> {
    fn new(desk: Desk<'a>, lanes: Lanes) -> Self {
        Self {
            silence: Silence::new(Instant::now(), desk.round_trip),
            settlements: Settlements::new(desk.marks),
            statement: statement(desk.sealing, desk.own),
            desk,
            lanes,
            posts: Posts::default(),
            resumes: false,
            assembly: Assembly::default(),
            finds: Finds::default(),
            introductions: Introductions::default(),
            complaints: Complaints::default(),
        }
    }

    async fn run(
        &mut self,
        mut receiver: ControlReceiver,
        first: ClientMessage,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Trouble {
        match self.begin(first).await {
            Ok(()) => self.work(&mut receiver, commands).await,
            Err(trouble) => trouble,
        }
    }

    async fn begin(&mut self, first: ClientMessage) -> Outcome {
        self.say(&first);
        self.tell(RegistryEvent::Connected).await?;
        self.tell_membership().await
    }

    async fn work(
        &mut self,
        receiver: &mut ControlReceiver,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Trouble {
        let mut keys_checked = Instant::now();
        let nudges = self.desk.nudges;
        loop {
            let (texts, items) = (&self.lanes.texts, &self.lanes.items);
            let settlements = &mut self.settlements;
            let resumes = self.resumes;
            let outcome = tokio::select! {
                command = next_command(texts, commands), if self.posts.has_room() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => return Trouble::Final(Ended::ByDriver),
                },
                received = timeout_at(self.silence.until(), receiver.receive()) => match received {
                    Ok(Ok(received)) => {
                        self.silence.handle_heard(Instant::now());
                        self.handle_received(received).await
                    }
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(Trouble::passing("the registry is silent")),
                },
                () = room(items), if !self.posts.is_empty() => self.post().await,
                () = async {
                    if !resumes {
                        settlements.wait().await;
                    }
                    room(texts).await;
                } => self.settle(),
                () = self.finds.wait() => self.expire_finds().await,
                () = nudges.servers_refused.notified() => {
                    self.say(&ClientMessage::IceServers);
                    Ok(())
                }
                () = nudges.network_changed.notified() => {
                    let now = Instant::now();
                    if self.lanes.holds_items() {
                        self.silence.handle_backlog(now);
                    }
                    self.silence.handle_doubt(now);
                    // The answer shows whether the connection still carries anything.
                    self.say(&ClientMessage::IceServers);
                    match receiver.is_stranded() {
                        true => Err(Trouble::passing("the address of the connection is gone")),
                        false => Ok(()),
                    }
                }
                () = tokio::time::sleep_until(keys_checked + KEYS_CHECK) => {
                    keys_checked = Instant::now();
                    self.check_keys()
                }
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
                    self.desk.counters.messages_refused.add();
                    tracing::warn!(%error, "skills are not published");
                    return Ok(());
                }
            },
            RegistryCommand::Resolve { name } => return self.resolve(name).await,
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
                match self.sign(outgoing) {
                    Some(message) => message,
                    None => return Ok(()),
                }
            }
            RegistryCommand::Post(post) => {
                self.posts.push(post);
                return Ok(());
            }
            RegistryCommand::Settle {
                item,
                from,
                outcome,
                mark,
            } => {
                if self.settlements.add((item, from), outcome, mark).is_err() {
                    self.desk.counters.items_unsettled.add();
                }
                return Ok(());
            }
            RegistryCommand::Mark(mark) => {
                // Nobody waits for it to be written.
                let _ = self.desk.marks.add(mark);
                return Ok(());
            }
            RegistryCommand::Resume => {
                self.resumes = true;
                return Ok(());
            }
            RegistryCommand::Withdraw { item } => {
                if self.posts.withdraw(item) {
                    return Ok(());
                }
                ClientMessage::Withdraw { item }
            }
        };
        self.say(&message);
        Ok(())
    }

    /// Asks for a name, and tells at once what is known of it ahead of the answer.
    async fn resolve(&mut self, name: Name) -> Outcome {
        let now_ms = unix_ms();
        let record = self.introductions.of(&name);
        // What is wrong with it comes out again when the answer is here.
        let met = record.and_then(|record| self.desk.members.meet(record, now_ms).ok());
        self.say(&ClientMessage::Resolve { name });
        match met {
            Some(verified) => {
                let member = member(&verified, std::time::Instant::now(), now_ms);
                self.tell(RegistryEvent::Introduced { member }).await
            }
            None => Ok(()),
        }
    }

    fn sign(&mut self, outgoing: Outgoing) -> Option<ClientMessage> {
        let (to, incarnation) = (outgoing.to, self.desk.incarnation);
        let signals = &mut *self.desk.signals;
        match signals.sign(self.desk.own, incarnation, unix_ms(), outgoing) {
            Ok(signal) => Some(ClientMessage::Signal { signal }),
            Err(error) => {
                self.desk.counters.signals_unsigned.add();
                tracing::debug!(%error, peer = %to, "signal not sent");
                None
            }
        }
    }

    /// Seals what waits longest and hands it to the writer, which has room.
    async fn post(&mut self) -> Outcome {
        let Some(post) = self.posts.pop() else {
            return Ok(());
        };
        let item = post.item;
        let sealer = Sealer {
            own: self.desk.own,
            incarnation: self.desk.incarnation,
            sealing: &self.statement,
            members: self.desk.members,
        };
        match sealer.seal(post, unix_ms()) {
            Ok(parts) => {
                self.desk.counters.items_sealed.add();
                let bytes = parts.iter().map(Vec::len).sum();
                self.silence.handle_sent(Instant::now(), bytes);
                let sent = self.lanes.items.try_send(parts);
                debug_assert!(sent.is_ok(), "there was room, and nobody else sends");
                Ok(())
            }
            Err(fault) => {
                self.desk.counters.items_unsealed.add();
                let outcome = Err(fault);
                self.tell(RegistryEvent::Posted { item, outcome }).await
            }
        }
    }

    /// Says one thing: what became of items, or when all of that is said, that
    /// there is room again. Overtaken by that, an item that was put off would
    /// wait for the next time.
    fn settle(&mut self) -> Outcome {
        let items = self.settlements.take();
        if !items.is_empty() {
            self.say(&ClientMessage::Settled { items });
        } else if std::mem::take(&mut self.resumes) {
            self.say(&ClientMessage::Resume);
        }
        Ok(())
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

    /// Gives out a new sealing key when it is time.
    fn check_keys(&mut self) -> Outcome {
        match self.desk.sealing.handle_time(unix_ms(), rand::random()) {
            Ok(true) => {
                self.statement = statement(self.desk.sealing, self.desk.own);
                let statement = self.statement.clone();
                self.say(&ClientMessage::Sealing { statement });
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the sealing key cannot be replaced"),
        }
        Ok(())
    }

    /// Hands a message to the writer. Whoever calls has waited for room, or
    /// says one thing so seldom that there is always some.
    fn say(&self, message: &ClientMessage) {
        if self.lanes.texts.try_send(message.encode()).is_err() {
            self.desk.counters.messages_refused.add();
            tracing::warn!("a message to the registry found no room");
        }
    }

    async fn tell_membership(&self) -> Outcome {
        let now = std::time::Instant::now();
        let expires = self.desk.own.expires(now, unix_ms());
        self.tell(RegistryEvent::Membership { expires }).await
    }

    async fn tell(&self, event: RegistryEvent) -> Outcome {
        self.send_news(News::Event(event)).await
    }

    async fn send_news(&self, news: News) -> Outcome {
        let sent = self.desk.news.send(news).await;
        sent.map_err(|_| Trouble::Final(Ended::ByDriver))
    }

    async fn handle_received(&mut self, received: Received) -> Outcome {
        match received {
            Received::Text(text) => self.handle_text(&text).await,
            Received::Binary(bytes) => self.handle_binary(&bytes).await,
            Received::Alive => Ok(()),
        }
    }
}

fn statement(sealing: &SealingKeys, own: &Own) -> SealingStatement {
    sealing.statement(&own.keypair, own.agent_id(), own.mesh())
}

/// The next command, once there is room for what it makes the session say. Cancel safe.
async fn next_command(
    texts: &mpsc::Sender<String>,
    commands: &mut mpsc::Receiver<RegistryCommand>,
) -> Option<RegistryCommand> {
    room(texts).await;
    commands.recv().await
}

/// Waits until there is room in a lane. Cancel safe.
async fn room<T>(lane: &mpsc::Sender<T>) {
    if lane.reserve().await.is_err() {
        // The writer has ended, and the session with it.
        std::future::pending().await
    }
}
