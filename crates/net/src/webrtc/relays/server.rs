//! One TURN server: the race of the ways to it, and the one allocation that
//! comes of it.

mod fates;
mod rivals;
mod way;

use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::time::{Duration, Instant};

use waymesh_proto::ice::{ICE_URLS_MAX, IceServer, IceTransport, ServerOutcome, ServerTried};
use waymesh_proto::link::CandidateKind;

use self::way::{Way, failed};
use super::Kept;
use super::leg::{Identity, Leg, Roads, Tally, ToSocket};
use crate::turn::client::Credentials;
use crate::webrtc::candidates::LocalCandidate;
use crate::webrtc::demand::Upkeep;
use crate::webrtc::names::{HostPort, Learned, Names, Resolved};

/// How long UDP may be silent before TCP and TLS are tried beside it. Chosen: as
/// for the addresses of one host (RFC 8305 §5).
const BESIDE_AFTER: Duration = Duration::from_millis(250);

/// The pause before a server is asked again, after the first failure; doubled
/// with each. Chosen.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Beyond so many doublings a pause is the longest one: it must not overflow.
const DOUBLINGS_MAX: u32 = 9;

/// The longest such pause. Chosen: a link that is wanted does not wait for its end.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The pause after a failure where a link is wanted. Chosen: as long as a server is given
/// to answer, so that one that is silent is asked no more than half of the time.
pub(super) const WANTED_PAUSE: Duration = Duration::from_secs(5);

/// An allocation that lived this long was a good one: where it is lost, another is
/// asked for at once. One that dies sooner counts as a failure. Chosen.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Where datagrams of legs go. All leave by one socket: two legs to one address
/// would be one client to the server there, and end each other's allocation.
pub(super) type Taken = Vec<SocketAddr>;

/// One TURN server.
#[derive(Debug)]
pub(super) struct Server {
    ways: Vec<Way>,
    credentials: Option<Credentials>,
    /// Those that the leg by datagrams which was lost last signed with.
    earlier: Option<Credentials>,
    /// Those that race, or the one that won; behind that its rivals, when it fell silent.
    legs: Vec<Leg>,
    /// When rivals were asked last.
    rivals_since: Option<Instant>,
    stage: Stage,
    failures: u32,
    /// What the legs that are gone have counted.
    past: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not wanted, or not yet.
    Idle,
    /// UDP alone is asked; the others at this time.
    Ahead { beside_at: Instant },
    /// All ways are asked.
    Racing,
    /// One has given this address.
    Allocated { relayed: SocketAddr, since: Instant },
    /// None has; all are asked again at this time.
    Failed { since: Instant, again_at: Instant },
}

impl Server {
    /// `None` when it has no URL of a relay.
    pub(super) fn new(server: &IceServer) -> Option<Self> {
        let urls = server.urls.iter().filter(|url| url.scheme().relays());
        let ways: Vec<_> = urls
            .take(ICE_URLS_MAX)
            .map(|url| Way::new(url.clone()))
            .collect();
        (!ways.is_empty()).then(|| Self {
            ways,
            credentials: credentials(server),
            earlier: None,
            legs: Vec::new(),
            rivals_since: None,
            stage: Stage::Idle,
            failures: 0,
            past: Tally::default(),
        })
    }

    /// Whether this is the same server; then its credentials are taken over.
    pub(super) fn update(&mut self, now: Instant, server: &IceServer) -> bool {
        let urls = server.urls.iter().filter(|url| url.scheme().relays());
        if !self
            .ways
            .iter()
            .map(|way| &way.url)
            .eq(urls.take(ICE_URLS_MAX))
        {
            return false;
        }
        let new = credentials(server);
        if new != self.credentials {
            if let Some(credentials) = &new {
                for leg in &mut self.legs {
                    leg.set_credentials(credentials);
                }
            }
            self.credentials = new;
            if let Stage::Failed { again_at, .. } = &mut self.stage {
                *again_at = now;
            }
        }
        true
    }

    /// Starts the race unless there is one, or an allocation, or it failed a moment ago.
    /// What it takes is added to `taken`.
    pub(super) fn want(&mut self, now: Instant, names: &Names, roads: &Roads, taken: &mut Taken) {
        let is_due = match self.stage {
            Stage::Idle => true,
            Stage::Failed { again_at, .. } => again_at <= now,
            Stage::Ahead { .. } | Stage::Racing | Stage::Allocated { .. } => false,
        };
        if is_due {
            self.start(now, names, roads, taken);
        }
    }

    fn start(&mut self, now: Instant, names: &Names, roads: &Roads, taken: &mut Taken) {
        self.retire(0..);
        self.stage = Stage::Ahead {
            beside_at: now + BESIDE_AFTER,
        };
        self.ask_udp(now, names, taken);
        if self.legs.is_empty() {
            self.ask_beside(now, roads);
        }
    }

