//! Which STUN and TURN servers there are, and what they gave.

use std::net::SocketAddr;
use std::time::Instant;

use waymesh_proto::ice::{
    ICE_SERVERS_MAX, ICE_URLS_MAX, IceServer, IceServers, IceTransport, IceUrl, ServerOutcome,
    ServerTried,
};

use super::Gathering;
use crate::webrtc::config::CandidatePolicy;
use crate::webrtc::names::Resolved;

impl Gathering {
    /// Which servers to use from now on, beside those of the configuration.
    pub(in crate::webrtc) fn set_servers(&mut self, now: Instant, servers: IceServers) {
        self.told = servers;
        self.meet_servers(now);
    }

    /// What the servers gave up to now.
    pub(in crate::webrtc) fn servers(&self, now: Instant) -> Vec<ServerTried> {
        let stun = |url: &&IceUrl| is_udp(url) && !url.scheme().relays();
        let unresolved = self.urls().filter(stun).filter_map(|url| {
            let outcome = match self.names.resolved(url) {
                Resolved::Addresses(_) => return None,
                Resolved::Waiting => ServerOutcome::Waiting,
                Resolved::Failed(why) => ServerOutcome::Failed { why: why.into() },
            };
            Some(ServerTried {
                url: url.clone(),
                outcome,
                took_ms: 0.0,
            })
        });
        let asked = self.reflexive.tried(now).chain(self.relays.tried(now));
        asked
            .chain(unresolved)
            .take(ICE_SERVERS_MAX * ICE_URLS_MAX)
            .collect()
    }

    /// How many of the [known servers](Self::known_servers) are of the configuration.
    pub(in crate::webrtc) fn configured_servers(&self) -> usize {
        self.configured.len().min(ICE_SERVERS_MAX)
    }

    /// The servers of the configuration, and then those that were told.
    pub(in crate::webrtc) fn known_servers(&self) -> Vec<IceServer> {
        self.used().cloned().collect()
    }

    /// As many of them as are used, those of the configuration first.
    fn used(&self) -> impl Iterator<Item = &IceServer> {
        used(&self.configured, &self.told)
    }

    pub(super) fn meet_servers(&mut self, now: Instant) {
        let servers = used(&self.configured, &self.told);
        self.relays.set_servers(now, servers);
        self.ask_names(now);
        self.meet_addresses(now);
        if self.is_wanted() {
            self.relays.want(now, &self.names);
        }
        self.hear_relays(now);
    }

    /// Has STUN servers asked at the addresses that are known, unless relays alone count.
    pub(super) fn meet_addresses(&mut self, now: Instant) {
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
        self.reflexive.ask_new(now);
    }

    pub(super) fn urls(&self) -> impl Iterator<Item = &IceUrl> {
        self.used()
            .flat_map(|server| server.urls.iter().take(ICE_URLS_MAX))
    }
}

fn used<'a>(
    configured: &'a [IceServer],
    told: &'a IceServers,
) -> impl Iterator<Item = &'a IceServer> {
    let servers = configured.iter().chain(&told.servers);
    servers.take(ICE_SERVERS_MAX)
}

/// Streams resolve names on their way.
pub(super) fn is_udp(url: &IceUrl) -> bool {
    url.transport() == IceTransport::Udp
}
