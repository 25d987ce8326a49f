//! The registry's rules: who may log in, who is there, who learns of it, where
//! a signal goes, and what waits in whose mailbox.
//!
//! The rules are told of connections, of *verified* logins, of decoded
//! messages and of items, each with the time, and answer with [`Effect`]s in
//! the order in which they must be carried out. They own the bindings of
//! names, presence, skills, watchers, the memory of membership, requests to
//! join and the index of the mailboxes; they own no socket, no file, no key
//! and no item's bytes. The registry program and the simulated world run the
//! same rules.
//!
//! Invariants:
//! - A name belongs to the agent that first took it, until that is revoked.
//!   The first welcome waits until the binding is durable.
//! - At most one connection speaks for an agent: that of its newest incarnation.
//! - Whoever watches an agent is told of every change of its record, in order.
//! - A connection that was closed by the rules or by
//!   [`Registry::handle_closed`] is never named in a later effect, except as
//!   one that a load was for.

mod addresses;
mod agents;
mod answers;
mod connections;
mod disk;
mod effect;
mod introductions;
mod joins;
mod limits;
mod listings;
mod login;
mod mailbox;
mod membership;
mod messages;
mod orders;
mod rate;
mod rolls;
mod servers;
mod stored;
#[cfg(test)]
mod tests;
mod watchers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use waymesh_proto::control::{MeshKey, PairingCode, ServerMessage};
use waymesh_proto::{Code, Fault, InviteId, Name, RequestId};

use agents::Agents;
use answers::Answers;
use connections::{Connections, Crowded, Phase, Session};
use joins::Joins;
use listings::Listings;
use mailbox::Mailboxes;
use rolls::Rolls;
use watchers::Watchers;

pub use connections::Due;
pub use disk::Disk;
pub use effect::{CloseReason, Effect, Gone, Ticket, Write};
pub use joins::{Introduction, VerifiedJoin};
pub use limits::*;
pub use listings::{Page, Query};
pub use login::VerifiedLogin;
pub use mailbox::{ItemSeq, MailboxLevel, StoredItem};
pub use membership::Extended;
pub use orders::{Order, OrderTicket, Reply};
pub use rolls::Invitation;
pub use stored::{Decision, Revoked, Stored, StoredAgent, StoredJoin, StoredRevocation};

/// One connection, numbered by the program; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Who waits for something to be durable, and for what.
#[derive(Debug, Clone, PartialEq)]
enum Waits {
    /// A login: the name or the admission is new.
    Login {
        conn: ConnId,
        agent: Box<StoredAgent>,
        admission: Option<InviteId>,
    },
    Item(ItemSeq),
    Join {
        request: RequestId,
        /// The code that it cost, and when that would have ended.
        code: Option<(PairingCode, Instant)>,
    },
    Founding {
        ticket: OrderTicket,
        mesh: MeshKey,
    },
    Decision {
        ticket: OrderTicket,
        join: Box<StoredJoin>,
    },
    Revocation {
        ticket: OrderTicket,
        revocations: Vec<StoredRevocation>,
    },
    Code {
        ticket: OrderTicket,
        code: PairingCode,
    },
}

/// The rules and all that they remember.
#[derive(Debug)]
pub struct Registry {
    mesh: Option<MeshKey>,
    agents: Agents,
    connections: Connections,
    watchers: Watchers,
    listings: Listings,
    rolls: Rolls,
    joins: Joins,
    mailboxes: Mailboxes,
    /// How long the credentials for servers are good; `None` when there are no servers.
    servers_life: Option<Duration>,
    answers: Answers,
    effects: VecDeque<Effect>,
}

impl Registry {
    /// Starts with what earlier runs have stored; everybody is offline.
    pub fn new(stored: Stored) -> Self {
        Self {
            mesh: stored.mesh,
            agents: Agents::new(stored.agents),
            connections: Connections::default(),
            watchers: Watchers::default(),
            listings: Listings::default(),
            rolls: Rolls::new(stored.admissions, stored.revocations),
            joins: Joins::new(stored.joins, stored.codes),
            mailboxes: Mailboxes::new(stored.items),
            servers_life: None,
            answers: Answers::default(),
            effects: VecDeque::new(),
        }
    }

    /// From now on members are told STUN and TURN servers, with credentials
    /// that are good for so long ([`Effect::Servers`]).
    pub const fn offer_servers(&mut self, life: Duration) {
        self.servers_life = Some(life);
    }

