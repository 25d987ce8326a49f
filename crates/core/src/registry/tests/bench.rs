//! The rules with a clock and a disk, and what tests say to them and look for.

use std::net::Ipv4Addr;

use waymesh_proto::MeshId;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};

use super::*;

/// Where all connections come from, unless a test says otherwise.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));

/// The rules with a clock, and a disk that works at once unless told otherwise.
pub(super) struct Bench {
    pub(super) rules: Registry,
    pub(super) now: Instant,
    /// What becomes of what somebody waits for; `None` when it takes its time.
    pub(super) outcome: Option<Result<(), Fault>>,
    pub(super) disk: Disk,
    /// What the disk has not answered yet.
    pub(super) waiting: Vec<(Vec<Write>, Ticket)>,
    /// Items that are to be read; `None` when the disk reads at once.
    pub(super) loads: Option<Vec<(ConnId, ItemSeq)>>,
    pub(super) orders: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Disk::default())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's time has to begin somewhere"
    )]
    pub(super) fn with(disk: Disk) -> Self {
        Self {
            rules: Registry::new(disk.stored()),
            now: Instant::now(),
            outcome: Some(Ok(())),
            disk,
            waiting: Vec::new(),
            loads: None,
            orders: 0,
        }
    }

    /// The registry's process dies and comes back with what the disk has.
    pub(super) fn restart(&mut self) {
        self.waiting.clear();
        self.loads = self.loads.take().map(|_| Vec::new());
        self.rules = Registry::new(self.disk.stored());
    }

    pub(super) fn open(&mut self, conn: u64) {
        self.rules.handle_connected(self.now, ConnId(conn), HERE);
    }

    pub(super) fn connect(&mut self, conn: u64, login: VerifiedLogin) -> Vec<Effect> {
        self.open(conn);
        self.rules.handle_login(self.now, ConnId(conn), login);
        self.effects()
    }

    pub(super) fn say(&mut self, conn: u64, message: ClientMessage) -> Vec<Effect> {
        self.rules.handle_message(self.now, ConnId(conn), message);
        self.effects()
    }

    pub(super) fn close(&mut self, conn: u64) -> Vec<Effect> {
        self.rules.handle_closed(ConnId(conn));
        self.effects()
    }

    /// Lets time pass, waking the rules when they ask for it.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let end = self.now + time;
        let mut effects = Vec::new();
        while let Some((at, _)) = self.rules.poll_timeout().filter(|(at, _)| *at < end) {
            self.now = self.now.max(at);
            self.rules.handle_timeout(self.now);
            effects.extend(self.effects());
        }
        effects.extend(self.stall(end - self.now));
        effects
    }

    /// Lets time pass in which the process stands still.
    pub(super) fn stall(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.rules.handle_timeout(self.now);
        self.effects()
    }

    /// Lets time pass in which every one of these connections is heard.
    pub(super) fn pass_alive(&mut self, time: Duration, conns: &[u64]) -> Vec<Effect> {
        let end = self.now + time;
        let mut effects = Vec::new();
        while self.now < end {
            let step = Duration::from_secs(4).min(end - self.now);
            for conn in conns {
                self.rules.handle_heard(self.now, ConnId(*conn));
            }
            effects.extend(self.pass(step));
        }
        effects
    }

    pub(super) fn order(&mut self, order: Order) -> Vec<Effect> {
        self.orders += 1;
        let ticket = OrderTicket(self.orders);
        self.rules
            .handle_order(self.now, ticket, order, self.orders);
        self.effects()
    }

    /// The disk answers everything that waits for it.
    pub(super) fn answer_all(&mut self, outcome: Result<(), Fault>) -> Vec<Effect> {
        for (writes, ticket) in std::mem::take(&mut self.waiting) {
            self.answer(writes, ticket, outcome.clone());
        }
        self.effects()
    }

    pub(super) fn answer(
        &mut self,
        writes: Vec<Write>,
        ticket: Ticket,
        outcome: Result<(), Fault>,
    ) {
        if outcome.is_ok() {
            for write in writes {
                self.disk.write(write);
            }
        }
        self.rules.handle_stored(self.now, ticket, outcome);
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(effect) = self.rules.poll_effect() {
            effects.push(effect.clone());
            match effect {
                Effect::Store { writes, ticket } => self.store(writes, ticket),
                Effect::AwaitRoom { conn } => self.rules.handle_room(conn),
                Effect::Load { conn, seq } => match &mut self.loads {
                    Some(loads) => loads.push((conn, seq)),
                    None => self.load(conn, seq),
                },
                _ => {}
            }
        }
        effects
    }

    fn load(&mut self, conn: ConnId, seq: ItemSeq) {
        let item = self.find_item(seq);
        self.rules.handle_loaded(self.now, conn, seq, item);
    }

    /// The disk answers what waits for it, then reads what is to be read.
    pub(super) fn work(&mut self, outcome: Result<(), Fault>) -> Vec<Effect> {
        let mut effects = self.answer_all(outcome);
        for (conn, seq) in self.loads.as_mut().map(std::mem::take).unwrap_or_default() {
            self.load(conn, seq);
        }
        effects.extend(self.effects());
        effects
    }

    pub(super) fn store(&mut self, writes: Vec<Write>, ticket: Option<Ticket>) {
        match (ticket, self.outcome.clone()) {
            (Some(ticket), Some(outcome)) => self.answer(writes, ticket, outcome),
            (Some(ticket), None) => self.waiting.push((writes, ticket)),
            (None, _) => {
                for write in writes {
                    self.write_unawaited(write);
                }
            }
        }
    }

    /// What has not been written need not be, and can be marked.
    fn write_unawaited(&mut self, write: Write) {
        if let Write::ForgetItem { seq, .. } = &write {
            let is_it = |w: &Write| matches!(w, Write::Item { stored, .. } if stored.seq == *seq);
            self.waiting.retain(|(writes, _)| !writes.iter().any(is_it));
        }
        if let Write::Pushed(seq) = &write {
            let writes = self.waiting.iter_mut().flat_map(|(writes, _)| writes);
            for waiting in writes {
                if let Write::Item { stored, .. } = waiting
                    && stored.seq == *seq
                {
                    stored.pushed = true;
                }
            }
        }
        self.disk.write(write);
    }

    fn find_item(&self, seq: ItemSeq) -> Option<Arc<waymesh_proto::mailbox::Item>> {
        let waiting = self.waiting.iter().flat_map(|(writes, _)| writes);
        let mut waiting = waiting.filter_map(|write| match write {
            Write::Item { stored, item } if stored.seq == seq => Some(Arc::clone(item)),
            _ => None,
        });
        self.disk.item(seq).or_else(|| waiting.next())
    }

    /// All agents that the rules know.
    pub(super) fn found(&self) -> Vec<AgentRecord> {
        let limit = NonZeroUsize::new(PAGE_MAX_AGENTS).expect("not zero");
        self.rules.find(&Query::default(), limit).agents
    }
}

