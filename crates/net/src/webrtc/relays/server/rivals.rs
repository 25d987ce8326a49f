//! A server that has given an address and fell silent: it is asked in other ways beside,
//! and what it gave is used until one of them gives another, or it answers again.
//!
//! Invariant: while there is an allocation its leg is the first, the rivals follow.

use std::time::{Duration, Instant};

use waymesh_proto::ice::{IceTransport, IceUrl, ServerOutcome};

use super::way::failed;
use super::{Server, Stage, Taken};
use crate::webrtc::names::Names;
use crate::webrtc::relays::RelayEvent;
use crate::webrtc::relays::leg::{Leg, Roads, ToSocket};

/// How long an allocation's server may be silent before other ways are tried beside it.
/// Chosen: a request was sent three times then, and with a loss of 10 % each way fails
/// so seven times in a thousand, which costs a connection.
const RIVALS_AFTER: Duration = Duration::from_secs(1);

impl Server {
    /// Since when the server of the allocation has not answered.
    fn silent_since(&self) -> Option<Instant> {
        let Stage::Allocated { .. } = self.stage else {
            return None;
        };
        self.legs.first().and_then(Leg::silent_since)
    }

    /// When rivals are to be asked; once in one silence.
    pub(super) fn rivals_at(&self) -> Option<Instant> {
        let since = self.silent_since()?;
        let is_asked = self.rivals_since.is_some_and(|asked| asked >= since);
        (!is_asked).then(|| since + RIVALS_AFTER)
    }

    /// Asks by all streams but the one that there is, and by UDP where there is a stream.
    pub(super) fn ask_rivals(
        &mut self,
        now: Instant,
        names: &Names,
        roads: &Roads,
        taken: &mut Taken,
    ) {
        self.rivals_since = Some(now);
        let used = self.legs.first().map(|leg| leg.url.clone());
        if used.as_ref().map(IceUrl::transport) == Some(IceTransport::Tcp) {
            self.ask_udp(now, names, taken);
        }
        let is_other = |way: &&mut super::Way| {
            way.url.transport() == IceTransport::Tcp && used.as_ref() != Some(&way.url)
        };
        for way in self.ways.iter_mut().filter(is_other) {
            way.begin(now);
            let (url, credentials) = (way.url.clone(), self.credentials.clone());
            self.legs.push(Leg::by_stream(url, credentials, roads));
        }
    }

    /// Ends the rivals of an allocation whose server has answered again.
    pub(super) fn end_rivals(&mut self, now: Instant, to_socket: &mut ToSocket) {
        let Stage::Allocated { .. } = self.stage else {
            return;
        };
        if self.legs.len() < 2 || self.silent_since().is_some() {
            return;
        }
        for leg in &mut self.legs[1..] {
            leg.close(now, to_socket);
        }
        self.retire(1..);
        for way in &mut self.ways {
            if way.outcome == ServerOutcome::Waiting {
                way.end(now, ServerOutcome::NotNeeded);
            }
        }
    }

    /// The address that a silent server gave is gone: a rival has another.
    pub(super) fn give_way(&mut self, now: Instant, tell: &mut impl FnMut(RelayEvent)) {
        let Stage::Allocated { relayed, .. } = self.stage else {
            return;
        };
        let first = &self.legs[0];
        let url = &first.url;
        tracing::debug!(%url, "a TURN server fell silent, and answers in another way");
        if let Some(way) = self.ways.iter_mut().find(|way| way.url == *url) {
            way.end(now, failed("the TURN server fell silent".to_owned()));
        }
        if first.server().is_some() {
            self.earlier = first.signs_with();
        }
        tell(RelayEvent::Lost(relayed));
    }
}
