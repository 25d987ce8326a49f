//! The real link keeps the contract of links: over loopback, and over a bad network.

#[path = "support/forwarder.rs"]
mod forwarder;

use std::time::{Duration, Instant};

use forwarder::{Forwarder, Impairment};
use tokio::runtime::Runtime;
use waymesh_lab::conformance::Links;
use waymesh_net::webrtc::{Endpoint, EndpointConfig, SendError};
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

/// Real time that a step of the suite may take, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest wait of one step, so that the suite can look at its clock.
const STRIDE: Duration = Duration::from_millis(20);

struct RealLinks {
    runtime: Runtime,
    endpoints: [Endpoint; 2],
    forwarder: Forwarder,
}

impl RealLinks {
    fn new(impairment: Impairment) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let config = || EndpointConfig {
            loopback_only: true,
            ..EndpointConfig::default()
        };
        let endpoints = [0, 1].map(|_| Endpoint::bind(config()).expect("loopback has a free port"));
        let forwarder = runtime
            .block_on(Forwarder::bind(1, impairment))
            .expect("two free ports");
        drop(entered);
        Self {
            runtime,
            endpoints,
            forwarder,
        }
    }

    fn deadline(&self) -> Instant {
        let own = self.endpoints.iter().filter_map(Endpoint::poll_timeout);
        let latest = Instant::now() + STRIDE;
        own.chain(self.forwarder.poll_timeout())
            .chain([latest])
            .min()
            .unwrap_or(latest)
    }
}

impl Links for RealLinks {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn command(&mut self, node: usize, command: LinkCommand) {
        let command = match command {
            LinkCommand::Accept { link, sdp } => LinkCommand::Accept {
                link,
                sdp: self.forwarder.rewrite(1 - node, &sdp),
            },
            LinkCommand::Answer { link, sdp } => LinkCommand::Answer {
                link,
                sdp: self.forwarder.rewrite(1 - node, &sdp),
            },
            other => other,
        };
        self.endpoints[node].handle_command(Instant::now(), command);
    }

    fn send(
        &mut self,
        node: usize,
        link: LinkId,
        class: Class,
        frame: &[u8],
    ) -> Result<(), SendError> {
        self.endpoints[node].send(Instant::now(), link, class, frame)
    }

    fn room(&self, node: usize, link: LinkId) -> usize {
        self.endpoints[node].room(link)
    }

    fn poll_event(&mut self, node: usize) -> Option<LinkEvent> {
        self.endpoints[node].poll_event()
    }

    fn step(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.flush();
        }
        let deadline = self.deadline();
        let [a, b] = &self.endpoints;
        self.runtime.block_on(async {
            tokio::select! {
                _ = a.readable() => {}
                _ = b.readable() => {}
                () = self.forwarder.readable() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        });
        let now = Instant::now();
        self.forwarder.run(now);
        for endpoint in &mut self.endpoints {
            while endpoint.receive(now).expect("the socket lives") {}
            endpoint.handle_timeout(now);
        }
    }

    fn cut(&mut self) {
        self.forwarder.is_cut = true;
    }

    fn heal(&mut self) {
        self.forwarder.is_cut = false;
    }

    fn is_out_of_patience(&self, since: Instant) -> bool {
        since.elapsed() > PATIENCE
    }
}

mod over_loopback {
    use super::{Impairment, RealLinks};

    waymesh_lab::conformance_suite!(RealLinks::new(Impairment::default()));
}

mod over_a_bad_network {
    use std::time::Duration;

    use super::{Impairment, RealLinks};

    const BAD: Impairment = Impairment {
        loss_per_mille: 10,
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(3),
    };

    waymesh_lab::conformance_suite!(RealLinks::new(BAD));
}
