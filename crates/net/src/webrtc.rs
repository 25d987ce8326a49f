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

mod candidates;
mod channels;
mod counters;
mod demux;
mod description;
mod fence;
mod peer;
mod socket;
mod timers;
mod transmit;
mod window;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::ice::StunMessage;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Rtc, RtcConfig};
use waymesh_proto::class::Class;
use waymesh_proto::ice::IceServers;
use waymesh_proto::ids::LinkId;
use waymesh_proto::limits::FRAME_MAX_BYTES;
use waymesh_proto::link::{DownReason, LinkCommand, LinkEvent};

pub use self::counters::Counters;
pub use self::transmit::Flushed;

use self::demux::{Demux, DtlsLinks, Packet};
use self::fence::fence;
use self::peer::{Outputs, Peer};
use self::socket::{Datagram, ReceiveBuffer, Socket};
use self::timers::Timers;
use self::transmit::TransmitQueue;

/// Largest datagram that the stack makes, bytes: fits IPv6's least MTU of 1,280
/// (RFC 8200 §5) with its header and UDP's, so that no path is a black hole.
const DATAGRAM_MAX_BYTES: usize = 1_200;

/// Longest pause between two consent checks of a quiet pair. Halves the idle
/// CPU; liveness is core's, which is faster than any setting here.
const STUN_RTO_MAX: Duration = Duration::from_secs(15);

/// Connectivity checks sent at once when something new is known of the peer;
/// the rest is paced by ICE, 50 ms apart. Chosen: the best pair of each IP
/// family, of two interfaces.
const FIRST_CHECKS: usize = 4;

/// How an endpoint opens its socket.
#[derive(Debug, Clone, Default)]
pub struct EndpointConfig {
    /// The address to bind to; none binds to all addresses of both IP families.
    pub ip: Option<IpAddr>,
    /// The UDP port; 0 lets the system choose.
    pub port: u16,
    /// Offers loopback addresses alone, for tests and for meshes on one machine.
    pub loopback_only: bool,
}

