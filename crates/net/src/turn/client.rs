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
mod event;
mod peers;
mod transaction;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::auth::Auth;
pub use self::auth::{Credentials, Remembered};
pub use self::event::{ClientCounters, ClientEvent, Reason, TurnError};
use self::peers::{Peers, UPKEEP_EVERY, Way};
use self::transaction::{ANSWER_WITHIN, Asked, Delivery, Due, Then, Transaction, Transactions};
use super::credential::{Integrity, Key};
use super::framing::ChannelData;
use super::message::{Class, Message, Method, TransactionId, Writer, kind};
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

/// Largest payload, bytes: with the header of an indication it fits a UDP datagram.
pub const PAYLOAD_MAX_BYTES: usize = 65_400;

/// Requests that wait for answers; further ones wait until there is room. Chosen.
const REQUESTS_MAX: usize = 32;

/// Payloads on their way to the socket; a further one is dropped and counted. Chosen:
/// one turn of the loop.
const TO_SERVER_CAP: usize = 1_024;

/// Payloads of peers that nobody has taken yet; a further one is dropped and counted. Chosen:
/// one turn of the loop.
const FROM_PEERS_CAP: usize = 1_024;

/// UDP as REQUESTED-TRANSPORT writes it: a protocol number in the first of four bytes
/// (RFC 8656 §18.8).
const REQUESTED_UDP: [u8; 4] = [17, 0, 0, 0];

/// IPv6 as REQUESTED-ADDRESS-FAMILY writes it (RFC 8656 §18.9).
const REQUESTED_IPV6: [u8; 4] = [2, 0, 0, 0];

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By UDP: messages get lost and are sent again.
    Datagrams {
        /// Where to send.
        server: SocketAddr,
    },
    /// By one TCP or TLS connection.
    Stream,
}

/// Of which IP family the relayed address is to be; peers of the other cannot be reached by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RelayFamily {
    /// What every server gives.
    #[default]
    V4,
    /// What some give.
    V6,
}

