//! The registry: the real rules, with connections and a disk in virtual time
//! around them.
//!
//! Each connection is a stream in both directions, as TCP's: in order, whole,
//! until it breaks. Only signals may be lost, doubled or held up on top of
//! that: the registry need not be trusted with them. What else a registry may
//! do that is not honest is in [`super::hostile`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waymesh_core::app::RegistryCommand;
use waymesh_core::registry::{
    ConnId, Effect, Extended, MailboxLevel, Order, OrderTicket, PUSH_WINDOW_BYTES,
    PUSH_WINDOW_ITEMS, Registry, Revoked, StoredRevocation, VerifiedLogin, Write,
};
use waymesh_proto::control::{ClientMessage, InstanceId, MeshKey, ServerMessage};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, ItemId, MeshId};
use waymesh_proto::mailbox::{Item, ItemHeader, Note};
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::signaling::{SignalBody, SignedSignal};

use super::disk::{Disk, Done, Job};
use super::host::{host_of, id_of, incarnation_of, name_of};
use super::hostile::Hostile;
use super::mailroom::settlement;
use super::model::Life;
use super::papers;
use super::report::{Checked, Invariant, Violation, hold};
use super::{Due, World};

/// Where every node of the world connects from.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The mesh of the world.
const MESH: MeshKey = MeshKey::from_bytes([5; 32]);

/// How long the registry may extend certificates, in the words of its rules.
const DAY: Duration = Duration::from_secs(24 * 3_600);

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
    /// Items that were pushed and not answered, and their sizes.
    unanswered: BTreeMap<(AgentId, ItemId), usize>,
}

/// From a node to the registry.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all that is sent are messages"
)]
pub(super) enum Up {
    Open,
    Login(Certificate, SealingStatement),
    Message(ClientMessage),
    Post(Arc<Item>),
    Pong,
    Closed,
}

/// From the registry to a node.
#[derive(Debug, Clone)]
pub(super) enum Down {
    Welcome,
    Message(ServerMessage),
    Push(Note, Arc<Item>),
    Ping,
    Closed,
}

/// The registry and everybody's connections to it.
#[derive(Debug)]
pub struct Office {
    pub(super) rules: Registry,
    pub(super) disk: Disk,
    pub(super) up: bool,
    pub(super) signals: SignalWeather,
    /// What it does that is not honest, if it is not.
    pub(super) hostile: Option<Hostile>,
    epoch: u32,
    pub(super) conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    delay: Duration,
    offers: VecDeque<(usize, SignedSignal)>,
    /// Revocations that an admin has made while it was away.
    orders: Vec<usize>,
}

impl Office {
    pub(super) fn new(delay: Duration, hostile: Option<Hostile>) -> Self {
        let disk = Disk::new(MESH);
        Self {
            rules: Registry::new(disk.load(super::beginning())),
            disk,
            up: true,
            signals: SignalWeather::default(),
            hostile,
            epoch: 0,
            conns: BTreeMap::new(),
            next_conn: 0,
            delay,
            offers: VecDeque::new(),
            orders: Vec::new(),
        }
    }

    /// Whether its word may be false, now or of earlier.
    pub(super) const fn is_hostile(&self) -> bool {
        self.hostile.is_some()
    }

