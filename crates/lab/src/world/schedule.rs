//! What happens in one schedule: who is there, what they do, what goes wrong
//! and when. Everything is drawn from the seed before the world starts.

use std::time::Duration;

use waymesh_core::Topology;
use waymesh_core::mesh::LOSSY_MESSAGE_MAX_BYTES;
use waymesh_core::policy::Policy;
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Priority;
use waymesh_proto::ids::Role;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;

use crate::dice::Dice;
use crate::fake_link::Weather;

use super::faults::Fault;
use super::host::name_of;
use super::hostile::Malice;
use super::papers::Term;
use super::workload::{Job, Skill};

/// How much trouble a schedule has; the less there is, the more can be demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Nothing goes wrong.
    Calm,
    /// Only the registry and the ways to it fail: no link may notice.
    RegistryTrouble,
    /// Links and registry fail, processes live on.
    LinkTrouble,
    /// Everything.
    Mixed,
    /// Everything, and no link works until the world heals.
    MailOnly,
    /// Everything, and the registry is not honest until the world heals.
    Hostile,
}

impl Flavor {
    /// Whether all links and processes live on.
    pub const fn is_gentle(self) -> bool {
        matches!(self, Self::Calm | Self::RegistryTrouble)
    }
}

/// How a host's application treats its inbox until the world heals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Acknowledges at once.
    Prompt,
    /// Acknowledges each message up to two seconds later.
    Slow,
    /// Acknowledges when the world heals.
    Late,
    /// Never acknowledges anything.
    Never,
}

/// One host of the schedule.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// When its node makes links.
    pub topology: Topology,
    /// How its application reads.
    pub reading: Reading,
    /// When its reader attaches to each life of its node; `None` only when the world heals.
    pub reader_after: Option<Duration>,
    /// When its skills are offered in each life of its node.
    pub server_after: Duration,
    /// When its node is started first.
    pub starts: Duration,
    /// When its certificate ends, and how good its clock is.
    pub term: Term,
    /// What its certificate lets it be trusted with.
    pub roles: Vec<Role>,
    /// What it lets through.
    pub policy: Policy,
    /// Whether its sealing key is another one in every life.
    pub forgets_keys: bool,
}

