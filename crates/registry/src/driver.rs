//! The registry's loop: it alone owns the rules.

mod counts;
mod orders;
mod peers;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use waymesh_core::registry::{
    CloseReason, ConnId, Effect, Extended, Page, Query, Registry as Rules, VerifiedJoin,
    VerifiedLogin,
};
use waymesh_proto::control::{ClientMessage, Origin, ServerMessage};
use waymesh_proto::limits::{CERTIFICATE_LIFE_MS, CLOCK_LEEWAY_MS};
use waymesh_proto::mailbox::Item;
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::{AgentId, Fault};
use waymesh_trust::certificate::{self, Verified, with_extension};

use crate::admin::{Order, Reply};
use crate::clock::Clock;
use crate::connection::Identity;
use crate::ice::Ice;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::writer::{Loaded, Report, Writer};
use orders::Orders;
use peers::Peers;

/// What connections and HTTP requests may have waiting for the driver; when it
/// is full, they wait, and so do their sockets.
pub(crate) const CONNECTIONS_TO_DRIVER_CAP: usize = 1_024;

/// How long the connections may take to say good-bye when the registry stops. Chosen.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Something that happened outside.
#[derive(Debug)]
pub(crate) enum Input {
    /// A control connection was made.
    Connected {
        conn: ConnId,
        address: IpAddr,
        outbox: Outbox,
    },
    /// It has proved who it is; the welcome is ready to be sent.
    Login {
        conn: ConnId,
        login: Box<VerifiedLogin>,
        welcome: Utf8Bytes,
        /// Where it has reached the registry.
        origin: Origin,
    },
    /// It asks to become a member.
    Join {
        conn: ConnId,
        join: Box<VerifiedJoin>,
    },
    /// It has a new key to seal messages to it with.
    Sealing {
        conn: ConnId,
        statement: SealingStatement,
    },
    /// It posts an item, which holds its room until it is dealt with.
    Post {
        conn: ConnId,
        item: Arc<Item>,
        room: OwnedSemaphorePermit,
    },
    /// It said something.
    Message {
        conn: ConnId,
        message: ClientMessage,
    },
    /// It said something that cannot be read.
    Malformed { conn: ConnId, fault: Fault },
    /// It cannot go on.
    Refused { conn: ConnId, fault: Fault },
    /// It is alive.
    Heard { conn: ConnId },
    /// It is gone.
    Closed { conn: ConnId },
    /// It has room for more, as was asked.
    Room { conn: ConnId },
    /// A member asks over HTTP.
    Find {
        member: Arc<Verified>,
        query: Query,
        limit: NonZeroUsize,
        reply: oneshot::Sender<Result<Page, Fault>>,
    },
    /// An admin wants something; it is durable when the reply comes.
    Admin {
        order: Order,
        reply: oneshot::Sender<Result<Reply, Fault>>,
    },
}

/// The loop and what it owns.
#[derive(Debug)]
pub(crate) struct Driver {
    rules: Rules,
    writer: Writer,
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    ice: Ice,
    peers: Peers,
    orders: Orders,
}

impl Driver {
    pub(crate) fn new(
        rules: Rules,
        writer: Writer,
        identity: Arc<Identity>,
        metrics: Arc<Metrics>,
        ice: Ice,
    ) -> Self {
        Self {
            rules,
            writer,
            identity,
            ice,
            peers: Peers::default(),
            orders: Orders::default(),
            metrics,
        }
    }