    /// The next thing to do; to be called until it gives `None` after every
    /// `handle_*`, or after some that belong together.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        while self.effects.is_empty() {
            let conn = self.answers.next_conn()?;
            self.tell_answers(conn);
        }
        self.effects.pop_front()
    }

    /// When [`Registry::handle_timeout`] must be called, and for what.
    pub fn poll_timeout(&self) -> Option<(Instant, Due)> {
        let item = self.mailboxes.next_expiry().map(|at| (at, Due::Item));
        let request = self.joins.next_end().map(|at| (at, Due::Request));
        let dues = [self.connections.next_due(), item, request];
        dues.into_iter().flatten().min()
    }

    /// One page of the agents that fit, offline ones too: at most `limit` and
    /// [`PAGE_MAX_AGENTS`], and [`PAGE_MAX_BYTES`].
    pub fn find(&self, query: &Query, limit: NonZeroUsize) -> Page {
        let limit = limit.get().min(PAGE_MAX_AGENTS);
        let (members, next) = self.agents.page(query, limit, PAGE_MAX_BYTES);
        let agents = members.into_iter().map(|member| member.agent).collect();
        Page { agents, next }
    }

    /// Connections now, and those of them that are logged in.
    pub fn connection_counts(&self) -> (usize, usize) {
        (self.connections.len(), self.agents.online_count())
    }

    /// What all mailboxes hold now.
    pub fn mailbox_level(&self) -> MailboxLevel {
        self.mailboxes.level()
    }

    /// A connection was made; it must log in within [`LOGIN_TIMEOUT`].
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId, address: IpAddr) {
        let room = self.connections.check_room(address);
        self.connections.open(now, conn, address);
        let Err(crowded) = room else { return };
        let text = match crowded {
            Crowded::All => "the registry has too many connections",
            Crowded::Strangers => "too many connections have not logged in",
            Crowded::Place => "too many connections from this address have not logged in",
        };
        let fault = Fault::new(Code::RateLimited, text).with_hint("try again later");
        self.refuse(conn, fault, CloseReason::Refused);
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

    /// What became of an [`Effect::Store`] that had a ticket.
    pub fn handle_stored(&mut self, now: Instant, ticket: Ticket, outcome: Result<(), Fault>) {
        let (ticket, reply) = match ticket.0 {
            Waits::Login {
                conn,
                agent,
                admission,
            } => return self.handle_login_stored(now, conn, &agent, admission, outcome),
            Waits::Item(seq) => return self.handle_item_stored(seq, outcome),
            Waits::Join { request, code } => {
                return self.handle_join_stored(request, code, outcome);
            }
            Waits::Founding { ticket, mesh } => match outcome {
                Ok(()) => return self.handle_founded(ticket, mesh),
                Err(fault) => (ticket, Err(fault)),
            },
            Waits::Decision { ticket, join } => {
                let done = outcome.map(|()| self.handle_decided(now, *join));
                (ticket, done.map(|()| Reply::Done))
            }
            Waits::Revocation {
                ticket,
                revocations,
            } => {
                let done = outcome.map(|()| self.apply_revocations(revocations));
                (ticket, done.map(|()| Reply::Done))
            }
            Waits::Code { ticket, code } => {
                if outcome.is_err() {
                    self.joins.take_code(code);
                }
                (ticket, outcome.map(|()| Reply::PairingCode(code)))
            }
        };
        let outcome = reply;
        self.effects.push_back(Effect::Answer { ticket, outcome });
    }

    /// Pings who is due, closes who was silent or did not log in, and ends
    /// what is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.connections.notice_stall(now);
        self.expire_items(now);
        self.end_requests(now);
        while let Some((conn, due)) = self.connections.pop_due(now) {
            match due {
                Due::Login => {
                    let fault = Fault::new(Code::Timeout, "no login came within 5 s");
                    self.refuse(conn, fault, CloseReason::LoginTimeout);
                }
                Due::Join => {
                    let fault = Fault::new(Code::Timeout, "no admin has decided within 10 min")
                        .with_hint("ask again: the request is remembered");
                    self.refuse(conn, fault, CloseReason::JoinTimeout);
                }
                Due::Expiry => self.end_term(conn),
                Due::Extension => self.ask_to_extend(conn),
                Due::Servers => self.tell_servers(now, conn),
                Due::Silence => self.close(conn, CloseReason::Silent),
                Due::Ping => {
                    self.connections.pinged(now, conn);
                    self.effects.push_back(Effect::Ping { conn });
                }
                Due::Item | Due::Request => {}
            }
        }
    }

    /// Tells whoever watches a name what its record is now.
    fn announce(&mut self, name: &Name) {
        self.introduce(name);
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
            self.write(Write::Agent(Box::new(agent)));
        }
    }

    /// Has something remembered that nobody waits for.
    fn write(&mut self, write: Write) {
        self.effects.push_back(Effect::Store {
            writes: vec![write],
            ticket: None,
        });
    }

    fn send(&mut self, to: Vec<ConnId>, message: ServerMessage) {
        self.effects.push_back(Effect::Send { to, message });
    }

    /// Tells a sender what became of its items; nobody is told on a closed connection.
    fn tell_answers(&mut self, conn: ConnId) {
        let is_open = self.connections.phase(conn).is_some();
        while let Some(message) = self.answers.take(conn) {
            if is_open {
                self.send(vec![conn], message);
            }
        }
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

    /// Who speaks on this connection; whoever has not logged in is told to and closed.
    fn session_or_refuse(&mut self, conn: ConnId) -> Option<Session> {
        let session = self.connections.session(conn).cloned();
        if session.is_none() {
            let fault = Fault::new(Code::Unauthorized, "log in first");
            self.refuse(conn, fault, CloseReason::Refused);
        }
        session
    }

    fn refuse(&mut self, conn: ConnId, error: Fault, reason: CloseReason) {
        if self.connections.phase(conn).is_some() {
            self.tell_answers(conn);
            self.send(vec![conn], ServerMessage::Error { error });
            self.close(conn, reason);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.tell_answers(conn);
        self.effects.push_back(Effect::Close { conn, reason });
        self.forget(conn);
    }

    fn forget(&mut self, conn: ConnId) {
        self.watchers.forget(conn);
        self.listings.forget(conn);
        self.mailboxes.forget(conn);
        self.answers.forget(conn);
        match self.connections.close(conn) {
            Some(Phase::Joining(agent_id)) => self.joins.forget(conn, &agent_id),
            Some(Phase::LoggedIn(Session { name, agent_id }))
                if self.agents.is_spoken_for_by(&agent_id, conn) =>
            {
                self.agents.set_offline(&agent_id);
                self.announce(&name);
            }
            _ => {}
        }
    }
}
