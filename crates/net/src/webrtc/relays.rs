//! Relayed addresses: one allocation on every TURN server that is known.
//!
//! Made when the first link is wanted, kept while there are links and some
//! minutes more. UDP is asked first, TCP and TLS beside it a moment later; the
//! first that answers is used. What is sent from a relayed address goes to its
//! server, and what comes from there is handed on with that address.

mod leg;
mod server;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use waymesh_proto::ice::{ICE_SERVERS_MAX, IceServer, ServerTried};

use self::leg::{Leg, ToSocket};
pub(super) use self::leg::{Roads, Tally};
use self::server::{Server, Taken};
use super::candidates::LocalCandidate;
use super::demand::Upkeep;
use super::names::{HostPort, Learned, Names};
use super::reflexive::BELIEVED;
use crate::turn::client::Handled;

/// What happened at the relays.
#[derive(Debug)]
pub(super) enum RelayEvent {
    /// There is an allocation.
    Found(LocalCandidate),
    /// The allocation with this address is gone.
    Lost(SocketAddr),
    /// A peer has sent this to a relayed address.
    Data {
        relayed: SocketAddr,
        peer: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A server does not take its credentials.
    CredentialsRefused,
}

/// Which of this host's addresses are still there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept<'a> {
    /// All that were.
    All,
    /// These; others were lost.
    On(&'a [SocketAddr]),
}

/// All TURN servers.
#[derive(Debug)]
pub(super) struct Relays {
    servers: Vec<Server>,
    roads: Roads,
    to_socket: ToSocket,
    events: VecDeque<RelayEvent>,
    /// The addresses of the allocations, for those who send.
    relayed: Vec<SocketAddr>,
    /// When the servers were last asked whether the allocations are there.
    doubted: Option<Instant>,
    /// What the servers that are gone have counted.
    past: Tally,
}

impl Relays {
    pub(super) fn new(roads: Roads) -> Self {
        Self {
            servers: Vec::new(),
            roads,
            to_socket: VecDeque::new(),
            events: VecDeque::new(),
            relayed: Vec::new(),
            doubted: None,
            past: Tally::default(),
        }
    }

    /// What was counted at all of them, those that are gone included.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.past;
        for server in &self.servers {
            tally += server.tally();
        }
        tally
    }

