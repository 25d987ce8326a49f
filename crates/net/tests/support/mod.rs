//! Two or more endpoints on loopback, driven from one task as a node's driver does.

#![allow(dead_code, reason = "each test binary uses another part")]

use std::time::{Duration, Instant};

use waymesh_net::webrtc::{Endpoint, EndpointConfig};
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{DownReason, LinkCommand, LinkEvent};

/// Longest time that any step of a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Endpoints in one task; events are kept for each until a test takes them.
pub(crate) struct Nodes {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) events: Vec<Vec<LinkEvent>>,
}

impl Nodes {
    pub(crate) fn new(count: usize) -> Self {
        let config = || EndpointConfig {
            loopback_only: true,
            ..EndpointConfig::default()
        };
        Self::with((0..count).map(|_| config()))
    }

    pub(crate) fn with(configs: impl IntoIterator<Item = EndpointConfig>) -> Self {
        let endpoints: Vec<_> = configs
            .into_iter()
            .map(|config| Endpoint::bind(config).expect("loopback has a free port"))
            .collect();
        let events = endpoints.iter().map(|_| Vec::new()).collect();
        Self { endpoints, events }
    }

    pub(crate) fn command(&mut self, node: usize, command: LinkCommand) {
        self.endpoints[node].handle_command(Instant::now(), command);
    }

    /// Lets the endpoints run until `done`, or panics when it takes too long.
    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            self.collect();
            if done(self) {
                return;
            }
            assert!(Instant::now() < give_up, "waited too long for: {what}");
            self.step().await;
        }
    }

    fn collect(&mut self) {
        for (endpoint, events) in self.endpoints.iter_mut().zip(&mut self.events) {
            while let Some(event) = endpoint.poll_event() {
                events.push(event);
            }
            endpoint.flush();
        }
    }

    /// Waits for a datagram or a deadline at any endpoint and handles it.
    pub(crate) async fn step(&mut self) {
        let deadline = self
            .endpoints
            .iter()
            .filter_map(Endpoint::poll_timeout)
            .min();
        let latest = Instant::now() + Duration::from_millis(200);
        let deadline = deadline.map_or(latest, |at| at.min(latest));
        {
            let mut waits: Vec<_> = self
                .endpoints
                .iter()
                .map(|e| Box::pin(e.readable()))
                .collect();
            let any = std::future::poll_fn(|context| {
                let ready = waits
                    .iter_mut()
                    .any(|wait| wait.as_mut().poll(context).is_ready());
                if ready {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            });
            let _ = tokio::time::timeout_at(deadline.into(), any).await;
        }
        let now = Instant::now();
        for endpoint in &mut self.endpoints {
            while endpoint.receive(now).expect("the socket lives") {}
            endpoint.handle_timeout(now);
        }
    }

    /// Takes the first event of a node that `pick` turns into something.
    pub(crate) async fn event<T>(
        &mut self,
        node: usize,
        what: &str,
        pick: impl Fn(&LinkEvent) -> Option<T>,
    ) -> T {
        let mut found = None;
        self.until(what, |nodes| {
            let events = &mut nodes.events[node];
            let at = events.iter().position(|event| pick(event).is_some());
            found = at.and_then(|at| pick(&events.remove(at)));
            found.is_some()
        })
        .await;
        found.expect("until returned")
    }

    /// Exchanges descriptions for a link from node `a` to node `b`.
    pub(crate) async fn describe(&mut self, a: usize, b: usize, link: LinkId) {
        self.command(a, LinkCommand::Offer { link });
        let sdp = self
            .event(a, "the offer", |event| offered(event, link))
            .await;
        self.command(b, LinkCommand::Accept { link, sdp });
        let sdp = self
            .event(b, "the answer", |event| answered(event, link))
            .await;
        self.command(a, LinkCommand::Answer { link, sdp });
    }

    /// Makes a link from node `a` to node `b` and waits until both say that it is up.
    pub(crate) async fn connect(&mut self, a: usize, b: usize, link: LinkId) {
        self.describe(a, b, link).await;
        for node in [a, b] {
            self.event(node, "up", |event| is_up(event, link)).await;
        }
    }
}

pub(crate) fn offered(event: &LinkEvent, wanted: LinkId) -> Option<String> {
    match event {
        LinkEvent::Offered { link, sdp } if *link == wanted => Some(sdp.clone()),
        _ => None,
    }
}

pub(crate) fn answered(event: &LinkEvent, wanted: LinkId) -> Option<String> {
    match event {
        LinkEvent::Answered { link, sdp } if *link == wanted => Some(sdp.clone()),
        _ => None,
    }
}

pub(crate) fn is_up(event: &LinkEvent, wanted: LinkId) -> Option<()> {
    matches!(event, LinkEvent::Up { link, .. } if *link == wanted).then_some(())
}

pub(crate) fn down(event: &LinkEvent, wanted: LinkId) -> Option<DownReason> {
    match event {
        LinkEvent::Down { link, reason } if *link == wanted => Some(reason.clone()),
        _ => None,
    }
}

/// Sends a marked frame both ways between nodes 0 and 1.
pub(crate) async fn exchange(nodes: &mut Nodes, link: LinkId, mark: u8) {
    for (from, to) in [(0, 1), (1, 0)] {
        let sent = nodes.endpoints[from].send(Instant::now(), link, Class::Control, &[mark; 300]);
        sent.expect("an idle link has room");
        let got = nodes.event(to, "the frame", |event| match event {
            LinkEvent::Frame {
                link: on, bytes, ..
            } if *on == link => Some(bytes.clone()),
            _ => None,
        });
        assert_eq!(got.await, [mark; 300]);
    }
}
