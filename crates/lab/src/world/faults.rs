//! What goes wrong, and how it becomes well again.

use std::time::Duration;

use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::LinkEvent;

use crate::dice::Dice;
use crate::fake_link::Weather;

use super::disk::COMMIT_TAKES;
use super::host::{life_of, node_of};
use super::model::Life;
use super::registry::{SignalWeather, Way};
use super::schedule::{Flavor, Reading};
use super::{Due, World};

/// A stopping node's sockets live this long after its goodbye.
const LINGER: Duration = Duration::from_millis(50);

/// Longer than any schedule's trouble.
const ABSENCE: Duration = Duration::from_secs(60);

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Signals are lost, doubled and overtake each other.
    Signals(SignalWeather, Duration),
    /// The registry's process dies and is away so long.
    RegistryRestart(Duration),
    /// A host's way to the registry is cut.
    RegistryWay(usize, Way, Duration),
    /// An old offer comes again.
    Replay(usize),
    /// A link breaks and both ends hear of it.
    Kill(usize, usize),
    /// A link breaks without a word.
    Vanish(usize, usize),
    /// Nothing passes between two hosts.
    Partition(usize, usize, Duration),
    /// Nothing passes in one direction.
    OneWay(usize, usize, Duration),
    /// The network's conditions change.
    Weather(Weather, Duration),
    /// A host's links take only so many bytes.
    Choke(usize, usize, Duration),
    /// Something that is no frame arrives on a link.
    Garbage(usize, u64),
    /// A node is killed, and started again after so long; the registry hears of it or not.
    Crash(usize, Duration, bool),
    /// A node stops with a goodbye and is started again after so long.
    Stop(usize, Duration),
    /// A node is killed twice, with so little time between.
    Twice(usize, Duration),
    /// A node stops or is killed and never comes back.
    Leave(usize, bool),
    /// A host is away until everything is well again.
    Absence(usize),
    /// The registry's disk takes so long for a batch.
    SlowDisk(Duration, Duration),
    /// The registry's disk is full.
    FullDisk(Duration),
    /// The authority revokes a host.
    Revoke(usize),
    /// A host is moved to another network: its links are dead, and it notices.
    Move(usize),
    /// What goes over the relay vanishes.
    RelayDeath,
}

impl Fault {
    /// Draws a fault that fits the flavor.
    pub fn draw(dice: &mut Dice, flavor: Flavor, hosts: usize, lasts: Duration) -> Self {
        let a = dice.number_below(hosts as u64) as usize;
        let b = (a + 1 + dice.number_below(hosts as u64 - 1) as usize) % hosts;
        let kinds = match flavor {
            Flavor::Calm | Flavor::RegistryTrouble => 8,
            Flavor::LinkTrouble => 17,
            Flavor::Mixed | Flavor::MailOnly | Flavor::Hostile => 27,
        };
        let ms = Duration::from_millis;
        if !flavor.is_gentle() && dice.one_of_thousand(150) {
            return if dice.one_of_thousand(700) {
                Self::Move(a)
            } else {
                Self::RelayDeath
            };
        }
        match dice.number_below(kinds) {
            5 => Self::SlowDisk(ms(dice.between(5, 900)), lasts),
            6 => Self::FullDisk(lasts),
            7 => Self::RegistryRestart(ms(dice.number_below(200))),
            24 | 25 => Self::Absence(a),
            26 => Self::Revoke(a),
            0 => Self::Signals(signals(dice), lasts),
            1 => Self::RegistryRestart(lasts),
            2 => Self::RegistryWay(a, Way::Refused, lasts),
            3 => Self::RegistryWay(a, Way::Silent, lasts * 3),
            4 => Self::Replay(a),
            8 | 9 => Self::Kill(a, b),
            10 => Self::Vanish(a, b),
            11 => Self::Partition(a, b, lasts),
            12 => Self::OneWay(a, b, lasts),
            13 | 14 => Self::Weather(storm(dice), lasts),
            15 => Self::Choke(a, dice.number_below(20_000) as usize, lasts),
            16 => Self::Garbage(a, dice.roll()),
            17 | 18 => Self::Crash(a, lasts / 2, dice.one_of_thousand(500)),
            19 => Self::Crash(
                a,
                Duration::from_millis(dice.number_below(300)),
                dice.one_of_thousand(500),
            ),
            20 => Self::Stop(a, lasts / 2),
            21 | 22 => Self::Twice(a, Duration::from_millis(dice.number_below(400))),
            _ => Self::Leave(a, dice.one_of_thousand(500)),
        }
    }
}