/// An endpoint could not open its socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket could not be opened or bound; another port or address may work.
    #[error("no UDP socket on port {port}: {source}")]
    Socket {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The crypto library made no certificate; nothing that the caller can do.
    #[error("no DTLS certificate could be made")]
    Certificate,
}

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
    addresses: Vec<SocketAddr>,
    servers: IceServers,
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
        let addresses = candidates::host_addresses(&socket, config.ip, port, config.loopback_only);
        Ok(Self {
            socket,
            addresses,
            servers: IceServers::default(),
            template: template()?,
            peers: HashMap::new(),
            demux: Demux::default(),
            timers: Timers::default(),
            transmits: TransmitQueue::default(),
            events: VecDeque::new(),
            buffer: Some(Box::new(ReceiveBuffer::new())),
            counters: Counters::default(),
        })
    }

    /// Which STUN and TURN servers to use from now on, in place of those told before.
    pub fn set_servers(&mut self, _now: Instant, servers: IceServers) {
        self.servers = servers;
    }

    /// The addresses that this endpoint offers to peers, best first.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Does what core wants. Commands for a link that has ended are ignored.
    pub fn handle_command(&mut self, now: Instant, command: LinkCommand) {
        match command {
            LinkCommand::Offer { link } => self.offer(now, link),
            LinkCommand::Accept { link, sdp } => self.accept(now, link, &sdp),
            LinkCommand::Answer { link, sdp } => {
                self.drive(now, link, |peer, _| peer.handle_answer(now, &sdp));
                self.hurry(now, link);
            }
            LinkCommand::Candidate { link, candidate } => {
                self.drive(now, link, |peer, counters| {
                    peer.handle_candidate(now, &candidate, counters)
                });
                self.hurry(now, link);
            }
            LinkCommand::Close { link } => self.close(now, link),
        }
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
        self.timers.poll_timeout()
    }

    /// Runs the links whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, link)) = self.timers.poll_due(now) {
            let alarm = self.peers.get_mut(&link).map(|peer| &mut peer.alarm);
            if alarm.is_some_and(|alarm| self.timers.ring(link, alarm, at, now)) {
                self.drive(now, link, |peer, _| peer.run(now));
            }
        }
    }

    /// Waits until [`Endpoint::receive`] may find something, or, after a flush
    /// that was blocked, until [`Endpoint::flush`] may go on. Cancel safe.
    ///
    /// # Errors
    ///
    /// The socket's; the endpoint is of no more use.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.ready(!self.transmits.is_empty()).await
    }

    /// Reads a bounded batch of datagrams and handles them; true when more may wait.
    ///
    /// # Errors
    ///
    /// The socket's; the endpoint is of no more use.
    pub fn receive(&mut self, now: Instant) -> io::Result<bool> {
        let Some(mut buffer) = self.buffer.take() else {
            return Ok(false);
        };
        let result = self.socket.receive(&mut buffer);
        if result.is_ok() {
            for datagram in buffer.datagrams() {
                self.handle_datagram(now, &datagram);
            }
        }
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
        self.transmits.flush(&self.socket, &mut self.counters)
    }

    /// What was dropped so far, by reason.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn offer(&mut self, now: Instant, link: LinkId) {
        if self.peers.contains_key(&link) {
            tracing::debug!(%link, "a link in use cannot be offered anew");
            return;
        }
        let rtc = self.session(now);
        let made = fence(&mut self.counters.stack_panics, || {
            Peer::offer(link, rtc, now)
        });
        self.begin(now, link, made, |sdp| LinkEvent::Offered { link, sdp });
    }

    fn accept(&mut self, now: Instant, link: LinkId, sdp: &str) {
        if self.peers.contains_key(&link) {
            tracing::debug!(%link, "a link in use cannot accept anew");
            return;
        }
        let rtc = self.session(now);
        let made = fence(&mut self.counters.stack_panics, || {
            Peer::accept(link, rtc, now, sdp)
        });
        self.begin(now, link, made, |sdp| LinkEvent::Answered { link, sdp });
        self.hurry(now, link);
    }

    /// Lets a session send its first checks without their usual pauses: each run sends one.
    fn hurry(&mut self, now: Instant, link: LinkId) {
        for _ in 0..FIRST_CHECKS {
            self.drive(now, link, |peer, _| peer.run(now));
        }
    }

    /// A new session that knows this host's addresses.
    fn session(&self, now: Instant) -> Box<Rtc> {
        let mut rtc = Box::new(self.template.clone().build(now));
        for address in &self.addresses {
            match Candidate::host(*address, "udp") {
                Ok(candidate) => {
                    rtc.add_local_candidate(candidate);
                }
                Err(error) => tracing::debug!(%error, %address, "not a candidate"),
            }
        }
        rtc
    }

    fn begin(
        &mut self,
        now: Instant,
        link: LinkId,
        made: Result<(Peer, String), DownReason>,
        event: impl FnOnce(String) -> LinkEvent,
    ) {
        match made {
            Ok((peer, sdp)) => {
                self.demux.add(peer.ufrag(), link);
                self.peers.insert(link, peer);
                self.events.push_back(event(sdp));
                self.drive(now, link, |_, _| Ok(()));
            }
            Err(reason) => self.events.push_back(LinkEvent::Down { link, reason }),
        }
    }

    fn close(&mut self, now: Instant, link: LinkId) {
        let quiet_from = self.events.len();
        self.drive(now, link, |peer, _| {
            peer.close();
            Ok(())
        });
        self.events.truncate(quiet_from);
        self.events.retain(|event| event.link() != link);
    }

    /// Lets `act` mutate one link, drains it, and ends it if that failed.
    fn drive(
        &mut self,
        now: Instant,
        link: LinkId,
        act: impl FnOnce(&mut Peer, &mut Counters) -> Result<(), DownReason>,
    ) {
        let Some(peer) = self.peers.get_mut(&link) else {
            return;
        };
        let mut panics = 0;
        let mut out = Outputs {
            events: &mut self.events,
            transmits: &mut self.transmits,
            demux: &mut self.demux,
            counters: &mut self.counters,
            max_segments: self.socket.max_segments(),
        };
        let result = fence(&mut panics, || {
            act(peer, out.counters)?;
            peer.drain(now, &mut out)
        });
        self.counters.stack_panics += panics;
        match result {
            Ok(()) => {
                let deadline = peer.deadline();
                self.timers.arm(link, &mut peer.alarm, now, deadline);
            }
            Err(reason) => self.end(link, reason),
        }
    }

    fn end(&mut self, link: LinkId, reason: DownReason) {
        if let Some(peer) = self.peers.remove(&link) {
            self.demux.remove(peer.ufrag(), link);
            self.events.push_back(LinkEvent::Down { link, reason });
        }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &Datagram<'_>) {
        let link = match Packet::of(datagram.bytes) {
            Packet::StunRequest => self.link_of_request(datagram.bytes),
            Packet::StunResponse => self.demux.link_of_response(datagram.bytes),
            Packet::Dtls => return self.handle_dtls(now, datagram),
            Packet::Other => {
                self.counters.malformed += 1;
                return;
            }
        };
        match link {
            Some(link) => self.handle_stun(now, link, datagram),
            None => self.counters.unknown_source += 1,
        }
    }

    fn link_of_request(&self, request: &[u8]) -> Option<LinkId> {
        let message = StunMessage::parse(request).ok()?;
        let (local, _) = message.username()?.split_once(':')?;
        self.demux.link_of_ufrag(local)
    }

    /// Gives a link a STUN message; one that authenticates proves its source.
    fn handle_stun(&mut self, now: Instant, link: LinkId, datagram: &Datagram<'_>) {
        let Some(input) = self.input(now, datagram) else {
            return;
        };
        if self
            .peers
            .get(&link)
            .is_some_and(|peer| peer.accepts(&input))
        {
            if self.demux.note_source(datagram.source, link) {
                self.counters.sources_forgotten += 1;
            }
            self.drive(now, link, |peer, counters| {
                peer.handle_datagram(input, counters)
            });
        } else {
            self.counters.refused += 1;
        }
    }

    fn handle_dtls(&mut self, now: Instant, datagram: &Datagram<'_>) {
        match self.demux.links_of_dtls(datagram.source, datagram.bytes) {
            DtlsLinks::None => self.counters.unknown_source += 1,
            DtlsLinks::One(link) => self.hand_over(now, link, datagram),
            DtlsLinks::Any(links) => {
                for link in links {
                    self.hand_over(now, link, datagram);
                }
            }
        }
    }

    fn hand_over(&mut self, now: Instant, link: LinkId, datagram: &Datagram<'_>) {
        if let Some(input) = self.input(now, datagram) {
            self.drive(now, link, |peer, counters| {
                peer.handle_datagram(input, counters)
            });
        }
    }

    fn input<'a>(&mut self, now: Instant, datagram: &Datagram<'a>) -> Option<Input<'a>> {
        let destination = self.local_address(datagram);
        let received = Receive::new(Protocol::Udp, datagram.source, destination, datagram.bytes);
        if received.is_err() {
            self.counters.malformed += 1;
        }
        received.ok().map(|received| Input::Receive(now, received))
    }

    /// The candidate's address that a datagram came to.
    fn local_address(&self, datagram: &Datagram<'_>) -> SocketAddr {
        let wanted = |address: &&SocketAddr| match datagram.local_ip {
            Some(ip) => address.ip() == ip,
            None => address.is_ipv4() == datagram.source.is_ipv4(),
        };
        let known = self
            .addresses
            .iter()
            .find(wanted)
            .or(self.addresses.first());
        known.copied().unwrap_or(datagram.source)
    }
}

/// The configuration that every session starts from, with one certificate for all.
fn template() -> Result<RtcConfig, BindError> {
    let crypto: Arc<CryptoProvider> = Arc::new(str0m::crypto::from_feature_flags());
    let certificate: DtlsCert = crypto
        .dtls_provider
        .generate_certificate()
        .ok_or(BindError::Certificate)?;
    let mut config = RtcConfig::new()
        .clear_codecs()
        .set_crypto_provider(crypto)
        .set_dtls_cert(certificate)
        .set_dtls_version(DtlsVersion::Dtls12)
        .set_mtu(DATAGRAM_MAX_BYTES..=DATAGRAM_MAX_BYTES + 100)
        .set_sctp_max_buffered_amount(window::WINDOW_MAX_BYTES)
        .set_sctp_max_message_size(FRAME_MAX_BYTES as u32);
    config.set_max_stun_rto(STUN_RTO_MAX);
    Ok(config)
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
