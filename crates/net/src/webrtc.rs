//! Links to peers: WebRTC data channels over one UDP socket for all of them.
//!
//! Owns the socket, ICE, DTLS, SCTP and their timers, and promises what
//! `spec/link.md` says. Does not own: which links exist, what the bytes mean,
//! signaling, retries. In: [`LinkCommand`]s, frames to send, datagrams. Out:
//! [`LinkEvent`]s, datagrams. Its owner runs it from one task:
//!
//! ```text
//! loop {
//!     while let Some(event) = endpoint.poll_event() { … }   // may lead to commands and sends
//!     endpoint.flush();
//!     select! {
//!         endpoint.readable() => while endpoint.receive(now)? { handle events, flush },
//!         sleep_until(endpoint.poll_timeout()) => endpoint.handle_timeout(now),
//!         …
//!     }
//! }
//! ```
//!
//! Invariants: after one mutation a session is drained before the next; an
//! error or a panic of the stack ends its own link and no other; what is queued
//! is bounded (bytes in SCTP by the window, datagrams by the transmit queue,
//! events by what one read can hold).

mod arrivals;
mod candidates;
mod channels;
mod config;
mod counters;
mod demand;
mod demux;
mod description;
mod fence;
mod gathering;
mod interfaces;
mod losses;
mod names;
mod peer;
mod randomness;
mod reflexive;
mod relays;
mod sessions;
mod timers;
mod transmit;
mod tried;
mod window;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use str0m::RtcConfig;
use waymesh_proto::api::NetworkStatus;
use waymesh_proto::class::Class;
use waymesh_proto::ice::{IceServers, ServerTried};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

pub use self::config::{BindError, CandidatePolicy, EndpointConfig, SctpHandshake};
pub use self::counters::Counters;
pub use self::gathering::Notice;
pub use self::transmit::Flushed;

use self::arrivals::Arrival;
use self::candidates::{HostRules, LocalCandidate};
use self::demand::Links;
use self::demux::{Demux, Origin};
use self::gathering::{Gathering, News};
use self::peer::Peer;
use self::socket::{ReceiveBuffer, Socket, Wanted};
use self::timers::Timers;
use self::transmit::TransmitQueue;
use crate::udp as socket;

/// A frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is not up yet, or holds as much as it may; wait for [`LinkEvent::Writable`] or [`LinkEvent::Up`].
    #[error("the link takes nothing more now")]
    WouldBlock,
    /// There is no such link any more; its [`LinkEvent::Down`] was or will be told.
    #[error("the link is closed")]
    Closed,
    /// The frame is larger than its class allows; a fault of the caller.
    #[error("the frame is too large for its class")]
    TooLarge,
}

/// All links of a node and the socket that they share.
#[derive(Debug)]
pub struct Endpoint {
    socket: Socket,
    gathering: Gathering,
    template: RtcConfig,
    peers: HashMap<LinkId, Peer>,
    demux: Demux,
    timers: Timers,
    transmits: TransmitQueue,
    events: VecDeque<LinkEvent>,
    buffer: Option<Box<ReceiveBuffer>>,
    counters: Counters,
}

impl Endpoint {
    /// Opens the socket and finds the addresses to offer. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`] when there is no socket.
    pub fn bind(config: EndpointConfig) -> Result<Self, BindError> {
        let failed = |source| BindError::Socket {
            port: config.port,
            source,
        };
        let socket = Socket::bind(config.ip, config.port).map_err(failed)?;
        let port = socket.port().map_err(failed)?;
        let rules = HostRules {
            port,
            only: config.ip,
            loopback_only: config.loopback_only,
            carries_v6: socket.carries_v6(),
        };
        Ok(Self {
            template: config::template(config.sctp)?,
            socket,
            gathering: Gathering::start(Instant::now(), config, rules),
            peers: HashMap::new(),
            demux: Demux::default(),
            timers: Timers::default(),
            transmits: TransmitQueue::default(),
            events: VecDeque::new(),
            buffer: Some(Box::new(ReceiveBuffer::new())),
            counters: Counters::default(),
        })
    }