fn signals(dice: &mut Dice) -> SignalWeather {
    SignalWeather {
        loss_per_mille: *dice.pick(&[0, 100, 400]),
        twice_per_mille: *dice.pick(&[0, 200, 600]),
        jitter: Duration::from_millis(*dice.pick(&[0, 30, 500])),
    }
}

fn storm(dice: &mut Dice) -> Weather {
    Weather {
        delay: Duration::from_millis(*dice.pick(&[1, 50, 400])),
        jitter: Duration::from_millis(*dice.pick(&[0, 10, 200])),
        loss_per_mille: *dice.pick(&[0, 50, 300]),
        bytes_per_second: *dice.pick(&[100_000_000, 100_000, 20_000]),
        window_bytes: *dice.pick(&[64 * 1024, 17 * 1024]),
    }
}

impl World {
    /// Lets something go wrong.
    pub(super) fn strike(&mut self, fault: &Fault) {
        self.trace
            .note(self.now - self.start, || format!("fault {fault:?}"));
        self.counts.faults += 1;
        let lasts = match fault {
            Fault::Signals(weather, lasts) => {
                self.office.signals = *weather;
                *lasts
            }
            Fault::RegistryRestart(lasts) => {
                self.stop_registry();
                *lasts
            }
            Fault::RegistryWay(at, way, lasts) => {
                self.set_way(*at, *way);
                *lasts
            }
            Fault::Partition(a, b, lasts) => {
                self.cut.insert((*a, *b));
                self.cut.insert((*b, *a));
                self.apply_cuts();
                *lasts
            }
            Fault::OneWay(a, b, lasts) => {
                self.cut.insert((*a, *b));
                self.apply_cuts();
                *lasts
            }
            Fault::Weather(weather, lasts) => {
                self.net.set_weather(*weather);
                *lasts
            }
            Fault::Choke(at, bytes, lasts) => {
                self.hosts[*at].choke = Some(*bytes);
                *lasts
            }
            Fault::Crash(at, away, notices) => {
                self.crash(*at, *away, *notices);
                return;
            }
            Fault::Stop(at, away) => {
                self.stop(*at);
                self.later(self.now + *away, Due::Start(*at));
                return;
            }
            Fault::Twice(at, pause) => {
                self.crash(*at, *pause, false);
                self.later(
                    self.now + *pause * 2,
                    Due::Fault(Fault::Crash(*at, *pause, false)),
                );
                return;
            }
            Fault::Leave(at, politely) => {
                self.leave(*at, *politely);
                return;
            }
            Fault::SlowDisk(takes, lasts) => {
                self.office.disk.takes = *takes;
                *lasts
            }
            Fault::FullDisk(lasts) => {
                self.counts.full_disks += 1;
                self.office.disk.is_full = true;
                *lasts
            }
            Fault::Absence(at) => {
                self.counts.absences += 1;
                self.crash(*at, ABSENCE, true);
                return;
            }
            Fault::Revoke(at) => {
                self.strike_off(*at);
                return;
            }
            Fault::Replay(at) => {
                self.replay_offer(*at);
                return;
            }
            Fault::Kill(a, b) => {
                self.each_link(*a, *b, |world, life, link| {
                    world.net.kill(world.now, node_of(life), link)
                });
                return;
            }
            Fault::Vanish(a, b) => {
                self.each_link(*a, *b, |world, life, link| {
                    world.net.vanish(node_of(life), link)
                });
                return;
            }
            Fault::Move(at) => {
                self.move_host(*at);
                return;
            }
            Fault::RelayDeath => {
                self.net.kill_relay();
                return;
            }
            Fault::Garbage(at, luck) => {
                self.garbage(*at, *luck);
                return;
            }
        };
        self.later(self.now + lasts, Due::Undo(fault.clone()));
    }

