//! What is on its way through the fake network, and what happens when it lands.

use std::time::{Duration, Instant};

use waymesh_proto::class::{Class, Reliability};
use waymesh_proto::link::{CandidateKind, DownReason, LinkEvent};

use super::end::Stage;
use super::{FakeNet, Place, Weather, pair};

/// Something that happens by itself at its time.
#[derive(Debug)]
pub(super) enum Flight {
    /// A frame arrives, or is lost at the last moment.
    Frame(Box<Frame>),
    /// The receiver learns that a frame of an ordered class was given up.
    GivenUp(Box<Frame>),
    /// The sender learns that it need not hold a frame any longer.
    Acknowledged { place: Place, bytes: usize },
    /// An end comes up.
    Up { place: Place },
    /// An end finds a direct pair of addresses.
    Direct { place: Place },
    /// An end that is still not up gives up.
    Patience { place: Place },
    /// An end hears that its link is over.
    Down { place: Place, reason: DownReason },
}

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Frame {
    from: Place,
    to: Place,
    class: Class,
    /// The frame's place in the order of its class.
    turn: u64,
    bytes: Vec<u8>,
    sent: Instant,
    attempts: u16,
}

impl FakeNet {
    /// Puts an accepted frame on its way.
    pub(super) fn dispatch(&mut self, now: Instant, from: Place, class: Class, bytes: Vec<u8>) {
        let weather = self.weather_of(from);
        let jitter = self.dice.below(weather.jitter);
        let Some(end) = self.ends.get_mut(&from) else {
            return;
        };
        let Some(to) = end.other else {
            return;
        };
        let wire_free = end.wire_free.map_or(now, |free| free.max(now));
        let departs = wire_free + weather.transmission(bytes.len());
        end.wire_free = Some(departs);
        let counter = &mut end.sent[usize::from(class.channel_id())];
        let turn = std::mem::replace(counter, *counter + 1);
        let frame = Frame {
            from,
            to,
            class,
            turn,
            bytes,
            sent: now,
            attempts: 1,
        };
        self.fly(
            departs + weather.delay + jitter,
            Flight::Frame(Box::new(frame)),
        );
    }

    /// Handles something whose time has come.
    pub(super) fn land(&mut self, at: Instant, flight: Flight) {
        match flight {
            Flight::Frame(frame) => self.land_frame(at, frame),
            Flight::GivenUp(frame) => self.take_turn(&frame, None),
            Flight::Acknowledged { place, bytes } => self.release(place, bytes),
            Flight::Up { place } => self.come_up(at, place),
            Flight::Direct { place } => self.become_direct(at, place),
            Flight::Patience { place } => {
                if self
                    .ends
                    .get(&place)
                    .is_some_and(|end| end.stage != Stage::Up)
                {
                    self.end(place, DownReason::IceFailed);
                }
            }
            Flight::Down { place, reason } => self.end(place, reason),
        }
    }

    fn land_frame(&mut self, at: Instant, mut frame: Box<Frame>) {
        let is_gone = |place| self.ends.get(place).is_none_or(|end| end.vanished);
        // A peer that closed may still be heard, one that vanished is not.
        if is_gone(&frame.to) || self.ends.get(&frame.from).is_some_and(|end| end.vanished) {
            return;
        }
        let weather = self.weather_of(frame.from);
        let lost = self.is_cut(frame.from.0, frame.to.0)
            || self.dice.one_of_thousand(weather.loss_per_mille);
        if lost {
            return self.lose(at, frame, weather);
        }
        let (place, bytes) = (frame.from, frame.bytes.len());
        self.fly(at + weather.delay, Flight::Acknowledged { place, bytes });
        let bytes = std::mem::take(&mut frame.bytes);
        if frame.class.is_ordered() {
            self.take_turn(&frame, Some(bytes));
        } else {
            self.deliver(frame.to, frame.class, bytes);
        }
    }

