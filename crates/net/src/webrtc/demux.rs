//! Finds the link that a datagram belongs to.
//!
//! - A STUN request names its link: the local ufrag leads its USERNAME (RFC 8445 §7.2.2).
//! - A STUN response carries the transaction id of the request that it answers.
//! - DTLS has neither. Its source address was learnt from STUN that the link's
//!   own ICE password authenticated, so that nobody can claim the address of another.
//!
//! Two links to one peer share both addresses (a new session beside a working
//! one). Then the DTLS record tells: handshake records belong to the link that
//! is being made; a record of data is shown to every link from there whose
//! handshake is over, since only the one that it is for can open it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use waymesh_proto::ids::LinkId;

use super::tried::TransactionId;

/// STUN requests whose answer is awaited. Chosen: 100 links being made at once
/// with 36 pairs each; past it the oldest answers are not recognised.
const TRANSACTIONS_MAX: usize = 4_096;

/// Addresses that one link may be reached from; one more, and the one that was
/// silent longest is forgotten. Chosen: all pairs of two hosts with eight
/// addresses each; a peer that claims more harms its own link alone.
const SOURCES_PER_LINK_MAX: usize = 64;

/// Where in a STUN message the transaction id is (RFC 8489 §5).
const TRANSACTION_ID: std::ops::Range<usize> = 8..20;

/// Where a datagram came from: the peer's address, and through what this node
/// got it. Two relays may see the same peer at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// The relayed address that it came to; `None` for the socket itself.
    pub(super) relay: Option<SocketAddr>,
    /// The peer's address.
    pub(super) address: SocketAddr,
}

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
            [20..=63, ..] if bytes.len() >= RECORD_HEADER_BYTES => Self::Dtls,
            _ => Self::Other,
        }
    }
}

/// Bytes of a DTLS 1.2 record's header (RFC 6347 §4.1):
/// `type:1 version:2 epoch:2 sequence:6 length:2`.
const RECORD_HEADER_BYTES: usize = 13;

/// The content type of handshake records (RFC 5246 §6.2.1).
const HANDSHAKE: u8 = 22;

/// The content type of alerts, the goodbye among them (RFC 5246 §6.2.1).
const ALERT: u8 = 21;

/// The content type of the records with data (RFC 5246 §6.2.1).
const APPLICATION_DATA: u8 = 23;

/// Whether a datagram starts with a record of data.
pub(super) fn is_data(datagram: &[u8]) -> bool {
    datagram.first() == Some(&APPLICATION_DATA)
}

/// Whether a datagram starts with an alert.
pub(super) fn is_alert(datagram: &[u8]) -> bool {
    datagram.first() == Some(&ALERT)
}

/// Whether a datagram starts with a record of a handshake: plain (epoch 0), or its encrypted end.
fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram, [_, _, _, 0, 0, ..] | [HANDSHAKE, ..])
}

/// Who gets which datagram.
#[derive(Debug, Default)]
pub(super) struct Demux {
    by_ufrag: HashMap<String, LinkId>,
    by_source: HashMap<Origin, Vec<LinkId>>,
    /// The sources of each link; mirrors `by_source`.
    reached: HashMap<LinkId, Reached>,
    by_transaction: HashMap<TransactionId, LinkId>,
    transactions: VecDeque<TransactionId>,
}

/// Where a link is reached from.
#[derive(Debug, Default)]
struct Reached {
    /// The source that was heard last is at the end.
    sources: VecDeque<Origin>,
    /// The link's handshake is over.
    is_secure: bool,
}

impl Demux {
    /// Registers a link by its local ufrag.
    pub(super) fn add(&mut self, ufrag: &str, link: LinkId) {
        self.by_ufrag.insert(ufrag.to_owned(), link);
    }

    /// Forgets a link.
    pub(super) fn remove(&mut self, ufrag: &str, link: LinkId) {
        self.by_ufrag.remove(ufrag);
        let reached = self.reached.remove(&link).unwrap_or_default();
        for source in reached.sources {
            self.forget_source(source, link);
        }
    }