    /// Sets which servers there are, as many as [`ICE_SERVERS_MAX`]. One that stays keeps
    /// its allocation and gets the new credentials; one that is gone is given up.
    pub(super) fn set_servers<'a>(
        &mut self,
        now: Instant,
        wanted: impl Iterator<Item = &'a IceServer>,
    ) {
        let mut before = std::mem::take(&mut self.servers);
        for server in wanted.take(ICE_SERVERS_MAX) {
            let known = before
                .iter_mut()
                .position(|known| known.update(now, server));
            let kept = match known {
                Some(at) => Some(before.swap_remove(at)),
                None => Server::new(server),
            };
            self.servers.extend(kept);
        }
        for mut gone in before {
            let lost = gone.candidate();
            gone.stop(now, &mut self.to_socket);
            self.past += gone.tally();
            self.events
                .extend(lost.map(|candidate| RelayEvent::Lost(candidate.address)));
        }
        self.note_relayed();
    }

    /// Asks whether the allocations are still there, unless that was asked a moment ago,
    /// and lets servers that failed be asked sooner: a link is wanted.
    pub(super) fn doubt(&mut self, now: Instant) {
        if self.doubted.is_some_and(|at| now < at + BELIEVED) {
            return;
        }
        self.doubted = Some(now);
        self.servers.iter_mut().for_each(Server::doubt);
        for leg in self.servers.iter_mut().flat_map(Server::legs_mut) {
            leg.probe(now);
            leg.pass_on(&mut self.to_socket);
        }
    }

    /// Makes the allocations that are missing.
    pub(super) fn want(&mut self, now: Instant, names: &Names) {
        let mut taken = self.taken();
        for server in &mut self.servers {
            server.want(now, names, &self.roads, &mut taken);
        }
        self.turn(now);
    }

    /// Gives up all allocations.
    pub(super) fn stop(&mut self, now: Instant) {
        for server in &mut self.servers {
            server.stop(now, &mut self.to_socket);
        }
        self.note_relayed();
    }

    /// The network is another one: allocations that were made from an address that
    /// is gone are made anew, the others are asked whether they are still there.
    pub(super) fn restart(&mut self, now: Instant, names: &Names, kept: Kept<'_>) {
        for server in &mut self.servers {
            let candidate = server.candidate();
            if server.is_stranded(kept) {
                server.stop(now, &mut self.to_socket);
                let lost = candidate.map(|candidate| RelayEvent::Lost(candidate.address));
                self.events.extend(lost);
            } else if let Some(leg) = candidate.and_then(|c| server.leg_of(c.address)) {
                leg.probe(now);
                leg.pass_on(&mut self.to_socket);
            }
        }
        self.note_relayed();
        self.want(now, names);
    }

    /// A name was answered, and this was learned.
    pub(super) fn handle_resolved(
        &mut self,
        now: Instant,
        names: &Names,
        name: &HostPort,
        learned: Learned,
    ) {
        let mut taken = self.taken();
        for server in self.servers.iter_mut().filter(|s| s.has_name(name)) {
            server.handle_resolved(now, names, learned, &mut taken);
        }
        self.turn(now);
    }

    /// Whether the servers' streams, or timers, want nothing: there is no server.
    pub(super) const fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The relayed candidates that there are.
    pub(super) fn candidates(&self) -> impl Iterator<Item = LocalCandidate> {
        self.servers.iter().filter_map(Server::candidate)
    }

    /// Whether this is the address of an allocation.
    pub(super) fn relays_for(&self, address: SocketAddr) -> bool {
        self.relayed.contains(&address)
    }

    /// Sends to a peer from a relayed address.
    pub(super) fn send(
        &mut self,
        now: Instant,
        relayed: SocketAddr,
        peer: SocketAddr,
        bytes: &[u8],
    ) {
        for server in &mut self.servers {
            if let Some(leg) = server.leg_of(relayed) {
                leg.send(now, peer, bytes);
                leg.pass_on(&mut self.to_socket);
                return;
            }
        }
    }

    /// Lets a peer in at all relays.
    pub(super) fn permit(&mut self, now: Instant, ips: &[IpAddr]) {
        for leg in self.servers.iter_mut().flat_map(Server::legs_mut) {
            for ip in ips {
                leg.permit(now, *ip);
            }
            leg.pass_on(&mut self.to_socket);
        }
    }

    /// Asks the relay with this address whether it is still there.
    pub(super) fn probe(&mut self, now: Instant, relayed: SocketAddr) {
        for server in &mut self.servers {
            if let Some(leg) = server.leg_of(relayed) {
                leg.probe(now);
                leg.pass_on(&mut self.to_socket);
            }
        }
    }

    /// Takes a datagram that came from `source` to `local`.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: SocketAddr,
        bytes: &[u8],
    ) -> Handled {
        let legs = self.servers.iter_mut().flat_map(Server::legs_mut);
        let mut from_there = legs.filter(|leg| leg.server() == Some(source));
        let is_taken =
            from_there.any(|leg| leg.handle_datagram(now, local, bytes) == Handled::Taken);
        match is_taken {
            true => Handled::Taken,
            false => Handled::NotMine,
        }
    }

    /// Whether a server is at this address.
    pub(super) fn has_server(&self, address: SocketAddr) -> bool {
        self.servers.iter().any(|server| server.is_at(address))
    }

    pub(super) fn poll_timeout(&self, upkeep: Upkeep) -> Option<Instant> {
        let due = self.servers.iter().map(|s| s.poll_timeout(upkeep));
        due.flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, names: &Names, upkeep: Upkeep) {
        let mut taken = self.taken();
        for server in &mut self.servers {
            server.handle_timeout(now, names, &self.roads, &mut taken);
        }
        if upkeep == Upkeep::Kept {
            taken = self.taken();
            for server in &mut self.servers {
                server.want(now, names, &self.roads, &mut taken);
            }
        }
        self.turn(now);
    }

    /// Moves messages between clients and streams, and takes what became of them.
    pub(super) fn turn(&mut self, now: Instant) {
        self.part(now);
        let events = &mut self.events;
        let mut has_changed = false;
        for server in &mut self.servers {
            server.turn(now, &mut self.to_socket, |event| {
                has_changed |= !matches!(event, RelayEvent::Data { .. });
                events.push_back(event);
            });
        }
        if has_changed {
            self.note_relayed();
        }
    }

    /// Ends what has come to where another is already, before it has sent anything there.
    fn part(&mut self, now: Instant) {
        let is_moved = |server: &Server| server.legs().any(Leg::has_moved);
        if !self.servers.iter().any(is_moved) {
            return;
        }
        let legs = self.servers.iter().flat_map(Server::legs);
        let stayed = legs.filter(|leg| !leg.has_moved());
        let mut taken: Taken = stayed.filter_map(Leg::server).collect();
        for server in &mut self.servers {
            server.yield_to(now, &mut taken);
        }
    }

    /// A message for a server, by the socket of the links.
    pub(super) fn poll_to_socket(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.to_socket.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    pub(super) fn tried(&self, now: Instant) -> impl Iterator<Item = ServerTried> {
        self.servers
            .iter()
            .flat_map(move |server| server.tried(now))
    }

    /// Where the datagrams of all legs go.
    fn taken(&self) -> Taken {
        let legs = self.servers.iter().flat_map(Server::legs);
        legs.filter_map(Leg::server).collect()
    }

    fn note_relayed(&mut self) {
        self.relayed = self.candidates().map(|c| c.address).collect();
    }
}

#[cfg(test)]
mod tests;
