//! A STUN and TURN server without sockets (RFC 8489, RFC 8656, RFC 5780).
//!
//! ```text
//!  from a client ──▶ handle_client ──▶ ToPeer: the program sends it from the relay's socket
//!                         │
//!                         ├──▶ poll_event: open or close the socket of a relay
//!                         └──▶ poll_transmit: answers
//!  from a peer ────▶ handle_peer ──▶ ToClient: the program sends it to the client
//! ```
//!
//! After every `handle_*` the program drains `poll_event` and `poll_transmit`.
//! It owns the sockets and tells the time; here is what is allowed. Invariants:
//!
//! - A stranger makes the server keep nothing: challenges are stateless, and how
//!   often a source may ask is counted in a table of fixed size.
//! - Everything that a member can make the server keep is counted against [`Limits`].
//! - A peer hears only from clients that named it, and only where [`PeerPolicy`] lets them.
//! - A datagram that is relayed costs three look-ups and no memory.
//! - What is dropped is counted in [`Counters`].

mod allocation;
mod answers;
mod arena;
mod authenticate;
mod binding;
mod bucket;
mod counters;
mod credentials;
mod data;
mod limits;
mod members;
mod nonce;
mod policy;
mod requests;
mod strangers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use waymesh_proto::AgentId;

pub use allocation::AllocationId;
pub use binding::Alternate;
pub use counters::Counters;
pub use credentials::{Mark, RelaySecret, SECRET_BYTES};
pub use data::{ClientData, ToClient, ToPeer};
pub use limits::{DATAGRAM_COST_BYTES, Limits};
pub use policy::{BadNetwork, Network, PeerPolicy};

use crate::turn::message::{Class, Message, Method};
use allocation::Allocation;
use arena::Arena;
use members::Members;
use nonce::Nonces;
use strangers::Strangers;

/// Requests longer than this are dropped, bytes. Chosen: CreatePermission with
/// forty IPv6 peers and all credentials.
pub const REQUEST_MAX_BYTES: usize = 2_048;

/// Deadlines of allocations that are gone which are kept in any case. Chosen: few
/// against the room of one allocation, and sweeping costs nothing that one notices.
const DEADLINES_SPARE: usize = 1_024;

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For lifetimes.
    pub instant: Instant,
    /// Since 1970, for the expiry of credentials.
    pub unix: Duration,
}

/// One connection of a client over TCP or TLS; the program numbers them and uses none twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

/// By what a client and the server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// Datagrams.
    Udp,
    /// TCP, or TLS over it.
    Stream(StreamId),
}

/// A client and how it reaches the server: the 5-tuple of RFC 8656 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The transport.
    pub via: Via,
    /// The server's address that the client has sent to; never unspecified.
    pub local: SocketAddr,
    /// The client's address as the server sees it, canonical.
    pub remote: SocketAddr,
}

/// How a server is set up.
#[derive(Debug)]
pub struct ServerConfig {
    /// The realm of the credentials, at most 63 bytes: every challenge carries it.
    pub realm: String,
    /// What credentials are made of.
    pub secret: RelaySecret,
    /// Whom data may be relayed to.
    pub policy: PeerPolicy,
    /// How much.
    pub limits: Limits,
    /// The second address for NAT behaviour discovery.
    pub alternate: Option<Alternate>,
    /// Randomness, for nonces and tables.
    pub seed: [u8; 32],
}

/// What the program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// Open a UDP socket for an allocation and say so by [`Server::relay_opened`].
    Open {
        /// The allocation.
        allocation: AllocationId,
        /// The address that the client reached the server at.
        reached: IpAddr,
        /// The family of the relayed address.
        family: Family,
        /// Which ports will do.
        port: PortWish,
    },
    /// Close the socket of an allocation; it is gone.
    Close {
        /// The allocation.
        allocation: AllocationId,
    },
    /// Close a client's stream: its allocation was given up.
    Hangup {
        /// The stream.
        stream: StreamId,
    },
}

/// A family of addresses (RFC 8656 §18.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which port the relayed address is to have (RFC 8656 §18.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortWish {
    /// Any.
    Any,
    /// An even one.
    Even,
}

/// Why the program could not open a relay's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRelay {
    /// The host has no address of that family: the client gets 440.
    #[error("no address of that family")]
    Family,
    /// No port or no descriptor is free: the client gets 508.
    #[error("no port is free")]
    Capacity,
}

/// An answer that is to go to a client, from the address `to.local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// To whom, and from where.
    pub to: Ends,
    /// A whole message, without padding.
    pub bytes: Vec<u8>,
}

/// A STUN and TURN server.
#[derive(Debug)]
pub struct Server {
    realm: String,
    secret: RelaySecret,
    policy: PeerPolicy,
    limits: Limits,
    alternate: Option<Alternate>,
    nonces: Nonces,
    strangers: Strangers,
    members: Members,
    allocations: Arena<Allocation>,
    by_client: HashMap<Ends, AllocationId>,
    by_relay: HashMap<SocketAddr, AllocationId>,
    /// One entry an allocation, which may be early; and past ones, to be ignored:
    /// at most as many as allocations, and [`DEADLINES_SPARE`].
    deadlines: BinaryHeap<Reverse<(Instant, AllocationId)>>,
    events: VecDeque<ServerEvent>,
    answers: VecDeque<Answer>,
    counters: Counters,
}

