//! The connections and when each is next due.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use waymesh_proto::control::{PING_INTERVAL_MS, SILENCE_MAX_MS};
use waymesh_proto::{AgentId, Name};

use super::addresses::{Place, Tally};
use super::rate::{Bucket, share_of_second};
use super::{
    CONNECTIONS_MAX, ConnId, JOIN_WAIT, JOINING_MAX, JOINING_PER_ADDRESS_MAX, LOGIN_TIMEOUT,
    POST_BYTES_BURST, POST_BYTES_PER_SECOND, POSTS_BURST, POSTS_PER_SECOND, SERVERS_ASKED_BURST,
    SERVERS_ASKED_EVERY, SIGNALS_BURST, SIGNALS_PER_SECOND, STRANGERS_MAX,
    STRANGERS_PER_ADDRESS_MAX, VerifiedLogin,
};

const PING_INTERVAL: Duration = Duration::from_millis(PING_INTERVAL_MS);
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

const SIGNAL_COST: Duration = share_of_second(SIGNALS_PER_SECOND);
const POST_COST: Duration = share_of_second(POSTS_PER_SECOND);

/// What a thousand bytes of posts cost.
const POST_KILOBYTE_COST: Duration = share_of_second(POST_BYTES_PER_SECOND / 1_000);

/// A timer that is late by more than this was not late: the process stood still.
/// Chosen: more than a busy host is late; with the pause between pings, less
/// than the silence that ends a connection.
const STALL_MIN: Duration = Duration::from_secs(3);

/// What the rules are due for; of two things at once, the first here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A connection should have logged in by then.
    Login,
    /// A connection has waited for an admin as long as it may.
    Join,
    /// The certificate of a connected member ends.
    Expiry,
    /// Something should have been heard of a connection by then.
    Silence,
    /// A connection is to be pinged.
    Ping,
    /// The certificate of a connected member is to be extended.
    Extension,
    /// The credentials that a connected member has for TURN servers are half over.
    Servers,
    /// The life of an item ends.
    Item,
    /// A request to join or a pairing code is too old.
    Request,
}

/// Whom a connection speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) name: Name,
    pub(super) agent_id: AgentId,
}

/// How far a connection has come.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// It has not logged in.
    Greeting,
    /// It waits for an admin to admit this agent.
    Joining(AgentId),
    /// It has proved who it is, and that is being made durable.
    Storing(Box<VerifiedLogin>),
    /// It speaks for this agent.
    LoggedIn(Session),
}

impl Phase {
    const fn is_stranger(&self) -> bool {
        !matches!(self, Self::LoggedIn(_))
    }

    const fn is_joining(&self) -> bool {
        matches!(self, Self::Joining(_))
    }
}

/// What is due of a member's certificate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// When it ends.
    pub(super) ends: Instant,
    /// Until when it may be extended.
    pub(super) renewable_until: Option<Instant>,
    /// When it is to be extended, unless that was asked for or cannot be.
    pub(super) extend: Option<Instant>,
}

/// Why no more connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowded {
    /// There are too many.
    All,
    /// Too many of them have not logged in.
    Strangers,
    /// Too many from this address have not logged in.
    Place,
}

#[derive(Debug)]
struct Connection {
    phase: Phase,
    place: Place,
    since: Instant,
    heard: Instant,
    pinged: Instant,
    refused_messages: u32,
    signals: Bucket,
    posts: Bucket,
    post_bytes: Bucket,
    asks: Bucket,
    term: Option<Term>,
    /// When it is to be told its servers anew.
    servers: Option<Instant>,
    due: Option<(Instant, Due)>,
}

