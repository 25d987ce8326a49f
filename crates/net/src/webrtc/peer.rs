//! One link: a WebRTC session with a peer and what this node knows of it.
//!
//! Every mutation of the session is followed by [`Peer::drain`], which takes out
//! all that the session wants to send, tell and wait for. The stack demands it:
//! its queues are short, and a second input before the drain is a fatal error.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::change::SdpPendingOffer;
use str0m::net::Transmit;
use str0m::{Event, IceConnectionState, Input, Output, Rtc, RtcError};
use waymesh_proto::class::Class;
use waymesh_proto::ice::ServerTried;
use waymesh_proto::ids::LinkId;
use waymesh_proto::limits::{FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES};
use waymesh_proto::link::{
    CandidateKind, CandidatePair, DownReason, LinkEvent, LinkProtocol, Path, Tried,
};

use super::SendError;
use super::candidates::{LocalCandidate, RemoteCandidates, is_private};
use super::channels::Channels;
use super::config::STUN_RTO_MAX;
use super::counters::Counters;
use super::demux::{self, Demux, Packet};
use super::description;
use super::gathering::Gathering;
use super::timers::Alarm;
use super::transmit::TransmitQueue;
use super::tried::Record;
use super::window::Window;

/// How long a link that is being made may be without any possible pair: more
/// candidates may be on their way (RFC 8838). Chosen.
const NO_PAIR_GRACE: Duration = Duration::from_secs(5);

/// Bytes of frames that may arrive before this side knows that the link is up:
/// what the peer's first window holds, on each of its channels.
const EARLY_MAX_BYTES: usize = 256 * 1024;

/// How often a link's goodbye is sent: nothing repeats it when it is lost, and
/// DTLS drops what it has seen already (RFC 6347 §4.1.2.6).
const GOODBYE_COPIES: usize = 3;

/// Least pause between two checks while a link is being made. ICE's own 50 ms
/// (RFC 8445 §14.2) keep a relay at the end of a list of 40 pairs waiting for two
/// seconds; twice the least that the RFC allows.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

/// How recently another pair must have been answered that the one in use may be
/// given up when its address vanishes: two consent checks, and an answer.
const OTHER_WAY_WITHIN: Duration = Duration::from_secs(2 * STUN_RTO_MAX.as_secs() + 1);

/// Where a drain puts what comes out of a session.
pub(super) struct Outputs<'a> {
    pub(super) events: &'a mut VecDeque<LinkEvent>,
    pub(super) transmits: &'a mut TransmitQueue,
    pub(super) gathering: &'a mut Gathering,
    pub(super) demux: &'a mut Demux,
    pub(super) counters: &'a mut Counters,
    pub(super) max_segments: usize,
}

/// One link.
#[derive(Debug)]
pub(super) struct Peer {
    link: LinkId,
    rtc: Box<Rtc>,
    ufrag: String,
    channels: Channels,
    stage: Stage,
    remote: RemoteCandidates,
    record: Record,
    /// The local and remote address that DTLS went over last.
    route: Option<(SocketAddr, SocketAddr)>,
    pace: Pace,
    window: Window,
    no_pair_since: Option<Instant>,
    early: Vec<(Class, Vec<u8>)>,
    early_bytes: usize,
    deadline: Instant,
    pub(super) alarm: Alarm,
}

/// How fast checks go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As ICE wants.
    Steady,
    /// There are pairs that were not checked yet: the next at this time.
    Quick(Instant),
}

enum Stage {
    /// The offer is out.
    Offered(SdpPendingOffer),
    /// Both descriptions are known.
    Connecting {
        /// DTLS is up with the peer's fingerprint.
        secure: bool,
    },
    Up,
    /// The peer, or this node, said that it is over.
    Ending,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Offered(_) => "Offered",
            Self::Connecting { .. } => "Connecting",
            Self::Up => "Up",
            Self::Ending => "Ending",
        })
    }
}

