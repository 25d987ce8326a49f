//! A TURN client without sockets and clock (RFC 8656): one allocation on one
//! server, by datagrams or by one stream.
//!
//! ```text
//!  handle_datagram, handle_timeout ─▶┌────────┐─▶ poll_transmit  to the server
//!  permit, send, probe, close      ─▶│ Client │─▶ poll_event     what became of it
//!  set_credentials                 ─▶└────────┘─▶ poll_timeout   when to come again
//! ```
//!
//! After each call take everything from [`Client::poll_transmit`] and
//! [`Client::poll_event`], then ask [`Client::poll_timeout`]. A message is a
//! datagram, or what [`Decoder`](super::framing::Decoder) cuts out of a stream.
//!
//! - Requests go out at once, several beside each other. Each has an answer or
//!   is given up within 4.5 s; so is an allocation as a whole.
//! - An answer is believed if it answers what is open and is signed with the
//!   key of its request. Challenges cannot be signed, and some servers sign no
//!   refusal: those are believed when nothing better comes within 250 ms.
//! - The allocation is refreshed every [`REFRESH_EVERY`], which keeps the
//!   binding of a NAT and shows within some seconds more when it is gone.
//! - A payload is sent, waits for its permission, or is dropped and counted.

mod answers;
mod auth;
mod config;
mod event;
mod payloads;
mod peers;
mod requests;
mod transaction;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::auth::Auth;
pub use self::auth::{Credentials, Remembered};
pub use self::config::{ClientConfig, RelayFamily, Via};
pub use self::event::{ClientCounters, ClientEvent, Reason, TurnError};
pub use self::payloads::PAYLOAD_MAX_BYTES;
use self::peers::{Peers, UPKEEP_EVERY};
use self::transaction::{ANSWER_WITHIN, Asked, Due, Then, Transactions};
use super::framing::ChannelData;
use super::message::{Class, Message};
use crate::stun::ids::Ids;

/// Pause between refreshes, or half the lifetime where that is shorter: NATs
/// forget a UDP binding after 30 s and more (RFC 4787 §4.3 allows no less than
/// 120 s, many do it nevertheless).
pub const REFRESH_EVERY: Duration = Duration::from_secs(20);

/// Refreshes in a row without any answer before the allocation is given up. Chosen: 13.5 s.
const REFRESHES_UNANSWERED_MAX: u32 = 3;

/// Pause before an allocation is asked for again where a former one of this
/// address lingers: coturn keeps it for a second or two. Chosen.
const ALLOCATE_AGAIN: Duration = Duration::from_millis(300);

/// Pause before a refresh that the server had no room for is tried again. Chosen.
const REFRESH_AGAIN: Duration = Duration::from_secs(5);

/// Whether a message was for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It was.
    Taken,
    /// It answers nothing that was asked, and is no data: it may be somebody else's.
    NotMine,
}

/// One allocation on one server.
#[derive(Debug)]
pub struct Client {
    via: Via,
    /// That of the relayed address, once it is known.
    family: RelayFamily,
    ids: Ids,
    auth: Auth,
    state: State,
    /// The time of the latest call.
    now: Instant,
    transactions: Transactions,
    peers: Peers,
    to_server: VecDeque<Vec<u8>>,
    events: VecDeque<ClientEvent>,
    counters: ClientCounters,
}

#[derive(Debug)]
enum State {
    Allocating(Allocating),
    Allocated(Allocation),
    /// The server is told; nobody waits for it.
    Closing,
    Over,
}

#[derive(Debug)]
struct Allocating {
    until: Instant,
    /// An allocation that an earlier client has left was removed.
    has_released: bool,
    /// What an earlier client signed with, until it is tried.
    earlier: Option<Credentials>,
    /// It is tried.
    has_gone_back: bool,
    /// When to ask again: the removed allocation may linger.
    again_at: Option<Instant>,
    /// Another server was named and is asked (RFC 8489 §10: once).
    is_alternate: bool,
}

#[derive(Debug)]
struct Allocation {
    relayed: SocketAddr,
    expires: Instant,
    refresh_at: Instant,
    unanswered: u32,
    upkeep_at: Instant,
}

impl Client {
    /// Begins to ask for an allocation. `seed` is secret and random: what is
    /// not signed is believed only because nobody can guess what is made of it.
    pub fn new(config: ClientConfig, now: Instant, seed: [u8; 32]) -> Self {
        let mut client = Self {
            via: config.via,
            family: config.family,
            ids: Ids::new(seed),
            auth: Auth::new(config.credentials, config.remembered),
            state: State::Allocating(Allocating {
                until: now + ANSWER_WITHIN,
                has_released: false,
                earlier: config.earlier,
                has_gone_back: false,
                again_at: None,
                is_alternate: false,
            }),
            now,
            transactions: Transactions::default(),
            peers: Peers::default(),
            to_server: VecDeque::new(),
            events: VecDeque::new(),
            counters: ClientCounters::default(),
        };
        client.ask(Asked::Allocate, 0);
        client
    }

    /// Where datagrams go to and come from; it changes when the server names
    /// another one. `None` by a stream.
    pub const fn server(&self) -> Option<SocketAddr> {
        match self.via {
            Via::Datagrams { server } => Some(server),
            Via::Stream => None,
        }
    }

