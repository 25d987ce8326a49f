//! The sessions of an endpoint: how each begins, is driven and ends.

use std::time::Instant;

use str0m::Rtc;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{DownReason, LinkEvent, Tried};

use super::Endpoint;
use super::candidates::LocalCandidate;
use super::counters::Counters;
use super::fence::fence;
use super::peer::{Outputs, Peer};

/// Connectivity checks sent at once when something new is known of the peer;
/// the rest is paced. Chosen: the best pair of each IP family, of two interfaces.
const FIRST_CHECKS: usize = 4;

impl Endpoint {
    pub(super) fn offer(&mut self, now: Instant, link: LinkId) {
        if self.peers.contains_key(&link) {
            tracing::debug!(%link, "a link in use cannot be offered anew");
            return;
        }
        let (rtc, local) = self.session(now);
        let made = fence(&mut self.counters.stack_panics, || {
            Peer::offer(link, rtc, &local, now)
        });
        self.begin(now, link, made, |sdp| LinkEvent::Offered { link, sdp });
    }

    pub(super) fn accept(&mut self, now: Instant, link: LinkId, sdp: &str) {
        if self.peers.contains_key(&link) {
            tracing::debug!(%link, "a link in use cannot accept anew");
            return;
        }
        let (rtc, local) = self.session(now);
        let made = fence(&mut self.counters.stack_panics, || {
            Peer::accept(link, rtc, &local, now, sdp)
        });
        self.begin(now, link, made, |sdp| LinkEvent::Answered { link, sdp });
        self.hurry(now, link);
    }

    /// Lets a session send its first checks without their usual pauses: each run sends one.
    pub(super) fn hurry(&mut self, now: Instant, link: LinkId) {
        for _ in 0..FIRST_CHECKS {
            self.drive(now, link, |peer, _| {
                peer.hurry(now);
                peer.run(now)
            });
        }
    }

    /// A new session, and what is known of this host's addresses.
    fn session(&mut self, now: Instant) -> (Box<Rtc>, Vec<LocalCandidate>) {
        let rtc = Box::new(self.template.clone().build(now));
        (rtc, self.gathering.candidates())
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
            Err(reason) => {
                self.tell_tried(link, Some(Box::default()));
                self.events.push_back(LinkEvent::Down { link, reason });
            }
        }
    }

    pub(super) fn close(&mut self, now: Instant, link: LinkId) {
        let quiet_from = self.events.len();
        if let Some(source) = self.peers.get(&link).and_then(Peer::source) {
            self.gathering.doubt(now, source);
        }
        let servers = self.gathering.servers(now);
        let tried = self
            .peers
            .get_mut(&link)
            .and_then(|peer| peer.tried(servers));
        self.drive(now, link, |peer, _| {
            peer.close();
            Ok(())
        });
        self.events.truncate(quiet_from);
        self.events.retain(|event| event.link() != link);
        self.tell_tried(link, tried);
    }

    /// Lets `act` mutate one link, drains it, and ends it if that failed.
    pub(super) fn drive(
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
            gathering: &mut self.gathering,
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
            Err(reason) => self.end(now, link, reason),
        }
    }

    fn end(&mut self, now: Instant, link: LinkId, reason: DownReason) {
        if let Some(mut peer) = self.peers.remove(&link) {
            self.demux.remove(peer.ufrag(), link);
            let tried = peer.tried(self.gathering.servers(now));
            self.tell_tried(link, tried);
            self.events.push_back(LinkEvent::Down { link, reason });
        }
    }

    fn tell_tried(&mut self, link: LinkId, tried: Option<Box<Tried>>) {
        if let Some(tried) = tried {
            self.events.push_back(LinkEvent::Tried { link, tried });
        }
    }

    /// Gives a candidate that was found just now to every session that it may help.
    pub(super) fn trickle(&mut self, now: Instant, candidate: LocalCandidate) {
        for link in self.improvable() {
            let mut told = None;
            self.drive(now, link, |peer, _| {
                told = peer.add_local(candidate);
                peer.run(now)
            });
            if let Some(candidate) = told {
                let event = LinkEvent::Candidate { link, candidate };
                self.events.push_back(event);
                self.hurry(now, link);
            }
        }
    }

    /// Tells every session that an address of this host is gone.
    pub(super) fn forget_address(&mut self, now: Instant, candidate: LocalCandidate) {
        let links: Vec<LinkId> = self.peers.keys().copied().collect();
        for link in links {
            self.drive(now, link, |peer, _| {
                peer.remove_local(now, candidate);
                peer.run(now)
            });
        }
    }

    fn improvable(&self) -> Vec<LinkId> {
        let improvable = self.peers.iter().filter(|(_, peer)| peer.is_improvable());
        improvable.map(|(link, _)| *link).collect()
    }
}
