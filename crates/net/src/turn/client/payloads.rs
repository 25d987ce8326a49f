//! What peers are sent, and what they send.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::peers::Way;
use super::{Client, ClientEvent, Handled, RelayFamily, State};
use crate::turn::framing::ChannelData;
use crate::turn::message::{Class, Message, Method, Writer, kind};

/// Largest payload, bytes: with the header of an indication it fits a UDP datagram.
pub const PAYLOAD_MAX_BYTES: usize = 65_400;

/// Payloads on their way to the socket; a further one is dropped and counted. Chosen:
/// one turn of the loop.
pub(super) const TO_SERVER_CAP: usize = 1_024;

/// Payloads of peers that nobody has taken yet; a further one is dropped and counted. Chosen:
/// one turn of the loop.
const FROM_PEERS_CAP: usize = 1_024;

impl Client {
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

    pub(super) fn handle_channel_data(&mut self, data: ChannelData<'_>) -> Handled {
        match self.peers.peer_of(data.channel) {
            Some(peer) => self.deliver(peer, data.data),
            None => self.counters.unmatched += 1,
        }
        Handled::Taken
    }

    pub(super) fn handle_indication(&mut self, message: &Message<'_>) -> Handled {
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
    pub(super) fn send_waiting(&mut self, ip: IpAddr) {
        for (peer, bytes) in self.peers.take_waiting(ip) {
            self.send(self.now, peer, &bytes);
        }
    }

    /// From now on there are peers of this family alone.
    pub(super) fn settle_family(&mut self, family: RelayFamily) {
        self.family = family;
        let dropped = self.peers.keep(family);
        self.counters.dropped_unsendable += dropped as u64;
    }

    pub(super) fn drop_waiting(&mut self) {
        self.counters.dropped_unsendable += self.peers.drop_waiting() as u64;
    }
}
