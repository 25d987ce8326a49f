//! The one loop of a node: it hears the network, the clients, the registry and
//! the clock, lets core decide, and carries out what core decided.
//!
//! A message goes: a client's command ([`Driver::hear_clients`]) → core's
//! `Mesh::handle_command` → [`Driver::carry`] → core's `Mesh::poll_frame` →
//! net's `Endpoint::send` → the wire; and back: net's `Endpoint::receive`
//! ([`Driver::hear_network`]) → `Mesh::handle_link` → `Mesh::poll_event` → the
//! client. Nothing here decides, and nothing here waits but [`Driver::wait`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;
use waymesh_core::Mesh;
use waymesh_core::app::{ClientId, Command, Event, RegistryEvent};
use waymesh_net::webrtc::{Endpoint, Notice};
use waymesh_proto::api::SkillSpec;
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{AgentId, MessageId, Name, SkillName};
use waymesh_proto::ipc::Hello;

use crate::book::Book;
use crate::client::{CLIENTS_TO_CORE_CAP, Change, Hall};
use crate::examinations::{Examinations, Servers};
use crate::linger::{Linger, stay_awake};
use crate::marks::MarkBook;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::registry::{News, PendingJoin, RegistryLink};
use crate::schema::Schema;

/// Commands that one turn takes before the network is heard again. Chosen.
const COMMANDS_A_TURN: usize = 256;
/// Turns in which a node that stops takes the commands that wait: all that the queue holds.
const LAST_TURNS: usize = CLIENTS_TO_CORE_CAP / COMMANDS_A_TURN;
/// News of the registry that one turn takes.
const NEWS_A_TURN: usize = 256;

/// Events that may wait for an observer before copies of messages are dropped:
/// copies have no credit, and each may be a message of the largest size. Chosen.
const OBSERVER_BACKLOG: usize = 64;

/// When the alarm rings if nothing is due. Chosen: any long time.
pub(crate) const NOTHING_DUE: Duration = Duration::from_secs(3_600);

/// Datagrams that are not held back any longer, bytes: one system call is full.
const FLUSH_AT_BYTES: usize = 60 * 1024;

/// How a node is doing, for those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Not logged in to the registry, because of this if it is known; links
    /// that exist go on working.
    Unregistered(Option<Fault>),
    /// Not a member yet: an admin has to agree to this request.
    Pending(PendingJoin),
    /// Logged in to the registry.
    Registered,
    /// Stopped: on request, or because of this.
    Stopped(Option<Fault>),
}

/// What came of telling the clients what core has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// There was nothing to tell.
    Nothing,
    /// They were told.
    Told,
    /// Core has something to do again by it.
    MoreToDo,
}

/// Owns all of a node's parts and runs them.
pub(crate) struct Driver {
    pub(crate) mesh: Mesh,
    pub(crate) endpoint: Endpoint,
    pub(crate) registry: RegistryLink,
    pub(crate) hall: Hall,
    pub(crate) clients: BTreeMap<ClientId, mpsc::Sender<Event>>,
    /// Of the skills that are offered, and of some that were.
    pub(crate) schemas: BTreeMap<SkillName, Schema>,
    /// Names whose identity was learnt.
    pub(crate) pins: Book<Vec<(Name, AgentId)>>,
    pub(crate) members: Arc<Members>,
    pub(crate) marks: Arc<MarkBook>,
    pub(crate) condition: watch::Sender<Condition>,
    /// What clients are greeted with.
    pub(crate) hello: watch::Sender<Hello>,
    pub(crate) metrics: watch::Sender<Metrics>,
    pub(crate) stop: oneshot::Receiver<()>,
    /// Clients that wait for what the network gives.
    pub(crate) examinations: Examinations,
    pub(crate) alarm: Pin<Box<Sleep>>,
    pub(crate) linger: Linger,
}