impl Family {
    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Server {
    /// A server without allocations.
    pub fn new(config: ServerConfig, now: Instant) -> Self {
        Self {
            nonces: Nonces::new(&config.seed, now, config.limits.nonce_lifetime),
            strangers: Strangers::new(&config.seed, &config.limits, now),
            realm: config.realm,
            secret: config.secret,
            policy: config.policy,
            limits: config.limits,
            alternate: config.alternate,
            members: Members::new(now),
            allocations: Arena::default(),
            by_client: HashMap::new(),
            by_relay: HashMap::new(),
            deadlines: BinaryHeap::new(),
            events: VecDeque::new(),
            answers: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one datagram of a client, or one message that
    /// [`crate::turn::framing::Decoder`] has cut out of its stream.
    pub fn handle_client<'a>(
        &mut self,
        now: Now,
        ends: &Ends,
        bytes: &'a [u8],
    ) -> Option<ToPeer<'a>> {
        match bytes.first()? {
            0x40..=0x7f => self.handle_channel_data(now.instant, ends, bytes),
            _ => self.handle_message(now, ends, bytes),
        }
    }

    fn handle_message<'a>(&mut self, now: Now, ends: &Ends, bytes: &'a [u8]) -> Option<ToPeer<'a>> {
        let Ok(message) = Message::parse(bytes) else {
            self.counters.malformed += 1;
            return None;
        };
        match (message.class(), message.method()) {
            (Class::Indication, Some(Method::Send)) => {
                return self.handle_send(now.instant, ends, &message);
            }
            (Class::Request, _) if bytes.len() > REQUEST_MAX_BYTES => self.counters.malformed += 1,
            (Class::Request, Some(Method::Binding)) => self.handle_binding(now, ends, &message),
            (Class::Request, Some(method)) => self.handle_request(now, ends, method, &message),
            // A keep-alive (RFC 8489 §6.3.2).
            (Class::Indication, Some(Method::Binding)) => {}
            _ => self.counters.malformed += 1,
        }
        None
    }

    /// What the program is to do; to be drained after every `handle_*`.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// The next answer; to be drained after the events of every `handle_*`.
    pub fn poll_transmit(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// Says what became of [`ServerEvent::Open`]: the relayed address as peers
    /// see it. The client is answered.
    pub fn relay_opened(
        &mut self,
        now: Now,
        allocation: AllocationId,
        outcome: Result<SocketAddr, NoRelay>,
    ) {
        match outcome {
            Ok(relayed) => self.finish_allocation(now, allocation, relayed),
            Err(why) => self.refuse_allocation(allocation, why),
        }
    }

    /// A client's stream is closed: its allocation ends (RFC 8656 §3.2).
    pub fn handle_stream_closed(&mut self, ends: &Ends) {
        if let Some(&allocation) = self.by_client.get(ends) {
            self.free(allocation);
        }
    }

    /// Sets which addresses this host has now, which are [`PeerPolicy::own`]. Those
    /// that relays have are of this host in any case.
    pub fn set_own_addresses(&mut self, own: impl IntoIterator<Item = IpAddr>) {
        let of_relays = self.by_relay.keys().map(SocketAddr::ip);
        self.policy.set_own(own.into_iter().chain(of_relays));
    }

    /// Ends all allocations of a member, and takes no credentials of it from now on
    /// but those with this mark ([`RelaySecret::issue_marked`]): members may come
    /// back. Removals are for as long as the server lives; tell them to the next
    /// one before it hears anybody.
    pub fn remove_member(&mut self, member: &AgentId, mark: Mark) {
        for allocation in self.members.remove(member, mark) {
            self.give_up(allocation);
        }
    }

    /// Ends an allocation whose client does not expect it.
    fn give_up(&mut self, id: AllocationId) {
        if let Some(Via::Stream(stream)) = self.allocations.get(id).map(|a| a.ends.via) {
            self.events.push_back(ServerEvent::Hangup { stream });
        }
        self.free(id);
    }

    /// Ends what is over.
    pub fn handle_timeout(&mut self, now: Now) {
        self.members.forget_idle(now.instant);
        while let Some(&Reverse((at, id))) = self.deadlines.peek() {
            if at > now.instant {
                break;
            }
            self.deadlines.pop();
            let Some(allocation) = self.allocations.get_mut(id).filter(|a| a.deadline == at) else {
                continue;
            };
            if allocation.expires > now.instant {
                let expires = allocation.expires;
                self.wake_at(id, expires);
            } else {
                self.counters.allocations_expired += 1;
                self.free(id);
            }
        }
    }

    /// When [`Server::handle_timeout`] is to be called: an allocation may be over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, ends: &Ends) -> bool {
        self.by_client.contains_key(ends)
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        Counters {
            allocations: self.allocations.len() as u64,
            members: self.members.len() as u64,
            ..self.counters
        }
    }

    /// Looks at an allocation at this time, which is not later than it ends.
    fn wake_at(&mut self, id: AllocationId, at: Instant) {
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        allocation.deadline = at;
        self.deadlines.push(Reverse((at, id)));
        if self.deadlines.len() > 2 * self.allocations.len() + DEADLINES_SPARE {
            self.deadlines.retain(|Reverse((at, id))| {
                self.allocations
                    .get(*id)
                    .is_some_and(|allocation| allocation.deadline == *at)
            });
        }
    }

    /// Forgets an allocation and everything that points to it.
    fn free(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.remove(id) else {
            return;
        };
        self.by_client.remove(&allocation.ends);
        if let Some(relayed) = allocation.relayed {
            self.by_relay.remove(&relayed);
        }
        self.members.forget(allocation.member, id);
        self.events.push_back(ServerEvent::Close { allocation: id });
    }
}

#[cfg(test)]
mod tests;
