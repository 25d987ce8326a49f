//! The fake link keeps the contract of links, on a fine day and in bad weather.

use std::time::{Duration, Instant};

use waymesh_lab::conformance::Links;
use waymesh_lab::fake_link::{FakeNet, Weather};
use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

/// Virtual time that a step of the suite may take: many retransmissions.
const PATIENCE: Duration = Duration::from_secs(600);

/// Longest jump of virtual time in one step.
const STRIDE: Duration = Duration::from_millis(5);

struct FakeLinks {
    net: FakeNet,
    now: Instant,
}

impl FakeLinks {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut net = FakeNet::new(seed);
        net.set_weather(weather);
        Self {
            net,
            now: Instant::now(),
        }
    }
}

impl Links for FakeLinks {
    fn now(&self) -> Instant {
        self.now
    }

    fn command(&mut self, node: usize, command: LinkCommand) {
        self.net.handle_command(self.now, node, command);
    }

    fn send(
        &mut self,
        node: usize,
        link: LinkId,
        class: Class,
        frame: &[u8],
    ) -> Result<(), SendError> {
        self.net.send(self.now, node, link, class, frame)
    }

    fn room(&self, node: usize, link: LinkId) -> usize {
        self.net.room(node, link)
    }

    fn poll_event(&mut self, node: usize) -> Option<LinkEvent> {
        self.net.poll_event(node)
    }

    fn step(&mut self) {
        let stride = self.now + STRIDE;
        self.now = self
            .net
            .poll_timeout()
            .map_or(stride, |at| at.clamp(self.now, stride));
        self.net.advance(self.now);
    }

    fn cut(&mut self) {
        self.net.partition(0, 1);
    }

    fn heal(&mut self) {
        self.net.heal(0, 1);
    }

    fn is_out_of_patience(&self, since: Instant) -> bool {
        self.now > since + PATIENCE
    }
}

mod on_a_fine_day {
    use super::{FakeLinks, Weather};

    waymesh_lab::conformance_suite!(FakeLinks::new(1, Weather::default()));
}

mod in_bad_weather {
    use std::time::Duration;

    use super::{FakeLinks, Weather};

    const STORM: Weather = Weather {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(60),
        loss_per_mille: 100,
        bytes_per_second: 500_000,
        window_bytes: 32 * 1024,
    };

    waymesh_lab::conformance_suite!(FakeLinks::new(2, STORM));
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let storm = Weather {
        jitter: Duration::from_millis(50),
        loss_per_mille: 200,
        ..Weather::default()
    };
    assert_eq!(story(7, storm), story(7, storm));
    assert_ne!(story(7, storm), story(8, storm));
}

/// Everything that two nodes are told, with the virtual times.
fn story(seed: u64, weather: Weather) -> Vec<(Duration, usize, String)> {
    let link = LinkId::new(1);
    let mut links = FakeLinks::new(seed, weather);
    let start = links.now;
    let mut story = Vec::new();
    links.command(0, LinkCommand::Offer { link });
    for round in 0..2_000_u32 {
        for node in [0, 1] {
            while let Some(event) = links.poll_event(node) {
                match &event {
                    LinkEvent::Offered { sdp, .. } => {
                        links.command(
                            1,
                            LinkCommand::Accept {
                                link,
                                sdp: sdp.clone(),
                            },
                        );
                    }
                    LinkEvent::Answered { sdp, .. } => {
                        links.command(
                            0,
                            LinkCommand::Answer {
                                link,
                                sdp: sdp.clone(),
                            },
                        );
                    }
                    _ => {}
                }
                story.push((links.now - start, node, format!("{event:?}")));
            }
            let _ = links.send(node, link, Class::Telemetry, &round.to_be_bytes());
        }
        links.step();
    }
    story
}

#[test]
fn a_killed_link_tells_both_ends_and_a_vanished_one_nobody() {
    let (killed, vanished) = (LinkId::new(1), LinkId::new(2));
    let mut trial = waymesh_lab::conformance::Trial::new(FakeLinks::new(3, Weather::default()));
    for link in [killed, vanished] {
        trial.connect(0, 1, link);
    }
    let now = trial.links.now;
    trial.links.net.kill(now, 0, killed);
    trial.links.net.vanish(0, vanished);
    for node in [0, 1] {
        trial.event(node, "down", |event| {
            matches!(event, LinkEvent::Down { link, .. } if *link == killed).then_some(())
        });
    }
    trial.send(0, vanished, Class::Control, b"into the void");
    for _ in 0..100 {
        trial.links.step();
    }
    assert!(trial.rest(0).is_empty());
    assert!(trial.rest(1).is_empty());
}

#[test]
fn a_crashed_node_has_no_links_and_its_peer_hears_late() {
    let link = LinkId::new(1);
    let mut trial = waymesh_lab::conformance::Trial::new(FakeLinks::new(4, Weather::default()));
    trial.connect(0, 1, link);
    let now = trial.links.now;
    trial.links.net.crash(now, 0);
    assert!(trial.links.net.links(0).is_empty());
    trial.event(1, "down", |event| {
        matches!(event, LinkEvent::Down { .. }).then_some(())
    });
    assert!(trial.links.now >= now + waymesh_lab::fake_link::ICE_PATIENCE);
}