    /// What all mailboxes hold.
    pub(super) fn mailbox_level(&self) -> MailboxLevel {
        self.rules.mailbox_level()
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
            unanswered: BTreeMap::new(),
        };
        self.conns.insert(number, conn);
        number
    }

    /// Keeps an offer, so that it can be replayed.
    pub(super) fn keep_offer(&mut self, to: usize, signal: SignedSignal) {
        if self.offers.len() == OFFERS_KEPT {
            self.offers.pop_front();
        }
        self.offers.push_back((to, signal));
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
    pub(super) fn tell_registry(&mut self, life: Life, command: RegistryCommand) -> Checked {
        let message = match command {
            RegistryCommand::Skills(skills) => ClientMessage::Skills { skills },
            RegistryCommand::Resolve { name } => {
                self.tell_introduced(life, &name);
                ClientMessage::Resolve { name }
            }
            RegistryCommand::WatchAll => ClientMessage::WatchAll,
            RegistryCommand::Find { id, name, skill } => ClientMessage::Find { id, name, skill },
            RegistryCommand::Post(post) => return self.post(life, post),
            RegistryCommand::Settle {
                item,
                from,
                outcome,
                mark,
            } => {
                self.settle(life.host, settlement(item, from, outcome), mark);
                return Ok(());
            }
            RegistryCommand::Mark(mark) => {
                self.keep_mark(life.host, mark);
                return Ok(());
            }
            RegistryCommand::Resume => {
                // What was put off is told to have been before it may come again.
                self.tell_settled(life);
                ClientMessage::Resume
            }
            RegistryCommand::Withdraw { item } => self.withdraw(life.host, item),
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
                    issued_ms: self.papers.clock_ms(self.now, life.host),
                    signal,
                };
                let body = serde_json::to_string(&body).expect("a signal has string keys only");
                ClientMessage::Signal {
                    signal: SignedSignal {
                        body,
                        sig: String::new(),
                        cert: self.hosts[life.host].certificate.clone(),
                    },
                }
            }
        };
        let session = &self.hosts[life.host].session;
        if let Some(conn) = session.conn.filter(|_| session.connected) {
            self.send_up(conn, Up::Message(message));
        }
        Ok(())
    }

    pub(super) fn send_up(&mut self, number: u64, up: Up) {
        let delay = self.office.delay + self.dice.below(self.office.delay);
        if let Some(conn) = self.office.conns.get_mut(&number) {
            let at = conn.last_up.max(self.now + delay);
            conn.last_up = at;
            self.later(at, Due::Up { conn: number, up });
        }
    }

    /// The registry says something to a node, or something else if it is hostile.
    pub(super) fn send_down(&mut self, number: u64, down: Down) {
        match self.distort(number, down) {
            Ok(down) => self.send_honestly(number, down),
            Err(others) => {
                for (conn, late, down) in others {
                    if late.is_zero() {
                        self.send_honestly(conn, down);
                    } else {
                        self.later(self.now + late, Due::Down { conn, down });
                    }
                }
            }
        }
    }

    fn send_honestly(&mut self, number: u64, down: Down) {
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
                rules.handle_connected(now, id, ADDRESS);
            }
            Up::Login(certificate, sealing) => self.let_in(life, id, certificate, sealing),
            Up::Message(message) => {
                if let ClientMessage::Settled { items } = &message {
                    for settle in items {
                        conn.unanswered.remove(&(settle.from, settle.item));
                    }
                }
                rules.handle_message(now, id, message);
            }
            Up::Post(item) => {
                if !self.swallow(number, &item) {
                    self.office.rules.handle_post(now, id, item);
                }
            }
            Up::Pong => rules.handle_heard(now, id),
            Up::Closed => {
                conn.open_at_rules = false;
                rules.handle_closed(id);
            }
        }
    }

    /// What the registry's program does with a login: it checks the papers.
    fn let_in(
        &mut self,
        life: Life,
        conn: ConnId,
        certificate: Certificate,
        sealing: SealingStatement,
    ) {
        let (now, host) = (self.now, life.host);
        let Ok(claims) = self.papers.read(&certificate) else {
            return;
        };
        let clock_ms = self.papers.unix_ms(now);
        let expires = self.papers.ends(now, &claims, clock_ms);
        let renewable = self.papers.extend(now, &certificate).is_some();
        let login = VerifiedLogin {
            name: name_of(host),
            agent_id: id_of(host),
            incarnation: incarnation_of(life.number),
            instance: InstanceId::from_bytes(u128::from(life.number).to_be_bytes()),
            roles: self.papers.roles(host).to_vec(),
            keys: vec![id_of(host)],
            expires,
            renewable_until: Some(if renewable {
                expires + 30 * DAY
            } else {
                expires
            }),
            invite: None,
            certificate,
            sealing,
            introduce: true,
        };
        self.office.rules.handle_login(now, conn, login);
    }

    /// Carries out what the rules want.
    pub(super) fn carry_registry(&mut self) -> Checked {
        while let Some(effect) = self.office.rules.poll_effect() {
            match effect {
                Effect::Send { to, message } => {
                    for conn in to {
                        self.send_down(conn.0, Down::Message(message.clone()));
                    }
                }
                Effect::Relay { to, signal, .. } => self.send_down(to.0, Down::Message(signal)),
                Effect::Push { conn, note, item } => self.push(conn, note, item)?,
                Effect::Forward {
                    to,
                    note,
                    item,
                    from,
                    forwarded,
                    otherwise,
                } => {
                    // The receiver may be behind with reading.
                    if self.dice.one_of_thousand(900) {
                        self.send_down(to.0, Down::Push(note, item));
                        self.send_down(from.0, Down::Message(forwarded));
                    } else {
                        self.send_down(from.0, Down::Message(otherwise));
                    }
                }
                Effect::Introduce { to, message } => {
                    // Who is behind with reading does without.
                    for conn in to {
                        if self.dice.one_of_thousand(900) {
                            self.send_down(conn.0, Down::Message(message.clone()));
                        }
                    }
                }
                Effect::Load { conn, seq } => self.write_to_disk(Job::Load(conn, seq)),
                Effect::AwaitRoom { conn } => self.office.rules.handle_room(conn),
                Effect::Welcome { conn } => self.send_down(conn.0, Down::Welcome),
                Effect::Extend { conn, certificate } => self.extend(conn, &certificate),
                Effect::Ping { conn } => self.send_down(conn.0, Down::Ping),
                Effect::Close { conn, .. } => {
                    if let Some(conn) = self.office.conns.get_mut(&conn.0) {
                        conn.open_at_rules = false;
                    }
                    self.send_down(conn.0, Down::Closed);
                }
                Effect::Store { writes, ticket } => {
                    self.check_forgotten(&writes)?;
                    self.write_to_disk(Job::Write(writes, ticket));
                }
                // The world has no servers.
                Effect::Founded { .. } | Effect::Servers { .. } | Effect::Expelled { .. } => {}
                Effect::Answer { outcome, .. } => {
                    // A full disk may refuse a revocation: the admin tries again.
                    self.counts.orders_failed += u64::from(outcome.is_err());
                }
            }
        }
        Ok(())
    }

    /// The rules never have more pushed and not answered than the window.
    fn push(&mut self, conn: ConnId, note: Note, item: Arc<Item>) -> Checked {
        let number = conn.0;
        if let Some(conn) = self.office.conns.get_mut(&conn.0) {
            let bytes = item.header.len() + item.sealed.len();
            let header = ItemHeader::decode(&item.header);
            if let Ok(ItemHeader { from, item, .. }) = header {
                conn.unanswered.insert((from, item), bytes);
                let key = (host_of(from), item);
                self.model.mails.handle_pushed(key, conn.life, number);
            }
            let all: usize = conn.unanswered.values().sum();
            hold!(
                conn.unanswered.len() <= PUSH_WINDOW_ITEMS
                    && (all <= PUSH_WINDOW_BYTES || conn.unanswered.len() == 1),
                Bounded,
                "{} items of {all} bytes are pushed to {:?} and not answered",
                conn.unanswered.len(),
                conn.life
            );
        }
        self.send_down(conn.0, Down::Push(note, item));
        Ok(())
    }

    fn check_forgotten(&mut self, writes: &[Write]) -> Checked {
        for write in writes {
            match write {
                Write::Item { stored, .. } => {
                    let key = (host_of(stored.header.from), stored.header.item);
                    self.office.disk.name(stored.seq, key);
                }
                Write::ForgetItem { seq, why } => {
                    let Some(key) = self.office.disk.named(*seq) else {
                        continue;
                    };
                    let revoked = &self.model.members;
                    let (now, mails) = (self.now, &mut self.model.mails);
                    mails.handle_gone(now, key, *why, |host| revoked.is_revoked(host))?;
                    self.counts.note_gone(*why);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn extend(&mut self, conn: ConnId, certificate: &Certificate) {
        let now = self.now;
        let Some(extended) = self.papers.extend(now, certificate) else {
            return;
        };
        let Ok(claims) = self.papers.read(&extended) else {
            return;
        };
        let text = extended.as_str().rsplit('~').next().unwrap_or_default();
        let Ok(extension) = text.parse() else {
            return;
        };
        self.counts.extensions += 1;
        let expires = self.papers.ends(now, &claims, self.papers.unix_ms(now));
        let extended = Extended {
            extension,
            certificate: extended,
            expires,
        };
        self.office.rules.handle_extended(now, conn, extended);
    }

    fn write_to_disk(&mut self, job: Job) {
        if self.office.disk.add(job) {
            self.begin_batch();
        }
    }

    fn begin_batch(&mut self) {
        if self.office.disk.begin() {
            let epoch = self.office.epoch;
            let takes = self.office.disk.takes;
            self.later(self.now + takes, Due::Committed { epoch });
        }
    }

    /// The disk is done with a batch.
    pub(super) fn land_batch(&mut self, epoch: u32) {
        if self.office.epoch != epoch || !self.office.up {
            return;
        }
        for done in self.office.disk.finish() {
            self.note_done(&done);
            let now = self.now;
            match done {
                Done::Written(ticket, is_durable) => {
                    let full = || Fault::new(Code::Storage, "the disk is full");
                    self.counts.writes_failed += u64::from(!is_durable);
                    let outcome = is_durable.then_some(()).ok_or_else(full);
                    self.office.rules.handle_stored(now, ticket, outcome);
                }
                Done::Loaded(conn, seq, item) => {
                    self.office.rules.handle_loaded(now, conn, seq, item);
                }
                Done::Durable(_) => {}
            }
        }
        self.begin_batch();
    }

    fn note_done(&mut self, done: &Done) {
        if let Done::Durable(stored) = done {
            let key = (host_of(stored.header.from), stored.header.item);
            self.model.mails.handle_durable(key);
        }
    }

    /// The authority revokes a host, and its admin tells the registry.
    pub(super) fn revoke(&mut self, host: usize) {
        self.papers.revoke(host);
        if self.office.up {
            self.order_revocation(host);
        } else {
            self.office.orders.push(host);
        }
    }

    /// An admin whose orders may have failed gives them again.
    pub(super) fn repeat_orders(&mut self) {
        for host in 0..self.hosts.len() {
            if self.model.members.is_revoked(host) {
                self.order_revocation(host);
            }
        }
    }

    fn order_revocation(&mut self, host: usize) {
        let revocation = StoredRevocation {
            target: Revoked::Member(id_of(host)),
            revocation: papers::revocation(host),
        };
        let ticket = OrderTicket(host as u64);
        let order = Order::Revoke(vec![revocation]);
        self.office.rules.handle_order(self.now, ticket, order, 0);
    }

    /// A malicious registry passes an old offer on once more.
    pub(super) fn replay_offer(&mut self, at: usize) {
        let kept: Vec<_> = self
            .office
            .offers
            .iter()
            .filter(|(to, _)| *to == at)
            .cloned()
            .collect();
        let Some(life) = self.model.lives.current(at) else {
            return;
        };
        if !kept.is_empty() && self.hosts[at].session.connected {
            let (_, signal) = self.dice.pick(&kept).clone();
            self.hear_signal(life, signal);
        }
    }

    /// The registry's process dies.
    pub(super) fn stop_registry(&mut self) {
        if !std::mem::take(&mut self.office.up) {
            return;
        }
        self.office.epoch += 1;
        let whole = self.dice.one_of_thousand(500);
        self.counts.unwritten_lost += self.office.mailbox_level().unwritten as u64;
        for done in self.office.disk.crash(whole) {
            self.note_done(&done);
        }
        let conns: Vec<u64> = self.office.conns.keys().copied().collect();
        for conn in conns {
            self.send_down(conn, Down::Closed);
        }
    }

    /// The registry comes back with what it had stored; nobody is there.
    pub(super) fn start_registry(&mut self) {
        if !self.office.up {
            self.office.up = true;
            self.office.rules = Registry::new(self.office.disk.load(self.now));
            self.counts.registry_lives += 1;
            for host in std::mem::take(&mut self.office.orders) {
                self.order_revocation(host);
            }
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
                    // They arrived before whatever is on its way now.
                    for up in ups {
                        self.later(self.now, Due::Up { conn: number, up });
                    }
                    for down in downs {
                        self.later(self.now, Due::Down { conn: number, down });
                    }
                }
            }
        }
    }
}