impl Connection {
    /// The next due time as things stand. Hearing from it moves only the
    /// silence, so the queue may hold an earlier time than this.
    fn next_due(&self) -> Option<(Instant, Due)> {
        let ping = (self.pinged + PING_INTERVAL, Due::Ping);
        let silence = (self.heard + SILENCE_MAX, Due::Silence);
        match self.phase {
            Phase::Greeting => Some((self.since + LOGIN_TIMEOUT, Due::Login)),
            Phase::Joining(_) => Some(ping.min(silence).min((self.since + JOIN_WAIT, Due::Join))),
            Phase::Storing(_) => None,
            Phase::LoggedIn(_) => {
                let ends = self.term.map(|term| (term.ends, Due::Expiry));
                let extend = self.term.and_then(|term| term.extend);
                let extend = extend.map(|at| (at, Due::Extension));
                let servers = self.servers.map(|at| (at, Due::Servers));
                let term = ends.into_iter().chain(extend).chain(servers);
                term.chain([ping, silence]).min()
            }
        }
    }
}

/// All connections. Invariants: `queue` holds exactly the `due` of each;
/// `strangers` and `joining` count those in these phases.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_id: BTreeMap<ConnId, Connection>,
    queue: BTreeSet<(Instant, ConnId)>,
    strangers: Tally,
    joining: Tally,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether one more connection from there may be taken.
    pub(super) fn check_room(&self, address: IpAddr) -> Result<(), Crowded> {
        if self.by_id.len() >= CONNECTIONS_MAX {
            return Err(Crowded::All);
        }
        if self.strangers.all() >= STRANGERS_MAX {
            return Err(Crowded::Strangers);
        }
        if !self
            .strangers
            .has_share(address.into(), STRANGERS_PER_ADDRESS_MAX)
        {
            return Err(Crowded::Place);
        }
        Ok(())
    }

    /// Whether this connection too may wait for an admin.
    pub(super) fn has_room_to_join(&self, conn: ConnId) -> bool {
        let place = self.place(conn);
        let has_share =
            place.is_none_or(|place| self.joining.has_share(place, JOINING_PER_ADDRESS_MAX));
        has_share && self.joining.all() < JOINING_MAX
    }

    pub(super) fn open(&mut self, now: Instant, conn: ConnId, address: IpAddr) {
        let connection = Connection {
            phase: Phase::Greeting,
            place: address.into(),
            since: now,
            heard: now,
            pinged: now,
            refused_messages: 0,
            signals: Bucket::full(now),
            posts: Bucket::full(now),
            post_bytes: Bucket::full(now),
            asks: Bucket::full(now),
            term: None,
            servers: None,
            due: None,
        };
        self.strangers.add(connection.place);
        self.by_id.insert(conn, connection);
        self.requeue(conn);
    }

    /// Removes the connection and gives its last phase.
    pub(super) fn close(&mut self, conn: ConnId) -> Option<Phase> {
        let connection = self.by_id.remove(&conn)?;
        if let Some((at, _)) = connection.due {
            self.queue.remove(&(at, conn));
        }
        self.count_out(&connection.phase, connection.place);
        Some(connection.phase)
    }

    fn count_out(&mut self, phase: &Phase, place: Place) {
        if phase.is_stranger() {
            self.strangers.sub(place);
        }
        if phase.is_joining() {
            self.joining.sub(place);
        }
    }

    pub(super) fn phase(&self, conn: ConnId) -> Option<&Phase> {
        self.by_id.get(&conn).map(|c| &c.phase)
    }

    pub(super) fn place(&self, conn: ConnId) -> Option<Place> {
        self.by_id.get(&conn).map(|c| c.place)
    }

    /// Whom the connection speaks for; `None` before its login.
    pub(super) fn session(&self, conn: ConnId) -> Option<&Session> {
        match self.phase(conn)? {
            Phase::LoggedIn(session) => Some(session),
            _ => None,
        }
    }

    /// All connections that have logged in.
    pub(super) fn logged_in(&self) -> Vec<ConnId> {
        let sessions = self.by_id.iter();
        let logged_in = sessions.filter(|(_, c)| !c.phase.is_stranger());
        logged_in.map(|(conn, _)| *conn).collect()
    }

    pub(super) fn set_phase(&mut self, now: Instant, conn: ConnId, phase: Phase) {
        let Some(connection) = self.by_id.get_mut(&conn) else {
            return;
        };
        connection.since = now;
        connection.heard = now;
        connection.pinged = now;
        let place = connection.place;
        let (is_stranger, is_joining) = (phase.is_stranger(), phase.is_joining());
        let old = std::mem::replace(&mut connection.phase, phase);
        self.count_out(&old, place);
        if is_stranger {
            self.strangers.add(place);
        }
        if is_joining {
            self.joining.add(place);
        }
        self.requeue(conn);
    }

    /// What is due of the certificate of whoever has logged in here.
    pub(super) fn set_term(&mut self, conn: ConnId, term: Term) {
        if let Some(connection) = self.by_id.get_mut(&conn) {
            connection.term = Some(term);
            self.requeue(conn);
        }
    }

    pub(super) fn term(&self, conn: ConnId) -> Option<Term> {
        self.by_id.get(&conn)?.term
    }

    /// When whoever has logged in here is to be told its servers anew; `None`
    /// is when its certificate was extended, if ever.
    pub(super) fn set_servers_due(&mut self, conn: ConnId, at: Option<Instant>) {
        if let Some(connection) = self.by_id.get_mut(&conn) {
            connection.servers = at;
            self.requeue(conn);
        }
    }

    pub(super) fn servers_due(&self, conn: ConnId) -> Option<Instant> {
        self.by_id.get(&conn)?.servers
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
        let burst = SIGNAL_COST * SIGNALS_BURST;
        let connection = self.by_id.get_mut(&conn);
        connection.is_some_and(|c| c.signals.pay(now, SIGNAL_COST, burst))
    }

    /// Counts one question for servers; says whether the connection may ask it.
    pub(super) fn pay_ask(&mut self, now: Instant, conn: ConnId) -> bool {
        let burst = SERVERS_ASKED_EVERY * SERVERS_ASKED_BURST;
        let connection = self.by_id.get_mut(&conn);
        connection.is_some_and(|c| c.asks.pay(now, SERVERS_ASKED_EVERY, burst))
    }

    /// Counts one posted item; says whether the connection may post it.
    pub(super) fn pay_post(&mut self, now: Instant, conn: ConnId, bytes: usize) -> bool {
        let Some(connection) = self.by_id.get_mut(&conn) else {
            return false;
        };
        let kilobytes = u32::try_from(bytes.div_ceil(1_000)).unwrap_or(u32::MAX);
        let cost = POST_KILOBYTE_COST.saturating_mul(kilobytes);
        let burst = POST_KILOBYTE_COST * (POST_BYTES_BURST / 1_000);
        connection
            .posts
            .pay(now, POST_COST, POST_COST * POSTS_BURST)
            && connection.post_bytes.pay(now, cost, burst)
    }

    /// Nobody could be heard while the process stood still, and what was said
    /// meanwhile is yet to be read: for the connections that time has not passed.
    /// So none is taken for silent, and not all are pinged at once.
    pub(super) fn notice_stall(&mut self, now: Instant) {
        let due = self.next_due().map(|(at, _)| at);
        let late = due.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if late < STALL_MIN {
            return;
        }
        for connection in self.by_id.values_mut() {
            let Connection {
                since,
                heard,
                pinged,
                ..
            } = connection;
            for moment in [since, heard, pinged] {
                *moment = (*moment + late).min(now);
            }
        }
        for conn in self.by_id.keys().copied().collect::<Vec<_>>() {
            self.requeue(conn);
        }
    }

    pub(super) fn next_due(&self) -> Option<(Instant, Due)> {
        let (_, conn) = self.queue.first()?;
        self.by_id.get(conn)?.due
    }

    /// Takes a connection whose time has come; the caller does what is due, so
    /// that it is not due for the same again.
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