    /// Which STUN and TURN servers to use from now on, in place of those told
    /// before, and beside those of the configuration.
    pub fn set_servers(&mut self, now: Instant, servers: IceServers) {
        self.gathering.set_servers(now, servers);
        self.hear_gathering(now);
    }

    /// What the STUN and TURN servers gave up to now.
    pub fn servers(&self) -> Vec<ServerTried> {
        self.gathering.servers(Instant::now())
    }

    /// Has the servers asked as for a link that begins now; what they give is kept for links
    /// and told by [`Endpoint::network`].
    pub fn ask_servers(&mut self, now: Instant) {
        self.gathering.want(now);
        self.hear_gathering(now);
    }

    /// What the network gives: candidates, what servers gave, and the servers themselves.
    pub fn network(&self) -> NetworkStatus {
        let candidates = self.gathering.candidates();
        NetworkStatus {
            candidates: candidates.iter().map(LocalCandidate::tried).collect(),
            tried: self.servers(),
            servers: self.gathering.known_servers(),
            configured: self.gathering.configured_servers(),
        }
    }

    /// The addresses of this host that this endpoint offers to peers, best first.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.gathering.hosts()
    }

    /// Takes what concerns the whole endpoint. Empty it as the events.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.gathering.poll_notice()
    }

    /// Does what core wants. Commands for a link that has ended are ignored.
    pub fn handle_command(&mut self, now: Instant, command: LinkCommand) {
        match command {
            LinkCommand::Offer { link } => {
                self.gathering.want(now);
                self.offer(now, link);
            }
            LinkCommand::Accept { link, sdp } => {
                self.gathering.want(now);
                self.accept(now, link, &sdp);
                self.permit(now, link);
            }
            LinkCommand::Answer { link, sdp } => {
                self.drive(now, link, |peer, _| peer.handle_answer(now, &sdp));
                self.permit(now, link);
                self.hurry(now, link);
            }
            LinkCommand::Candidate { link, candidate } => {
                self.drive(now, link, |peer, counters| {
                    peer.handle_candidate(now, &candidate, counters)
                });
                self.permit(now, link);
                self.hurry(now, link);
            }
            LinkCommand::Close { link } => self.close(now, link),
        }
        self.hear_gathering(now);
    }

    /// Sends one frame on a link. Taken bytes may still vanish with the link.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the frame was not sent.
    pub fn send(
        &mut self,
        now: Instant,
        link: LinkId,
        class: Class,
        frame: &[u8],
    ) -> Result<(), SendError> {
        let mut sent = Err(SendError::Closed);
        self.drive(now, link, |peer, _| {
            sent = peer.send(now, class, frame);
            Ok(())
        });
        sent
    }

    /// Bytes that [`Endpoint::send`] takes on a link now, all classes together; 0 when full or not up.
    pub fn room(&self, link: LinkId) -> usize {
        self.peers.get(&link).map_or(0, Peer::room)
    }

    /// Takes what happened. Empty it after every other call: it grows by what one read holds.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] must be called; it may be called earlier.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let gathering = self.gathering.poll_timeout();
        self.timers
            .poll_timeout()
            .into_iter()
            .chain(gathering)
            .min()
    }

    /// Runs the links whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, link)) = self.timers.poll_due(now) {
            let alarm = self.peers.get_mut(&link).map(|peer| &mut peer.alarm);
            if alarm.is_some_and(|alarm| self.timers.ring(link, alarm, at, now)) {
                self.drive(now, link, |peer, _| peer.run(now));
            }
        }
        if self.gathering.poll_timeout().is_some_and(|at| at <= now) {
            let links = match self.peers.is_empty() {
                true => Links::None,
                false => Links::Some,
            };
            self.gathering.handle_timeout(now, links);
            self.hear_gathering(now);
        }
    }

    /// Waits until [`Endpoint::receive`] may find something, on the socket or
    /// from the search for candidates, or, after a flush
    /// that was blocked, until [`Endpoint::flush`] may go on. Cancel safe.
    ///
    /// # Errors
    ///
    /// The socket's; the endpoint is of no more use.
    pub async fn readable(&self) -> io::Result<()> {
        let wanted = match self.transmits.is_empty() {
            true => Wanted::Read,
            false => Wanted::ReadOrWrite,
        };
        tokio::select! {
            biased;
            ready = self.socket.ready(wanted) => ready,
            () = self.gathering.woken() => Ok(()),
        }
    }

    /// Reads a bounded batch of datagrams and handles them; true when more may wait.
    ///
    /// # Errors
    ///
    /// The socket's; the endpoint is of no more use.
    pub fn receive(&mut self, now: Instant) -> io::Result<bool> {
        self.gathering.handle_found(now);
        let Some(mut buffer) = self.buffer.take() else {
            return Ok(false);
        };
        let result = self.socket.receive(&mut buffer);
        if result.is_ok() {
            for datagram in buffer.datagrams() {
                self.handle_datagram(now, &datagram);
            }
        }
        self.hear_gathering(now);
        let more = buffer.is_full();
        self.buffer = Some(buffer);
        match result {
            Ok(()) => Ok(more),
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Bytes of datagrams that wait for [`Endpoint::flush`].
    pub fn queued_bytes(&self) -> usize {
        self.transmits.bytes()
    }

    /// Puts queued datagrams on the wire, joined where the kernel has GSO.
    /// Call it whenever the calls before may have queued something.
    pub fn flush(&mut self) -> Flushed {
        self.queue_for_servers();
        let flushed = self.transmits.flush(&self.socket, &mut self.counters);
        while let Some(unsent) = self.transmits.poll_unsent() {
            for peer in self.peers.values_mut().filter(|p| p.is_improvable()) {
                peer.note_unsent(unsent.source, unsent.destination, &unsent.error);
            }
        }
        flushed
    }

    /// What was dropped so far, by reason.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        self.gathering.count(&mut counters);
        counters
    }

    /// Tells the sessions what was found, and what came through relays.
    fn hear_gathering(&mut self, now: Instant) {
        while let Some(news) = self.gathering.poll_news() {
            match news {
                News::Found(candidate) => {
                    self.permit_all(now);
                    self.trickle(now, candidate);
                }
                News::Lost(candidate) => self.forget_address(now, candidate),
                News::Arrived {
                    relayed,
                    peer,
                    bytes,
                } => {
                    let arrival = Arrival {
                        origin: Origin {
                            relay: Some(relayed),
                            address: peer,
                        },
                        local: relayed,
                        bytes: &bytes,
                    };
                    self.handle_arrival(now, &arrival);
                }
            }
        }
    }

    /// Has the relays let in the addresses that a peer has named.
    fn permit(&mut self, now: Instant, link: LinkId) {
        if let Some(peer) = self.peers.get(&link) {
            self.gathering.permit(now, &peer.remote_ips());
        }
    }

    fn permit_all(&mut self, now: Instant) {
        let improvable = self.peers.values().filter(|peer| peer.is_improvable());
        let ips: Vec<IpAddr> = improvable.flat_map(Peer::remote_ips).collect();
        self.gathering.permit(now, &ips);
    }

    /// Moves what goes to servers behind what goes to peers. The kernel chooses
    /// the address that it is sent from.
    fn queue_for_servers(&mut self) {
        while let Some((server, bytes)) = self.gathering.poll_to_server() {
            let any: IpAddr = match server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            self.transmits.push(
                SocketAddr::new(any, 0),
                server,
                &bytes,
                self.socket.max_segments(),
                &mut self.counters,
            );
        }
    }
}

/// Errors that a UDP socket reports about one datagram or moment, not about itself.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
        WouldBlock,
    };
    matches!(
        error.kind(),
        WouldBlock
            | Interrupted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
    )
}

#[cfg(test)]
mod tests;
