//! Gives each datagram to the link that it belongs to.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::Input;
use str0m::ice::StunMessage;
use str0m::net::{Protocol, Receive};
use waymesh_proto::ids::LinkId;

use super::Endpoint;
use super::demux::{DtlsLinks, Origin, Packet};
use super::socket::Datagram;

/// A datagram of a peer, however it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) origin: Origin,
    /// The candidate's address that it came to.
    pub(super) local: SocketAddr,
    pub(super) bytes: &'a [u8],
}

impl Endpoint {
    /// Takes a datagram from the socket.
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &Datagram<'_>) {
        let local = self.local_address(datagram);
        let (source, bytes) = (datagram.source, datagram.bytes);
        if self.gathering.handle_datagram(now, source, local, bytes) {
            return;
        }
        let arrival = Arrival {
            origin: Origin {
                relay: None,
                address: source,
            },
            local,
            bytes,
        };
        self.handle_arrival(now, &arrival);
    }

    /// Takes a datagram of a peer.
    pub(super) fn handle_arrival(&mut self, now: Instant, arrival: &Arrival<'_>) {
        let link = match Packet::of(arrival.bytes) {
            Packet::StunRequest => self.link_of_request(arrival.bytes),
            Packet::StunResponse => self.demux.link_of_response(arrival.bytes),
            Packet::Dtls => return self.handle_dtls(now, arrival),
            Packet::Other => {
                self.counters.malformed += 1;
                return;
            }
        };
        match link {
            Some(link) => self.handle_stun(now, link, arrival),
            None => self.counters.unknown_source += 1,
        }
    }

    fn link_of_request(&self, request: &[u8]) -> Option<LinkId> {
        let message = StunMessage::parse(request).ok()?;
        let (local, _) = message.username()?.split_once(':')?;
        self.demux.link_of_ufrag(local)
    }

    /// Gives a link a STUN message; one that authenticates proves its source.
    fn handle_stun(&mut self, now: Instant, link: LinkId, arrival: &Arrival<'_>) {
        let Some(input) = self.input(now, arrival) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&link).filter(|p| p.accepts(&input)) else {
            self.counters.refused += 1;
            return;
        };
        peer.note_stun(now, arrival.local, arrival.origin.address, arrival.bytes);
        if self.demux.note_source(arrival.origin, link) {
            self.counters.sources_forgotten += 1;
        }
        self.drive(now, link, |peer, counters| {
            peer.handle_datagram(input, counters)
        });
    }

    fn handle_dtls(&mut self, now: Instant, arrival: &Arrival<'_>) {
        match self.demux.links_of_dtls(arrival.origin, arrival.bytes) {
            DtlsLinks::None => self.counters.unknown_source += 1,
            DtlsLinks::One(link) => self.hand_over(now, link, arrival),
            DtlsLinks::Any(links) => {
                for link in links {
                    self.hand_over(now, link, arrival);
                }
            }
        }
    }

    fn hand_over(&mut self, now: Instant, link: LinkId, arrival: &Arrival<'_>) {
        if let Some(input) = self.input(now, arrival) {
            self.drive(now, link, |peer, counters| {
                peer.handle_datagram(input, counters)
            });
        }
    }

    fn input<'a>(&mut self, now: Instant, arrival: &Arrival<'a>) -> Option<Input<'a>> {
        let source = arrival.origin.address;
        let received = Receive::new(Protocol::Udp, source, arrival.local, arrival.bytes);
        if received.is_err() {
            self.counters.malformed += 1;
        }
        received.ok().map(|received| Input::Receive(now, received))
    }

    /// The candidate's address that a datagram came to.
    pub(super) fn local_address(&self, datagram: &Datagram<'_>) -> SocketAddr {
        let wanted = |address: &&SocketAddr| match datagram.local_ip {
            Some(ip) => address.ip() == ip,
            None => address.is_ipv4() == datagram.source.is_ipv4(),
        };
        let hosts = self.gathering.hosts();
        let known = hosts.iter().find(wanted).or(hosts.first());
        known.copied().unwrap_or(datagram.source)
    }
}
