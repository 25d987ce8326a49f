//! The registry: the real rules, with connections in virtual time around them.
//!
//! Each connection is a stream in both directions, as TCP's: in order, whole,
//! until it breaks. Only signals may be lost, doubled or held up on top of
//! that: the registry need not be trusted with them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use waymesh_core::app::RegistryCommand;
use waymesh_core::registry::{ConnId, Effect, Registry, StoreTicket, StoredAgent, VerifiedLogin};
use waymesh_proto::control::{ClientMessage, InstanceId, ServerMessage};
use waymesh_proto::ids::{MeshId, Name};
use waymesh_proto::signaling::{SignalBody, SignedSignal};

use super::host::{id_of, incarnation_of, name_of};
use super::model::Life;
use super::{Due, World};

/// How long a name takes to become durable.
const STORE_TAKES: Duration = Duration::from_millis(2);

/// Offers that are kept to be replayed.
const OFFERS_KEPT: usize = 64;

/// The way from a host to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Works.
    Open,
    /// Connections break and are refused.
    Refused,
    /// Everything waits and nobody is told.
    Silent,
}

/// What happens to signals on top of what happens to connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalWeather {
    /// Signals lost in a thousand.
    pub loss_per_mille: u32,
    /// Signals that come twice, in a thousand.
    pub twice_per_mille: u32,
    /// Up to this much is added to each: later ones overtake it.
    pub jitter: Duration,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) life: Life,
    /// The life of the registry that it was made to.
    epoch: u32,
    open_at_rules: bool,
    last_up: Instant,
    last_down: Instant,
    waiting_up: VecDeque<Up>,
    pub(super) waiting_down: VecDeque<Down>,
}

/// From a node to the registry.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all that is sent are messages"
)]
pub(super) enum Up {
    Open,
    Login,
    Message(ClientMessage),
    Pong,
    Closed,
}

/// From the registry to a node.
#[derive(Debug, Clone)]
pub(super) enum Down {
    Welcome,
    Message(ServerMessage),
    Ping,
    Closed,
}

/// The registry and everybody's connections to it.
#[derive(Debug)]
pub struct Office {
    pub(super) rules: Registry,
    pub(super) up: bool,
    pub(super) signals: SignalWeather,
    epoch: u32,
    stored: BTreeMap<Name, StoredAgent>,
    pub(super) conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    delay: Duration,
    offers: VecDeque<(usize, Name, SignedSignal)>,
}

impl Office {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            rules: Registry::new([]),
            up: true,
            signals: SignalWeather::default(),
            epoch: 0,
            stored: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            delay,
            offers: VecDeque::new(),
        }
    }

    /// A connection of a node begins; the rules hear of it when it arrives.
    pub(super) fn open(&mut self, now: Instant, life: Life) -> u64 {
        let number = self.next_conn;
        self.next_conn += 1;
        let conn = Conn {
            life,
            epoch: self.epoch,
            open_at_rules: false,
            last_up: now,
            last_down: now,
            waiting_up: VecDeque::new(),
            waiting_down: VecDeque::new(),
        };
        self.conns.insert(number, conn);
        number
    }

    /// Keeps an offer, so that it can be replayed.
    pub(super) fn keep_offer(&mut self, to: usize, from_name: Name, signal: SignedSignal) {
        if self.offers.len() == OFFERS_KEPT {
            self.offers.pop_front();
        }
        self.offers.push_back((to, from_name, signal));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.rules
            .poll_timeout()
            .filter(|_| self.up)
            .map(|(at, _)| at)
    }
}

impl World {
    /// Core wants something of the registry.
    pub(super) fn tell_registry(&mut self, life: Life, command: RegistryCommand) {
        let message = match command {
            RegistryCommand::Skills(skills) => ClientMessage::Skills { skills },
            RegistryCommand::Resolve { name } => ClientMessage::Resolve { name },
            RegistryCommand::WatchAll => ClientMessage::WatchAll,
            RegistryCommand::Find { id, name, skill } => ClientMessage::Find { id, name, skill },
            RegistryCommand::Signal {
                to,
                to_incarnation,
                session,
                seq,
                signal,
            } => {
                let body = SignalBody {
                    mesh: MeshId::from_bytes([0; 16]),
                    from: id_of(life.host),
                    from_incarnation: incarnation_of(life.number),
                    to,
                    to_incarnation,
                    session,
                    seq,
                    issued_ms: 0,
                    signal,
                };
                let body = serde_json::to_string(&body).expect("a signal has string keys only");
                ClientMessage::Signal {
                    signal: SignedSignal {
                        body,
                        sig: String::new(),
                    },
                }
            }
        };
        let session = &self.hosts[life.host].session;
        if let Some(conn) = session.conn.filter(|_| session.connected) {
            self.send_up(conn, Up::Message(message));
        }
    }

    pub(super) fn send_up(&mut self, number: u64, up: Up) {
        let delay = self.office.delay + self.dice.below(self.office.delay);
        if let Some(conn) = self.office.conns.get_mut(&number) {
            let at = conn.last_up.max(self.now + delay);
            conn.last_up = at;
            self.later(at, Due::Up { conn: number, up });
        }
    }

