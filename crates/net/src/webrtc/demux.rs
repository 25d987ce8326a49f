//! Finds the link that a datagram belongs to.
//!
//! - A STUN request names its link: the local ufrag leads its USERNAME (RFC 8445 §7.2.2).
//! - A STUN response carries the transaction id of the request that it answers.
//! - DTLS has neither. Its source address was learnt from STUN that the link's
//!   own ICE password authenticated, so that nobody can claim the address of another.
//!
//! Two links to one peer share both addresses (a new session beside a working
//! one). Then the DTLS record tells: the handshake's epoch belongs to the link
//! that is being made, and later records to the link whose record numbers are nearest.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use waymesh_proto::ids::LinkId;

/// STUN requests whose answer is awaited. Chosen: 100 links being made at once
/// with 36 pairs each; past it the oldest answers are not recognised.
const TRANSACTIONS_MAX: usize = 4_096;

/// Where in a STUN message the transaction id is (RFC 8489 §5).
const TRANSACTION_ID: std::ops::Range<usize> = 8..20;

/// What a datagram is by its first byte (RFC 7983).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    StunRequest,
    StunResponse,
    Dtls,
    Other,
}

impl Packet {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x00, 0x01, ..] if bytes.len() >= TRANSACTION_ID.end => Self::StunRequest,
            [0x01, 0x01 | 0x11, ..] if bytes.len() >= TRANSACTION_ID.end => Self::StunResponse,
            [20..=63, ..] if bytes.len() >= RecordNumber::HEADER_BYTES => Self::Dtls,
            _ => Self::Other,
        }
    }
}

/// The epoch and sequence number of a DTLS 1.2 record (RFC 6347 §4.1):
/// `type:1 version:2 epoch:2 sequence:6 length:2`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RecordNumber {
    epoch: u16,
    sequence: u64,
}

impl RecordNumber {
    const HEADER_BYTES: usize = 13;

    /// Reads the number of a datagram's first record.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..Self::HEADER_BYTES)?;
        let epoch = u16::from_be_bytes([header[3], header[4]]);
        let sequence = header[5..11]
            .iter()
            .fold(0, |n, byte| n << 8 | u64::from(*byte));
        Some(Self { epoch, sequence })
    }

    fn is_handshake(self) -> bool {
        self.epoch == 0
    }
}

/// Who gets which datagram.
#[derive(Debug, Default)]
pub(super) struct Demux {
    by_ufrag: HashMap<String, LinkId>,
    by_source: HashMap<SocketAddr, Vec<Route>>,
    by_transaction: HashMap<[u8; 12], LinkId>,
    transactions: VecDeque<[u8; 12]>,
}

#[derive(Debug)]
struct Route {
    link: LinkId,
    /// The latest record that came for the link from here.
    latest: RecordNumber,
}

impl Demux {
    /// Registers a link by its local ufrag.
    pub(super) fn add(&mut self, ufrag: &str, link: LinkId) {
        self.by_ufrag.insert(ufrag.to_owned(), link);
    }

    /// Forgets a link.
    pub(super) fn remove(&mut self, ufrag: &str, link: LinkId) {
        self.by_ufrag.remove(ufrag);
        self.by_source.retain(|_, routes| {
            routes.retain(|route| route.link != link);
            !routes.is_empty()
        });
    }

    /// Notes an outgoing STUN request, whose answer belongs to `link`.
    pub(super) fn note_request(&mut self, request: &[u8], link: LinkId) {
        let Some(id) = transaction_id(request) else {
            return;
        };
        if self.by_transaction.insert(id, link).is_none() {
            self.transactions.push_back(id);
        }
        while self.transactions.len() > TRANSACTIONS_MAX {
            if let Some(oldest) = self.transactions.pop_front() {
                self.by_transaction.remove(&oldest);
            }
        }
    }

    /// Notes that `link` is reached from `source`, which its STUN proved.
    pub(super) fn note_source(&mut self, source: SocketAddr, link: LinkId) {
        let routes = self.by_source.entry(source).or_default();
        if routes.iter().all(|route| route.link != link) {
            routes.push(Route {
                link,
                latest: RecordNumber::default(),
            });
        }
    }

    /// The link of a STUN request, by the local half of its USERNAME.
    pub(super) fn link_of_ufrag(&self, ufrag: &str) -> Option<LinkId> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// The link of a STUN response.
    pub(super) fn link_of_response(&self, response: &[u8]) -> Option<LinkId> {
        self.by_transaction.get(&transaction_id(response)?).copied()
    }

    /// The link of a DTLS datagram.
    pub(super) fn link_of_dtls(&mut self, source: SocketAddr, datagram: &[u8]) -> Option<LinkId> {
        let routes = self.by_source.get_mut(&source)?;
        let number = RecordNumber::of(datagram)?;
        let route = match routes.as_mut_slice() {
            [only] => only,
            many => choose(many, number)?,
        };
        route.latest = number;
        Some(route.link)
    }
}

/// Among links that share a source: the newest for a handshake, else the one whose records are nearest.
fn choose(routes: &mut [Route], number: RecordNumber) -> Option<&mut Route> {
    if number.is_handshake() {
        return routes.last_mut();
    }
    let distance = |route: &Route| {
        let expected = if route.latest.is_handshake() {
            0
        } else {
            route.latest.sequence
        };
        expected.abs_diff(number.sequence)
    };
    routes.iter_mut().rev().min_by_key(|route| distance(route))
}

fn transaction_id(message: &[u8]) -> Option<[u8; 12]> {
    message.get(TRANSACTION_ID)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u16, sequence: u64) -> Vec<u8> {
        let mut bytes = vec![23, 0xfe, 0xfd];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(&sequence.to_be_bytes()[2..]);
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn of_two_links_to_one_address_the_handshake_goes_to_the_newer_and_data_to_the_nearest() {
        let source = SocketAddr::from(([127, 0, 0, 1], 9));
        let (old, new) = (LinkId::new(1), LinkId::new(2));
        let mut demux = Demux::default();
        demux.note_source(source, old);
        assert_eq!(demux.link_of_dtls(source, &record(1, 500)), Some(old));
        demux.note_source(source, new);
        assert_eq!(demux.link_of_dtls(source, &record(0, 0)), Some(new));
        assert_eq!(demux.link_of_dtls(source, &record(1, 501)), Some(old));
        assert_eq!(demux.link_of_dtls(source, &record(1, 0)), Some(new));
        assert_eq!(demux.link_of_dtls(source, &record(1, 1)), Some(new));
        assert_eq!(demux.link_of_dtls(source, &record(1, 502)), Some(old));
        demux.remove("none", old);
        assert_eq!(demux.link_of_dtls(source, &record(1, 503)), Some(new));
    }

    #[test]
    fn an_unknown_source_has_no_link() {
        let mut demux = Demux::default();
        let stranger = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(demux.link_of_dtls(stranger, &record(0, 0)), None);
    }

    #[test]
    fn the_oldest_request_is_forgotten_when_too_many_are_open() {
        let mut demux = Demux::default();
        let request = |n: u32| [&[0; 8][..], &n.to_be_bytes(), &[0; 8]].concat();
        for n in 0..=u32::try_from(TRANSACTIONS_MAX).expect("a small number") {
            demux.note_request(&request(n), LinkId::new(7));
        }
        assert_eq!(demux.link_of_response(&request(0)), None);
        assert_eq!(demux.link_of_response(&request(1)), Some(LinkId::new(7)));
    }
}