    /// Ends what a fault did, if it lasts.
    pub(super) fn undo(&mut self, fault: &Fault) {
        self.trace
            .note(self.now - self.start, || format!("over: {fault:?}"));
        match fault {
            Fault::Signals(..) => self.office.signals = SignalWeather::default(),
            Fault::RegistryRestart(_) => self.start_registry(),
            Fault::RegistryWay(at, ..) => self.set_way(*at, Way::Open),
            Fault::Partition(a, b, _) => {
                self.cut.remove(&(*a, *b));
                self.cut.remove(&(*b, *a));
                self.apply_cuts();
            }
            Fault::OneWay(a, b, _) => {
                self.cut.remove(&(*a, *b));
                self.apply_cuts();
            }
            Fault::Weather(..) => self.net.set_weather(self.plan.weather),
            Fault::Choke(at, ..) => self.unchoke(*at),
            Fault::SlowDisk(..) => self.office.disk.takes = COMMIT_TAKES,
            Fault::FullDisk(_) => self.office.disk.is_full = false,
            _ => {}
        }
    }

    fn crash(&mut self, at: usize, away: Duration, notices: bool) {
        if self.hosts[at].mesh.is_some() {
            self.hosts[at].skills_came_and_went = true;
            self.abandon_session(at, notices);
            self.kill_node(at);
            self.later(self.now + away, Due::Start(at));
        }
    }

    fn stop(&mut self, at: usize) {
        let Some(life) = self.model.lives.current(at) else {
            return;
        };
        self.hosts[at].skills_came_and_went = true;
        self.hosts[at].marks.close();
        let goodbyes = self.hosts[at]
            .mesh
            .as_mut()
            .map(waymesh_core::Mesh::goodbyes);
        for (link, frame) in goodbyes.unwrap_or_default() {
            // A full link does not take it: the peer finds out by itself.
            let _ = self
                .net
                .send(self.now, node_of(life), link, Class::Tasks, &frame);
        }
        self.abandon_session(at, true);
        self.forget_node(at);
        self.later(self.now + LINGER, Due::Vacate(life));
    }

    fn leave(&mut self, at: usize, politely: bool) {
        // Two must stay, or there is nothing to see.
        let staying = self.hosts.iter().filter(|host| !host.gone).count();
        if staying <= 2 || self.hosts[at].mesh.is_none() {
            return;
        }
        self.hosts[at].gone = true;
        if politely {
            self.stop(at);
        } else {
            self.crash(at, Duration::ZERO, false);
        }
    }

    /// The authority revokes a host, unless too few would be left.
    fn strike_off(&mut self, at: usize) {
        let members = &self.model.members;
        let staying = (0..self.hosts.len())
            .filter(|host| !self.hosts[*host].gone && !members.is_out(*host))
            .count();
        if staying <= 2 || members.is_revoked(at) {
            return;
        }
        self.counts.revoked += 1;
        self.model.members.handle_revoked(at);
        self.revoke(at);
    }

    fn each_link(&mut self, a: usize, b: usize, act: impl Fn(&mut Self, Life, LinkId)) {
        let Some(life) = self.model.lives.current(a) else {
            return;
        };
        let links = self.hosts[a]
            .links
            .iter()
            .filter(|(_, (other, _))| life_of(*other).host == b);
        let links: Vec<LinkId> = links.map(|(link, _)| *link).collect();
        for link in links {
            act(self, life, link);
        }
    }

