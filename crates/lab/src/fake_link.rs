//! A network of links in virtual time that keeps the contract of `spec/link.md`.
//!
//! Owns every node's ends of its links and what is on the way between them. It
//! reads no clock and draws all chance from one seed: the same calls give the
//! same events. In: [`LinkCommand`]s and frames of a node. Out: [`LinkEvent`]s
//! of a node. The knobs make it worse than any real network: delay, jitter,
//! loss, partition, links that die with or without a word, nodes that crash.
//!
//! Invariants, whatever the knobs say: a frame arrives once, whole and
//! unchanged, or not at all; ordered classes arrive in order; reliable classes
//! lose nothing while both ends of the link live; nothing arrives from another link.

mod end;
mod flight;
mod weather;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::limits::{FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES, SIGNALING_MAX_BYTES};
use waymesh_proto::link::{
    CandidateKind, CandidatePair, DownReason, LinkCommand, LinkEvent, LinkProtocol,
};

use crate::dice::Dice;

use self::end::{End, Stage};
use self::flight::Flight;
pub use self::weather::Weather;

/// A node of the fake network, by its number.
pub type NodeIndex = usize;

/// A node's end of a link.
type Place = (NodeIndex, LinkId);

/// How long an end tries before it says that no pair works, and how long an end
/// whose other side is gone without a word takes to notice. The real stack takes about this long.
pub const ICE_PATIENCE: Duration = Duration::from_secs(25);

/// Round trips from the answer to an open channel: ICE, DTLS 1.2, SCTP.
const SET_UP_ROUND_TRIPS: u32 = 4;

/// How long a direct pair of addresses may take to be found at most.
const PAIR_CHANGES_MAX: Duration = Duration::from_secs(7);

const OFFER: &str = "fake offer ";
const ANSWER: &str = "fake answer ";
const CANDIDATE: &str = "candidate:fake ";

/// A network of links between nodes, driven by calls alone.
#[derive(Debug)]
pub struct FakeNet {
    dice: Dice,
    weather: Weather,
    weather_between: BTreeMap<(NodeIndex, NodeIndex), Weather>,
    partitions: BTreeSet<(NodeIndex, NodeIndex)>,
    cut_one_way: BTreeSet<(NodeIndex, NodeIndex)>,
    ends: BTreeMap<Place, End>,
    /// Whose description a token is.
    tokens: BTreeMap<u64, Place>,
    events: BTreeMap<NodeIndex, VecDeque<LinkEvent>>,
    flights: BTreeMap<(Instant, u64), Flight>,
    serial: u64,
    trickle: bool,
    relayed_per_mille: u32,
}