    fn ask_udp(&mut self, now: Instant, names: &Names, taken: &mut Taken) {
        let is_udp = |way: &&mut Way| way.url.transport() == IceTransport::Udp;
        for way in self.ways.iter_mut().filter(is_udp) {
            way.begin(now);
            match names.resolved(&way.url) {
                Resolved::Addresses(addresses) => {
                    // One of each family: which of them leads there is not known.
                    let first_of = |v4: bool| addresses.iter().find(|a| a.is_ipv4() == v4);
                    let both = [first_of(true), first_of(false)].into_iter().flatten();
                    let free: Vec<_> = both.filter(|a| !taken.contains(a)).copied().collect();
                    if free.is_empty() && !addresses.is_empty() {
                        way.end(now, ServerOutcome::NotNeeded);
                    }
                    for address in free {
                        let identity = Identity {
                            credentials: self.credentials.clone(),
                            earlier: self.earlier.clone(),
                        };
                        let leg = Leg::by_socket(now, way.url.clone(), address, identity);
                        self.legs.push(leg);
                        taken.push(address);
                    }
                }
                Resolved::Waiting => {}
                Resolved::Failed(why) => way.end(now, failed(why.to_owned())),
            }
        }
    }

    /// Asks by TCP and TLS too.
    fn ask_beside(&mut self, now: Instant, roads: &Roads) {
        self.stage = Stage::Racing;
        let is_stream = |way: &&mut Way| way.url.transport() == IceTransport::Tcp;
        for way in self.ways.iter_mut().filter(is_stream) {
            way.begin(now);
            let (url, credentials) = (way.url.clone(), self.credentials.clone());
            self.legs.push(Leg::by_stream(url, credentials, roads));
        }
        self.judge(now);
    }

    /// A link is wanted: a server that failed a while ago may be there again.
    pub(super) fn doubt(&mut self) {
        if let Stage::Failed { since, again_at } = &mut self.stage {
            *again_at = (*again_at).min(*since + WANTED_PAUSE);
        }
    }

    /// Whether one of its URLs has this name.
    pub(super) fn has_name(&self, name: &HostPort) -> bool {
        let is_of = |way: &Way| way.url.host() == name.0 && way.url.port() == name.1;
        self.ways.iter().any(is_of)
    }

    /// One of its names was answered. Where that tells nothing new, it changes nothing:
    /// names are asked for again and again, also those of servers that are silent.
    pub(super) fn handle_resolved(
        &mut self,
        now: Instant,
        names: &Names,
        learned: Learned,
        taken: &mut Taken,
    ) {
        match (&mut self.stage, learned) {
            (_, Learned::Same) | (Stage::Idle | Stage::Allocated { .. }, _) => {}
            (Stage::Ahead { .. } | Stage::Racing, _) => {
                if !self.legs.iter().any(|leg| leg.server().is_some()) {
                    self.ask_udp(now, names, taken);
                }
            }
            (Stage::Failed { again_at, .. }, Learned::Others) => *again_at = now,
            (Stage::Failed { .. }, Learned::Nothing) => self.note_unresolved(now, names),
        }
    }

    /// Takes down what became of ways that wait for nothing but a name.
    fn note_unresolved(&mut self, now: Instant, names: &Names) {
        for way in &mut self.ways {
            if way.outcome == ServerOutcome::Waiting
                && let Resolved::Failed(why) = names.resolved(&way.url)
            {
                way.end(now, failed(why.to_owned()));
            }
        }
    }

    /// Ends what there is.
    pub(super) fn stop(&mut self, now: Instant, to_socket: &mut ToSocket) {
        for leg in &mut self.legs {
            leg.close(now, to_socket);
        }
        self.retire(0..);
        self.stage = Stage::Idle;
        self.failures = 0;
    }

    /// Whether what there is was made from an address that is gone. From where a
    /// stream was made is not known: it is not trusted when any address is gone.
    pub(super) fn is_stranded(&self, kept: Kept<'_>) -> bool {
        let Kept::On(hosts) = kept else {
            return matches!(self.stage, Stage::Failed { .. });
        };
        let is_there = |local: SocketAddr| hosts.iter().any(|host| host.ip() == local.ip());
        !self.legs.iter().any(|leg| leg.local.is_some_and(is_there))
    }

    /// Drops legs, and keeps what they have counted.
    fn retire(&mut self, which: impl RangeBounds<usize>) {
        for leg in self.legs.drain(which) {
            self.past += leg.tally();
        }
    }

