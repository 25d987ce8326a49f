//! Finds the candidates of this node: its own addresses, those that STUN servers
//! see, and relayed ones.
//!
//! What blocks or waits runs in tasks that this owns and that end with it; what
//! they find comes back through one bounded queue. Everything that is found is
//! kept for the next session and told once for those that are being made.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use waymesh_proto::ice::{
    ICE_SERVERS_MAX, ICE_URLS_MAX, IceServer, IceServers, IceTransport, IceUrl, ServerOutcome,
    ServerTried,
};

use super::candidates::{HostRules, LocalCandidate};
use super::config::{CandidatePolicy, EndpointConfig};
use super::counters::Counters;
use super::interfaces::{Interfaces, Watch};
use super::losses::Losses;
use super::names::{self, HostPort, Names, Resolved};
use super::reflexive::{Answered, Mapping, Reflexive};
use super::relays::{Kept, RelayEvent, Relays, Roads};
use crate::turn::client::Handled;

/// What the tasks found and the endpoint has not taken; when it is full, they wait.
const FOUND_CAP: usize = 64;

/// How long mappings and allocations are kept after the last link. Chosen: an
/// agent that spoke a moment ago speaks again.
const KEPT_AFTER: Duration = Duration::from_secs(300);

/// What concerns the whole endpoint, not one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The addresses of this host, or those that others see, are not what they
    /// were: links may be dead without knowing it.
    NetworkChanged,
    /// A TURN server refused its credentials: they are old, and new ones are needed.
    ServersRefused,
}

/// What a task found.
#[derive(Debug)]
enum Found {
    /// The addresses may have changed to these.
    Interfaces(Interfaces),
    /// A name was resolved, or was not.
    Resolved(HostPort, Result<Vec<SocketAddr>, String>),
}

/// What the sessions must hear.
#[derive(Debug)]
pub(super) enum News {
    /// A candidate to add and to tell peers of.
    Found(LocalCandidate),
    /// An address of this host is gone.
    Lost(LocalCandidate),
    /// A peer's datagram, through a relay.
    Arrived {
        /// The relayed address that it came to.
        relayed: SocketAddr,
        /// Who sent it.
        peer: SocketAddr,
        /// What it is.
        bytes: Vec<u8>,
    },
}

/// All that this node can offer.
#[derive(Debug)]
pub(super) struct Gathering {
    policy: CandidatePolicy,
    rules: HostRules,
    interfaces: Interfaces,
    hosts: Vec<SocketAddr>,
    configured: Vec<IceServer>,
    told: IceServers,
    names: Names,
    /// Without servers where relays alone count.
    reflexive: Reflexive,
    relays: Relays,
    losses: Losses,
    /// Until when mappings and allocations are kept; `None` when nobody wants them.
    wanted_until: Option<Instant>,
    news: VecDeque<News>,
    notices: VecDeque<Notice>,
    found: mpsc::Receiver<Found>,
    post: Post,
    /// Ended when this is dropped.
    tasks: JoinSet<()>,
}

/// A task's way to the endpoint.
#[derive(Debug, Clone)]
struct Post {
    found: mpsc::Sender<Found>,
    woken: Arc<Notify>,
}

impl Post {
    /// An error when the endpoint is gone.
    async fn send(&self, found: Found) -> Result<(), mpsc::error::SendError<Found>> {
        self.found.send(found).await?;
        self.woken.notify_one();
        Ok(())
    }
}

impl Gathering {
    /// Lists the addresses, and watches them unless loopback alone counts.
    pub(super) fn start(now: Instant, config: EndpointConfig, rules: HostRules) -> Self {
        let interfaces = Interfaces::list();
        let (found_in, found) = mpsc::channel(FOUND_CAP);
        let post = Post {
            found: found_in,
            woken: Arc::default(),
        };
        let roads = Roads {
            tls: config.tls,
            proxies: config.proxies,
            wake: Arc::clone(&post.woken),
        };
        let mut gathering = Self {
            policy: config.candidates,
            hosts: rules.addresses(&interfaces),
            rules,
            interfaces,
            configured: config.servers,
            told: IceServers::default(),
            names: Names::default(),
            reflexive: Reflexive::default(),
            relays: Relays::new(roads),
            losses: Losses::default(),
            wanted_until: None,
            news: VecDeque::new(),
            notices: VecDeque::new(),
            found,
            post,
            tasks: JoinSet::new(),
        };
        gathering.watch();
        gathering.meet_servers(now);
        gathering
    }

