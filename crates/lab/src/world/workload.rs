//! What applications do: clients that send, call and ask, readers of the
//! inbox, and handlers of skills.

use std::time::Duration;

use waymesh_core::app::{ClientId, Command, Storing};
use waymesh_proto::api::{SkillSpec, Via};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::{Payload, Priority};
use waymesh_proto::ids::{MessageId, SkillName};

use super::World;
use super::host::{life_of, name_of};
use super::model::{CallRecord, Letter, Life};
use super::report::Checked;

/// A find is answered by the registry or by its absence, which may take a while to notice.
const FIND_PATIENCE: Duration = Duration::from_secs(60);

/// What a host's application does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Sends a message.
    Send {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// In this class.
        class: Class,
        /// So many bytes.
        bytes: usize,
        /// That live so long.
        ttl: Duration,
        /// And are so urgent.
        priority: Priority,
    },
    /// Calls a skill.
    Call {
        /// The caller.
        from: usize,
        /// The called.
        to: usize,
        /// Which skill.
        skill: Skill,
        /// How long the answer may take.
        timeout: Duration,
        /// Whether it may be repeated.
        idempotent: bool,
        /// Bytes of the arguments.
        bytes: usize,
    },
    /// Withdraws one of its calls.
    Cancel {
        /// The caller.
        from: usize,
    },
    /// Wants a link.
    Connect {
        /// Who wants it.
        from: usize,
        /// To whom.
        to: usize,
        /// How long it waits.
        timeout: Duration,
    },
    /// Measures a round trip.
    Ping {
        /// Who asks.
        from: usize,
        /// Whom.
        to: usize,
        /// How long it waits.
        timeout: Duration,
    },
    /// Asks the registry for all agents.
    Find {
        /// Who asks.
        from: usize,
    },
    /// The inbox loses its owner.
    ReaderLeaves {
        /// Where.
        at: usize,
    },
    /// The inbox gets an owner if it has none.
    ReaderComes {
        /// Where.
        at: usize,
    },
    /// The skills lose their owner.
    ServerLeaves {
        /// Where.
        at: usize,
    },
    /// The skills get an owner if they have none.
    ServerComes {
        /// Where.
        at: usize,
    },
    /// The client that sends and calls leaves, and another takes its place.
    WorkerLeaves {
        /// Where.
        at: usize,
    },
}

/// What a skill does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skill {
    /// Answers at once.
    Fast,
    /// Answers within seconds.
    Slow,
    /// Never answers.
    Mute,
    /// Fails.
    Failing,
    /// Nobody offers it.
    Missing,
}

impl Skill {
    const OFFERED: [Self; 4] = [Self::Fast, Self::Slow, Self::Mute, Self::Failing];

    pub(super) fn name(self) -> SkillName {
        let name = match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Mute => "mute",
            Self::Failing => "failing",
            Self::Missing => "missing",
        };
        name.parse().expect("lower-case words are names")
    }

    /// Whether its answers are results.
    pub const fn answers(self) -> bool {
        matches!(self, Self::Fast | Self::Slow)
    }
}

/// The content of a message: every page of it differs, so that pieces in the
/// wrong place are seen.
pub fn content(tag: u64, len: usize) -> Vec<u8> {
    const PAGE: usize = 256;
    let mut bytes = vec![tag as u8; len];
    for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
        let stamp = (tag.wrapping_mul(0x9e37_79b9) ^ number as u64).to_le_bytes();
        let fits = page.len().min(stamp.len());
        page[..fits].copy_from_slice(&stamp[..fits]);
    }
    bytes
}

/// What the handlers of [`Skill::Fast`] and [`Skill::Slow`] answer.
pub(super) fn reply(call: MessageId) -> Payload {
    Payload::json(format!("\"{call}\""))
}

impl World {
    /// Carries a job out, if the host's node runs.
    pub(super) fn do_job(&mut self, job: &Job) -> Checked {
        self.trace
            .note(self.now - self.start, || format!("job {job:?}"));
        match *job {
            Job::Send {
                from,
                to,
                class,
                bytes,
                ttl,
                priority,
            } => {
                self.send(from, to, (class, bytes), ttl, priority);
            }
            Job::Call {
                from,
                to,
                skill,
                timeout,
                idempotent,
                bytes,
            } => {
                self.call(from, to, skill, (timeout, idempotent), bytes);
            }
            Job::Cancel { from } => {
                let open = self
                    .model
                    .lives
                    .current(from)
                    .map(|life| self.model.calls.open_of(life));
                if let Some(open) = open.filter(|open| !open.is_empty()) {
                    let id = *self.dice.pick(&open);
                    self.cancel(from, id);
                }
            }
            Job::Connect { from, to, timeout } => {
                self.ask(from, timeout, |id| Command::Connect {
                    id,
                    to: name_of(to),
                    timeout,
                });
            }
            Job::Ping { from, to, timeout } => {
                self.ask(from, timeout, |id| Command::Ping {
                    id,
                    to: name_of(to),
                    timeout,
                    via: Via::InUse,
                });
            }
            Job::Find { from } => {
                self.ask(from, FIND_PATIENCE, |id| Command::FindAgents {
                    id,
                    name: None,
                    skill: None,
                });
            }
            // Who is there when everything is well stays.
            Job::ReaderLeaves { .. } | Job::ServerLeaves { .. } if self.health.is_well() => {}
            Job::ReaderLeaves { at } => self.reader_leaves(at),
            Job::ReaderComes { at } => self.reader_comes(at),
            Job::ServerLeaves { at } => self.server_leaves(at),
            Job::ServerComes { at } => self.server_comes(at),
            Job::WorkerLeaves { at } => self.worker_leaves(at),
        }
        Ok(())
    }