impl Peer {
    /// Starts a link as the offering side and returns its offer.
    pub(super) fn offer(
        link: LinkId,
        mut rtc: Box<Rtc>,
        local: &[LocalCandidate],
        now: Instant,
    ) -> Result<(Self, String), DownReason> {
        let record = introduce(&mut rtc, local, now);
        rtc.handle_input(Input::Timeout(now))
            .map_err(stack_failed)?;
        let mut api = rtc.sdp_api();
        let channels = Channels::open(|config| api.add_channel_with_config(config));
        let Some((offer, pending)) = api.apply() else {
            return Err(DownReason::Local("the WebRTC stack made no offer".into()));
        };
        let peer = Self::new(link, rtc, channels, Stage::Offered(pending), record, now);
        Ok((peer, offer.to_sdp_string()))
    }

    /// Starts a link as the answering side and returns its answer.
    pub(super) fn accept(
        link: LinkId,
        mut rtc: Box<Rtc>,
        local: &[LocalCandidate],
        now: Instant,
        sdp: &str,
    ) -> Result<(Self, String), DownReason> {
        let record = introduce(&mut rtc, local, now);
        rtc.handle_input(Input::Timeout(now))
            .map_err(stack_failed)?;
        let checked = description::check(sdp).map_err(DownReason::BadDescription)?;
        let offer = checked.offer().map_err(DownReason::BadDescription)?;
        let answer = rtc.sdp_api().accept_offer(offer).map_err(bad_description)?;
        let channels = Channels::open(|config| rtc.direct_api().create_data_channel(config));
        let stage = Stage::Connecting { secure: false };
        let mut peer = Self::new(link, rtc, channels, stage, record, now);
        peer.remote = checked.candidates;
        peer.run(now)?;
        Ok((peer, answer.to_sdp_string()))
    }

    fn new(
        link: LinkId,
        mut rtc: Box<Rtc>,
        channels: Channels,
        stage: Stage,
        record: Record,
        now: Instant,
    ) -> Self {
        let ufrag = rtc.direct_api().local_ice_credentials().ufrag;
        Self {
            link,
            rtc,
            ufrag,
            channels,
            stage,
            remote: RemoteCandidates::default(),
            record,
            route: None,
            pace: Pace::Steady,
            window: Window::new(),
            no_pair_since: None,
            early: Vec::new(),
            early_bytes: 0,
            deadline: now,
            alarm: Alarm::default(),
        }
    }

    /// The ufrag by which this side is addressed.
    pub(super) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The session, for tests that misuse it.
    #[cfg(test)]
    pub(super) fn rtc(&mut self) -> &mut Rtc {
        &mut self.rtc
    }