    fn watch(&mut self) {
        if self.rules.loopback_only {
            return;
        }
        let (post, known) = (self.post.clone(), self.interfaces.clone());
        self.tasks.spawn(async move {
            let mut watch = Watch::start(known);
            loop {
                let found = Found::Interfaces(watch.changed().await);
                if post.send(found).await.is_err() {
                    break;
                }
            }
        });
    }

    /// The addresses of this host that the socket has, best first.
    pub(super) fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// What a session that begins now offers.
    pub(super) fn candidates(&self) -> Vec<LocalCandidate> {
        let mut candidates = Vec::new();
        if self.policy == CandidatePolicy::All {
            candidates.extend(self.hosts.iter().map(|a| LocalCandidate::host(*a)));
            let mappings = self.reflexive.mappings();
            candidates.extend(mappings.into_iter().filter_map(reflexive));
        }
        candidates.extend(self.relays.candidates());
        candidates
    }

    /// Which servers to use from now on, beside those of the configuration.
    pub(super) fn set_servers(&mut self, now: Instant, servers: IceServers) {
        self.told = servers;
        self.meet_servers(now);
    }

    /// What the servers gave up to now.
    pub(super) fn servers(&self, now: Instant) -> Vec<ServerTried> {
        let unresolved = self.urls().filter_map(|url| {
            let Resolved::Failed(why) = self.names.resolved(url) else {
                return None;
            };
            (!url.scheme().relays()).then(|| ServerTried {
                url: url.clone(),
                outcome: ServerOutcome::Failed { why: why.into() },
                took_ms: 0.0,
            })
        });
        let asked = self.reflexive.tried(now).chain(self.relays.tried(now));
        asked
            .chain(unresolved)
            .take(ICE_SERVERS_MAX * ICE_URLS_MAX)
            .collect()
    }

    /// A link is wanted: mappings and allocations are made and kept. What there is is
    /// offered at once, and asked about: a NAT or a relay that has forgotten may be why.
    pub(super) fn want(&mut self, now: Instant) {
        self.wanted_until = Some(now + KEPT_AFTER);
        self.ask_names(now);
        self.reflexive.doubt(now);
        self.relays.doubt(now);
        self.relays.want(now, &self.names);
        self.hear_relays(now);
    }

    const fn is_wanted(&self) -> bool {
        self.wanted_until.is_some()
    }

    /// Whether there is an allocation with this address.
    pub(super) fn relays_for(&self, address: SocketAddr) -> bool {
        self.relays.relays_for(address)
    }

    /// Sends from a relayed address; false when it is none.
    pub(super) fn send(
        &mut self,
        now: Instant,
        source: SocketAddr,
        peer: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        let is_relayed = self.relays.relays_for(source);
        if is_relayed {
            self.relays.send(now, source, peer, bytes);
        }
        is_relayed
    }

    /// Lets peers in at the relays.
    pub(super) fn permit(&mut self, now: Instant, ips: &[IpAddr]) {
        if !self.relays.is_empty() {
            self.relays.permit(now, ips);
        }
    }

    /// A link from this address has died: its relay may have.
    pub(super) fn doubt(&mut self, now: Instant, source: SocketAddr) {
        if self.relays.relays_for(source) {
            self.relays.probe(now, source);
        }
    }

