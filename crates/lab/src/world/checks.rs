//! What must hold once everything is well: the links, the registry, the
//! model's accounts; and that every pair answers at once.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use waymesh_core::Topology;
use waymesh_core::app::Command;
use waymesh_core::registry::Query;
use waymesh_proto::api::PeerState;
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Priority;
use waymesh_proto::ids::MessageId;

use super::host::{id_of, incarnation_of, life_of, name_of, node_of};
use super::report::{Checked, Invariant, Violation, hold};
use super::schedule::Reading;
use super::workload::Skill;
use super::{REST, World};

/// How long a message must have to live after the healing to be sure to arrive.
const DELIVERY_BOUND: Duration = Duration::from_secs(50);

/// How long a healthy pair may take to answer, link set-up included.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// What is tried of the pairs while everything is well.
#[derive(Debug, Default)]
pub struct Health {
    since: Option<Instant>,
    calls: Vec<MessageId>,
    letters: Vec<MessageId>,
    pings: Vec<MessageId>,
    /// Calls that nobody will answer, by their callers; withdrawn half-way.
    mute: Vec<(usize, MessageId)>,
}

impl Health {
    pub(super) fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    pub(super) const fn is_well(&self) -> bool {
        self.since.is_some()
    }
}

impl World {
    fn reads(&self, at: usize) -> bool {
        self.hosts[at].reading != Reading::Never && self.hosts[at].reader.is_some()
    }

    fn check_accounts(&self) -> Checked {
        let (now, lives) = (self.now, &self.model.lives);
        let since = self.health.since.unwrap_or(now);
        self.model
            .letters
            .check_settled(now, since, DELIVERY_BOUND, lives, |at| self.reads(at))?;
        self.model.letters.check_conserved(lives)?;
        self.model.calls.check_settled(now, lives)?;
        self.model.waits.check_settled(now, lives)
    }

    /// Everything must have settled by now.
    pub(super) fn check_settled(&mut self) -> Checked {
        self.check_accounts()?;
        self.check_presence()?;
        self.check_links()
    }

    fn check_presence(&self) -> Checked {
        let all = self.office.rules.find(&Query::default(), NonZeroUsize::MAX);
        let records = all.agents;
        for at in 0..self.hosts.len() {
            let record = records.iter().find(|record| record.agent_id == id_of(at));
            let life = self.model.lives.current(at);
            let online = record
                .filter(|record| record.online)
                .map(|record| record.incarnation);
            let truth = life.map(|life| incarnation_of(life.number));
            hold!(
                online == truth,
                Presence,
                "host {at} lives as {truth:?} and the registry says {online:?}"
            );
            if let Some(mesh) = &self.hosts[at].mesh {
                hold!(mesh.is_registered(), Presence, "host {at} is not logged in");
            }
        }
        Ok(())
    }

    /// Pairs have at most one link, whose two ends agree; full meshes are whole.
    fn check_links(&mut self) -> Checked {
        for a in 0..self.hosts.len() {
            self.list_peers(a)?;
            let Some(life) = self.model.lives.current(a) else {
                continue;
            };
            for b in (0..self.hosts.len()).filter(|b| *b != a) {
                let ends = |from: usize, to: usize| {
                    let links = self.hosts[from].links.values();
                    links
                        .filter(|(other, _)| life_of(*other).host == to)
                        .count()
                };
                let (here, there) = (ends(a, b), ends(b, a));
                hold!(
                    here <= 1,
                    OneLink,
                    "host {a} has {here} links to {b} ({:?})",
                    self.hosts[a].links
                );
                hold!(
                    here == there,
                    OneLink,
                    "host {a} has {here} links to {b}, which has {there} to it"
                );
                let current = self.model.lives.current(b);
                let right = self.hosts[a].links.values().all(|(other, _)| {
                    let other = life_of(*other);
                    self.model.lives.is_alive(other)
                });
                hold!(
                    right,
                    OneLink,
                    "{life:?} has a link to a life that ended: {:?}",
                    self.hosts[a].links
                );
                let both = [a, b]
                    .iter()
                    .all(|at| self.hosts[*at].plan.topology == Topology::FullMesh);
                hold!(
                    !both || current.is_none() || here == 1,
                    Whole,
                    "hosts {a} and {b} have no link: {:?}",
                    self.status(a, b)
                );
                let told = self.status(a, b).map(|status| status.0);
                hold!(
                    here == usize::from(told == Some(PeerState::Linked)),
                    OneLink,
                    "host {a} says of {b}: {told:?}, and has {here} links to it"
                );
            }
        }
        Ok(())
    }

