//! Finds the candidates of this node: its own addresses, those that STUN servers
//! see, and relayed ones.
//!
//! What blocks or waits runs in tasks that this owns and that end with it; what
//! they find comes back through one bounded queue. Everything that is found is
//! kept for the next session and told once for those that are being made.

mod servers;
mod tasks;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use waymesh_proto::ice::{IceServer, IceServers};

use self::tasks::{FOUND_CAP, Found, Post};
use super::candidates::{HostRules, LocalCandidate};
use super::config::{CandidatePolicy, EndpointConfig};
use super::counters::Counters;
use super::demand::{Demand, Links, Upkeep};
use super::interfaces::Interfaces;
use super::losses::Losses;
use super::names::Names;
use super::reflexive::{Answered, Mapping, Reflexive};
use super::relays::{RelayEvent, Relays, Roads};
use crate::turn::client::Handled;

/// What concerns the whole endpoint, not one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The addresses of this host, or those that others see, are not what they
    /// were: links may be dead without knowing it.
    NetworkChanged,
    /// A TURN server refused its credentials: they are old, and new ones are needed.
    ServersRefused,
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
    demand: Demand,
    news: VecDeque<News>,
    notices: VecDeque<Notice>,
    found: mpsc::Receiver<Found>,
    post: Post,
    /// Ended when this is dropped.
    tasks: JoinSet<()>,
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
            demand: Demand::default(),
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

    /// A link is wanted: mappings and allocations are made and kept. What there is is
    /// offered at once, and asked about: a NAT or a relay that has forgotten may be why.
    pub(super) fn want(&mut self, now: Instant) {
        self.demand.renew(now);
        self.ask_names(now);
        self.reflexive.doubt(now);
        self.relays.doubt(now);
        self.relays.want(now, &self.names);
        self.hear_relays(now);
    }

    fn is_wanted(&self) -> bool {
        self.demand.upkeep() == Upkeep::Kept
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
        let upkeep = self.demand.upkeep();
        let relays = self.relays.poll_timeout(upkeep);
        let reflexive = self.reflexive.poll_timeout(upkeep);
        [
            reflexive,
            relays,
            self.losses.poll_timeout(),
            self.demand.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Repeats, refreshes and gives up what is due. `links` says whether there are any.
    pub(super) fn handle_timeout(&mut self, now: Instant, links: Links) {
        if self.demand.take_end(now, links) {
            self.relays.stop(now);
        }
        if self.is_wanted() {
            self.ask_names(now);
        }
        let upkeep = self.demand.upkeep();
        self.reflexive.handle_timeout(now, upkeep);
        self.relays.handle_timeout(now, &self.names, upkeep);
        self.hear_relays(now);
    }

    /// Adds what was counted at the relays.
    pub(super) fn count(&self, counters: &mut Counters) {
        let relays = self.relays.tally();
        counters.relays += relays.clients;
        counters.relay_streams_full += relays.streams_full;
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

    /// One that was not taken yet is enough.
    fn notice(&mut self, notice: Notice) {
        if !self.notices.contains(&notice) {
            self.notices.push_back(notice);
        }
    }
}

/// A mapping that is no NAT's is the host candidate that is offered anyway.
fn reflexive(mapping: Mapping) -> Option<LocalCandidate> {
    let is_mapped = mapping.mapped != mapping.base;
    is_mapped.then(|| LocalCandidate::reflexive(mapping.mapped, mapping.base))
}