impl Driver {
    /// Runs until it is stopped or cannot go on.
    pub(crate) async fn run(mut self) {
        let fault = loop {
            if self.carry(Instant::now()) && self.endpoint.queued_bytes() > 0 {
                // Who was told something may answer at once: then both go together.
                tokio::task::yield_now().await;
                let now = Instant::now();
                self.hear_clients(now);
                self.carry(now);
            }
            self.endpoint.flush();
            if self.wait().await {
                break None;
            }
            let now = Instant::now();
            if let Err(fault) = self.hear_network(now) {
                break Some(fault);
            }
            self.hear_clients(now);
            if let Err(fault) = self.hear_registry(now) {
                break Some(fault);
            }
            self.hear_clock(now);
        };
        self.hear_last_words();
        self.leave();
        self.registry.close().await;
        self.pins.close().await;
        if let Some(members) = Arc::into_inner(self.members) {
            members.close().await;
        }
        if let Some(marks) = Arc::into_inner(self.marks) {
            marks.close().await;
        }
        self.condition.send_replace(Condition::Stopped(fault));
    }

    /// Waits until something happens; true when the node is to stop.
    async fn wait(&mut self) -> bool {
        self.set_alarm();
        let began = Instant::now();
        tokio::select! {
            _ = &mut self.stop => return true,
            // An error shows again when the socket is read.
            _ = self.endpoint.readable() => {}
            change = self.hall.changes.recv() => self.hear_change(change),
            command = self.hall.commands.recv() => self.hear_command(Instant::now(), command),
            news = self.registry.wait() => self.registry.put_back(news),
            () = &mut self.alarm => return false,
            () = stay_awake(self.linger.until(began)) => {
                self.linger.handle_vain();
                return false;
            }
        }
        self.linger.handle_event(began.elapsed());
        false
    }