/// The answer to an order.
pub(super) fn answer_of(effects: &[Effect]) -> Option<&Result<Reply, Fault>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { outcome, .. } => Some(outcome),
        _ => None,
    })
}

pub(super) fn id(seed: u8) -> AgentId {
    AgentId::from_bytes([seed; 32])
}

/// A login: name, key, incarnation, and the incarnation's own process. Its
/// certificate never ends.
pub(super) fn login(name: &str, key: u8, incarnation: u64) -> VerifiedLogin {
    VerifiedLogin {
        name: name.parse().expect("a name"),
        agent_id: id(key),
        incarnation: Incarnation::new(incarnation),
        instance: InstanceId::from_bytes([u8::try_from(incarnation).unwrap_or(0); 16]),
        roles: Vec::new(),
        keys: vec![id(key)],
        expires: far(),
        renewable_until: None,
        invite: None,
        certificate: format!("certificate-{name}").parse().expect("a token"),
        sealing: format!("sealing-{name}").parse().expect("a token"),
        introduce: false,
    }
}

/// A time that no test reaches.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]
pub(super) fn far() -> Instant {
    Instant::now() + Duration::from_secs(100 * 365 * 24 * 3_600)
}

pub(super) fn skill(name: &str) -> SkillSpec {
    SkillSpec {
        name: name.parse().expect("a skill name"),
        description: None,
        schema: None,
        idempotent: false,
    }
}

pub(super) fn signal(from: u8, to: u8) -> SignedSignal {
    let body = SignalBody {
        mesh: MeshId::from_bytes([0; 16]),
        from: id(from),
        from_incarnation: Incarnation::new(1),
        to: id(to),
        to_incarnation: Incarnation::new(1),
        session: SessionId::from_bytes([3; 16]),
        seq: 0,
        issued_ms: 0,
        signal: Signal::Offer { sdp: "v=0".into() },
    };
    SignedSignal {
        body: serde_json::to_string(&body).expect("JSON"),
        sig: "the rules do not look at it".into(),
        cert: "the-rules-do-not-look-at-it".parse().expect("a token"),
    }
}

pub(super) fn is_welcome(effects: &[Effect], conn: u64) -> bool {
    effects.contains(&Effect::Welcome { conn: ConnId(conn) })
}

pub(super) fn close_of(effects: &[Effect], conn: u64) -> Option<CloseReason> {
    effects.iter().find_map(|effect| match effect {
        Effect::Close { conn: c, reason } if c.0 == conn => Some(*reason),
        _ => None,
    })
}

/// Every message that the effects send to a connection.
pub(super) fn told(effects: &[Effect], conn: u64) -> Vec<&ServerMessage> {
    let messages = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } if to.contains(&ConnId(conn)) => Some(message),
        Effect::Relay { to, signal, .. } if to.0 == conn => Some(signal),
        _ => None,
    });
    messages.collect()
}

pub(super) fn error_of(effects: &[Effect], conn: u64) -> Option<Code> {
    told(effects, conn)
        .into_iter()
        .find_map(|message| match message {
            ServerMessage::Error { error } => Some(error.code),
            _ => None,
        })
}

/// `(name, incarnation, online)` of every record told to a connection.
pub(super) fn records(effects: &[Effect], conn: u64) -> Vec<(String, u64, bool)> {
    let mut records = Vec::new();
    for message in told(effects, conn) {
        if let ServerMessage::Records { agents } = message {
            for a in agents {
                let a = &a.agent;
                records.push((a.name.to_string(), a.incarnation.number(), a.online));
            }
        }
    }
    records
}

pub(super) fn resolve(name: &str) -> ClientMessage {
    ClientMessage::Resolve {
        name: name.parse().expect("a name"),
    }
}