    /// When the link wants [`Peer::run`].
    pub(super) fn deadline(&self) -> Instant {
        let grace_ends = self.no_pair_since.map(|since| since + NO_PAIR_GRACE);
        let next_check = match self.pace {
            Pace::Quick(at) => Some(at),
            Pace::Steady => None,
        };
        let earlier = grace_ends.into_iter().chain(next_check).min();
        earlier.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// Whether the link has not come up, or only over a relay: more candidates may help it.
    pub(super) fn is_improvable(&self) -> bool {
        match (&self.stage, self.route) {
            (Stage::Offered(_) | Stage::Connecting { .. }, _) => true,
            (Stage::Up, Some((local, remote))) => self.pair(local, remote).path() == Path::Relay,
            _ => false,
        }
    }

    /// The addresses that the peer has named.
    pub(super) fn remote_ips(&self) -> Vec<IpAddr> {
        self.remote.named().iter().map(|c| c.address.ip()).collect()
    }

    /// From which candidate's address the link sends, while it is up.
    pub(super) fn source(&self) -> Option<SocketAddr> {
        let route = self.route.filter(|_| matches!(self.stage, Stage::Up));
        route.map(|(local, _)| local)
    }

    /// Takes a candidate of this node that was found after the description was
    /// made; gives what to tell the peer of it.
    pub(super) fn add_local(&mut self, candidate: LocalCandidate) -> Option<String> {
        let ice = candidate.to_ice()?;
        if !self.record.note_local(candidate) {
            return None;
        }
        let added = self.rtc.add_local_candidate(ice)?;
        Some(added.to_sdp_string())
    }

    /// Hears that an address of this node is gone. The session uses another pair
    /// that works; without one it keeps what it has, since an address may come back.
    pub(super) fn remove_local(&mut self, now: Instant, candidate: LocalCandidate) {
        let since = now.checked_sub(OTHER_WAY_WITHIN).unwrap_or(now);
        if matches!(self.stage, Stage::Up)
            && self.record.has_other_way(candidate.source(), since)
            && let Some(ice) = candidate.to_ice()
        {
            self.rtc.direct_api().invalidate_candidate(&ice);
        }
    }

    /// What was tried for the link, if it was not told yet.
    pub(super) fn tried(&mut self, servers: Vec<ServerTried>) -> Option<Box<Tried>> {
        self.record.tell(&self.remote, servers)
    }

    /// Counts a STUN message that authenticates.
    pub(super) fn note_stun(
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
    pub(super) fn note_unsent(&mut self, local: SocketAddr, remote: SocketAddr, why: &str) {
        self.record.note_error(local, remote, why);
    }

    /// Takes the peer's answer; ignored unless this side offered and waits for one.
    pub(super) fn handle_answer(&mut self, now: Instant, sdp: &str) -> Result<(), DownReason> {
        if !matches!(self.stage, Stage::Offered(_)) {
            tracing::debug!(link = %self.link, "a second answer is ignored");
            return Ok(());
        }
        let next = Stage::Connecting { secure: false };
        let Stage::Offered(pending) = std::mem::replace(&mut self.stage, next) else {
            return Ok(());
        };
        let checked = description::check(sdp).map_err(DownReason::BadDescription)?;
        let answer = checked.answer().map_err(DownReason::BadDescription)?;
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .map_err(bad_description)?;
        self.remote = checked.candidates;
        self.run(now)
    }

    /// Takes a candidate that the peer trickled.
    pub(super) fn handle_candidate(
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

    /// Sends what was not checked yet as fast as is allowed.
    pub(super) fn hurry(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Connecting { .. }) {
            self.pace = Pace::Quick(now);
        }
    }

    /// Gives the session the time.
    pub(super) fn run(&mut self, now: Instant) -> Result<(), DownReason> {
        if self
            .no_pair_since
            .is_some_and(|since| now >= since + NO_PAIR_GRACE)
        {
            return Err(DownReason::IceFailed);
        }
        // A check that goes out sets it again.
        self.pace = Pace::Steady;
        let result = self.rtc.handle_input(Input::Timeout(now));
        self.judge(result)
    }

    /// Whether this session takes the input: for STUN, whether it authenticates.
    pub(super) fn accepts(&self, input: &Input<'_>) -> bool {
        self.rtc.accepts(input)
    }

    /// Gives the session a datagram; drain before the next.
    pub(super) fn handle_datagram(
        &mut self,
        input: Input<'_>,
        counters: &mut Counters,
    ) -> Result<(), DownReason> {
        let result = self.rtc.handle_input(input);
        match result {
            // Bytes that do not authenticate may be anybody's: they must not end a link.
            Err(error) if matches!(self.stage, Stage::Up) && self.rtc.is_alive() => {
                tracing::debug!(link = %self.link, %error, "a datagram was refused");
                counters.refused += 1;
                Ok(())
            }
            result => self.judge(result),
        }
    }

    /// Bytes that [`Peer::send`] takes now.
    pub(super) fn room(&self) -> usize {
        match self.stage {
            Stage::Up => self.window.room(self.channels.held()),
            _ => 0,
        }
    }

    /// Writes one frame; drain afterwards when it was taken.
    pub(super) fn send(
        &mut self,
        now: Instant,
        class: Class,
        frame: &[u8],
    ) -> Result<(), SendError> {
        if frame.len() > limit(class) {
            return Err(SendError::TooLarge);
        }
        if self.room() < frame.len().max(1) {
            self.window.note_refused();
            return Err(SendError::WouldBlock);
        }
        let Some(mut channel) = self.rtc.channel(self.channels.id(class)) else {
            return Err(SendError::Closed);
        };
        match channel.write(true, frame) {
            Ok(true) => {}
            Ok(false) => {
                self.window.note_refused();
                return Err(SendError::WouldBlock);
            }
            Err(error) => {
                tracing::debug!(link = %self.link, %error, "a write failed");
                return Err(SendError::Closed);
            }
        }
        self.channels.note_written(class, frame.len());
        let held = self.channels.held();
        self.window.note_written(now, frame.len(), held);
        Ok(())
    }

    /// Says goodbye to the peer; drain once afterwards and drop the link.
    pub(super) fn close(&mut self) {
        self.stage = Stage::Ending;
        if let Err(error) = self.rtc.close() {
            tracing::debug!(link = %self.link, %error, "a link closed without a goodbye");
        }
    }

    /// Takes all that the session has to say.
    pub(super) fn drain(&mut self, now: Instant, out: &mut Outputs<'_>) -> Result<(), DownReason> {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.deadline = at;
                    break;
                }
                Ok(Output::Transmit(transmit)) => self.transmit(now, &transmit, out),
                Ok(Output::Event(event)) => self.handle_event(now, event, out)?,
                Err(error) => return self.judge(Err(error)),
            }
        }
        if matches!(self.stage, Stage::Ending) || !self.rtc.is_alive() {
            return Err(DownReason::ClosedByPeer);
        }
        self.come_up(now, out);
        self.regain_room(now, out);
        Ok(())
    }

    fn transmit(&mut self, now: Instant, transmit: &Transmit, out: &mut Outputs<'_>) {
        let (source, destination) = (transmit.source, transmit.destination);
        match Packet::of(&transmit.contents) {
            Packet::StunRequest => {
                if let Some(id) = demux::transaction_id(&transmit.contents) {
                    out.demux.note_request(id, self.link);
                    self.record.note_sent(now, source, destination, id);
                }
                if matches!(self.stage, Stage::Connecting { .. }) {
                    self.pace = Pace::Quick(now + CHECK_PAUSE);
                }
            }
            Packet::Dtls if self.route != Some((source, destination)) => {
                self.route = Some((source, destination));
                self.record.note_secured(now);
                if matches!(self.stage, Stage::Up) {
                    self.window.forget_path();
                    let (link, pair) = (self.link, self.pair(source, destination));
                    out.events.push_back(LinkEvent::PairChanged { link, pair });
                }
            }
            _ => {}
        }
        let is_goodbye = matches!(self.stage, Stage::Ending) && demux::is_alert(&transmit.contents);
        let copies = if is_goodbye { GOODBYE_COPIES } else { 1 };
        let kind = self.record.local(source).map(|candidate| candidate.kind);
        let is_relayed = kind == Some(CandidateKind::Relay);
        if is_relayed && !out.gathering.relays_for(source) {
            // By the socket it would leave from an address that no peer let in.
            out.counters.relay_gone += 1;
            return;
        }
        for _ in 0..copies {
            out.send(now, source, destination, &transmit.contents);
        }
    }

    fn handle_event(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outputs<'_>,
    ) -> Result<(), DownReason> {
        match event {
            Event::Connected => {
                if let Stage::Connecting { secure } = &mut self.stage {
                    *secure = true;
                    out.demux.note_secure(self.link);
                }
            }
            Event::IceConnectionStateChange(state) => return self.handle_ice(now, state),
            Event::ChannelData(data) => {
                let Some(class) = self.channels.class(data.id) else {
                    out.counters.unknown_channel += 1;
                    return Ok(());
                };
                return self.handle_frame(now, class, data.data, out);
            }
            Event::ChannelClose(_) | Event::Closed => self.stage = Stage::Ending,
            _ => {}
        }
        Ok(())
    }

    fn handle_ice(&mut self, now: Instant, state: IceConnectionState) -> Result<(), DownReason> {
        if state != IceConnectionState::Disconnected {
            self.no_pair_since = None;
            return Ok(());
        }
        if matches!(self.stage, Stage::Up) {
            return Err(DownReason::IceFailed);
        }
        self.no_pair_since.get_or_insert(now);
        Ok(())
    }

    fn handle_frame(
        &mut self,
        now: Instant,
        class: Class,
        bytes: Vec<u8>,
        out: &mut Outputs<'_>,
    ) -> Result<(), DownReason> {
        if matches!(self.stage, Stage::Connecting { .. }) {
            self.come_up(now, out);
        }
        if matches!(self.stage, Stage::Up) {
            let link = self.link;
            out.events
                .push_back(LinkEvent::Frame { link, class, bytes });
            return Ok(());
        }
        self.early_bytes += bytes.len();
        if self.early_bytes > EARLY_MAX_BYTES {
            return Err(DownReason::Local(
                "the peer sent before the link was up".into(),
            ));
        }
        self.early.push((class, bytes));
        Ok(())
    }

    /// Reports the link as up once DTLS is, and every channel takes writes.
    fn come_up(&mut self, now: Instant, out: &mut Outputs<'_>) {
        let (Stage::Connecting { secure: true }, Some((local, remote))) = (&self.stage, self.route)
        else {
            return;
        };
        if !self.channels.are_open(&mut self.rtc) {
            return;
        }
        self.stage = Stage::Up;
        self.pace = Pace::Steady;
        let (link, pair) = (self.link, self.pair(local, remote));
        if let Some(tried) = self.tried(out.gathering.servers(now)) {
            out.events.push_back(LinkEvent::Tried { link, tried });
        }
        out.events.push_back(LinkEvent::Up { link, pair });
        for (class, bytes) in std::mem::take(&mut self.early) {
            out.events
                .push_back(LinkEvent::Frame { link, class, bytes });
        }
    }

    /// Learns what SCTP still holds, and tells a waiting sender when half the window is free.
    fn regain_room(&mut self, now: Instant, out: &mut Outputs<'_>) {
        if self.channels.held() == 0 {
            return;
        }
        self.channels.refresh(&mut self.rtc);
        let held = self.channels.held();
        if self.window.note_held(now, held) {
            out.events
                .push_back(LinkEvent::Writable { link: self.link });
        }
    }

    fn pair(&self, local_addr: SocketAddr, remote_addr: SocketAddr) -> CandidatePair {
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

    /// What an error of the session means for the link.
    fn judge(&self, result: Result<(), RtcError>) -> Result<(), DownReason> {
        result.map_err(|error| match error {
            // The stack reports a fingerprint that does not match as an error of the description.
            RtcError::Dtls(_) | RtcError::RemoteSdp(_) => DownReason::DtlsFailed(error.to_string()),
            other => stack_failed(other),
        })
    }
}

impl Outputs<'_> {
    /// Sends from a candidate: through its relay, or by the socket.
    fn send(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, datagram: &[u8]) {
        if self.gathering.send(now, source, destination, datagram) {
            return;
        }
        self.transmits.push(
            source,
            destination,
            datagram,
            self.max_segments,
            self.counters,
        );
    }
}

/// Tells a new session the candidates of this node.
fn introduce(rtc: &mut Rtc, local: &[LocalCandidate], now: Instant) -> Record {
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

/// The largest frame of a class.
fn limit(class: Class) -> usize {
    if class.is_reliable() {
        FRAME_MAX_BYTES
    } else {
        LOSSY_FRAME_MAX_BYTES
    }
}

fn bad_description(error: RtcError) -> DownReason {
    DownReason::BadDescription(error.to_string())
}

fn stack_failed(error: RtcError) -> DownReason {
    DownReason::Local(error.to_string())
}
