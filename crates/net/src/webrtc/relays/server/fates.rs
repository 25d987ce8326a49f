//! What becomes of the legs to a TURN server: one wins, the others end.

use std::net::SocketAddr;
use std::time::Instant;

use waymesh_proto::ice::ServerOutcome;

use super::way::failed;
use super::{GOOD_AFTER, Server, Stage, Taken};
use crate::turn::client::ClientEvent;
use crate::webrtc::relays::RelayEvent;
use crate::webrtc::relays::leg::ToSocket;

/// What became of a leg.
pub(super) enum Fate {
    Goes,
    Wins,
    Ends,
}

impl Server {
    /// Moves messages, and takes what became of the legs.
    pub(in crate::webrtc::relays) fn turn(
        &mut self,
        now: Instant,
        to_socket: &mut ToSocket,
        mut tell: impl FnMut(RelayEvent),
    ) {
        let mut at = 0;
        while at < self.legs.len() {
            let fate = self.turn_leg(now, at, to_socket, &mut tell);
            match fate {
                Fate::Goes => at += 1,
                Fate::Wins => at = 1,
                Fate::Ends => self.retire(at..=at),
            }
        }
        self.end_rivals(now, to_socket);
        self.judge(now);
    }

    fn turn_leg(
        &mut self,
        now: Instant,
        at: usize,
        to_socket: &mut ToSocket,
        tell: &mut impl FnMut(RelayEvent),
    ) -> Fate {
        let leg = &mut self.legs[at];
        leg.hear_stream(now);
        leg.pass_on(to_socket);
        let relayed = leg.relayed();
        while let Some(event) = self.legs[at].poll_event() {
            match event {
                ClientEvent::Data { peer, bytes } => {
                    if let Some(relayed) = relayed {
                        tell(RelayEvent::Data {
                            relayed,
                            peer,
                            bytes,
                        });
                    }
                }
                ClientEvent::PeerRefused { ip, error } => {
                    tracing::debug!(%ip, %error, "a relay does not relay to a peer");
                }
                ClientEvent::Allocated { relayed, .. } => {
                    self.give_way(now, tell);
                    self.win(now, at, relayed, to_socket);
                    if let Some(candidate) = self.candidate() {
                        tell(RelayEvent::Found(candidate));
                    }
                    return Fate::Wins;
                }
                ClientEvent::Failed { error } | ClientEvent::Lost { error } => {
                    return self.lose(now, at, error.to_string(), tell);
                }
                ClientEvent::CredentialsRefused { error } => {
                    tell(RelayEvent::CredentialsRefused);
                    return self.lose(now, at, error.to_string(), tell);
                }
            }
        }
        match self.legs[at].take_closed() {
            Some(why) => self.lose(now, at, why, tell),
            None => Fate::Goes,
        }
    }

    /// The first that has an address is used, the others are closed.
    pub(super) fn win(
        &mut self,
        now: Instant,
        at: usize,
        relayed: SocketAddr,
        to_socket: &mut ToSocket,
    ) {
        self.stage = Stage::Allocated {
            relayed,
            since: now,
        };
        self.legs.swap(0, at);
        for leg in &mut self.legs[1..] {
            leg.close(now, to_socket);
        }
        self.retire(1..);
        let url = &self.legs[0].url;
        for way in &mut self.ways {
            if way.url == *url {
                let address = relayed;
                way.end(now, ServerOutcome::Gave { address });
            } else if way.outcome == ServerOutcome::Waiting {
                way.end(now, ServerOutcome::NotNeeded);
            }
        }
    }

    pub(super) fn lose(
        &mut self,
        now: Instant,
        at: usize,
        why: String,
        tell: &mut impl FnMut(RelayEvent),
    ) -> Fate {
        let url = &self.legs[at].url;
        tracing::debug!(%url, %why, "a TURN server cannot be used");
        if let Some(way) = self.ways.iter_mut().find(|way| way.url == *url) {
            way.end(now, failed(why));
        }
        if self.legs[at].server().is_some() {
            self.earlier = self.legs[at].signs_with();
        }
        // What becomes of a rival changes nothing.
        if at == 0
            && let Stage::Allocated { relayed, since } = self.stage
        {
            tell(RelayEvent::Lost(relayed));
            if self.legs.len() > 1 {
                self.stage = Stage::Racing;
                return Fate::Ends;
            }
            self.fail(now);
            if now >= since + GOOD_AFTER {
                self.failures = 0;
                self.stage = Stage::Failed {
                    since: now,
                    again_at: now,
                };
            }
        }
        Fate::Ends
    }

    /// Ends legs whose server has sent them where another leg is already, see [`Taken`].
    pub(in crate::webrtc::relays) fn yield_to(&mut self, now: Instant, taken: &mut Taken) {
        let mut at = 0;
        while at < self.legs.len() {
            let leg = &mut self.legs[at];
            let moved_to = leg.server().filter(|_| leg.has_moved());
            leg.stay();
            match moved_to {
                Some(server) if taken.contains(&server) => {
                    let url = &leg.url;
                    tracing::debug!(%url, %server, "it sends to a server that is asked already");
                    if let Some(way) = self.ways.iter_mut().find(|way| way.url == *url) {
                        way.end(now, ServerOutcome::NotNeeded);
                    }
                    self.retire(at..=at);
                }
                moved_to => {
                    taken.extend(moved_to);
                    at += 1;
                }
            }
        }
    }
}
