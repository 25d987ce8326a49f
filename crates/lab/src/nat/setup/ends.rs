//! Two endpoints, each in a network of its own, and the slow way of their signals.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use waymesh_net::webrtc::{Endpoint, EndpointConfig, SctpHandshake};
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

use crate::nat::net::{Host, Net, Sixth};
use crate::nat::site::{REGISTRY, round_trip};

/// The two hosts.
const ADDRESSES: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 2),
];

/// Signals on their way to one end; more fail the run. Chosen: several links' candidates.
const SIGNALS_CAP: usize = 256;

/// Links that wait to be made, or to be told of; there is one at a time.
const TURNS_CAP: usize = 1;

/// How long a link may take. Chosen far above what any takes.
const LIMIT: Duration = Duration::from_secs(20);

/// How long an end sleeps that has nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);

/// When what happened, since the wish for the link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// The side that offered had the answer.
    pub(super) answered: Duration,
    /// It began with DTLS: a pair of addresses works.
    pub(super) secured: Duration,
    /// All channels were open on both sides.
    pub(super) up: Duration,
}

/// A signal, and when it arrives.
#[derive(Debug)]
struct Signal {
    due: Instant,
    command: LinkCommand,
}

/// What an end hears and says beside the network.
#[derive(Debug)]
struct Wires {
    out: Sender<Signal>,
    inbox: Receiver<Signal>,
}

/// The two ends, ready to make links.
#[derive(Debug)]
pub(super) struct Ends {
    wishes: Option<Sender<LinkId>>,
    links: Receiver<Link>,
    next: u64,
    threads: Vec<JoinHandle<Result<()>>>,
    /// Outlives them.
    _net: Net,
}

impl Ends {
    /// Starts both, with this round trip between them and for each signal.
    pub(super) fn start(rtt: Duration, sctp: SctpHandshake) -> Result<Self> {
        let net = Net::start(SocketAddr::from((REGISTRY, 443)), Sixth::Without, 1)?;
        let host = |label, address| {
            let host = net.add_server(label, &[address])?;
            net.set_weather(&host, round_trip(rtt));
            Ok::<Host, anyhow::Error>(host)
        };
        let (anna, otto) = (host("anna", ADDRESSES[0])?, host("otto", ADDRESSES[1])?);
        let (to_otto, ottos) = channel(SIGNALS_CAP);
        let (to_anna, annas) = channel(SIGNALS_CAP);
        let (wishes, wanted) = channel(TURNS_CAP);
        let (tell, links) = channel(TURNS_CAP);
        let (tell_up, ups) = channel(TURNS_CAP);
        let config = |address: Ipv4Addr| EndpointConfig {
            ip: Some(address.into()),
            sctp,
            ..EndpointConfig::default()
        };
        let (anna_config, otto_config) = (config(ADDRESSES[0]), config(ADDRESSES[1]));
        let anna_wires = Wires {
            out: to_otto,
            inbox: annas,
        };
        let otto_wires = Wires {
            out: to_anna,
            inbox: ottos,
        };
        let threads = vec![
            thread::spawn(move || {
                inside(anna, async move {
                    let end = End::new(anna_config, anna_wires, rtt)?;
                    offer(end, wanted, ups, tell).await
                })
            }),
            thread::spawn(move || {
                inside(otto, async move {
                    let end = End::new(otto_config, otto_wires, rtt)?;
                    answer(end, tell_up).await
                })
            }),
        ];
        Ok(Self {
            wishes: Some(wishes),
            links,
            next: 1,
            threads,
            _net: net,
        })
    }

    /// Makes a link and ends it again.
    pub(super) fn link(&mut self) -> Result<Link> {
        let link = LinkId::new(self.next);
        self.next += 1;
        let told = match &self.wishes {
            Some(wishes) => wishes.blocking_send(link).is_ok(),
            None => false,
        };
        let made = self.links.blocking_recv().filter(|_| told);
        match made {
            Some(link) => Ok(link),
            None => self.end().and_then(|()| bail!("an end has stopped")),
        }
    }

    /// Lets both end, and gives the error of one that failed.
    fn end(&mut self) -> Result<()> {
        self.wishes = None;
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("an end panicked"),
            }
        }
        Ok(())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{error:#}");
        }
    }
}

/// Runs one end in the network of its host.
fn inside(host: Host, work: impl Future<Output = Result<()>> + Send) -> Result<()> {
    host.namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work)
    })
}