    /// Sets the alarm for the next deadline. One that would ring too early stays:
    /// it is cheaper to wake for nothing now and then than to move it every turn.
    fn set_alarm(&mut self) {
        let deadlines = [
            self.mesh.poll_timeout().map(|(at, _)| at),
            self.endpoint.poll_timeout(),
            self.examinations.poll_timeout(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let deadline =
            deadline.map_or_else(|| tokio::time::Instant::now() + NOTHING_DUE, Into::into);
        if self.alarm.is_elapsed() || deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        }
    }

    fn hear_network(&mut self, now: Instant) -> Result<(), Fault> {
        self.endpoint.receive(now).map_err(|error| {
            Fault::new(
                waymesh_proto::Code::Internal,
                format!("the node's UDP socket failed: {error}"),
            )
        })?;
        while let Some(event) = self.endpoint.poll_event() {
            self.mesh.handle_link(now, event);
        }
        while let Some(notice) = self.endpoint.poll_notice() {
            match notice {
                Notice::NetworkChanged => {
                    self.mesh.handle_network_change(now);
                    self.registry.check();
                }
                Notice::ServersRefused => self.registry.ask_servers(),
            }
        }
        Ok(())
    }

    fn hear_clients(&mut self, now: Instant) {
        while let Ok(change) = self.hall.changes.try_recv() {
            self.hear_change(Some(change));
        }
        for _ in 0..COMMANDS_A_TURN {
            match self.hall.commands.try_recv() {
                Ok(command) => self.hear_command(now, Some(command)),
                Err(_) => break,
            }
        }
    }

    /// What programs said before the end still counts: a message that was
    /// acknowledged must not come again in the next life.
    fn hear_last_words(&mut self) {
        let now = Instant::now();
        for _ in 0..LAST_TURNS {
            self.hear_clients(now);
            self.carry(now);
        }
    }

    fn hear_change(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Came(id, events)) => {
                self.mesh.add_client(Instant::now(), id);
                self.clients.insert(id, events);
            }
            Some(Change::Went(id)) => self.forget(id),
            None => {}
        }
    }

    fn forget(&mut self, id: ClientId) {
        if self.clients.remove(&id).is_some() {
            self.mesh.remove_client(Instant::now(), id);
            self.examinations.forget(id);
        }
    }

    fn hear_command(&mut self, now: Instant, command: Option<(ClientId, Command)>) {
        let Some((client, command)) = command else {
            return;
        };
        // A new client's coming may wait behind its first command.
        while let Ok(change) = self.hall.changes.try_recv() {
            self.hear_change(Some(change));
        }
        if !self.clients.contains_key(&client) {
            return;
        }
        match command {
            Command::OfferSkill { id, spec } => self.offer_skill(now, client, id, spec),
            Command::Network { id, timeout } => {
                self.endpoint.ask_servers(now);
                self.examinations.add(now, client, id, timeout);
            }
            other => self.mesh.handle_command(now, client, other),
        }
    }

    /// The schema is compiled before the skill is offered, and used only if it
    /// is this client's skill then.
    fn offer_skill(&mut self, now: Instant, client: ClientId, id: MessageId, spec: SkillSpec) {
        let name = spec.name.clone();
        let schema = match Schema::compile(&spec) {
            Ok(schema) => schema,
            Err(fault) => {
                let outcome = Err(fault);
                self.deliver(now, client, Event::Done { id, outcome });
                return;
            }
        };
        self.mesh
            .handle_command(now, client, Command::OfferSkill { id, spec });
        if self.mesh.skill_owner(&name) == Some(client) {
            self.schemas
                .retain(|name, _| self.mesh.skill_owner(name).is_some());
            self.schemas.insert(name, schema);
        }
    }

    fn hear_registry(&mut self, now: Instant) -> Result<(), Fault> {
        for _ in 0..NEWS_A_TURN {
            match self.registry.try_next() {
                Some(News::Event(event)) => self.hear_event(now, event),
                Some(News::Servers(servers)) => self.endpoint.set_servers(now, servers),
                Some(News::Pending(request)) => self.set_condition(Condition::Pending(request)),
                Some(News::Away(why)) => self.set_condition(Condition::Unregistered(Some(why))),
                Some(News::Fatal(fault)) => return Err(fault),
                None => break,
            }
        }
        while let Some(heard) = self.mesh.poll_heard_revocation() {
            match self.members.handle_revocation(&heard.revocation) {
                Ok(Some(event)) => {
                    self.hear_event(now, event);
                    self.members.check_own()?;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(code = %error.code(), %error, "a peer tells a revocation that is none");
                    self.mesh.handle_false_revocation(now, heard.link);
                }
            }
        }
        Ok(())
    }

    fn hear_event(&mut self, now: Instant, event: RegistryEvent) {
        match event {
            RegistryEvent::Connected => {
                self.describe_membership();
                self.set_condition(Condition::Registered);
            }
            RegistryEvent::Membership { .. } => self.describe_membership(),
            RegistryEvent::Disconnected => self.set_condition(Condition::Unregistered(None)),
            _ => {}
        }
        self.mesh.handle_registry(now, event);
    }

    /// Tells new clients, and those who ask, how the node stands in its mesh.
    fn describe_membership(&self) {
        if let Some(own) = self.members.own() {
            self.hello.send_modify(|hello| {
                hello.mesh = Some(own.mesh);
                hello.certificate_expires_ms = Some(own.expires_ms);
            });
        }
    }

    fn set_condition(&self, condition: Condition) {
        self.condition.send_if_modified(|old| {
            let changed = *old != condition;
            *old = condition;
            changed
        });
    }

    fn hear_clock(&mut self, now: Instant) {
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        if let Some((at, wake)) = self.mesh.poll_timeout()
            && at <= now
        {
            tracing::trace!(?wake, "time");
            self.mesh.handle_timeout(now);
        }
    }

    /// Carries out what core decided, until nothing follows from it any more.
    /// Gives whether a client was told something.
    fn carry(&mut self, now: Instant) -> bool {
        let mut told = false;
        loop {
            let mut quiet = true;
            while let Some(command) = self.mesh.poll_link_command() {
                self.endpoint.handle_command(now, command);
            }
            let Self { mesh, endpoint, .. } = self;
            while let Some(frame) = mesh.poll_frame(now, |link| endpoint.room(link)) {
                if let Err(error) = endpoint.send(now, frame.link, frame.class, &frame.bytes) {
                    tracing::debug!(link = %frame.link, %error, "a frame was not taken");
                    mesh.handle_unsent(now, frame.link);
                    quiet = false;
                }
            }
            while let Some(event) = self.endpoint.poll_event() {
                quiet = false;
                self.mesh.handle_link(now, event);
            }
            if self.endpoint.queued_bytes() >= FLUSH_AT_BYTES {
                self.endpoint.flush();
            }
            let telling = self.tell_clients(now);
            told |= telling != Telling::Nothing;
            quiet &= telling != Telling::MoreToDo;
            if quiet {
                break;
            }
        }
        told |= self.tell_network(now);
        self.tell_registry();
        while let Some(pin) = self.mesh.poll_pin() {
            self.pins.change(|pins| {
                pins.push(pin);
                true
            });
        }
        let Self {
            mesh,
            endpoint,
            metrics,
            ..
        } = self;
        metrics.send_if_modified(|metrics| {
            metrics.observe(mesh, endpoint);
            false
        });
        told
    }

    /// Answers those who wait for what the network gives. Gives whether there were any.
    fn tell_network(&mut self, now: Instant) -> bool {
        if self.examinations.is_empty() {
            return false;
        }
        let status = self.endpoint.network();
        let servers = match status.is_settled() {
            true => Servers::Settled,
            false => Servers::Waited,
        };
        let over = self.examinations.take_over(now, servers);
        for examination in &over {
            let (id, status) = (examination.id, status.clone());
            self.deliver(now, examination.client, Event::Network { id, status });
        }
        !over.is_empty()
    }

    fn tell_registry(&mut self) {
        while let Some(place) = self.registry.place() {
            match self.mesh.poll_registry_command() {
                Some(command) => place.send(command),
                None => break,
            }
        }
    }

    fn tell_clients(&mut self, now: Instant) -> Telling {
        let mut telling = Telling::Nothing;
        while let Some((client, event)) = self.mesh.poll_event() {
            if let Event::Call {
                call,
                skill,
                payload,
                ..
            } = &event
                && let Some(schema) = self.schemas.get(skill)
                && let Err(fault) = schema.check(skill, payload)
            {
                let (call, outcome) = (*call, Err(fault));
                self.mesh
                    .handle_command(now, client, Command::Reply { call, outcome });
                telling = Telling::MoreToDo;
            } else if !self.deliver(now, client, event) {
                telling = Telling::MoreToDo;
            } else if telling == Telling::Nothing {
                telling = Telling::Told;
            }
        }
        telling
    }

    /// False when the client had to be given up.
    fn deliver(&mut self, now: Instant, client: ClientId, event: Event) -> bool {
        let Some(events) = self.clients.get(&client) else {
            return true;
        };
        let is_copy = matches!(event, Event::Message { inbound: None, .. });
        let behind = events.max_capacity() - events.capacity();
        if is_copy && behind >= OBSERVER_BACKLOG {
            self.metrics
                .send_modify(|metrics| metrics.copies_dropped += 1);
            return true;
        }
        let Err(error) = events.try_send(event) else {
            return true;
        };
        if matches!(error, TrySendError::Full(_)) {
            self.metrics
                .send_modify(|metrics| metrics.slow_clients += 1);
            tracing::warn!(?client, "a client does not take its events and is given up");
        }
        self.clients.remove(&client);
        self.mesh.remove_client(now, client);
        false
    }

    /// Says goodbye on every link, so that peers need not find out.
    fn leave(&mut self) {
        let now = Instant::now();
        for (link, frame) in self.mesh.goodbyes() {
            let _ = self
                .endpoint
                .send(now, link, waymesh_proto::Class::Tasks, &frame);
            self.endpoint.flush();
        }
    }
}