    /// The relayed address, while there is an allocation.
    pub const fn relayed(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Allocated(allocation) => Some(allocation.relayed),
            _ => None,
        }
    }

    /// Since when the server has not answered whether the allocation is still there; `None`
    /// while nothing is asked, and without an allocation.
    pub fn silent_since(&self) -> Option<Instant> {
        let State::Allocated(allocation) = &self.state else {
            return None;
        };
        let asked = self.transactions.since(&Asked::Refresh)?;
        asked.checked_sub(ANSWER_WITHIN * allocation.unanswered)
    }

    /// Whether the client is of no more use: failed, lost, or closed.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What the server wants requests combined with, for the next client of it.
    pub fn remembered(&self) -> Option<Remembered> {
        self.auth.remembered()
    }

    /// What requests are signed with now.
    pub const fn credentials(&self) -> Option<&Credentials> {
        self.auth.credentials()
    }

    /// What was counted so far.
    pub const fn counters(&self) -> ClientCounters {
        self.counters
    }

    /// Payloads that wait for a permission or for the allocation.
    pub fn waiting(&self) -> usize {
        self.peers.waiting()
    }

    /// Signs requests with these from the next one on. A server that holds to
    /// those of the allocation is given them again.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.auth.set_credentials(credentials);
    }

    /// Takes in one message of the server.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) -> Handled {
        self.now = now;
        if let Some(data) = ChannelData::parse(bytes) {
            return self.handle_channel_data(data);
        }
        let Ok(message) = Message::parse(bytes) else {
            self.counters.malformed += 1;
            return Handled::NotMine;
        };
        match message.class() {
            Class::Indication => self.handle_indication(&message),
            Class::Success | Class::Error => self.handle_answer(&message),
            Class::Request => Handled::NotMine,
        }
    }

    /// The time that [`Client::poll_timeout`] named has come, or another.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(due) = self.transactions.poll_due(now) {
            match due {
                Due::Again(bytes) => self.to_server.push_back(bytes),
                Due::Refused(transaction, refusal) => self.handle_refused(transaction, &refusal),
                Due::Over(transaction) => self.handle_unanswered(transaction),
            }
        }
        let allocation = match &mut self.state {
            State::Allocated(allocation) => allocation,
            State::Allocating(allocating) => {
                if allocating.again_at.take_if(|at| now >= *at).is_some() {
                    self.ask(Asked::Allocate, 0);
                }
                return;
            }
            State::Closing | State::Over => return,
        };
        if now >= allocation.expires {
            return self.end(TurnError::Expired);
        }
        if now >= allocation.upkeep_at {
            allocation.upkeep_at = now + UPKEEP_EVERY;
            self.peers.upkeep(now);
        }
        if now >= allocation.refresh_at {
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        let State::Allocated(allocation) = &mut self.state else {
            return;
        };
        // Until the answer says when.
        allocation.refresh_at = allocation.expires;
        if !self.transactions.any(|asked| *asked == Asked::Refresh) {
            self.ask(Asked::Refresh, 0);
        }
    }

    /// When [`Client::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Allocated(a) => Some(a.refresh_at.min(a.upkeep_at).min(a.expires)),
            State::Allocating(allocating) => allocating.again_at,
            State::Closing | State::Over => None,
        };
        own.into_iter()
            .chain(self.transactions.poll_timeout())
            .min()
    }

    /// Takes a message for the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.to_server.is_empty() {
            self.ask_for_peers();
        }
        self.to_server.pop_front()
    }

    /// Takes what has become of it.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Asks at once whether the allocation is still there, as when links by it die.
    pub fn probe(&mut self, now: Instant) {
        self.now = now;
        self.refresh();
    }

    /// Gives the allocation back. Whoever has no time for the answer drops the
    /// client after the last [`Client::poll_transmit`].
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        if self.is_ended() {
            return;
        }
        self.transactions.clear();
        self.drop_waiting();
        self.state = State::Closing;
        if self.auth.can_sign() {
            self.ask(Asked::Release(Then::Nothing), 0);
        } else {
            self.state = State::Over;
        }
    }

    const fn is_ended(&self) -> bool {
        matches!(self.state, State::Closing | State::Over)
    }

    /// The client is of no more use; says so, in the words that fit.
    fn end(&mut self, error: TurnError) {
        let was = std::mem::replace(&mut self.state, State::Over);
        self.transactions.clear();
        self.to_server.clear();
        self.drop_waiting();
        let is_refusal = matches!(
            error,
            TurnError::CredentialsRefused { .. } | TurnError::CredentialsMissing
        );
        self.events.push_back(match was {
            State::Closing | State::Over => return,
            // With newer ones a new client will do.
            State::Allocated(_) if self.auth.has_newer() => ClientEvent::Lost { error },
            // The newer ones were not refused for themselves.
            State::Allocating(Allocating {
                has_gone_back: true,
                ..
            }) => ClientEvent::Failed { error },
            _ if is_refusal => ClientEvent::CredentialsRefused { error },
            State::Allocating(_) => ClientEvent::Failed { error },
            State::Allocated(_) => ClientEvent::Lost { error },
        });
    }
}

#[cfg(test)]
mod tests;