    /// Runs until `stop` changes or nobody is left who could say anything.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut reports: mpsc::Receiver<Report>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            self.carry_out();
            let due = self.rules.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.handle_input(Instant::now(), input),
                    None => break,
                },
                Some(report) = reports.recv() => self.handle_report(Instant::now(), report),
                () = sleep_until(due) => self.rules.handle_timeout(Instant::now()),
                _ = stop.changed() => break,
            }
        }
        self.peers.clear();
        let farewell = async { while inputs.recv().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, farewell).await.is_err() {
            tracing::info!("some connections did not close in time");
        }
    }

    fn handle_input(&mut self, now: Instant, input: Input) {
        let rules = &mut self.rules;
        match input {
            Input::Connected {
                conn,
                address,
                outbox,
            } => {
                self.peers.insert(conn, outbox);
                rules.handle_connected(now, conn, address);
            }
            Input::Login {
                conn,
                login,
                welcome,
                origin,
            } => {
                self.peers.prepare_welcome(conn, welcome, origin);
                rules.handle_login(now, conn, *login);
            }
            Input::Join { conn, join } => rules.handle_join(now, conn, *join, rand::random()),
            Input::Sealing { conn, statement } => rules.handle_sealing(now, conn, statement),
            Input::Post { conn, item, room } => {
                rules.handle_post(now, conn, item);
                drop(room);
            }
            Input::Message { conn, message } => rules.handle_message(now, conn, message),
            Input::Malformed { conn, fault } => rules.handle_malformed(now, conn, fault),
            Input::Refused { conn, fault } => rules.handle_refused(conn, fault),
            Input::Heard { conn } => rules.handle_heard(now, conn),
            Input::Closed { conn } => {
                self.peers.remove(conn);
                rules.handle_closed(conn);
            }
            Input::Room { conn } => rules.handle_room(conn),
            Input::Find {
                member,
                query,
                limit,
                reply,
            } => {
                let page = rules
                    .check_member(&member.agent_id, member.invite, &member.keys)
                    .map(|()| rules.find(&query, limit));
                // Whoever asked may have gone away.
                let _ = reply.send(page);
            }
            Input::Admin { order, reply } => self.handle_order(now, order, reply),
        }
    }

    fn handle_order(
        &mut self,
        now: Instant,
        order: Order,
        reply: oneshot::Sender<Result<Reply, Fault>>,
    ) {
        match orders::verify(order, &self.identity) {
            Ok(order) => {
                let ticket = self.orders.open(reply);
                self.rules.handle_order(now, ticket, order, rand::random());
            }
            // Whoever asked may have gone away.
            Err(fault) => drop(reply.send(Err(fault))),
        }
    }

    fn handle_report(&mut self, now: Instant, report: Report) {
        match report {
            Report::Written { tickets, outcome } => {
                for ticket in tickets {
                    self.rules.handle_stored(now, ticket, outcome.clone());
                }
            }
            Report::Loaded(loaded) => {
                for Loaded { conn, seq, item } in loaded {
                    self.rules.handle_loaded(now, conn, seq, item);
                }
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.rules.poll_effect() {
            self.carry_out_one(effect);
        }
        let (connections, online) = self.rules.connection_counts();
        self.metrics.connections.set(connections);
        self.metrics.agents_online.set(online);
        let level = self.rules.mailbox_level();
        self.metrics.mailbox_items.set(level.items);
        self.metrics.mailbox_bytes.set(level.bytes);
        self.metrics.mailbox_unwritten.set(level.unwritten);
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.send(&to, &message),
            Effect::Relay {
                to,
                signal,
                from,
                otherwise,
            } => {
                if self.peers.has_ample_room(to) {
                    self.send(&[to], &signal);
                } else {
                    self.send(&[from], &otherwise);
                }
            }
            Effect::Introduce { mut to, message } => {
                to.retain(|conn| self.peers.has_ample_room(*conn));
                self.send(&to, &message);
            }
            Effect::Push { conn, note, item } => {
                self.metrics.items_pushed.add();
                self.with_peer(conn, |outbox| outbox.push(note, item));
            }
            Effect::Forward {
                to,
                note,
                item,
                from,
                forwarded,
                otherwise,
            } => {
                if self.peers.has_room_to_forward(to, &item) {
                    self.with_peer(to, |outbox| outbox.forward(note, item));
                    self.send(&[from], &forwarded);
                } else {
                    self.send(&[from], &otherwise);
                }
            }
            Effect::Load { conn, seq } => self.writer.load(conn, seq),
            Effect::AwaitRoom { conn } => {
                if self.peers.await_room(conn) {
                    self.rules.handle_room(conn);
                }
            }
            Effect::Welcome { conn } => {
                self.metrics.logins.add();
                if let Some(welcome) = self.peers.take_welcome(conn) {
                    self.with_peer(conn, |outbox| outbox.send(welcome));
                }
            }
            Effect::Extend { conn, certificate } => self.extend(conn, &certificate),
            Effect::Servers {
                conn,
                agent_id,
                until,
            } => self.tell_servers(conn, &agent_id, until),
            Effect::Expelled { agent_id } => self.ice.expel(agent_id),
            Effect::Ping { conn } => self.with_peer(conn, Outbox::ping),
            Effect::Close { conn, reason } => self.close(conn, reason),
            Effect::Store { writes, ticket } => {
                counts::writes(&self.metrics, &writes);
                self.writer.store(writes, ticket);
            }
            Effect::Founded { mesh } => {
                // The rules let only one mesh through, so this is the first time.
                let _ = self.identity.mesh.set(mesh);
                tracing::info!(%mesh, "the registry serves a mesh");
            }
            Effect::Answer { ticket, outcome } => {
                self.orders.answer(ticket, outcome.map(orders::reply));
            }
        }
    }

    /// Lets a member's certificate live longer, as long as the mesh allows.
    fn extend(&mut self, conn: ConnId, certificate: &Certificate) {
        match extended(&self.identity, certificate) {
            Ok(extended) => {
                self.metrics.certificates_extended.add();
                self.rules.handle_extended(Instant::now(), conn, extended);
            }
            Err(fault) => tracing::warn!(conn = conn.0, %fault, "a certificate was not extended"),
        }
    }

    /// Tells a member its STUN and TURN servers, by the name that it has reached us by.
    fn tell_servers(&mut self, conn: ConnId, agent: &AgentId, until: Instant) {
        let Some(origin) = self.peers.origin(conn) else {
            return;
        };
        let clock = Clock::now();
        let ends_ms = clock.unix_ms(until);
        let servers = self.ice.servers(origin, agent, (clock.unix_ms, ends_ms));
        self.send(&[conn], &ServerMessage::IceServers(servers));
    }

    fn send(&mut self, to: &[ConnId], message: &ServerMessage) {
        counts::message(&self.metrics, message);
        let text = Utf8Bytes::from(message.encode());
        for conn in to {
            self.with_peer(*conn, |outbox| outbox.send(text.clone()));
        }
    }

    /// Queues something; a connection that does not read is cut off.
    fn with_peer<E>(&mut self, conn: ConnId, send: impl FnOnce(&Outbox) -> Result<(), E>) {
        if self.peers.queue(conn, send).is_err() {
            self.metrics.closed_slow_reader.add();
            tracing::info!(conn = conn.0, "connection cut off: it does not read");
            self.rules.handle_closed(conn);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        tracing::debug!(conn = conn.0, ?reason, "connection closed");
        counts::close(&self.metrics, reason);
        self.peers.remove(conn);
    }
}

fn extended(identity: &Identity, certificate: &Certificate) -> Result<Extended, Fault> {
    let clock = Clock::now();
    let mesh = identity.mesh()?;
    let mut certificates = identity.certificates();
    let member = certificates
        .verify_renewable(certificate, &mesh, clock.unix_ms)
        .map_err(|error| error.fault())?;
    let until_ms = clock.unix_ms.saturating_add(CERTIFICATE_LIFE_MS);
    let extension = certificate::extend(&identity.keypair, &member, until_ms, clock.unix_ms);
    let longer = with_extension(certificate, &extension).map_err(|error| error.fault())?;
    let member = certificates
        .verify(&longer, &mesh, clock.unix_ms)
        .map_err(|error| error.fault())?;
    let ends_ms = member.expires_ms.saturating_add(CLOCK_LEEWAY_MS);
    Ok(Extended {
        extension,
        certificate: longer,
        expires: clock.instant(ends_ms),
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
