//! The registry's loop: it alone owns the rules.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use waymesh_core::registry::{
    CloseReason, ConnId, Effect, Page, Query, Registry as Rules, VerifiedLogin,
};
use waymesh_proto::Fault;
use waymesh_proto::control::{ClientMessage, ServerMessage};

use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::writer::{Stored, Writer};

/// What connections and HTTP requests may have waiting for the driver; when it
/// is full, they wait, and so do their sockets.
pub(crate) const CONNECTIONS_TO_DRIVER_CAP: usize = 1_024;

/// How long the connections may take to say good-bye when the registry stops. Chosen.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Something that happened outside.
#[derive(Debug)]
pub(crate) enum Input {
    /// A control connection was made.
    Connected { conn: ConnId, outbox: Outbox },
    /// It has proved who it is; the welcome is ready to be sent.
    Login {
        conn: ConnId,
        login: VerifiedLogin,
        welcome: Utf8Bytes,
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
    /// Somebody asks over HTTP.
    Find {
        query: Query,
        limit: NonZeroUsize,
        reply: oneshot::Sender<Page>,
    },
    /// An admin wants something; it is durable when the reply comes.
    Admin {
        order: Order,
        reply: oneshot::Sender<Result<Reply, Fault>>,
    },
}

#[derive(Debug)]
struct Peer {
    outbox: Outbox,
    welcome: Option<Utf8Bytes>,
}

/// The loop and what it owns.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) rules: Rules,
    pub(crate) writer: Writer,
    pub(crate) metrics: Arc<Metrics>,
    peers: BTreeMap<ConnId, Peer>,
}

impl Driver {
    pub(crate) fn new(rules: Rules, writer: Writer, metrics: Arc<Metrics>) -> Self {
        Self {
            rules,
            writer,
            metrics,
            peers: BTreeMap::new(),
        }
    }

    /// Runs until `stop` changes or nobody is left who could say anything.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stored: mpsc::Receiver<Stored>,
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
                Some(stored) = stored.recv() => self.handle_stored(Instant::now(), stored),
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
            Input::Connected { conn, outbox } => {
                let welcome = None;
                self.peers.insert(conn, Peer { outbox, welcome });
                rules.handle_connected(now, conn);
            }
            Input::Login {
                conn,
                login,
                welcome,
            } => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.welcome = Some(welcome);
                }
                rules.handle_login(now, conn, login);
            }
            Input::Message { conn, message } => rules.handle_message(now, conn, message),
            Input::Malformed { conn, fault } => rules.handle_malformed(now, conn, fault),
            Input::Refused { conn, fault } => rules.handle_refused(conn, fault),
            Input::Heard { conn } => rules.handle_heard(now, conn),
            Input::Closed { conn } => {
                self.peers.remove(&conn);
                rules.handle_closed(conn);
            }
            Input::Room { conn } => rules.handle_room(conn),
            Input::Find {
                query,
                limit,
                reply,
            } => {
                // Whoever asked may have gone away.
                let _ = reply.send(rules.find(&query, limit));
            }
        }
    }

    fn handle_stored(&mut self, now: Instant, stored: Stored) {
        for ticket in stored.tickets {
            self.rules
                .handle_stored(now, ticket, stored.outcome.clone());
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.rules.poll_effect() {
            match effect {
                Effect::Send { to, message } => self.send(&to, &message),
                Effect::Relay {
                    to,
                    signal,
                    from,
                    otherwise,
                } => {
                    if self.has_ample_room(to) {
                        self.send(&[to], &signal);
                    } else {
                        self.send(&[from], &otherwise);
                    }
                }
                Effect::AwaitRoom { conn } => {
                    let peer = self.peers.get(&conn);
                    if peer.is_some_and(|peer| peer.outbox.await_room()) {
                        self.rules.handle_room(conn);
                    }
                }
                Effect::Welcome { conn } => self.welcome(conn),
                Effect::Ping { conn } => self.with_peer(conn, Outbox::ping),
                Effect::Close { conn, reason } => self.close(conn, reason),
                Effect::Store { agent, ticket } => self.writer.store(agent, ticket),
            }
        }
        let (connections, online) = self.rules.connection_counts();
        self.metrics.connections.set(connections);
        self.metrics.agents_online.set(online);
    }

    fn send(&mut self, to: &[ConnId], message: &ServerMessage) {
        match message {
            ServerMessage::Signal { .. } => self.metrics.signals_relayed.add(),
            ServerMessage::Undeliverable { .. } => self.metrics.signals_undeliverable.add(),
            ServerMessage::Error { .. } => self.metrics.messages_refused.add(),
            _ => {}
        }
        let text = Utf8Bytes::from(message.encode());
        for conn in to {
            self.with_peer(*conn, |outbox| outbox.send(text.clone()));
        }
    }

    fn has_ample_room(&self, conn: ConnId) -> bool {
        let peer = self.peers.get(&conn);
        peer.is_some_and(|peer| !peer.outbox.is_over_half_full())
    }

    fn welcome(&mut self, conn: ConnId) {
        self.metrics.logins.add();
        let text = self.peers.get_mut(&conn).and_then(|p| p.welcome.take());
        if let Some(text) = text {
            self.with_peer(conn, |outbox| outbox.send(text));
        }
    }

    /// Queues something; a connection that does not read is cut off.
    fn with_peer<E>(&mut self, conn: ConnId, send: impl FnOnce(&Outbox) -> Result<(), E>) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        if send(&peer.outbox).is_err()
            && let Some(peer) = self.peers.remove(&conn)
        {
            self.metrics.closed_slow_reader.add();
            tracing::info!(conn = conn.0, "connection cut off: it does not read");
            peer.outbox.cut_off();
            self.rules.handle_closed(conn);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        tracing::debug!(conn = conn.0, ?reason, "connection closed");
        let counter = match reason {
            CloseReason::Refused => &self.metrics.closed_refused,
            CloseReason::LoginTimeout => &self.metrics.closed_login_timeout,
            CloseReason::Replaced => &self.metrics.closed_replaced,
            CloseReason::Silent => &self.metrics.closed_silent,
            CloseReason::Abuse => &self.metrics.closed_abuse,
        };
        counter.add();
        self.peers.remove(&conn);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