    fn forget_source(&mut self, source: Origin, link: LinkId) {
        if let Some(links) = self.by_source.get_mut(&source) {
            links.retain(|known| *known != link);
            if links.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }

    /// Notes an outgoing STUN request, whose answer belongs to `link`.
    pub(super) fn note_request(&mut self, id: TransactionId, link: LinkId) {
        if self.by_transaction.insert(id, link).is_none() {
            self.transactions.push_back(id);
        }
        while self.transactions.len() > TRANSACTIONS_MAX {
            if let Some(oldest) = self.transactions.pop_front() {
                self.by_transaction.remove(&oldest);
            }
        }
    }

    /// Notes that `link` is reached from `source`, which its STUN proved; says
    /// whether another source was forgotten for it.
    pub(super) fn note_source(&mut self, source: Origin, link: LinkId) -> bool {
        let sources = &mut self.reached.entry(link).or_default().sources;
        if sources.back() == Some(&source) {
            return false;
        }
        if let Some(at) = sources.iter().position(|known| *known == source) {
            sources.remove(at);
            sources.push_back(source);
            return false;
        }
        sources.push_back(source);
        let oldest = (sources.len() > SOURCES_PER_LINK_MAX).then(|| sources.pop_front());
        self.by_source.entry(source).or_default().push(link);
        match oldest.flatten() {
            Some(oldest) => {
                self.forget_source(oldest, link);
                true
            }
            None => false,
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

    /// Notes that the DTLS handshake of `link` is over.
    pub(super) fn note_secure(&mut self, link: LinkId) {
        self.reached.entry(link).or_default().is_secure = true;
    }

    fn is_secure(&self, link: LinkId) -> bool {
        self.reached
            .get(&link)
            .is_some_and(|reached| reached.is_secure)
    }

    /// The links that a DTLS datagram may be for: one, but for peers with several links.
    pub(super) fn links_of_dtls(&self, source: Origin, datagram: &[u8]) -> DtlsLinks {
        let links = self.by_source.get(&source).map_or(&[][..], Vec::as_slice);
        match links {
            [] => DtlsLinks::None,
            [only] => DtlsLinks::One(*only),
            many if is_handshake(datagram) => {
                let mut newest_first = many.iter().rev();
                let being_made = newest_first.find(|link| !self.is_secure(**link));
                being_made
                    .or(many.last())
                    .map_or(DtlsLinks::None, |link| DtlsLinks::One(*link))
            }
            many => {
                let secure = many.iter().filter(|link| self.is_secure(**link));
                DtlsLinks::Any(secure.copied().collect())
            }
        }
    }
}

/// The links that a DTLS datagram may be for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DtlsLinks {
    None,
    One(LinkId),
    /// All links of one peer: the right one can open it, the others drop it.
    Any(Vec<LinkId>),
}

/// The transaction id of a STUN message.
pub(super) fn transaction_id(message: &[u8]) -> Option<TransactionId> {
    message.get(TRANSACTION_ID)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: [u8; 4], port: u16) -> Origin {
        Origin {
            relay: None,
            address: SocketAddr::from((ip, port)),
        }
    }

    fn record(content_type: u8, epoch: u16) -> Vec<u8> {
        let mut bytes = vec![content_type, 0xfe, 0xfd];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn of_two_links_to_one_peer_the_handshake_goes_to_the_one_being_made_and_data_to_the_secure_ones()
     {
        let source = at([127, 0, 0, 1], 9);
        let (old, new) = (LinkId::new(1), LinkId::new(2));
        let (hello, finished, data) = (record(22, 0), record(22, 1), record(23, 1));
        let mut demux = Demux::default();
        demux.note_source(source, old);
        demux.note_secure(old);
        assert_eq!(demux.links_of_dtls(source, &hello), DtlsLinks::One(old));
        demux.note_source(source, new);
        assert_eq!(demux.links_of_dtls(source, &hello), DtlsLinks::One(new));
        assert_eq!(demux.links_of_dtls(source, &finished), DtlsLinks::One(new));
        assert_eq!(
            demux.links_of_dtls(source, &data),
            DtlsLinks::Any(vec![old])
        );
        demux.note_secure(new);
        assert_eq!(
            demux.links_of_dtls(source, &data),
            DtlsLinks::Any(vec![old, new])
        );
        demux.remove("none", old);
        assert_eq!(demux.links_of_dtls(source, &data), DtlsLinks::One(new));
    }

    #[test]
    fn a_link_is_reached_from_as_many_sources_as_the_limit_and_one_more_replaces_the_most_silent() {
        let source = |n: usize| at([192, 0, 2, 1], n as u16);
        let (link, other) = (LinkId::new(1), LinkId::new(2));
        let data = record(23, 1);
        let mut demux = Demux::default();
        demux.note_source(source(0), other);
        for n in 0..SOURCES_PER_LINK_MAX {
            assert!(!demux.note_source(source(n), link));
        }
        assert!(!demux.note_source(source(1), link));
        assert!(demux.note_source(source(SOURCES_PER_LINK_MAX), link));
        let one = DtlsLinks::One(link);
        assert_eq!(demux.links_of_dtls(source(0), &data), DtlsLinks::One(other));
        assert_eq!(demux.links_of_dtls(source(1), &data), one);
        assert!(demux.note_source(source(99), link));
        assert_eq!(demux.links_of_dtls(source(2), &data), DtlsLinks::None);
        assert_eq!(demux.links_of_dtls(source(1), &data), one);
        demux.remove("none", link);
        assert_eq!(demux.by_source.len(), 1);
    }

    #[test]
    fn a_secure_link_that_moves_to_the_address_of_another_still_gets_its_data() {
        let [source, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|ip| at(ip, 9));
        let (one, two) = (LinkId::new(1), LinkId::new(2));
        let mut demux = Demux::default();
        for (link, source) in [(one, source), (two, other)] {
            demux.note_source(source, link);
            demux.note_secure(link);
        }
        demux.note_source(source, two);
        let both = DtlsLinks::Any(vec![one, two]);
        assert_eq!(demux.links_of_dtls(source, &record(23, 1)), both);
    }

    #[test]
    fn an_unknown_source_has_no_link() {
        let stranger = at([192, 0, 2, 1], 1);
        assert_eq!(
            Demux::default().links_of_dtls(stranger, &record(22, 0)),
            DtlsLinks::None
        );
    }

    #[test]
    fn the_same_address_seen_through_two_relays_is_two_sources() {
        let relay = |n: u8| Some(SocketAddr::from(([198, 51, 100, n], 9)));
        let through = |n| Origin {
            relay: relay(n),
            ..at([192, 0, 2, 1], 9)
        };
        let mut demux = Demux::default();
        demux.note_source(through(1), LinkId::new(1));
        demux.note_source(through(2), LinkId::new(2));
        let data = record(23, 1);
        for n in [1, 2] {
            let expected = DtlsLinks::One(LinkId::new(n.into()));
            assert_eq!(demux.links_of_dtls(through(n), &data), expected);
        }
        let direct = at([192, 0, 2, 1], 9);
        assert_eq!(demux.links_of_dtls(direct, &data), DtlsLinks::None);
    }

    #[test]
    fn the_oldest_request_is_forgotten_when_too_many_are_open() {
        let mut demux = Demux::default();
        let request = |n: u32| [&[0; 8][..], &n.to_be_bytes(), &[0; 8]].concat();
        for n in 0..=u32::try_from(TRANSACTIONS_MAX).expect("a small number") {
            let id = transaction_id(&request(n)).expect("long enough");
            demux.note_request(id, LinkId::new(7));
        }
        assert_eq!(demux.link_of_response(&request(0)), None);
        assert_eq!(demux.link_of_response(&request(1)), Some(LinkId::new(7)));
    }
}
