//! The registry's rules: who may log in, who is there, who learns of it, and
//! where a signal goes.
//!
//! The rules are told of connections, of *verified* logins and of decoded
//! messages, each with the time, and answer with [`Effect`]s in the order in
//! which they must be carried out. They own the bindings of names, presence,
//! skills and watchers; they own no socket, no file and no key. The registry
//! program and the simulated world run the same rules.
//!
//! Invariants:
//! - A name belongs to the agent that first took it, for ever. The first
//!   welcome waits until the binding is durable.
//! - At most one connection speaks for an agent: that of its newest incarnation.
//! - Whoever watches an agent is told of every change of its record, in order.
//! - A connection that was closed by the rules or by
//!   [`Registry::handle_closed`] is never named in a later effect.

mod agents;
mod connections;
mod effect;
mod listings;
mod messages;
#[cfg(test)]
mod tests;
mod watchers;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use waymesh_proto::control::{InstanceId, Login, ServerMessage};
use waymesh_proto::{AgentId, Code, Fault, Incarnation, Name};

use agents::Agents;
use connections::{Connections, Phase};
use listings::Listings;
use watchers::Watchers;

pub use connections::Due;
pub use effect::{CloseReason, Effect, StoreTicket, StoredAgent};
pub use listings::{Page, Query};

/// One connection, numbered by the program; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// How long a new connection may take to log in. Chosen: many round trips of a bad line.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Names that one registry binds; a login with one more is refused with
/// `rate_limited`. Chosen: names and keys take some megabytes.
pub const AGENTS_MAX: usize = 16_384;

/// Skills of all agents together, offline ones too, bytes of JSON; skills that
/// do not fit are refused with `rate_limited`. Chosen: 4 KiB for each of
/// [`AGENTS_MAX`] agents; parsed, they take several times as much memory.
pub const ALL_SKILLS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Agents of one page of [`Registry::find`] at most. Chosen.
pub const PAGE_MAX_AGENTS: usize = 1_024;

/// Where a page of [`Registry::find`] ends even with fewer agents, bytes of
/// JSON; a single agent always fits. Chosen.
pub const PAGE_MAX_BYTES: usize = 1024 * 1024;

/// Questions of one connection that may wait for their answer; one more is
/// refused with `queue_full`. Chosen: all names that may be watched, and as
/// many finds.
pub const LISTINGS_MAX: usize = 2 * WATCHED_NAMES_MAX;

/// Connections at a time; one more is refused with `rate_limited`. Chosen.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Names that one connection may watch; one more is refused with `queue_full`.
/// Chosen: whoever wants more watches all.
pub const WATCHED_NAMES_MAX: usize = 1_024;

/// Refused messages after which a connection is closed. Chosen: a newer
/// program that tries new verbs survives, a flood does not.
pub const REFUSED_MESSAGES_MAX: u32 = 16;

/// Signals that one connection may send each second in the long run; one more
/// is answered with `rate_limited`. Chosen: a node that tries every link once a
/// second to fifty peers stays below.
pub const SIGNALS_PER_SECOND: u32 = 200;

/// Signals that one connection may send at once after a pause. Chosen: a node
/// that starts calls a hundred peers, with ten candidates each.
pub const SIGNALS_BURST: u32 = 1_000;

/// A login whose signature the program has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedLogin {
    /// The name that the agent wants.
    pub name: Name,
    /// The agent.
    pub agent_id: AgentId,
    /// The node's incarnation.
    pub incarnation: Incarnation,
    /// The node's process.
    pub instance: InstanceId,
}

impl From<&Login> for VerifiedLogin {
    /// To be called once the signature is known to be good.
    fn from(login: &Login) -> Self {
        Self {
            name: login.name.clone(),
            agent_id: login.agent_id,
            incarnation: login.incarnation,
            instance: login.instance,
        }
    }
}

