//! The ways between the two: candidates of both, the pairs that were tried, the one in use.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::Rtc;
use waymesh_proto::ice::ServerTried;
use waymesh_proto::link::{CandidateKind, CandidatePair, DownReason, LinkProtocol, Path, Tried};

use super::{Peer, Stage};
use crate::webrtc::candidates::{LocalCandidate, is_private};
use crate::webrtc::config::STUN_RTO_MAX;
use crate::webrtc::counters::Counters;
use crate::webrtc::demux::{self, Packet};
use crate::webrtc::description;
use crate::webrtc::tried::Record;

/// How recently another pair must have been answered that the one in use may be
/// given up when its address vanishes: two consent checks, and an answer.
const OTHER_WAY_WITHIN: Duration = Duration::from_secs(2 * STUN_RTO_MAX.as_secs() + 1);

impl Peer {
    /// Whether the link has not come up, or only over a relay: more candidates may help it.
    pub(in crate::webrtc) fn is_improvable(&self) -> bool {
        match (&self.stage, self.route) {
            (Stage::Offered(_) | Stage::Connecting { .. }, _) => true,
            (Stage::Up, Some((local, remote))) => self.pair(local, remote).path() == Path::Relay,
            _ => false,
        }
    }

    /// The addresses that the peer has named.
    pub(in crate::webrtc) fn remote_ips(&self) -> Vec<IpAddr> {
        self.remote.named().iter().map(|c| c.address.ip()).collect()
    }

    /// From which candidate's address the link sends, while it is up.
    pub(in crate::webrtc) fn source(&self) -> Option<SocketAddr> {
        let route = self.route.filter(|_| matches!(self.stage, Stage::Up));
        route.map(|(local, _)| local)
    }

    /// Takes a candidate of this node that was found after the description was
    /// made; gives what to tell the peer of it.
    pub(in crate::webrtc) fn add_local(&mut self, candidate: LocalCandidate) -> Option<String> {
        let ice = candidate.to_ice()?;
        if !self.record.note_local(candidate) {
            return None;
        }
        let added = self.rtc.add_local_candidate(ice)?;
        Some(added.to_sdp_string())
    }

    /// Hears that an address of this node is gone. The session uses another pair
    /// that works; without one it keeps what it has, since an address may come back.
    pub(in crate::webrtc) fn remove_local(&mut self, now: Instant, candidate: LocalCandidate) {
        let since = now.checked_sub(OTHER_WAY_WITHIN).unwrap_or(now);
        if matches!(self.stage, Stage::Up)
            && self.record.has_other_way(candidate.source(), since)
            && let Some(ice) = candidate.to_ice()
        {
            self.rtc.direct_api().invalidate_candidate(&ice);
        }
    }

    /// What was tried for the link, if it was not told yet.
    pub(in crate::webrtc) fn tried(&mut self, servers: Vec<ServerTried>) -> Option<Box<Tried>> {
        self.record.tell(&self.remote, servers)
    }

    /// Counts a STUN message that authenticates.
    pub(in crate::webrtc) fn note_stun(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        match Packet::of(bytes) {
            Packet::StunRequest => self.record.note_heard(local, remote),
            Packet::StunResponse => {
                if let Some(id) = demux::transaction_id(bytes) {
                    self.record.note_answer(now, id);
                }
            }
            _ => {}
        }
    }

    /// Hears that the socket did not send to a peer.
    pub(in crate::webrtc) fn note_unsent(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        why: &str,
    ) {
        self.record.note_error(local, remote, why);
    }

    /// Takes a candidate that the peer trickled.
    pub(in crate::webrtc) fn handle_candidate(
        &mut self,
        now: Instant,
        text: &str,
        counters: &mut Counters,
    ) -> Result<(), DownReason> {
        match description::read_candidate(text) {
            Ok(candidate) if self.remote.add(&candidate) => {
                self.rtc.add_remote_candidate(candidate);
                self.run(now)
            }
            Err(why) if !matches!(self.stage, Stage::Up) => Err(DownReason::BadDescription(why)),
            Ok(_) | Err(_) => {
                counters.candidates_ignored += 1;
                Ok(())
            }
        }
    }

    pub(super) fn pair(&self, local_addr: SocketAddr, remote_addr: SocketAddr) -> CandidatePair {
        let candidate = self.record.local(local_addr);
        let is_through_nat = is_private(local_addr.ip()) && !is_private(remote_addr.ip());
        let local = match candidate.map(|candidate| candidate.kind) {
            Some(CandidateKind::Relay) => CandidateKind::Relay,
            _ if is_through_nat => CandidateKind::Srflx,
            _ => CandidateKind::Host,
        };
        CandidatePair {
            local,
            remote: self.remote.kind_of(remote_addr),
            protocol: candidate.map_or(LinkProtocol::Udp, |candidate| candidate.protocol),
            local_addr,
            remote_addr,
        }
    }
}

/// Tells a new session the candidates of this node.
pub(super) fn introduce(rtc: &mut Rtc, local: &[LocalCandidate], now: Instant) -> Record {
    let mut record = Record::new(now);
    for candidate in local {
        if let Some(ice) = candidate.to_ice()
            && record.note_local(*candidate)
        {
            rtc.add_local_candidate(ice);
        }
    }
    record
}
