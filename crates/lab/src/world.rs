//! A small world in virtual time: the real cores of several nodes and the
//! registry's real rules, under trouble that is drawn from a seed.
//!
//! [`World::run`] plays one schedule ([`schedule`]) against a reference model
//! ([`model`]) of what DESIGN §3 promises. It reads no clock and draws all
//! chance from the seed, so a seed is a whole story that can be told again.
//!
//! A schedule has four parts: trouble, until [`Plan::heals`]; rest, in which
//! everything must settle; health, in which every pair is tried; the end, when
//! nothing may be left over.

mod application;
pub mod checks;
mod disk;
pub mod faults;
pub mod host;
pub mod hostile;
mod mailroom;
mod marks;
pub mod model;
pub mod papers;
pub mod registry;
pub mod report;
pub mod schedule;
mod seals;
mod session;
mod telling;
mod ties;
pub mod windows;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use waymesh_core::app::{ClientId, InboundId};
use waymesh_proto::ids::MessageId;

use crate::dice::Dice;
use crate::fake_link::FakeNet;

use self::checks::Health;
use self::faults::Fault;
use self::host::Host;
use self::hostile::Hostile;
use self::model::{Life, Members, Model, Standing};
use self::papers::{Papers, Term};
use self::registry::{Down, Office, Up};
use self::report::{Checked, Counts, Trace, Violation, hold};
use self::schedule::Plan;
use self::seals::Seals;
use self::windows::Windows;
use self::workload::Job;
use report::Invariant;

/// Time after the healing in which everything must settle: the longest pause
/// between attempts, an attempt, and the detection of a dead link.
pub const REST: Duration = Duration::from_secs(60);

/// Time in which healthy pairs must answer each other.
pub const HEALTH: Duration = Duration::from_secs(6);

/// Steps of one schedule; more is a world that does not come to rest.
const STEPS_MAX: u64 = 400_000;

/// Something that happens by itself at its time.
#[derive(Debug, Clone)]
enum Due {
    Start(usize),
    Job(Job),
    Fault(Fault),
    Undo(Fault),
    Vacate(Life),
    Acknowledge {
        life: Life,
        client: ClientId,
        inbound: InboundId,
    },
    Answer {
        life: Life,
        client: ClientId,
        call: InboundId,
        id: MessageId,
    },
    Dial {
        life: Life,
    },
    Silence {
        life: Life,
        conn: u64,
    },
    Up {
        conn: u64,
        up: Up,
    },
    Down {
        conn: u64,
        down: Down,
    },
    /// The registry's disk is done with a batch.
    Committed {
        epoch: u32,
    },
    /// A node's marks are written.
    Marked {
        life: Life,
    },
    Mischief,
    Heal,
    Settled,
    CancelSome,
    End,
}

/// One schedule under way.
#[derive(Debug)]
pub struct World {
    start: Instant,
    now: Instant,
    plan: Plan,
    dice: Dice,
    net: FakeNet,
    office: Office,
    hosts: Vec<Host>,
    papers: Papers,
    seals: Seals,
    /// Which hosts do not reach which.
    cut: BTreeSet<(usize, usize)>,
    agenda: BTreeMap<(Instant, u64), Due>,
    serial: u64,
    next_id: u64,
    next_client: u64,
    model: Model,
    health: Health,
    windows: Windows,
    counts: Counts,
    trace: Trace,
    is_over: bool,
    /// The model does not hear of acknowledgements: see [`World::deafen_model`].
    is_deaf: bool,
}

/// When every world begins: only differences matter.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

impl World {
    /// The world of a plan, in which nothing has happened yet.
    pub fn new(plan: Plan, trace: Trace) -> Self {
        let start = beginning();
        let mut net = FakeNet::new(plan.seed ^ 0x6e65_7400);
        net.set_weather(plan.weather);
        net.set_relayed(plan.relayed_per_mille);
        if plan.trickles {
            net.start_trickling();
        }
        let terms = plan.hosts.iter().map(|host| host.term).collect();
        let roles = plan.hosts.iter().map(|host| host.roles.clone()).collect();
        let mut papers = Papers::new(start, terms, roles);
        let hosts = plan.hosts.iter().enumerate();
        let hosts = hosts
            .map(|(at, host)| Host::new(host.clone(), papers.issue(at), start))
            .collect();
        let mut model = Model::new(plan.hosts.len());
        let standings = plan.hosts.iter().map(|host| Standing {
            term: host.term,
            roles: host.roles.clone(),
            policy: host.policy.clone(),
        });
        model.members = Members::new(start, standings.collect());
        model.letters.is_doubtful = plan.malice.is_some();
        model.calls.is_doubtful = plan.malice.is_some();
        let hostile = plan.malice.map(Hostile::new);
        let mut world = Self {
            start,
            now: start,
            dice: Dice::new(plan.seed ^ 0x776f_726c_6400),
            net,
            office: Office::new(plan.weather.delay, hostile),
            hosts,
            papers,
            seals: Seals::default(),
            cut: BTreeSet::new(),
            agenda: BTreeMap::new(),
            serial: 0,
            next_id: 0,
            next_client: 0,
            model,
            health: Health::default(),
            windows: Windows::default(),
            counts: Counts::default(),
            trace,
            is_over: false,
            is_deaf: false,
            plan,
        };
        world.fill_agenda();
        world
    }