impl FakeNet {
    /// A network without nodes; a node exists once it is commanded.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            weather: Weather::default(),
            weather_between: BTreeMap::new(),
            partitions: BTreeSet::new(),
            cut_one_way: BTreeSet::new(),
            ends: BTreeMap::new(),
            tokens: BTreeMap::new(),
            events: BTreeMap::new(),
            flights: BTreeMap::new(),
            serial: 0,
            trickle: false,
            relayed_per_mille: 0,
        }
    }

    /// Sets the conditions between all nodes that have none of their own.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Sets the conditions between two nodes.
    pub fn set_weather_between(&mut self, a: NodeIndex, b: NodeIndex, weather: Weather) {
        self.weather_between.insert(sorted(a, b), weather);
    }

    /// From now on every description is followed by a trickled candidate.
    pub fn start_trickling(&mut self) {
        self.trickle = true;
    }

    /// From now on so many new links come up relayed; half of them find a direct
    /// pair of addresses later.
    pub fn set_relayed(&mut self, per_mille: u32) {
        self.relayed_per_mille = per_mille;
    }

    /// The relay dies: what goes over it vanishes without a word.
    pub fn kill_relay(&mut self) {
        for end in self.ends.values_mut() {
            end.vanished |= end.kind == CandidateKind::Relay && end.stage == Stage::Up;
        }
    }

    /// Lets nothing through between two nodes until [`FakeNet::heal`].
    pub fn partition(&mut self, a: NodeIndex, b: NodeIndex) {
        self.partitions.insert(sorted(a, b));
    }

    /// Ends a partition; what reliable classes hold goes on its way again.
    pub fn heal(&mut self, a: NodeIndex, b: NodeIndex) {
        self.partitions.remove(&sorted(a, b));
    }

    /// Lets nothing through from one node to another until [`FakeNet::heal_one_way`].
    pub fn cut_one_way(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cut_one_way.insert((from, to));
    }

    /// Ends what [`FakeNet::cut_one_way`] began.
    pub fn heal_one_way(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cut_one_way.remove(&(from, to));
    }

    /// Breaks a link: both ends hear of it, and what was on the way is lost.
    pub fn kill(&mut self, now: Instant, node: NodeIndex, link: LinkId) {
        let place = (node, link);
        let other = self.ends.get(&place).and_then(|end| end.other);
        self.vanish(node, link);
        for place in [Some(place), other].into_iter().flatten() {
            let at = now + self.dice.below(Duration::from_millis(5));
            self.fly(
                at,
                Flight::Down {
                    place,
                    reason: DownReason::IceFailed,
                },
            );
        }
    }

    /// Breaks a link without a word: frames vanish until somebody closes it.
    pub fn vanish(&mut self, node: NodeIndex, link: LinkId) {
        let place = (node, link);
        let other = self.ends.get(&place).and_then(|end| end.other);
        for place in [Some(place), other].into_iter().flatten() {
            if let Some(end) = self.ends.get_mut(&place) {
                end.vanished = true;
            }
        }
    }

    /// Ends a node's process: its links are gone, and nobody is told.
    pub fn crash(&mut self, now: Instant, node: NodeIndex) {
        let places: Vec<Place> = self
            .ends
            .keys()
            .filter(|(n, _)| *n == node)
            .copied()
            .collect();
        for place in places {
            self.vanish(place.0, place.1);
            if let Some(other) = self.forget(place) {
                let at = now + ICE_PATIENCE;
                self.fly(
                    at,
                    Flight::Down {
                        place: other,
                        reason: DownReason::IceFailed,
                    },
                );
            }
        }
        self.events.remove(&node);
    }

    /// The links of a node that have neither ended nor been closed.
    pub fn links(&self, node: NodeIndex) -> Vec<LinkId> {
        self.ends
            .keys()
            .filter(|(n, _)| *n == node)
            .map(|(_, link)| *link)
            .collect()
    }

    /// Does what a node's core wants, as `Endpoint::handle_command` would.
    pub fn handle_command(&mut self, now: Instant, node: NodeIndex, command: LinkCommand) {
        match command {
            LinkCommand::Offer { link } => self.offer((node, link)),
            LinkCommand::Accept { link, sdp } => self.accept(now, (node, link), &sdp),
            LinkCommand::Answer { link, sdp } => self.answer(now, (node, link), &sdp),
            LinkCommand::Candidate { link, candidate } => self.candidate((node, link), &candidate),
            LinkCommand::Close { link } => self.close(now, (node, link)),
        }
    }

    /// Sends a frame, as `Endpoint::send` would.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the frame was not sent.
    pub fn send(
        &mut self,
        now: Instant,
        node: NodeIndex,
        link: LinkId,
        class: Class,
        frame: &[u8],
    ) -> Result<(), SendError> {
        let place = (node, link);
        let weather = self.weather_of(place);
        let end = self.ends.get_mut(&place).ok_or(SendError::Closed)?;
        let limit = if class.is_reliable() {
            FRAME_MAX_BYTES
        } else {
            LOSSY_FRAME_MAX_BYTES
        };
        if frame.len() > limit {
            return Err(SendError::TooLarge);
        }
        if end.room(weather.window_bytes) < frame.len().max(1) {
            end.starved = true;
            return Err(SendError::WouldBlock);
        }
        end.hold(frame.len(), weather.window_bytes);
        self.dispatch(now, place, class, frame.to_vec());
        Ok(())
    }

    /// Bytes that [`FakeNet::send`] takes on a link now; 0 when full or not up.
    pub fn room(&self, node: NodeIndex, link: LinkId) -> usize {
        let window = self.weather_of((node, link)).window_bytes;
        self.ends
            .get(&(node, link))
            .map_or(0, |end| end.room(window))
    }

    /// Takes what happened at a node.
    pub fn poll_event(&mut self, node: NodeIndex) -> Option<LinkEvent> {
        self.events.get_mut(&node)?.pop_front()
    }

    /// When the next thing happens by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flights.keys().next().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due, in the order of its times.
    pub fn advance(&mut self, now: Instant) {
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((at, _), flight) = entry.remove_entry();
            self.land(at, flight);
        }
    }

    fn offer(&mut self, place: Place) {
        if !self.ends.contains_key(&place) {
            let token = self.begin(place, Stage::Offered);
            let (link, sdp) = (place.1, format!("{OFFER}{token}"));
            self.tell(place.0, LinkEvent::Offered { link, sdp });
            self.trickle(place);
        }
    }

    fn accept(&mut self, now: Instant, place: Place, sdp: &str) {
        if self.ends.contains_key(&place) {
            return;
        }
        let Some(offerer) = self.read(sdp, OFFER) else {
            return self.refuse(place);
        };
        let token = self.begin(place, Stage::Connecting);
        if let (Some(end), Some(offerer)) = (self.ends.get_mut(&place), offerer) {
            end.other = Some(offerer);
        }
        let (link, sdp) = (place.1, format!("{ANSWER}{token}"));
        self.tell(place.0, LinkEvent::Answered { link, sdp });
        self.trickle(place);
        self.fly(now + ICE_PATIENCE, Flight::Patience { place });
    }

    fn answer(&mut self, now: Instant, place: Place, sdp: &str) {
        if self
            .ends
            .get(&place)
            .is_none_or(|end| end.stage != Stage::Offered)
        {
            return;
        }
        let Some(answerer) = self.read(sdp, ANSWER) else {
            self.forget(place);
            return self.refuse(place);
        };
        if let Some(end) = self.ends.get_mut(&place) {
            end.stage = Stage::Connecting;
        }
        self.fly(now + ICE_PATIENCE, Flight::Patience { place });
        // An answer to somebody else's offer, or from an end that is gone, leads nowhere.
        let meant = answerer.filter(|other| {
            self.ends
                .get(other)
                .is_some_and(|end| end.other == Some(place))
        });
        let Some(other) = meant else {
            return;
        };
        if let Some(end) = self.ends.get_mut(&place) {
            end.other = Some(other);
        }
        let weather = self.weather_of(place);
        let ready = now + weather.delay * 2 * SET_UP_ROUND_TRIPS;
        self.draw_kind(ready, [place, other]);
        for place in [place, other] {
            let at = ready + weather.delay + self.dice.below(weather.jitter * SET_UP_ROUND_TRIPS);
            self.fly(at, Flight::Up { place });
        }
    }

    /// Whether the link comes up relayed, and whether that changes.
    fn draw_kind(&mut self, ready: Instant, places: [Place; 2]) {
        if self.relayed_per_mille == 0 || !self.dice.one_of_thousand(self.relayed_per_mille) {
            return;
        }
        let changes = self.dice.one_of_thousand(500);
        let at = ready + self.dice.below(PAIR_CHANGES_MAX);
        for place in places {
            if let Some(end) = self.ends.get_mut(&place) {
                end.kind = CandidateKind::Relay;
            }
            if changes {
                self.fly(at, Flight::Direct { place });
            }
        }
    }

    fn candidate(&mut self, place: Place, candidate: &str) {
        let Some(end) = self.ends.get(&place) else {
            return;
        };
        if end.stage != Stage::Up && !candidate.starts_with(CANDIDATE) {
            self.forget(place);
            self.refuse(place);
        }
    }

    fn close(&mut self, now: Instant, place: Place) {
        let weather = self.weather_of(place);
        let vanished = self.ends.get(&place).is_some_and(|end| end.vanished);
        let other = self.forget(place);
        if let Some(events) = self.events.get_mut(&place.0) {
            events.retain(|event| event.link() != place.1);
        }
        let Some(other) = other.filter(|_| !vanished) else {
            return;
        };
        // The goodbye is one packet: it may be lost, or overtake what was sent before.
        let lost =
            self.is_cut(place.0, other.0) || self.dice.one_of_thousand(weather.loss_per_mille);
        let at = now + weather.delay + self.dice.below(weather.jitter);
        let (at, reason) = if lost {
            (now + ICE_PATIENCE, DownReason::IceFailed)
        } else {
            (at, DownReason::ClosedByPeer)
        };
        self.fly(
            at,
            Flight::Down {
                place: other,
                reason,
            },
        );
    }

    fn begin(&mut self, place: Place, stage: Stage) -> u64 {
        let token = self.dice.roll();
        self.tokens.insert(token, place);
        self.ends.insert(place, End::new(stage, token));
        token
    }

    /// Drops an end and returns the other one.
    fn forget(&mut self, place: Place) -> Option<Place> {
        let end = self.ends.remove(&place)?;
        self.tokens.remove(&end.token);
        end.other
    }

    fn refuse(&mut self, place: Place) {
        let reason = DownReason::BadDescription("not one of the fake network's".into());
        self.tell(
            place.0,
            LinkEvent::Down {
                link: place.1,
                reason,
            },
        );
    }

    /// Whose description this is: `None` when it is none, `Some(None)` when its end is gone.
    fn read(&self, sdp: &str, prefix: &str) -> Option<Option<Place>> {
        let short = Some(sdp).filter(|sdp| sdp.len() <= SIGNALING_MAX_BYTES)?;
        let token = short.strip_prefix(prefix)?.parse::<u64>().ok()?;
        Some(self.tokens.get(&token).copied())
    }

    fn trickle(&mut self, place: Place) {
        if self.trickle {
            let (link, candidate) = (place.1, format!("{CANDIDATE}{}", place.0));
            self.tell(place.0, LinkEvent::Candidate { link, candidate });
        }
    }

    fn tell(&mut self, node: NodeIndex, event: LinkEvent) {
        self.events.entry(node).or_default().push_back(event);
    }

    fn fly(&mut self, at: Instant, flight: Flight) {
        self.serial += 1;
        self.flights.insert((at, self.serial), flight);
    }

    fn weather_of(&self, place: Place) -> Weather {
        let other = self.ends.get(&place).and_then(|end| end.other);
        let own = other.and_then(|other| self.weather_between.get(&sorted(place.0, other.0)));
        own.copied().unwrap_or(self.weather)
    }

    fn is_cut(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.partitions.contains(&sorted(from, to)) || self.cut_one_way.contains(&(from, to))
    }
}

fn sorted(a: NodeIndex, b: NodeIndex) -> (NodeIndex, NodeIndex) {
    (a.min(b), a.max(b))
}

/// The pair that a fake link reports: addresses of the documentation range, the node as port.
fn pair(place: Place, other: Place, kind: CandidateKind) -> CandidatePair {
    let address = |node: NodeIndex| {
        let port = u16::try_from(node % 60_000).unwrap_or(0) + 1_024;
        std::net::SocketAddr::from(([192, 0, 2, 1], port))
    };
    CandidatePair {
        local: kind,
        remote: kind,
        protocol: LinkProtocol::Udp,
        local_addr: address(place.0),
        remote_addr: address(other.0),
    }
}