/// The rules and all that they remember.
#[derive(Debug)]
pub struct Registry {
    agents: Agents,
    connections: Connections,
    watchers: Watchers,
    listings: Listings,
    effects: VecDeque<Effect>,
}

impl Registry {
    /// Starts with the agents of earlier runs, all offline.
    pub fn new(stored: impl IntoIterator<Item = StoredAgent>) -> Self {
        Self {
            agents: Agents::new(stored),
            connections: Connections::default(),
            watchers: Watchers::default(),
            listings: Listings::default(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do; to be called until it gives `None` after every `handle_*`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Registry::handle_timeout`] must be called, and for what.
    pub fn poll_timeout(&self) -> Option<(Instant, Due)> {
        self.connections.next_due()
    }

    /// One page of the agents that fit, offline ones too: at most `limit` and
    /// [`PAGE_MAX_AGENTS`], and [`PAGE_MAX_BYTES`].
    pub fn find(&self, query: &Query, limit: NonZeroUsize) -> Page {
        let limit = limit.get().min(PAGE_MAX_AGENTS);
        self.agents.page(query, limit, PAGE_MAX_BYTES)
    }

    /// Connections now, and those of them that are logged in.
    pub fn connection_counts(&self) -> (usize, usize) {
        (self.connections.len(), self.agents.online_count())
    }

    /// A connection was made; it must log in within [`LOGIN_TIMEOUT`].
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.connections.open(now, conn);
            let fault = Fault::new(Code::RateLimited, "the registry has too many connections")
                .with_hint("try again later");
            self.refuse(conn, fault, CloseReason::Refused);
            return;
        }
        self.connections.open(now, conn);
    }

    /// A connection is gone, or is to be counted as gone; whoever watches its agent is told.
    pub fn handle_closed(&mut self, conn: ConnId) {
        self.forget(conn);
    }

    /// Something arrived on the connection, be it only a pong.
    pub fn handle_heard(&mut self, now: Instant, conn: ConnId) {
        self.connections.heard(now, conn);
    }

    /// The program cannot go on with the connection: a login that does not
    /// verify, bytes after which the stream is broken. The other side is told why.
    pub fn handle_refused(&mut self, conn: ConnId, fault: Fault) {
        self.refuse(conn, fault, CloseReason::Refused);
    }

    /// A connection has proved who it is.
    pub fn handle_login(&mut self, now: Instant, conn: ConnId, login: VerifiedLogin) {
        self.connections.heard(now, conn);
        match self.connections.phase(conn) {
            None => {}
            Some(Phase::Greeting) => match self.check(&login) {
                Ok(()) => self.bind_then_grant(now, conn, login),
                Err(fault) => self.refuse(conn, fault, CloseReason::Refused),
            },
            Some(_) => {
                let fault = Fault::new(Code::BadRequest, "this connection has logged in already");
                self.complain(conn, fault);
            }
        }
    }

    fn check(&self, login: &VerifiedLogin) -> Result<(), Fault> {
        self.agents.check_name(login)?;
        self.agents.check_life(login)
    }

    /// Grants a known name at once and a new one when it is durable.
    fn bind_then_grant(&mut self, now: Instant, conn: ConnId, login: VerifiedLogin) {
        if self.agents.is_bound(&login.name) {
            self.grant(now, conn, &login);
            return;
        }
        let ticket = StoreTicket {
            conn,
            name: login.name.clone(),
        };
        let agent = self.agents.reserve(&login);
        self.connections.set_phase(now, conn, Phase::Storing(login));
        self.effects.push_back(Effect::Store {
            agent,
            ticket: Some(ticket),
        });
    }

    /// What became of an [`Effect::Store`] that had a ticket.
    pub fn handle_stored(&mut self, now: Instant, ticket: StoreTicket, outcome: Result<(), Fault>) {
        let login = match self.connections.phase(ticket.conn) {
            Some(Phase::Storing(login)) => Some(login.clone()),
            _ => None,
        };
        if let Err(fault) = outcome {
            self.agents.cancel_reservation(&ticket.name);
            self.refuse(ticket.conn, fault, CloseReason::Refused);
            return;
        }
        self.agents.confirm(&ticket.name);
        if let Some(login) = login {
            match self.check(&login) {
                Ok(()) => self.grant(now, ticket.conn, &login),
                Err(fault) => self.refuse(ticket.conn, fault, CloseReason::Refused),
            }
        }
    }

    fn grant(&mut self, now: Instant, conn: ConnId, login: &VerifiedLogin) {
        self.displace_older(login);
        let is_new_life = self.agents.set_online(conn, login);
        let phase = Phase::LoggedIn(login.name.clone(), login.agent_id);
        self.connections.set_phase(now, conn, phase);
        self.effects.push_back(Effect::Welcome { conn });
        if is_new_life {
            self.store(&login.name);
        }
        self.announce(&login.name);
    }

    /// Ends the connection that spoke for the agent until now.
    fn displace_older(&mut self, login: &VerifiedLogin) {
        let Some(old) = self.agents.set_offline(&login.agent_id) else {
            return;
        };
        if old.name != login.name {
            self.announce(&old.name);
        }
        if old.instance == login.instance {
            self.close(old.conn, CloseReason::Replaced);
        } else {
            let fault = Fault::new(
                Code::IdentityInUse,
                "another process with a newer incarnation logged in as this agent",
            )
            .with_hint("give every node a data directory of its own");
            self.refuse(old.conn, fault, CloseReason::Replaced);
        }
    }

    /// Pings who is due, and closes who was silent or did not log in.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((conn, due)) = self.connections.pop_due(now) {
            match due {
                Due::Login => {
                    let fault = Fault::new(Code::Timeout, "no login came within 5 s");
                    self.refuse(conn, fault, CloseReason::LoginTimeout);
                }
                Due::Silence => self.close(conn, CloseReason::Silent),
                Due::Ping => {
                    self.connections.pinged(now, conn);
                    self.effects.push_back(Effect::Ping { conn });
                }
            }
        }
    }

    /// Tells whoever watches a name what its record is now.
    fn announce(&mut self, name: &Name) {
        let to = self.watchers.of(name);
        if to.is_empty() {
            return;
        }
        if let Some(record) = self.agents.record(name) {
            let agents = vec![record];
            self.send(to, ServerMessage::Records { agents });
        }
    }

    fn store(&mut self, name: &Name) {
        if let Some(agent) = self.agents.stored(name) {
            self.effects.push_back(Effect::Store {
                agent,
                ticket: None,
            });
        }
    }

    fn send(&mut self, to: Vec<ConnId>, message: ServerMessage) {
        self.effects.push_back(Effect::Send { to, message });
    }

    /// Tells why a message was refused; closes the connection when it is one too many.
    fn complain(&mut self, conn: ConnId, fault: Fault) {
        match self.connections.count_refused(conn) {
            Some(count) if count > REFUSED_MESSAGES_MAX => {
                let fault = Fault::new(Code::RateLimited, "too many refused messages")
                    .with_hint(format!("The last one: {fault}"));
                self.refuse(conn, fault, CloseReason::Abuse);
            }
            Some(_) => self.send(vec![conn], ServerMessage::Error { error: fault }),
            None => {}
        }
    }

    fn refuse(&mut self, conn: ConnId, error: Fault, reason: CloseReason) {
        if self.connections.phase(conn).is_some() {
            self.send(vec![conn], ServerMessage::Error { error });
            self.close(conn, reason);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.effects.push_back(Effect::Close { conn, reason });
        self.forget(conn);
    }

    fn forget(&mut self, conn: ConnId) {
        self.watchers.forget(conn);
        self.listings.forget(conn);
        let Some(Phase::LoggedIn(name, agent_id)) = self.connections.close(conn) else {
            return;
        };
        if self.agents.is_spoken_for_by(&agent_id, conn) {
            self.agents.set_offline(&agent_id);
            self.announce(&name);
        }
    }
}