    fn fill_agenda(&mut self) {
        let plan = self.plan.clone();
        self.trace.note(Duration::ZERO, || {
            let terms = plan.hosts.iter().map(|host| host.term);
            let terms: Vec<_> = terms.filter(|term| *term != Term::LONG).collect();
            format!("{:?} {:?} {terms:?}", plan.flavor, plan.malice)
        });
        for (at, host) in plan.hosts.iter().enumerate() {
            self.later(self.start + host.starts, Due::Start(at));
        }
        for (at, job) in plan.jobs {
            self.later(self.start + at, Due::Job(job));
        }
        for (at, fault) in plan.faults {
            self.later(self.start + at, Due::Fault(fault));
        }
        if plan.malice.is_some() {
            self.later(self.start, Due::Mischief);
        }
        let well = self.start + plan.heals;
        self.later(well, Due::Heal);
        self.later(well + REST, Due::Settled);
        self.later(well + REST + HEALTH / 2, Due::CancelSome);
        self.later(well + REST + HEALTH, Due::End);
    }

    fn later(&mut self, at: Instant, due: Due) {
        self.serial += 1;
        self.agenda.insert((at, self.serial), due);
    }

    /// Keeps from the model what readers acknowledge, so that the truth looks
    /// like a violation: proof that the checks can fail.
    pub fn deafen_model(&mut self) {
        self.is_deaf = true;
    }

    /// Plays the schedule to its end.
    ///
    /// # Errors
    ///
    /// The first invariant that did not hold.
    pub fn run(&mut self) -> Result<Counts, Violation> {
        while !self.is_over {
            self.step()?;
        }
        let mut counts = self.counts;
        counts.lives = self.model.lives.count();
        counts.hostile += u64::from(self.plan.malice.is_some());
        counts.mail_only += u64::from(self.plan.flavor == schedule::Flavor::MailOnly);
        self.model.letters.count(&mut counts);
        self.model.calls.count(&mut counts);
        Ok(counts)
    }

    /// What was kept of the course of things.
    pub fn into_trace(self) -> Vec<String> {
        self.trace.into_lines()
    }

    fn step(&mut self) -> Checked {
        self.counts.steps += 1;
        hold!(
            self.counts.steps < STEPS_MAX,
            NoSpin,
            "the world does not come to rest"
        );
        let Some(next) = self.next_time() else {
            self.is_over = true;
            return Ok(());
        };
        self.now = self.now.max(next);
        if let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let due = entry.remove();
            self.happen(due)?;
        }
        self.net.advance(self.now);
        self.carry_registry()?;
        if self.office.poll_timeout().is_some_and(|at| at <= self.now) {
            self.office.rules.handle_timeout(self.now);
        }
        self.wake_nodes()?;
        for at in 0..self.hosts.len() {
            self.pump(at)?;
        }
        self.carry_registry()?;
        self.check_revoked()
    }

    fn next_time(&self) -> Option<Instant> {
        let agenda = self.agenda.keys().next().map(|(at, _)| *at);
        let nodes = self
            .hosts
            .iter()
            .filter_map(|host| Some(host.mesh.as_ref()?.poll_timeout()?.0));
        let others = [agenda, self.net.poll_timeout(), self.office.poll_timeout()];
        others.into_iter().flatten().chain(nodes).min()
    }

    fn happen(&mut self, due: Due) -> Checked {
        match due {
            Due::Start(at) => self.start_node(at),
            Due::Job(job) => self.do_job(&job)?,
            // What was to go wrong after the healing does not.
            Due::Fault(_) if self.health.is_well() => {}
            Due::Fault(fault) => self.strike(&fault),
            Due::Undo(fault) if !self.health.is_well() => self.undo(&fault),
            Due::Undo(_) => {}
            Due::Vacate(life) => self.vacate(life),
            Due::Acknowledge {
                life,
                client,
                inbound,
            } => self.acknowledge(life, client, inbound),
            Due::Answer {
                life,
                client,
                call,
                id,
            } => self.answer(life, client, call, id),
            Due::Dial { life } => self.dial(life),
            Due::Silence { life, conn } => self.check_silence(life, conn),
            Due::Up { conn, up } => self.land_up(conn, up),
            Due::Down { conn, down } => self.land_down(conn, down)?,
            Due::Committed { epoch } => self.land_batch(epoch),
            Due::Marked { life } => self.land_marks(life),
            Due::Mischief => self.do_mischief(),
            Due::Heal => {
                self.health.begin(self.now);
                self.model.lives.note_well(self.now);
                self.heal();
            }
            Due::Settled => {
                self.check_settled()?;
                self.try_every_pair();
            }
            Due::CancelSome => self.cancel_some(),
            Due::End => {
                self.check_end()?;
                self.is_over = true;
            }
        }
        Ok(())
    }
}

/// Plays the schedule of a seed.
///
/// # Errors
///
/// The first invariant that did not hold.
pub fn play(seed: u64) -> Result<Counts, Violation> {
    World::new(Plan::draw(seed), Trace::default()).run()
}

/// Plays the schedule of a seed once more and tells its course.
pub fn retell(seed: u64, trace: Trace) -> (Result<Counts, Violation>, Vec<String>) {
    let mut world = World::new(Plan::draw(seed), trace);
    let outcome = world.run();
    (outcome, world.into_trace())
}