impl RelayFamily {
    /// Whether an address is of this family.
    pub const fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == matches!(self, Self::V4)
    }
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How the server is reached.
    pub via: Via,
    /// Which addresses it is to relay for.
    pub family: RelayFamily,
    /// Without them only a server that wants none gives an allocation.
    pub credentials: Option<Credentials>,
    /// What an earlier client of the same server has learnt ([`Client::remembered`]).
    pub remembered: Option<Remembered>,
}

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

    /// Whether the client is of no more use: failed, lost, or closed.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What the server wants requests combined with, for the next client of it.
    pub fn remembered(&self) -> Option<Remembered> {
        self.auth.remembered()
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

    fn handle_channel_data(&mut self, data: ChannelData<'_>) -> Handled {
        match self.peers.peer_of(data.channel) {
            Some(peer) => self.deliver(peer, data.data),
            None => self.counters.unmatched += 1,
        }
        Handled::Taken
    }

    fn handle_indication(&mut self, message: &Message<'_>) -> Handled {
        if message.method() != Some(Method::Data) {
            return Handled::NotMine;
        }
        let peer = message.xor_address(kind::XOR_PEER_ADDRESS);
        match (peer, message.find(kind::DATA)) {
            (Some(peer), Some(data)) if self.peers.is_permitted(peer.ip()) => {
                self.deliver(peer, data);
            }
            // An ICMP error of a peer is of no interest: its silence tells enough.
            (Some(_), None) if message.has(kind::ICMP) => {}
            _ => self.counters.unmatched += 1,
        }
        Handled::Taken
    }

    fn deliver(&mut self, peer: SocketAddr, bytes: &[u8]) {
        if !matches!(self.state, State::Allocated(_)) {
            self.counters.unmatched += 1;
        } else if self.events.len() >= FROM_PEERS_CAP {
            self.counters.dropped_events += 1;
        } else {
            self.counters.received += 1;
            let bytes = bytes.to_vec();
            self.events.push_back(ClientEvent::Data { peer, bytes });
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

    /// Lets this address send to the relayed one, from now on and while it is
    /// used. Addresses that are named before the next
    /// [`Client::poll_transmit`] are asked for together.
    pub fn permit(&mut self, now: Instant, ip: IpAddr) {
        self.now = now;
        if !self.is_ended() && self.family.has(ip) {
            self.peers.permit(now, ip);
        }
    }

    /// Sends a payload of at most [`PAYLOAD_MAX_BYTES`] to a peer; asks for the
    /// permission if there is none and keeps the payload meanwhile, 64 in all,
    /// of which the oldest is dropped. What is dropped is counted.
    pub fn send(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        self.now = now;
        let can_go = self.family.has(peer.ip()) && bytes.len() <= PAYLOAD_MAX_BYTES;
        if self.is_ended() || !can_go || peer.port() == 0 {
            self.counters.dropped_unsendable += 1;
            return;
        }
        match self.peers.way(now, peer) {
            Way::Channel(number) => self.transmit_by_channel(number, bytes),
            Way::Indication => self.transmit_indication(peer, bytes),
            Way::Wait => {
                let displaced = self.peers.wait(peer, bytes);
                self.counters.dropped_waiting += displaced as u64;
            }
            Way::Refused => self.counters.dropped_refused += 1,
            Way::NoRoom => self.counters.dropped_waiting += 1,
        }
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

    fn drop_waiting(&mut self) {
        self.counters.dropped_unsendable += self.peers.drop_waiting() as u64;
    }

    /// Asks for the permissions and channels that are wanted.
    fn ask_for_peers(&mut self) {
        if !matches!(self.state, State::Allocated(_)) {
            return;
        }
        while self.transactions.len() < REQUESTS_MAX {
            if let Some(ips) = self.peers.poll_permissions() {
                self.ask(Asked::Permissions(ips), 0);
            } else if let Some((number, peer)) = self.peers.poll_channel(self.now) {
                self.ask(Asked::Channel { number, peer }, 0);
            } else {
                return;
            }
        }
    }

    fn ask(&mut self, asked: Asked, stale: u8) {
        let id = self.ids.next();
        let (bytes, key) = self.write(id, &asked);
        self.to_server.push_back(bytes.clone());
        let delivery = match self.via {
            Via::Datagrams { .. } => Delivery::Datagrams,
            Via::Stream => Delivery::Stream,
        };
        let mut transaction = Transaction::new(id, asked, bytes, self.now, delivery);
        transaction.key = key;
        transaction.stale = stale;
        transaction.generation = self.auth.generation();
        if let State::Allocating(allocating) = &self.state {
            transaction.end_by(allocating.until);
        }
        self.transactions.add(transaction);
    }

    fn write(&self, id: TransactionId, asked: &Asked) -> (Vec<u8>, Option<Key>) {
        let mut writer = Writer::new(Class::Request, asked.method(), id);
        match asked {
            Asked::Allocate => {
                writer.put(kind::REQUESTED_TRANSPORT, &REQUESTED_UDP);
                if self.family == RelayFamily::V6 {
                    writer.put(kind::REQUESTED_ADDRESS_FAMILY, &REQUESTED_IPV6);
                }
            }
            Asked::Refresh => {}
            Asked::Release(_) => {
                writer.put_number(kind::LIFETIME, 0);
            }
            Asked::Permissions(ips) => {
                for ip in ips {
                    writer.put_xor_address(kind::XOR_PEER_ADDRESS, SocketAddr::new(*ip, 0));
                }
            }
            Asked::Channel { number, peer } => {
                writer
                    .put_number(kind::CHANNEL_NUMBER, u32::from(*number) << 16)
                    .put_xor_address(kind::XOR_PEER_ADDRESS, *peer);
            }
        }
        match self.auth.sign(&mut writer) {
            Some(key) => (writer.sign(&key, Integrity::Sha1).finish(), Some(key)),
            None => (writer.finish(), None),
        }
    }

    fn transmit_by_channel(&mut self, number: u16, bytes: &[u8]) {
        let header = ChannelData::header(number, bytes.len()).expect("payloads are bounded");
        let mut message = Vec::with_capacity(header.len() + bytes.len());
        message.extend_from_slice(&header);
        message.extend_from_slice(bytes);
        self.transmit(message);
    }

    fn transmit_indication(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let mut writer = Writer::new(Class::Indication, Method::Send, self.ids.next());
        writer
            .put_xor_address(kind::XOR_PEER_ADDRESS, peer)
            .put(kind::DATA, bytes);
        self.transmit(writer.finish());
    }

    fn transmit(&mut self, message: Vec<u8>) {
        if self.to_server.len() >= TO_SERVER_CAP {
            self.counters.dropped_full += 1;
        } else {
            self.counters.sent += 1;
            self.to_server.push_back(message);
        }
    }

    /// Sends what has waited for `ip`.
    fn send_waiting(&mut self, ip: IpAddr) {
        for (peer, bytes) in self.peers.take_waiting(ip) {
            self.send(self.now, peer, &bytes);
        }
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
            _ if is_refusal => ClientEvent::CredentialsRefused { error },
            State::Allocating(_) => ClientEvent::Failed { error },
            State::Allocated(_) => ClientEvent::Lost { error },
        });
    }
}

#[cfg(test)]
mod tests;