    /// Takes a datagram of a server that came to `local`; false when it is none.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        // STUN and ChannelData (RFC 7983): nothing else comes from servers.
        let is_for_servers = matches!(bytes.first(), Some(0..=3 | 0x40..=0x4f));
        if !is_for_servers {
            return false;
        }
        if self.reflexive.has_server(source) {
            match self.reflexive.handle_datagram(now, source, local, bytes) {
                Answered::Nothing => {}
                answered => {
                    self.handle_answered(answered);
                    return true;
                }
            }
        }
        let is_taken = self.relays.has_server(source)
            && self.relays.handle_datagram(now, source, local, bytes) == Handled::Taken;
        if is_taken {
            self.hear_relays(now);
        }
        is_taken
    }

    fn handle_answered(&mut self, answered: Answered) {
        let (mapping, has_changed) = match answered {
            Answered::New(mapping) => (mapping, false),
            Answered::Changed(mapping) => (mapping, true),
            Answered::Nothing | Answered::Same => return,
        };
        self.news.extend(reflexive(mapping).map(News::Found));
        if has_changed {
            tracing::debug!(mapped = %mapping.mapped, "a NAT maps this host to another address");
            self.notice(Notice::NetworkChanged);
        }
    }

    fn hear_relays(&mut self, now: Instant) {
        self.relays.turn(now);
        while let Some(event) = self.relays.poll_event() {
            match event {
                RelayEvent::Data {
                    relayed,
                    peer,
                    bytes,
                } => self.news.push_back(News::Arrived {
                    relayed,
                    peer,
                    bytes,
                }),
                RelayEvent::Found(candidate) => {
                    tracing::debug!(address = %candidate.address, "a relayed address");
                    self.news.push_back(News::Found(candidate));
                }
                RelayEvent::Lost(address) => {
                    tracing::debug!(%address, "a relayed address is gone");
                    self.losses.note(now);
                }
                RelayEvent::CredentialsRefused => self.notice(Notice::ServersRefused),
            }
        }
        if self.losses.take_due(now) {
            self.notice(Notice::NetworkChanged);
        }
    }

    /// When [`Gathering::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_wanted = self.is_wanted();
        let relays = self.relays.poll_timeout(is_wanted);
        let reflexive = self.reflexive.poll_timeout(is_wanted);
        [
            reflexive,
            relays,
            self.losses.poll_timeout(),
            self.wanted_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Repeats, refreshes and gives up what is due. `links` says whether there are any.
    pub(super) fn handle_timeout(&mut self, now: Instant, links: Links) {
        if links == Links::Some {
            self.wanted_until = Some(now + KEPT_AFTER);
        } else if self.wanted_until.take_if(|until| *until <= now).is_some() {
            self.relays.stop(now);
        }
        let is_wanted = self.is_wanted();
        if is_wanted {
            self.ask_names(now);
        }
        self.reflexive.handle_timeout(now, is_wanted);
        self.relays.handle_timeout(now, &self.names, is_wanted);
        self.hear_relays(now);
    }

    /// Adds what was counted at the relays.
    pub(super) fn count(&self, counters: &mut Counters) {
        let relays = self.relays.tally();
        counters.relays += relays.clients;
        counters.relay_streams_full += relays.streams_full;
    }

    /// Waits until [`Gathering::handle_found`] may find something. Cancel safe.
    pub(super) async fn woken(&self) {
        self.post.woken.notified().await;
    }

    /// Takes what the tasks found.
    pub(super) fn handle_found(&mut self, now: Instant) {
        while let Ok(found) = self.found.try_recv() {
            match found {
                Found::Interfaces(interfaces) => self.handle_interfaces(now, interfaces),
                Found::Resolved(name, answer) => {
                    self.names.handle_answer(now, &name, answer);
                    self.meet_addresses(now);
                    self.relays.handle_resolved(now, &self.names);
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
        if !self.relays.is_empty() {
            self.hear_relays(now);
        }
    }

    /// A datagram for a server, and where to.
    pub(super) fn poll_to_server(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let request = self.reflexive.poll_request();
        request.or_else(|| self.relays.poll_to_socket())
    }

    /// Takes what the sessions must hear.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Takes what the owner of the endpoint must hear.
    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    fn handle_interfaces(&mut self, now: Instant, interfaces: Interfaces) {
        if interfaces == self.interfaces {
            // Perhaps another route.
            if self.is_wanted() {
                self.reflexive.ask_again(now);
            }
            return;
        }
        self.interfaces = interfaces;
        let hosts = self.rules.addresses(&self.interfaces);
        tracing::debug!(?hosts, "the addresses of this host have changed");
        let before = std::mem::replace(&mut self.hosts, hosts);
        if self.policy == CandidatePolicy::All {
            let new = self.hosts.iter().filter(|a| !before.contains(a));
            let new = new.map(|a| News::Found(LocalCandidate::host(*a)));
            let lost = before.iter().filter(|a| !self.hosts.contains(a));
            let lost = lost.map(|a| News::Lost(LocalCandidate::host(*a)));
            self.news.extend(new.chain(lost));
        }
        self.notice(Notice::NetworkChanged);
        self.names.make_old();
        self.reflexive.forget(now);
        if self.is_wanted() {
            self.ask_names(now);
            self.meet_addresses(now);
            self.reflexive.ask_again(now);
            let has_lost = before.iter().any(|a| !self.hosts.contains(a));
            let kept = if has_lost {
                Kept::On(&self.hosts)
            } else {
                Kept::All
            };
            self.relays.restart(now, &self.names, kept);
            self.hear_relays(now);
        } else {
            self.meet_servers(now);
        }
    }

    fn meet_servers(&mut self, now: Instant) {
        let servers = self.configured.iter().chain(&self.told.servers);
        self.relays.set_servers(now, servers);
        self.ask_names(now);
        self.meet_addresses(now);
        if self.is_wanted() {
            self.relays.want(now, &self.names);
        }
        self.hear_relays(now);
    }

    /// Has STUN servers asked at the addresses that are known, unless relays alone count.
    fn meet_addresses(&mut self, now: Instant) {
        if self.policy == CandidatePolicy::RelayOnly {
            return;
        }
        let mut wanted: Vec<(IceUrl, SocketAddr)> = Vec::new();
        for url in self.urls().filter(|url| is_udp(url)) {
            if let Resolved::Addresses(addresses) = self.names.resolved(url) {
                for v4 in [true, false] {
                    let first = addresses.iter().find(|a| a.is_ipv4() == v4);
                    let is_carried = v4 || self.rules.carries_v6;
                    wanted.extend(first.filter(|_| is_carried).map(|a| (url.clone(), *a)));
                }
            }
        }
        self.reflexive.set_targets(now, &wanted);
        // Once at least: who starts usually speaks at once.
        self.reflexive.refresh(now);
    }

    fn ask_names(&mut self, now: Instant) {
        let urls: Vec<IceUrl> = self.urls().filter(|url| is_udp(url)).cloned().collect();
        for url in urls {
            if let Some(name) = self.names.question(now, &url) {
                let post = self.post.clone();
                self.tasks.spawn(async move {
                    let answer = names::resolve(&name).await;
                    // When the endpoint is gone, nobody waits.
                    let _ = post.send(Found::Resolved(name, answer)).await;
                });
            }
        }
    }

    fn urls(&self) -> impl Iterator<Item = &IceUrl> {
        let servers = self.configured.iter().chain(&self.told.servers);
        servers
            .take(ICE_SERVERS_MAX)
            .flat_map(|server| server.urls.iter().take(ICE_URLS_MAX))
    }

    /// One that was not taken yet is enough.
    fn notice(&mut self, notice: Notice) {
        if !self.notices.contains(&notice) {
            self.notices.push_back(notice);
        }
    }
}

/// Whether an endpoint has links, or ones that are being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Some,
    None,
}

/// Streams resolve names on their way.
fn is_udp(url: &IceUrl) -> bool {
    url.transport() == IceTransport::Udp
}

/// A mapping that is no NAT's is the host candidate that is offered anyway.
fn reflexive(mapping: Mapping) -> Option<LocalCandidate> {
    let is_mapped = mapping.mapped != mapping.base;
    is_mapped.then(|| LocalCandidate::reflexive(mapping.mapped, mapping.base))
}
