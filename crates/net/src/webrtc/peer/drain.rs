//! What comes out of a session after each mutation: datagrams, events, the next deadline.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use str0m::net::Transmit;
use str0m::{Event, IceConnectionState, Output};
use waymesh_proto::class::Class;
use waymesh_proto::link::{CandidateKind, DownReason, LinkEvent};

use super::{CHECK_PAUSE, Pace, Peer, Stage};
use crate::webrtc::counters::Counters;
use crate::webrtc::demux::{self, Demux, Packet};
use crate::webrtc::gathering::Gathering;
use crate::webrtc::transmit::TransmitQueue;

/// Bytes of frames that may arrive before this side knows that the link is up:
/// what the peer's first window holds, on each of its channels.
const EARLY_MAX_BYTES: usize = 256 * 1024;

/// How often a link's goodbye is sent: nothing repeats it when it is lost, and
/// DTLS drops what it has seen already (RFC 6347 §4.1.2.6).
const GOODBYE_COPIES: usize = 3;

/// Where a drain puts what comes out of a session.
pub(in crate::webrtc) struct Outputs<'a> {
    pub(in crate::webrtc) events: &'a mut VecDeque<LinkEvent>,
    pub(in crate::webrtc) transmits: &'a mut TransmitQueue,
    pub(in crate::webrtc) gathering: &'a mut Gathering,
    pub(in crate::webrtc) demux: &'a mut Demux,
    pub(in crate::webrtc) counters: &'a mut Counters,
    pub(in crate::webrtc) max_segments: usize,
}

impl Peer {
    /// Takes all that the session has to say.
    pub(in crate::webrtc) fn drain(
        &mut self,
        now: Instant,
        out: &mut Outputs<'_>,
    ) -> Result<(), DownReason> {
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