    fn send_down(&mut self, number: u64, down: Down) {
        let delay = self.office.delay + self.dice.below(self.office.delay);
        let is_signal = matches!(down, Down::Message(ServerMessage::Signal { .. }));
        let signals = self.office.signals;
        if is_signal && self.dice.one_of_thousand(signals.loss_per_mille) {
            return;
        }
        let copies = 1 + u32::from(is_signal && self.dice.one_of_thousand(signals.twice_per_mille));
        for _ in 0..copies {
            let jitter = if is_signal {
                self.dice.below(signals.jitter)
            } else {
                Duration::ZERO
            };
            if let Some(conn) = self.office.conns.get_mut(&number) {
                let at = conn.last_down.max(self.now + delay);
                conn.last_down = at;
                self.later(
                    at + jitter,
                    Due::Down {
                        conn: number,
                        down: down.clone(),
                    },
                );
            }
        }
    }

    /// Something of a node arrives at the registry.
    pub(super) fn land_up(&mut self, number: u64, up: Up) {
        let now = self.now;
        let Some(conn) = self.office.conns.get_mut(&number) else {
            return;
        };
        let (life, id) = (conn.life, ConnId(number));
        // A dead host's bytes are on their way already; a living one's way may be cut.
        if self.hosts[life.host].way == Way::Silent && !matches!(up, Up::Closed)
            || !conn.waiting_up.is_empty()
        {
            conn.waiting_up.push_back(up);
            return;
        }
        if conn.epoch != self.office.epoch || !self.office.up {
            return self.send_down(number, Down::Closed);
        }
        let opens = matches!(up, Up::Open);
        if opens == conn.open_at_rules {
            // Bytes for a connection that the rules have closed: TCP resets it.
            return self.send_down(number, Down::Closed);
        }
        let rules = &mut self.office.rules;
        match up {
            Up::Open => {
                conn.open_at_rules = true;
                rules.handle_connected(now, id);
            }
            Up::Login => {
                let login = VerifiedLogin {
                    name: name_of(life.host),
                    agent_id: id_of(life.host),
                    incarnation: incarnation_of(life.number),
                    instance: InstanceId::from_bytes(u128::from(life.number).to_be_bytes()),
                };
                rules.handle_login(now, id, login);
            }
            Up::Message(message) => rules.handle_message(now, id, message),
            Up::Pong => rules.handle_heard(now, id),
            Up::Closed => {
                conn.open_at_rules = false;
                rules.handle_closed(id);
            }
        }
    }

    /// Carries out what the rules want.
    pub(super) fn carry_registry(&mut self) {
        while let Some(effect) = self.office.rules.poll_effect() {
            match effect {
                Effect::Send { to, message } => {
                    for conn in to {
                        self.send_down(conn.0, Down::Message(message.clone()));
                    }
                }
                Effect::Relay { to, signal, .. } => self.send_down(to.0, Down::Message(signal)),
                Effect::AwaitRoom { conn } => self.office.rules.handle_room(conn),
                Effect::Welcome { conn } => self.send_down(conn.0, Down::Welcome),
                Effect::Ping { conn } => self.send_down(conn.0, Down::Ping),
                Effect::Close { conn, .. } => {
                    if let Some(conn) = self.office.conns.get_mut(&conn.0) {
                        conn.open_at_rules = false;
                    }
                    self.send_down(conn.0, Down::Closed);
                }
                Effect::Store { agent, ticket } => {
                    self.office.stored.insert(agent.name.clone(), agent);
                    if let Some(ticket) = ticket {
                        let epoch = self.office.epoch;
                        self.later(self.now + STORE_TAKES, Due::Stored { epoch, ticket });
                    }
                }
            }
        }
    }

    pub(super) fn land_stored(&mut self, epoch: u32, ticket: StoreTicket) {
        if self.office.epoch == epoch && self.office.up {
            self.office.rules.handle_stored(self.now, ticket, Ok(()));
        }
    }

    /// A malicious registry passes an old offer on once more.
    pub(super) fn replay_offer(&mut self, at: usize) {
        let kept: Vec<_> = self
            .office
            .offers
            .iter()
            .filter(|(to, ..)| *to == at)
            .cloned()
            .collect();
        let Some(life) = self.model.lives.current(at) else {
            return;
        };
        if !kept.is_empty() && self.hosts[at].session.connected {
            let (_, from_name, signal) = self.dice.pick(&kept).clone();
            self.hear_signal(life, from_name, signal);
        }
    }

    /// The registry's process dies.
    pub(super) fn stop_registry(&mut self) {
        if !std::mem::take(&mut self.office.up) {
            return;
        }
        self.office.epoch += 1;
        let conns: Vec<u64> = self.office.conns.keys().copied().collect();
        for conn in conns {
            self.send_down(conn, Down::Closed);
        }
    }

    /// The registry comes back with what it had stored; nobody is there.
    pub(super) fn start_registry(&mut self) {
        if !self.office.up {
            self.office.up = true;
            self.office.rules = Registry::new(self.office.stored.values().cloned());
        }
    }

    /// Changes the way from a host to the registry.
    pub(super) fn set_way(&mut self, at: usize, way: Way) {
        self.hosts[at].way = way;
        let conns: Vec<u64> = self
            .office
            .conns
            .iter()
            .filter(|(_, c)| c.life.host == at)
            .map(|(n, _)| *n)
            .collect();
        for number in conns {
            match way {
                Way::Silent => {}
                Way::Refused => {
                    self.send_up(number, Up::Closed);
                    self.send_down(number, Down::Closed);
                }
                Way::Open => {
                    let Some(conn) = self.office.conns.get_mut(&number) else {
                        continue;
                    };
                    let (ups, downs) = (
                        std::mem::take(&mut conn.waiting_up),
                        std::mem::take(&mut conn.waiting_down),
                    );
                    for up in ups {
                        self.send_up(number, up);
                    }
                    for down in downs {
                        self.send_down(number, down);
                    }
                }
            }
        }
    }
}