    fn move_host(&mut self, at: usize) {
        let Some(life) = self.model.lives.current(at) else {
            return;
        };
        self.counts.moves += 1;
        for link in self.net.links(node_of(life)) {
            self.net.vanish(node_of(life), link);
        }
        let now = self.now;
        self.hosts[at].shaken = Some(now);
        if let Some(mesh) = &mut self.hosts[at].mesh {
            mesh.handle_network_change(now);
        }
    }

    fn garbage(&mut self, at: usize, luck: u64) {
        let links: Vec<LinkId> = self.hosts[at].links.keys().copied().collect();
        if links.is_empty() {
            return;
        }
        let mut dice = Dice::new(luck);
        let link = *dice.pick(&links);
        let class = *dice.pick(&Class::ALL);
        let len = dice.number_below(40) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| dice.roll() as u8).collect();
        // A version that does not exist, or a section that does not.
        bytes.insert(0, *dice.pick(&[0, 2, 255]));
        if dice.one_of_thousand(500) {
            bytes.splice(0..1, [1, 200]);
        }
        let now = self.now;
        self.hosts[at].garbage += 1;
        if let Some(mesh) = &mut self.hosts[at].mesh {
            mesh.handle_link(now, LinkEvent::Frame { link, class, bytes });
        }
    }

    fn unchoke(&mut self, at: usize) {
        if self.hosts[at].choke.take().is_none() {
            return;
        }
        let now = self.now;
        let host = &mut self.hosts[at];
        if let Some(mesh) = &mut host.mesh {
            for link in host.links.keys() {
                mesh.handle_link(now, LinkEvent::Writable { link: *link });
            }
        }
    }

    /// Tells the network which hosts do not reach which.
    pub(super) fn apply_cuts(&mut self) {
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                let nodes = |host: usize, life: u32| node_of(Life { host, number: life });
                let (x, y) = (nodes(a, self.hosts[a].life), nodes(b, self.hosts[b].life));
                if self.cut.contains(&(a, b)) {
                    self.net.cut_one_way(x, y);
                } else {
                    self.net.heal_one_way(x, y);
                }
            }
        }
    }

    /// The sockets of a life that ended are gone.
    pub(super) fn vacate(&mut self, life: Life) {
        self.net.crash(self.now, node_of(life));
    }

    /// Makes everything well again; from here on the world must come to rest.
    pub(super) fn heal(&mut self) {
        self.trace.note(self.now - self.start, || {
            "everything is well from now on".into()
        });
        self.cut.clear();
        self.apply_cuts();
        self.net.set_weather(Weather {
            loss_per_mille: 0,
            bytes_per_second: 10_000_000,
            ..Weather::default()
        });
        self.net.set_relayed(0);
        self.office.signals = SignalWeather::default();
        self.office.disk.takes = COMMIT_TAKES;
        self.office.disk.is_full = false;
        if let Some(hostile) = &mut self.office.hostile {
            // From now on an honest registry runs on what the other one has stored.
            hostile.is_acting = false;
            self.stop_registry();
        }
        self.start_registry();
        self.repeat_orders();
        for at in 0..self.hosts.len() {
            self.set_way(at, Way::Open);
            self.unchoke(at);
            // Smaller windows than today's may have left a sender waiting.
            self.wake_links(at);
            self.start_node(at);
            self.reader_comes(at);
            self.server_comes(at);
            self.read_all(at);
        }
    }

    fn wake_links(&mut self, at: usize) {
        self.hosts[at].choke = Some(0);
        self.unchoke(at);
    }

    fn read_all(&mut self, at: usize) {
        if self.hosts[at].reading == Reading::Never {
            return;
        }
        self.hosts[at].reading = Reading::Prompt;
        let (Some(life), Some(client)) = (self.model.lives.current(at), self.hosts[at].reader)
        else {
            return;
        };
        let in_hand: Vec<_> = self.hosts[at].in_hand.keys().copied().collect();
        for inbound in in_hand {
            self.acknowledge(life, client, inbound);
        }
    }
}
