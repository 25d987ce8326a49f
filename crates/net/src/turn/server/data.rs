//! What is relayed (RFC 8656 §11, §12).

use std::net::SocketAddr;
use std::time::Instant;

use super::answers::unknown_attributes;
use super::policy::Verdict;
use super::{AllocationId, Ends, Server};
use crate::turn::framing::{CHANNEL_HEADER_BYTES, ChannelData};
use crate::turn::message::{Class, Message, Method, TransactionId, Writer, kind};

/// The attributes of a Send indication that must be understood, and are.
const KNOWN_IN_SEND: &[u16] = &[kind::XOR_PEER_ADDRESS, kind::DATA, kind::DONT_FRAGMENT];

/// Data that a client sends to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToPeer<'a> {
    /// Whose socket sends it.
    pub from: AllocationId,
    /// What the peer sees as the source.
    pub relayed: SocketAddr,
    /// Where it goes.
    pub peer: SocketAddr,
    /// The peer is the relayed address of this allocation: give it to
    /// [`Server::handle_peer`] in place of the network.
    pub to_relay: Option<AllocationId>,
    /// What to send.
    pub data: &'a [u8],
}

/// Data that a peer sends to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToClient<'a> {
    /// To whom, and from where.
    pub to: Ends,
    /// How it is wrapped.
    pub wrap: ClientData,
    /// What the peer has sent.
    pub data: &'a [u8],
}

/// How data reaches a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientData {
    /// By a channel: these bytes go before the data.
    Channel([u8; CHANNEL_HEADER_BYTES]),
    /// By a Data indication: these bytes are the whole message.
    Indication(Vec<u8>),
}

impl ToClient<'_> {
    /// Appends the whole message, without padding.
    pub fn write(&self, out: &mut Vec<u8>) {
        match &self.wrap {
            ClientData::Channel(header) => {
                out.extend_from_slice(header);
                out.extend_from_slice(self.data);
            }
            ClientData::Indication(message) => out.extend_from_slice(message),
        }
    }

    /// Bytes of the whole message, without padding.
    pub fn length(&self) -> usize {
        match &self.wrap {
            ClientData::Channel(header) => header.len() + self.data.len(),
            ClientData::Indication(message) => message.len(),
        }
    }
}

impl Server {
    pub(super) fn handle_channel_data<'a>(
        &mut self,
        now: Instant,
        ends: &Ends,
        bytes: &'a [u8],
    ) -> Option<ToPeer<'a>> {
        let Some(ChannelData { channel, data }) = ChannelData::parse(bytes) else {
            self.counters.malformed += 1;
            return None;
        };
        let id = self.by_client.get(ends).copied();
        let Some((id, peer)) = id.and_then(|id| {
            let allocation = self.allocations.get_mut(id)?;
            allocation.heard = now;
            Some((id, allocation.peer_of(now, channel)?))
        }) else {
            self.counters.dropped_unpermitted += 1;
            return None;
        };
        self.pass_on(now, id, peer, data)
    }

    pub(super) fn handle_send<'a>(
        &mut self,
        now: Instant,
        ends: &Ends,
        indication: &Message<'a>,
    ) -> Option<ToPeer<'a>> {
        if unknown_attributes(indication, KNOWN_IN_SEND).is_some() {
            self.counters.malformed += 1;
            return None;
        }
        let peer = indication.xor_address(kind::XOR_PEER_ADDRESS);
        let (Some(peer), Some(data)) = (peer, indication.find(kind::DATA)) else {
            self.counters.malformed += 1;
            return None;
        };
        let id = self.by_client.get(ends).copied();
        let permitted = id.filter(|id| {
            self.allocations.get_mut(*id).is_some_and(|allocation| {
                allocation.heard = now;
                allocation.permits(now, peer.ip())
            })
        });
        let Some(id) = permitted else {
            self.counters.dropped_unpermitted += 1;
            return None;
        };
        self.pass_on(now, id, peer, data)
    }

    fn pass_on<'a>(
        &mut self,
        now: Instant,
        from: AllocationId,
        peer: SocketAddr,
        data: &'a [u8],
    ) -> Option<ToPeer<'a>> {
        let allocation = self.allocations.get(from)?;
        let relayed = allocation.relayed.filter(|_| allocation.expires > now)?;
        let member = allocation.member;
        let to_relay = self.by_relay.get(&peer).copied();
        if to_relay.is_none() && self.is_own(peer) {
            self.counters.dropped_own += 1;
            return None;
        }
        if !self
            .members
            .may_relay(member, now, &self.limits, data.len())
        {
            self.counters.dropped_rate += 1;
            return None;
        }
        self.counters.to_peers += 1;
        self.counters.to_peers_bytes += data.len() as u64;
        Some(ToPeer {
            from,
            relayed,
            peer,
            to_relay,
            data,
        })
    }

    /// A permission is for an address, and to this host only relays are let in.
    fn is_own(&self, peer: SocketAddr) -> bool {
        self.policy.judge(peer.ip()) == Verdict::Relays
    }

    /// Takes what a peer has sent to a relay's socket.
    pub fn handle_peer<'a>(
        &mut self,
        now: Instant,
        to: AllocationId,
        peer: SocketAddr,
        data: &'a [u8],
    ) -> Option<ToClient<'a>> {
        let Some(allocation) = self.allocations.get(to) else {
            self.counters.dropped_unpermitted += 1;
            return None;
        };
        if !allocation.permits(now, peer.ip()) || allocation.expires <= now {
            self.counters.dropped_unpermitted += 1;
            return None;
        }
        if !self
            .members
            .may_relay(allocation.member, now, &self.limits, data.len())
        {
            self.counters.dropped_rate += 1;
            return None;
        }
        let channel = allocation.number_of(now, peer);
        let header = channel.and_then(|number| ChannelData::header(number, data.len()));
        let wrap = match header {
            Some(header) => ClientData::Channel(header),
            None => ClientData::Indication(indication(self.counters.to_clients, peer, data)),
        };
        self.counters.to_clients += 1;
        self.counters.to_clients_bytes += data.len() as u64;
        let to = allocation.ends;
        Some(ToClient { to, wrap, data })
    }
}

/// A Data indication. Nobody answers it, so that its id need only differ from the last.
fn indication(count: u64, peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut id = [0; 12];
    id[4..].copy_from_slice(&count.to_be_bytes());
    let mut writer = Writer::new(Class::Indication, Method::Data, TransactionId::new(id));
    writer
        .put_xor_address(kind::XOR_PEER_ADDRESS, peer)
        .put(kind::DATA, data);
    writer.finish()
}