/// One schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What all of it was drawn from.
    pub seed: u64,
    /// How much trouble there is.
    pub flavor: Flavor,
    /// Who is there.
    pub hosts: Vec<HostPlan>,
    /// The network's conditions before anything goes wrong.
    pub weather: Weather,
    /// Whether candidates are trickled.
    pub trickles: bool,
    /// How many links of a thousand come up relayed.
    pub relayed_per_mille: u32,
    /// What applications do.
    pub jobs: Vec<(Duration, Job)>,
    /// What goes wrong.
    pub faults: Vec<(Duration, Fault)>,
    /// When everything is well again.
    pub heals: Duration,
    /// How the registry is not honest.
    pub malice: Option<Malice>,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    /// Draws the schedule of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let flavor = match dice.number_below(32) {
            0 => Flavor::Calm,
            1..=3 => Flavor::RegistryTrouble,
            4..=8 => Flavor::LinkTrouble,
            9..=18 => Flavor::Mixed,
            19..=25 => Flavor::MailOnly,
            _ => Flavor::Hostile,
        };
        let count = 2 + dice.number_below(10).min(3 + dice.number_below(2)) as usize % 4;
        let common = *dice.pick(&[Topology::FullMesh, Topology::OnDemand]);
        let hosts: Vec<HostPlan> = (0..count).map(|_| host(&mut dice, common)).collect();
        let heals = ms(dice.between(1_500, 14_000));
        let mut plan = Self {
            seed,
            flavor,
            weather: weather(&mut dice),
            trickles: dice.one_of_thousand(500),
            relayed_per_mille: *dice.pick(&[0, 0, 300, 700, 1_000]),
            jobs: Vec::new(),
            faults: Vec::new(),
            heals,
            hosts,
            malice: (flavor == Flavor::Hostile).then(|| Malice::draw(&mut dice)),
        };
        plan.draw_jobs(&mut dice);
        plan.draw_faults(&mut dice);
        plan.draw_cuts(&mut dice);
        plan.draw_policies(&mut dice);
        plan.draw_terms(&mut dice);
        plan
    }

    fn draw_jobs(&mut self, dice: &mut Dice) {
        let count = dice.between(6, 40);
        let until = self.heals.as_millis() as u64 + 1_000;
        let hosts = self.hosts.len() as u64;
        for _ in 0..count {
            let at = ms(dice.number_below(until));
            let from = dice.number_below(hosts) as usize;
            let to = (from + 1 + dice.number_below(hosts - 1) as usize) % self.hosts.len();
            for job in jobs(dice, from, to) {
                self.jobs.push((at, job));
            }
        }
    }

    /// Pairs between which no link works for long.
    fn draw_cuts(&mut self, dice: &mut Dice) {
        if self.flavor.is_gentle() {
            return;
        }
        let all = self.flavor == Flavor::MailOnly;
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                if all || dice.one_of_thousand(120) {
                    let lasts = if all {
                        self.heals
                    } else {
                        dice.below(self.heals)
                    };
                    self.faults
                        .push((Duration::ZERO, Fault::Partition(a, b, lasts)));
                }
            }
        }
    }

    fn draw_policies(&mut self, dice: &mut Dice) {
        let count = self.hosts.len() as u64;
        for at in 0..self.hosts.len() {
            if !dice.one_of_thousand(60) {
                continue;
            }
            let other = (at as u64 + 1 + dice.number_below(count - 1)) % count;
            let other = name_of(other as usize);
            let mut rule = |texts: &[String]| dice.pick(texts).parse().expect("a rule");
            let deny = rule(&[
                other.to_string(),
                format!("{other}/fast"),
                "role:guest".into(),
                "role:guest/slow".into(),
                "*/failing".into(),
            ]);
            let allow = rule(&[
                "*".into(),
                "role:ops".into(),
                format!("{other}/fast"),
                other.to_string(),
            ]);
            let policy = &mut self.hosts[at].policy;
            if dice.one_of_thousand(700) {
                policy.deny.push(deny);
            } else {
                policy.allow.push(allow);
            }
        }
    }

    fn draw_terms(&mut self, dice: &mut Dice) {
        if dice.one_of_thousand(200) {
            const HALF_LEEWAY_MS: u64 = CLOCK_LEEWAY_MS / 2;
            for host in &mut self.hosts {
                let ahead = dice.number_below(2 * HALF_LEEWAY_MS) as i64;
                host.term.skew_ms = ahead - HALF_LEEWAY_MS as i64;
            }
        }
        if self.flavor.is_gentle() {
            return;
        }
        if dice.one_of_thousand(40) {
            let at = dice.number_below(self.hosts.len() as u64) as usize;
            self.hosts[at].term.skew_ms = *dice.pick(&[-3_600_000, 3_600_000]);
        }
        if dice.one_of_thousand(200) {
            for host in &mut self.hosts {
                if dice.one_of_thousand(400) {
                    host.term.ends = Some(ms(500) + dice.below(self.heals));
                    host.term.is_renewable = dice.one_of_thousand(700);
                }
            }
        }
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        let most = if self.flavor == Flavor::Calm {
            0
        } else {
            1 + dice.number_below(8)
        };
        let until = self.heals.as_millis() as u64;
        for _ in 0..most {
            let at = ms(dice.number_below(until));
            let lasts = ms(dice.between(1, 8_000));
            let fault = Fault::draw(dice, self.flavor, self.hosts.len(), lasts);
            self.faults.push((at, fault));
        }
    }
}

fn host(dice: &mut Dice, common: Topology) -> HostPlan {
    let other = *dice.pick(&[
        Topology::FullMesh,
        Topology::OnDemand,
        Topology::MailboxOnly,
    ]);
    let roles = ["ops", "guest"].into_iter();
    let roles = roles.filter(|_| dice.one_of_thousand(300));
    let roles = roles.map(|role| role.parse().expect("a role")).collect();
    HostPlan {
        topology: if dice.one_of_thousand(850) {
            common
        } else {
            other
        },
        reading: match dice.number_below(20) {
            0..=10 => Reading::Prompt,
            11..=14 => Reading::Slow,
            15..=18 => Reading::Late,
            _ => Reading::Never,
        },
        reader_after: match dice.number_below(10) {
            0..=5 => Some(Duration::ZERO),
            6..=8 => Some(ms(dice.number_below(4_000))),
            _ => None,
        },
        server_after: if dice.one_of_thousand(800) {
            Duration::ZERO
        } else {
            ms(dice.number_below(4_000))
        },
        starts: if dice.one_of_thousand(700) {
            Duration::ZERO
        } else {
            ms(dice.number_below(2_000))
        },
        term: Term::LONG,
        roles,
        policy: Policy::default(),
        forgets_keys: dice.one_of_thousand(60),
    }
}