/// The side that offers: makes the links that are wished for, one after the other.
async fn offer(
    mut end: End,
    mut wanted: Receiver<LinkId>,
    mut ups: Receiver<(LinkId, Instant)>,
    tell: Sender<Link>,
) -> Result<()> {
    loop {
        let link = tokio::select! {
            wish = wanted.recv() => wish,
            event = end.next() => match event? {
                Some(_) => continue,
                None => return Ok(()),
            },
        };
        let Some(link) = link else { return Ok(()) };
        let made = timeout(LIMIT, make(&mut end, link, &mut ups)).await;
        let made = made.with_context(|| format!("{link} did not come up"))??;
        end.endpoint
            .handle_command(Instant::now(), LinkCommand::Close { link });
        if tell.send(made).await.is_err() {
            return Ok(());
        }
    }
}

async fn make(end: &mut End, link: LinkId, ups: &mut Receiver<(LinkId, Instant)>) -> Result<Link> {
    let begun = Instant::now();
    end.answered = None;
    end.endpoint
        .handle_command(begun, LinkCommand::Offer { link });
    let (mut ice, mut own, mut other) = (None, None, None);
    loop {
        if let (Some(own), Some(other), Some(ice), Some(answered)) = (own, other, ice, end.answered)
        {
            let since = |at: Instant| at.saturating_duration_since(begun);
            return Ok(Link {
                answered: since(answered),
                secured: ice,
                up: since(own).max(since(other)),
            });
        }
        tokio::select! {
            up = ups.recv() => match up {
                Some((of, at)) if of == link => other = Some(at),
                Some(_) => {}
                None => bail!("the other end has stopped"),
            },
            event = end.next() => match event?.context("the other end has stopped")? {
                LinkEvent::Tried { link: of, tried } if of == link => {
                    ice = tried.ice_ms.map(|ms| Duration::from_secs_f64(ms / 1_000.0));
                }
                LinkEvent::Up { link: of, .. } if of == link => own = Some(Instant::now()),
                LinkEvent::Down { link: of, reason } if of == link => bail!("{link}: {reason}"),
                _ => {}
            },
        }
    }
}

/// The side that answers: tells when its channels are open, until the other side is gone.
async fn answer(mut end: End, tell_up: Sender<(LinkId, Instant)>) -> Result<()> {
    while let Some(event) = end.next().await? {
        if let LinkEvent::Up { link, .. } = event
            && tell_up.send((link, Instant::now())).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

/// One end: an endpoint, and the signals that are on their way to it.
struct End {
    endpoint: Endpoint,
    wires: Wires,
    delay: Duration,
    coming: VecDeque<Signal>,
    /// When the answer to the present offer arrived.
    answered: Option<Instant>,
}

impl End {
    fn new(config: EndpointConfig, wires: Wires, delay: Duration) -> Result<Self> {
        Ok(Self {
            endpoint: Endpoint::bind(config)?,
            wires,
            delay,
            coming: VecDeque::new(),
            answered: None,
        })
    }

    /// The next event that is no signal; those are passed on. `None` when the
    /// other end has stopped. Cancel safe.
    async fn next(&mut self) -> Result<Option<LinkEvent>> {
        while let Some(event) = self.event().await? {
            match event {
                LinkEvent::Offered { link, sdp } => self.pass(LinkCommand::Accept { link, sdp })?,
                LinkEvent::Answered { link, sdp } => {
                    self.pass(LinkCommand::Answer { link, sdp })?
                }
                LinkEvent::Candidate { link, candidate } => {
                    self.pass(LinkCommand::Candidate { link, candidate })?;
                }
                event => return Ok(Some(event)),
            }
        }
        Ok(None)
    }

    fn pass(&self, command: LinkCommand) -> Result<()> {
        let due = Instant::now() + self.delay;
        let sent = self.wires.out.try_send(Signal { due, command });
        sent.map_err(|error| anyhow::anyhow!("the other end takes no signals: {error}"))
    }

    /// Runs the endpoint until it has an event. Cancel safe.
    async fn event(&mut self) -> Result<Option<LinkEvent>> {
        loop {
            let now = Instant::now();
            while let Some(signal) = self.coming.pop_front_if(|signal| signal.due <= now) {
                if matches!(signal.command, LinkCommand::Answer { .. }) {
                    self.answered = Some(now);
                }
                self.endpoint.handle_command(now, signal.command);
            }
            if let Some(event) = self.endpoint.poll_event() {
                return Ok(Some(event));
            }
            self.endpoint.flush();
            let due = self.coming.front().map(|signal| signal.due);
            let timeout = self.endpoint.poll_timeout();
            let until = due.into_iter().chain(timeout).min().unwrap_or(now + IDLE);
            tokio::select! {
                ready = self.endpoint.readable() => {
                    ready?;
                    self.endpoint.receive(Instant::now())?;
                }
                signal = self.wires.inbox.recv() => match signal {
                    Some(signal) => self.coming.push_back(signal),
                    None => return Ok(None),
                },
                () = tokio::time::sleep_until(until.into()) => {
                    self.endpoint.handle_timeout(Instant::now());
                }
            }
        }
    }
}