    /// What its legs have counted, those that are gone included.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.past;
        for leg in &self.legs {
            tally += leg.tally();
        }
        tally
    }

    /// The relayed candidate, if there is one.
    pub(super) fn candidate(&self) -> Option<LocalCandidate> {
        let Stage::Allocated { relayed, .. } = self.stage else {
            return None;
        };
        self.legs.first().map(|leg| LocalCandidate {
            kind: CandidateKind::Relay,
            address: relayed,
            base: leg.base(),
            protocol: leg.protocol(),
        })
    }

    /// The leg that relays for this address.
    pub(super) fn leg_of(&mut self, relayed: SocketAddr) -> Option<&mut Leg> {
        self.legs
            .iter_mut()
            .find(|leg| leg.relayed() == Some(relayed))
    }

    pub(super) fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter()
    }

    pub(super) fn legs_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.legs.iter_mut()
    }

    /// Whether datagrams come from here.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.legs.iter().any(|leg| leg.server() == Some(address))
    }

    pub(super) fn poll_timeout(&self, upkeep: Upkeep) -> Option<Instant> {
        let own = match self.stage {
            Stage::Ahead { beside_at } => Some(beside_at),
            Stage::Failed { again_at, .. } => (upkeep == Upkeep::Kept).then_some(again_at),
            Stage::Allocated { .. } => self.rivals_at(),
            Stage::Idle | Stage::Racing => None,
        };
        let legs = self.legs.iter().filter_map(Leg::poll_timeout);
        legs.chain(own).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        names: &Names,
        roads: &Roads,
        taken: &mut Taken,
    ) {
        for leg in &mut self.legs {
            leg.handle_timeout(now);
        }
        if matches!(self.stage, Stage::Ahead { beside_at } if beside_at <= now) {
            self.ask_beside(now, roads);
        }
        if self.rivals_at().is_some_and(|at| at <= now) {
            self.ask_rivals(now, names, roads, taken);
        }
    }

    pub(super) fn tried(&self, now: Instant) -> impl Iterator<Item = ServerTried> {
        self.ways.iter().map(move |way| way.tried(now))
    }

    /// All ways are tried again, later each time.
    fn fail(&mut self, now: Instant) {
        let pause = FIRST_PAUSE * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        self.failures += 1;
        self.stage = Stage::Failed {
            since: now,
            again_at: now + pause.min(PAUSE_MAX),
        };
    }

    /// When no leg is left, the others are asked, or all again later.
    fn judge(&mut self, now: Instant) {
        if !self.legs.is_empty() {
            return;
        }
        match &mut self.stage {
            Stage::Ahead { beside_at } => *beside_at = now,
            Stage::Racing => self.fail(now),
            Stage::Idle | Stage::Allocated { .. } | Stage::Failed { .. } => {}
        }
    }
}

fn credentials(server: &IceServer) -> Option<Credentials> {
    Some(Credentials {
        username: server.username.clone()?,
        credential: server.credential.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "turn:192.0.2.1:3478?transport=udp";

    fn names(now: Instant) -> Names {
        let mut names = Names::default();
        // An address is known at once.
        assert!(names.question(now, &URL.parse().expect("a URL")).is_none());
        names
    }

    fn server() -> Server {
        let server = IceServer {
            urls: vec![URL.parse().expect("a URL")],
            username: None,
            credential: None,
        };
        Server::new(&server).expect("a relay")
    }

    #[test]
    fn of_two_servers_at_one_address_one_is_asked() {
        let (now, mut taken) = (Instant::now(), Taken::new());
        let mut servers = [server(), server()];
        for server in &mut servers {
            server.want(now, &names(now), &Roads::default(), &mut taken);
        }
        assert_eq!(taken, ["192.0.2.1:3478".parse().expect("an address")]);
        assert_eq!(servers.map(|server| server.legs.len()), [1, 0]);
    }

    #[test]
    fn an_allocation_that_dies_young_is_a_failure_each_time() {
        let (mut now, mut lost) = (Instant::now(), 0);
        let mut server = server();
        let relayed = "192.0.2.1:5000".parse().expect("an address");
        for (lived, pause) in [
            (Duration::ZERO, FIRST_PAUSE),
            (GOOD_AFTER - Duration::from_millis(1), FIRST_PAUSE * 2),
            (GOOD_AFTER, Duration::ZERO),
            (Duration::ZERO, FIRST_PAUSE),
        ] {
            server.want(now, &names(now), &Roads::default(), &mut Taken::new());
            server.win(now, 0, relayed, &mut ToSocket::new());
            now += lived;
            server.lose(now, 0, "gone".into(), &mut |_| lost += 1);
            server.legs.clear();
            let again_at = now + pause;
            let since = now;
            assert_eq!(server.stage, Stage::Failed { since, again_at });
            now = again_at;
        }
        assert_eq!(lost, 4);
    }
}