fn weather(dice: &mut Dice) -> Weather {
    let calm = Weather::default();
    Weather {
        delay: Duration::from_micros(*dice.pick(&[200, 200, 1_000, 20_000, 120_000])),
        jitter: Duration::from_micros(*dice.pick(&[0, 100, 5_000, 80_000])),
        loss_per_mille: *dice.pick(&[0, 0, 0, 10, 50]),
        bytes_per_second: *dice.pick(&[calm.bytes_per_second, 1_000_000, 200_000]),
        window_bytes: *dice.pick(&[calm.window_bytes, calm.window_bytes, 32 * 1024, 17 * 1024]),
    }
}

/// One thing that an application does, or a few that belong together.
fn jobs(dice: &mut Dice, from: usize, to: usize) -> Vec<Job> {
    match dice.number_below(100) {
        0..=29 => vec![send(dice, from, to)],
        30..=39 => {
            // More than fits the window that a new stream starts with.
            let class = *dice.pick(&Class::ALL);
            let count = dice.between(2, 90);
            let most = if class.is_reliable() { 3_000 } else { 800 };
            let bytes = dice.between(1, most) as usize;
            let ttl = ttl(dice);
            let priority = Priority::Normal;
            (0..count)
                .map(|_| Job::Send {
                    from,
                    to,
                    class,
                    bytes,
                    ttl,
                    priority,
                })
                .collect()
        }
        40..=71 => vec![call(dice, from, to)],
        72..=78 => vec![Job::Cancel { from }],
        79..=83 => vec![Job::Connect {
            from,
            to,
            timeout: ms(dice.between(10, 9_000)),
        }],
        84..=88 => vec![Job::Ping {
            from,
            to,
            timeout: ms(dice.between(10, 9_000)),
        }],
        89..=90 => {
            let timeout = ms(9_000);
            vec![
                Job::Connect { from, to, timeout },
                Job::Connect {
                    from: to,
                    to: from,
                    timeout,
                },
            ]
        }
        91..=92 => vec![Job::ReaderLeaves { at: from }],
        93..=94 => vec![Job::ReaderComes { at: from }],
        95 => vec![Job::ServerLeaves { at: from }],
        96..=97 => vec![Job::ServerComes { at: from }],
        98 => vec![Job::WorkerLeaves { at: from }],
        _ => vec![Job::Find { from }],
    }
}

fn send(dice: &mut Dice, from: usize, to: usize) -> Job {
    let class = *dice.pick(&Class::ALL);
    let bytes = match dice.number_below(100) {
        // One in ten is too large for its channel.
        0..=89 if !class.is_reliable() => dice.number_below(LOSSY_MESSAGE_MAX_BYTES as u64 + 1),
        0..=59 => dice.number_below(800),
        60..=84 => dice.number_below(20_000),
        85..=96 => dice.number_below(120_000),
        97..=98 => dice.number_below(400_000),
        _ => 1024 * 1024 + dice.number_below(2),
    };
    let priority = *dice.pick(&[
        Priority::Low,
        Priority::Normal,
        Priority::High,
        Priority::Critical,
    ]);
    Job::Send {
        from,
        to,
        class,
        bytes: bytes as usize,
        ttl: ttl(dice),
        priority,
    }
}

fn ttl(dice: &mut Dice) -> Duration {
    match dice.number_below(10) {
        0 => ms(dice.number_below(20)),
        1..=3 => ms(dice.between(20, 6_000)),
        _ => Duration::from_secs(300),
    }
}

fn call(dice: &mut Dice, from: usize, to: usize) -> Job {
    let skill = *dice.pick(&[
        Skill::Fast,
        Skill::Fast,
        Skill::Slow,
        Skill::Slow,
        Skill::Mute,
        Skill::Failing,
        Skill::Missing,
    ]);
    let timeout = match dice.number_below(10) {
        0..=1 => ms(dice.between(1, 500)),
        2..=5 => ms(dice.between(500, 8_000)),
        _ => ms(dice.between(8_000, 40_000)),
    };
    let bytes = if dice.one_of_thousand(900) {
        dice.number_below(500)
    } else {
        dice.number_below(90_000)
    };
    Job::Call {
        from,
        to,
        skill,
        timeout,
        idempotent: dice.one_of_thousand(400),
        bytes: bytes as usize,
    }
}
