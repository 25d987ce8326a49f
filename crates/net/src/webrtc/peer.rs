//! One link: a WebRTC session with a peer and what this node knows of it.
//!
//! Every mutation of the session is followed by [`Peer::drain`], which takes out
//! all that the session wants to send, tell and wait for. The stack demands it:
//! its queues are short, and a second input before the drain is a fatal error.

mod drain;
mod ways;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::change::SdpPendingOffer;
use str0m::{Input, Rtc, RtcError};
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::limits::{FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES};
use waymesh_proto::link::DownReason;

pub(super) use self::drain::Outputs;
use self::ways::introduce;
use super::SendError;
use super::candidates::{LocalCandidate, RemoteCandidates};
use super::channels::Channels;
use super::counters::Counters;
use super::description;
use super::timers::Alarm;
use super::tried::Record;
use super::window::Window;

/// How long a link that is being made may be without any possible pair: more
/// candidates may be on their way (RFC 8838). Chosen.
const NO_PAIR_GRACE: Duration = Duration::from_secs(5);

/// Least pause between two checks while a link is being made. ICE's own 50 ms
/// (RFC 8445 §14.2) keep a relay at the end of a list of 40 pairs waiting for two
/// seconds; twice the least that the RFC allows.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

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

    /// What an error of the session means for the link.
    fn judge(&self, result: Result<(), RtcError>) -> Result<(), DownReason> {
        result.map_err(|error| match error {
            // The stack reports a fingerprint that does not match as an error of the description.
            RtcError::Dtls(_) | RtcError::RemoteSdp(_) => DownReason::DtlsFailed(error.to_string()),
            other => stack_failed(other),
        })
    }
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