    pub(super) fn new_id(&mut self) -> MessageId {
        self.next_id += 1;
        MessageId::new(self.next_id, [0; 10])
    }

    pub(super) fn send(
        &mut self,
        from: usize,
        to: usize,
        (class, bytes): (Class, usize),
        ttl: Duration,
        priority: Priority,
    ) -> Option<MessageId> {
        let (life, client) = (self.model.lives.current(from)?, self.hosts[from].worker);
        let id = self.new_id();
        let tag = self.next_id;
        let mut letter = Letter::new(life, client, to, (class, bytes), self.now, ttl);
        letter.only_for = self.first_receiver(from, to);
        self.model.letters.handle_sent(id, letter, tag);
        let payload = Payload::bytes("application/octet-stream", content(tag, bytes));
        self.command(
            from,
            client,
            Command::Send {
                id,
                to: name_of(to),
                class,
                priority,
                ttl,
                storing: Storing::default(),
                payload,
            },
        );
        Some(id)
    }

    /// The life that a message can reach first; unknown while the sender may
    /// believe that an earlier one lives.
    fn first_receiver(&self, from: usize, to: usize) -> Option<Life> {
        let life = self.model.lives.current(to)?;
        let mut links = self.hosts[from]
            .links
            .values()
            .map(|(other, _)| life_of(*other));
        let known = self.hosts[from].known_lives.get(&to);
        let believes = links.any(|other| other.host == to && other != life)
            || known.map_or(life.number > 1, |known| *known != life.number);
        (!believes).then_some(life)
    }

    pub(super) fn call(
        &mut self,
        from: usize,
        to: usize,
        skill: Skill,
        (timeout, idempotent): (Duration, bool),
        bytes: usize,
    ) -> Option<MessageId> {
        let (life, client) = (self.model.lives.current(from)?, self.hosts[from].worker);
        let id = self.new_id();
        let call = CallRecord::new(life, client, to, skill, idempotent, self.now, timeout);
        self.model.calls.handle_called(id, call);
        let payload = Payload::json(content(self.next_id, bytes));
        let priority = Priority::Normal;
        self.command(
            from,
            client,
            Command::Call {
                id,
                to: name_of(to),
                skill: skill.name(),
                priority,
                timeout,
                idempotent,
                payload,
            },
        );
        Some(id)
    }

    pub(super) fn cancel(&mut self, from: usize, id: MessageId) {
        self.model.calls.handle_cancelled(self.now, id);
        let client = self.hosts[from].worker;
        self.command(from, client, Command::Cancel { id });
    }

    pub(super) fn ask(
        &mut self,
        from: usize,
        timeout: Duration,
        command: impl FnOnce(MessageId) -> Command,
    ) -> Option<MessageId> {
        let (life, client) = (self.model.lives.current(from)?, self.hosts[from].worker);
        let id = self.new_id();
        self.model
            .waits
            .handle_asked(self.now, id, life, client, timeout);
        self.command(from, client, command(id));
        Some(id)
    }

    pub(super) fn command(&mut self, at: usize, client: ClientId, command: Command) {
        let now = self.now;
        if let Some(mesh) = &mut self.hosts[at].mesh {
            mesh.handle_command(now, client, command);
        }
    }

    fn new_client(&mut self, at: usize) -> Option<ClientId> {
        self.next_client += 1;
        let client = ClientId(self.next_client);
        let (now, host) = (self.now, &mut self.hosts[at]);
        host.mesh.as_mut()?.add_client(now, client);
        if host.ends_soon(now) && host.ends > Some(now) {
            host.owed_notices.insert(client);
        }
        Some(client)
    }

    fn remove_client(&mut self, at: usize, client: ClientId) {
        let now = self.now;
        self.model.letters.handle_client_gone(client);
        self.model.calls.handle_client_gone(client);
        self.model.waits.handle_client_gone(client);
        self.hosts[at].owed_notices.remove(&client);
        if let Some(mesh) = &mut self.hosts[at].mesh {
            mesh.remove_client(now, client);
        }
    }

    pub(super) fn worker_comes(&mut self, at: usize) {
        if let Some(client) = self.new_client(at) {
            self.hosts[at].worker = client;
        }
    }

    fn worker_leaves(&mut self, at: usize) {
        let old = self.hosts[at].worker;
        self.remove_client(at, old);
        self.worker_comes(at);
    }

    pub(super) fn reader_comes(&mut self, at: usize) {
        if self.hosts[at].reader.is_some() {
            return;
        }
        if let Some(client) = self.new_client(at) {
            self.hosts[at].reader = Some(client);
            let id = self.new_id();
            self.command(at, client, Command::ClaimInbox { id });
        }
    }

    fn reader_leaves(&mut self, at: usize) {
        if let Some(client) = self.hosts[at].reader.take() {
            self.hosts[at].in_hand.clear();
            self.remove_client(at, client);
        }
    }

    pub(super) fn server_comes(&mut self, at: usize) {
        if self.hosts[at].server.is_some() {
            return;
        }
        if let Some(client) = self.new_client(at) {
            self.hosts[at].server = Some(client);
            for skill in Skill::OFFERED {
                let id = self.new_id();
                let spec = SkillSpec {
                    name: skill.name(),
                    description: None,
                    schema: None,
                    idempotent: false,
                };
                self.command(at, client, Command::OfferSkill { id, spec });
            }
        }
    }

    fn server_leaves(&mut self, at: usize) {
        if let Some(client) = self.hosts[at].server.take() {
            self.hosts[at].skills_came_and_went = true;
            self.remove_client(at, client);
        }
    }
}
