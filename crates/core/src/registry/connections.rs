//! The connections and when each is next due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_proto::control::{PING_INTERVAL_MS, SILENCE_MAX_MS};
use waymesh_proto::{AgentId, Name};

use super::{ConnId, LOGIN_TIMEOUT, SIGNALS_BURST, SIGNALS_PER_SECOND, VerifiedLogin};

const PING_INTERVAL: Duration = Duration::from_millis(PING_INTERVAL_MS);
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// What one signal costs: a token bucket that is kept as the time when it is full again.
const SIGNAL_COST: Duration = Duration::from_nanos(1_000_000_000 / SIGNALS_PER_SECOND as u64);

/// What a connection is due for; of two things at once, the first here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// It should have logged in by then.
    Login,
    /// Something should have been heard of it by then.
    Silence,
    /// It is to be pinged.
    Ping,
}

/// How far a connection has come.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// It has not logged in.
    Greeting,
    /// It has proved who it is, and its name is being made durable.
    Storing(VerifiedLogin),
    /// It speaks for this agent.
    LoggedIn(Name, AgentId),
}

#[derive(Debug)]
struct Connection {
    phase: Phase,
    heard: Instant,
    pinged: Instant,
    refused_messages: u32,
    /// When all of its signals will be paid for.
    signals_paid: Instant,
    due: Option<(Instant, Due)>,
}

impl Connection {
    /// The next due time as things stand. Hearing from it moves only the
    /// silence, so the queue may hold an earlier time than this.
    fn next_due(&self) -> Option<(Instant, Due)> {
        match self.phase {
            Phase::Greeting => Some((self.pinged + LOGIN_TIMEOUT, Due::Login)),
            Phase::Storing(_) => None,
            Phase::LoggedIn(..) => {
                let ping = (self.pinged + PING_INTERVAL, Due::Ping);
                let silence = (self.heard + SILENCE_MAX, Due::Silence);
                Some(ping.min(silence))
            }
        }
    }
}

/// All connections. Invariant: `queue` holds exactly the `due` of each.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_id: BTreeMap<ConnId, Connection>,
    queue: BTreeSet<(Instant, ConnId)>,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn open(&mut self, now: Instant, conn: ConnId) {
        let connection = Connection {
            phase: Phase::Greeting,
            heard: now,
            pinged: now,
            refused_messages: 0,
            signals_paid: now,
            due: None,
        };
        self.by_id.insert(conn, connection);
        self.requeue(conn);
    }

    /// Removes the connection and gives its last phase.
    pub(super) fn close(&mut self, conn: ConnId) -> Option<Phase> {
        let connection = self.by_id.remove(&conn)?;
        if let Some((at, _)) = connection.due {
            self.queue.remove(&(at, conn));
        }
        Some(connection.phase)
    }

    pub(super) fn phase(&self, conn: ConnId) -> Option<&Phase> {
        self.by_id.get(&conn).map(|c| &c.phase)
    }

    pub(super) fn set_phase(&mut self, now: Instant, conn: ConnId, phase: Phase) {
        if let Some(connection) = self.by_id.get_mut(&conn) {
            connection.phase = phase;
            connection.heard = now;
            connection.pinged = now;
            self.requeue(conn);
        }
    }

    pub(super) fn heard(&mut self, now: Instant, conn: ConnId) {
        if let Some(connection) = self.by_id.get_mut(&conn) {
            connection.heard = now;
        }
    }

    pub(super) fn pinged(&mut self, now: Instant, conn: ConnId) {
        if let Some(connection) = self.by_id.get_mut(&conn) {
            connection.pinged = now;
            self.requeue(conn);
        }
    }

    /// Counts one refused message and gives the sum; `None` for a closed connection.
    pub(super) fn count_refused(&mut self, conn: ConnId) -> Option<u32> {
        let connection = self.by_id.get_mut(&conn)?;
        connection.refused_messages = connection.refused_messages.saturating_add(1);
        Some(connection.refused_messages)
    }

    /// Counts one signal; says whether the connection may send it.
    pub(super) fn pay_signal(&mut self, now: Instant, conn: ConnId) -> bool {
        let Some(connection) = self.by_id.get_mut(&conn) else {
            return false;
        };
        let paid = connection.signals_paid.max(now) + SIGNAL_COST;
        let may = paid <= now + SIGNAL_COST * SIGNALS_BURST;
        if may {
            connection.signals_paid = paid;
        }
        may
    }

    pub(super) fn next_due(&self) -> Option<(Instant, Due)> {
        let (_, conn) = self.queue.first()?;
        self.by_id.get(conn)?.due
    }

    /// Takes a connection whose time has come; the caller pings or closes it.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(ConnId, Due)> {
        loop {
            let &(at, conn) = self.queue.first()?;
            if at > now {
                return None;
            }
            self.requeue(conn);
            if let Some((at, due)) = self.by_id.get(&conn)?.due
                && at <= now
            {
                return Some((conn, due));
            }
        }
    }

    fn requeue(&mut self, conn: ConnId) {
        if let Some(connection) = self.by_id.get_mut(&conn) {
            let next = connection.next_due();
            if let Some((at, _)) = std::mem::replace(&mut connection.due, next) {
                self.queue.remove(&(at, conn));
            }
            if let Some((at, _)) = next {
                self.queue.insert((at, conn));
            }
        }
    }
}