    fn list_peers(&mut self, at: usize) -> Checked {
        let (now, client, id) = (self.now, self.hosts[at].worker, self.new_id());
        if let Some(mesh) = &mut self.hosts[at].mesh {
            mesh.handle_command(now, client, Command::ListPeers { id });
        }
        self.pump(at)
    }

    fn status(&self, at: usize, of: usize) -> Option<(PeerState, &str)> {
        let name = name_of(of);
        let peer = self.hosts[at]
            .told
            .peers
            .iter()
            .find(|peer| peer.agent == name)?;
        Some((peer.state, &peer.reason))
    }

    /// Sends, calls and pings between all pairs that live.
    pub(super) fn try_every_pair(&mut self) {
        let living: Vec<usize> = (0..self.hosts.len())
            .filter(|at| self.hosts[*at].mesh.is_some())
            .collect();
        for &a in &living {
            for &b in living.iter().filter(|b| **b != a) {
                // Calls share their window with messages of their class.
                let life = self.model.lives.current(a);
                if life.is_some_and(|life| self.model.letters.may_block(life, b, Class::Tasks)) {
                    continue;
                }
                let calls = self.call(a, b, Skill::Fast, (ANSWER_BOUND, false), 100);
                self.health.calls.extend(calls);
                let mute = self.call(a, b, Skill::Mute, (REST, false), 10);
                self.health.mute.extend(mute.map(|id| (a, id)));
                let ping = self.ask(a, ANSWER_BOUND, |id| Command::Ping {
                    id,
                    to: name_of(b),
                    timeout: ANSWER_BOUND,
                });
                self.health.pings.extend(ping);
                for class in [Class::Control, Class::Tasks, Class::Bulk] {
                    let sent = self.send(a, b, (class, 20_000), REST, Priority::Normal);
                    if self.reads(b) {
                        self.health.letters.extend(sent);
                    }
                }
            }
        }
    }

    /// Withdraws the calls that nobody answers.
    pub(super) fn cancel_some(&mut self) {
        for (from, id) in std::mem::take(&mut self.health.mute) {
            self.health.calls.push(id);
            self.cancel(from, id);
        }
    }

    /// All that was tried must have worked, and nothing may be left over.
    pub(super) fn check_end(&mut self) -> Checked {
        self.check_accounts()?;
        self.check_links()?;
        for id in &self.health.calls {
            let cancelled = self.model.calls.skill_of(id) == Some(Skill::Mute);
            let ending = self.model.calls.ending_of(id);
            hold!(
                cancelled || ending == Some(None),
                Responsive,
                "{id} between healthy hosts ended as {ending:?}"
            );
            hold!(
                !cancelled || self.model.calls.was_entered(id),
                Responsive,
                "{id} between healthy hosts entered no handler"
            );
            hold!(
                !self.model.calls.is_worked_on(id, &self.model.lives),
                CancelArrives,
                "the handler of {id} was not told that it is cancelled"
            );
        }
        for id in &self.health.letters {
            hold!(
                self.model.letters.is_delivered(id),
                Responsive,
                "{id} between healthy hosts was not delivered"
            );
        }
        for id in &self.health.pings {
            hold!(
                self.model.waits.is_good(id),
                Responsive,
                "ping {id} between healthy hosts failed"
            );
        }
        self.check_drained()
    }

    /// Where nothing is open, nothing is kept.
    fn check_drained(&self) -> Checked {
        if self.hosts.iter().any(|host| host.gone) || self.model.calls.has_open(&self.model.lives) {
            return Ok(());
        }
        for (at, host) in self.hosts.iter().enumerate() {
            let (Some(mesh), Some(life)) = (&host.mesh, self.model.lives.current(at)) else {
                continue;
            };
            let (out, inn) = mesh.backlog();
            hold!(
                out == 0 || self.model.letters.has_open(life),
                Drained,
                "host {at} keeps {out} bytes for peers that have everything"
            );
            let idle =
                self.reads(at) && !self.model.letters.has_open_to(at) && host.in_hand.is_empty();
            hold!(
                inn == 0 || !idle,
                Drained,
                "host {at} keeps {inn} bytes for an application that has everything"
            );
            hold!(
                host.links
                    .keys()
                    .all(|link| self.net.room(node_of(life), *link) > 0),
                Drained,
                "a link of host {at} is full and idle"
            );
        }
        Ok(())
    }
}