    /// A frame did not get through: again, or never, as its class says.
    fn lose(&mut self, at: Instant, mut frame: Box<Frame>, weather: Weather) {
        let next = at + weather.retransmission();
        let again = match frame.class.reliability() {
            // Who closed sends nothing again.
            Reliability::Reliable => self.ends.contains_key(&frame.from),
            Reliability::MaxRetransmits(most) => frame.attempts <= most,
            Reliability::MaxLifetimeMs(life) => {
                next <= frame.sent + Duration::from_millis(life.into())
            }
        };
        if again {
            frame.attempts = frame.attempts.saturating_add(1);
            return self.fly(next, Flight::Frame(frame));
        }
        let (place, bytes) = (frame.from, frame.bytes.len());
        self.fly(next, Flight::Acknowledged { place, bytes });
        if frame.class.is_ordered() && !frame.class.is_reliable() {
            self.fly(next, Flight::GivenUp(frame));
        }
    }

    /// Delivers what an ordered class may deliver once this frame has come, or never will.
    fn take_turn(&mut self, frame: &Frame, bytes: Option<Vec<u8>>) {
        let Some(end) = self.ends.get_mut(&frame.to) else {
            return;
        };
        let turns = &mut end.turns[usize::from(frame.class.channel_id())];
        for bytes in turns.take(frame.turn, bytes) {
            self.deliver(frame.to, frame.class, bytes);
        }
    }

    fn deliver(&mut self, to: Place, class: Class, bytes: Vec<u8>) {
        let Some(end) = self.ends.get_mut(&to) else {
            return;
        };
        if end.stage == Stage::Up {
            self.tell(
                to.0,
                LinkEvent::Frame {
                    link: to.1,
                    class,
                    bytes,
                },
            );
        } else {
            end.early.push_back((class, bytes));
        }
    }

    fn release(&mut self, place: Place, bytes: usize) {
        let window = self.weather_of(place).window_bytes;
        if self
            .ends
            .get_mut(&place)
            .is_some_and(|end| end.release(bytes, window))
        {
            self.tell(place.0, LinkEvent::Writable { link: place.1 });
        }
    }

    fn come_up(&mut self, at: Instant, place: Place) {
        let other = self.ends.get(&place).and_then(|end| end.other);
        let Some(other) = other.filter(|other| self.ends.contains_key(other)) else {
            return;
        };
        if self.is_cut(place.0, other.0) || self.is_cut(other.0, place.0) {
            let again = at + self.weather_of(place).retransmission();
            return self.fly(again, Flight::Up { place });
        }
        let Some(end) = self.ends.get_mut(&place).filter(|end| !end.vanished) else {
            return;
        };
        end.stage = Stage::Up;
        let kind = end.kind;
        let early = std::mem::take(&mut end.early);
        self.tell(
            place.0,
            LinkEvent::Up {
                link: place.1,
                pair: pair(place, other, kind),
            },
        );
        for (class, bytes) in early {
            self.tell(
                place.0,
                LinkEvent::Frame {
                    link: place.1,
                    class,
                    bytes,
                },
            );
        }
    }

    fn become_direct(&mut self, at: Instant, place: Place) {
        let Some(end) = self.ends.get_mut(&place).filter(|end| !end.vanished) else {
            return;
        };
        let Some(other) = end.other else {
            return;
        };
        if end.stage != Stage::Up {
            let again = at + self.weather_of(place).retransmission();
            return self.fly(again, Flight::Direct { place });
        }
        end.kind = CandidateKind::Host;
        let (link, pair) = (place.1, pair(place, other, CandidateKind::Host));
        self.tell(place.0, LinkEvent::PairChanged { link, pair });
    }

    fn end(&mut self, place: Place, reason: DownReason) {
        if self.ends.contains_key(&place) {
            self.forget(place);
            self.tell(
                place.0,
                LinkEvent::Down {
                    link: place.1,
                    reason,
                },
            );
        }
    }
}
