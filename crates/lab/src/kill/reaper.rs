//! Starts everybody, kills them again and again, and starts them again.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use waymesh_lab::dice::Dice;

use super::ledger::{Ledger, Waited};
use super::letter::{Actor, Life};
use super::receiver::Receiver;
use super::report::Kills;
use super::sender::{Line, Sender};
use crate::stage::{Process, Reach, Stage};

/// Longest time without anything happening to a message while something must. Chosen far
/// above every back-off of a node.
const STALL: Duration = Duration::from_secs(60);

/// Longest outage: it ends earlier when so much has happened as was drawn.
const OUTAGE: Duration = Duration::from_millis(300);

/// Most things that happen to messages during an outage.
const OUTAGE_EVENTS: u64 = 300;

/// So many in a thousand kills take a second and a third victim along.
const TOGETHER: u32 = 300;

/// So many in a thousand starts of the registry are cut short by another kill.
const CUT_SHORT: u32 = 100;

/// Whom to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Registry,
    Receiver(usize),
    Sender(usize),
}

#[derive(Debug)]
struct Host<T> {
    name: String,
    reach: Reach,
    life: Life,
    /// The node and the program beside it.
    running: Option<(Process, JoinHandle<T>)>,
}

impl<T> Host<T> {
    fn new(role: &str, at: Actor, first: Reach) -> Self {
        Self {
            name: format!("{role}-{at}"),
            reach: if at == 0 { first } else { Reach::Mailbox },
            life: 0,
            running: None,
        }
    }

    fn kill(&mut self) -> Result<T> {
        let (node, program) = self.running.take().context("it is not running")?;
        node.kill()?;
        match program.join() {
            Ok(left) => Ok(left),
            Err(_) => bail!("the program beside {} panicked", self.name),
        }
    }
}

/// Everybody, and how often they were killed.
#[derive(Debug)]
pub(crate) struct Reaper<'a> {
    stage: &'a mut Stage,
    ledger: Arc<Ledger>,
    dice: Dice,
    receivers: Vec<Host<()>>,
    senders: Vec<Host<Vec<Line>>>,
    /// What each sender goes on with in its next life.
    lines: Vec<Vec<Line>>,
    kills: Kills,
}

impl<'a> Reaper<'a> {
    /// Starts all receivers and then all senders.
    pub(crate) fn begin(
        stage: &'a mut Stage,
        ledger: &Arc<Ledger>,
        (senders, receivers, first): (Actor, Actor, Reach),
        seed: u64,
    ) -> Result<Self> {
        let receivers = (0..receivers).map(|at| Host::new("receiver", at, first));
        let receivers: Vec<_> = receivers.collect();
        let senders = (0..senders).map(|at| Host::new("sender", at, first));
        let senders: Vec<_> = senders.collect();
        let names: Result<Vec<_>, _> = receivers.iter().map(|host| host.name.parse()).collect();
        let lines: Vec<_> = names?.into_iter().map(Line::new).collect();
        // Senders can only send to who is known.
        for host in &receivers {
            stage.register_node(&host.name, host.reach)?.kill()?;
        }
        let mut reaper = Self {
            stage,
            ledger: Arc::clone(ledger),
            dice: Dice::new(seed),
            lines: vec![lines; senders.len()],
            receivers,
            senders,
            kills: Kills::default(),
        };
        for at in 0..reaper.receivers.len() {
            reaper.start(Victim::Receiver(at))?;
        }
        for at in 0..reaper.senders.len() {
            reaper.start(Victim::Sender(at))?;
        }
        Ok(reaper)
    }

    /// Kills until each kind has died so often, or something is violated.
    pub(crate) fn reap(&mut self, kills: u32, pace: u64) -> Result<()> {
        while !self.kills.all_are(kills) {
            let more = self.dice.between(1, pace.max(1));
            match self.ledger.wait_for_events(more, STALL) {
                Waited::Reached => {}
                Waited::TimeUp => bail!("nothing happens to any message"),
                Waited::Violated => return Ok(()),
            }
            let victims = self.draw(kills);
            for victim in &victims {
                self.kill(*victim)?;
            }
            let more = self.dice.number_below(OUTAGE_EVENTS);
            self.ledger.wait_for_events(more, OUTAGE);
            for victim in victims {
                self.start(victim)?;
            }
        }
        Ok(())
    }

    /// Lets everything come to rest.
    pub(crate) fn settle(&self) -> Result<()> {
        self.ledger.stop_sending();
        match self.ledger.wait_for_rest(STALL) {
            Waited::Reached | Waited::Violated => Ok(()),
            Waited::TimeUp => bail!("nothing happens to the messages that are open"),
        }
    }

    /// Ends everybody.
    pub(crate) fn end(mut self) -> Kills {
        self.ledger.stop_sending();
        // Whoever does not run is down already.
        for host in &mut self.senders {
            let _ = host.kill();
        }
        for host in &mut self.receivers {
            let _ = host.kill();
        }
        let _ = self.stage.kill_registry();
        self.kills
    }

    /// Who dies now, in an order that is also that of coming back: mostly one, else three.
    fn draw(&mut self, kills: u32) -> Vec<Victim> {
        let times = if self.dice.one_of_thousand(TOGETHER) {
            3
        } else {
            1
        };
        let mut victims = Vec::new();
        while victims.len() < times {
            let victim = match self.dice.number_below(3) {
                0 => Victim::Registry,
                1 => Victim::Receiver(self.dice.number_below(self.receivers.len() as u64) as usize),
                _ => Victim::Sender(self.dice.number_below(self.senders.len() as u64) as usize),
            };
            // The first is of a kind that has not died often enough.
            if !victims.contains(&victim) && (!victims.is_empty() || self.deaths(victim) < kills) {
                victims.push(victim);
            }
        }
        victims
    }

    const fn deaths(&self, victim: Victim) -> u32 {
        match victim {
            Victim::Registry => self.kills.registry,
            Victim::Receiver(_) => self.kills.receivers,
            Victim::Sender(_) => self.kills.senders,
        }
    }

    fn kill(&mut self, victim: Victim) -> Result<()> {
        match victim {
            Victim::Registry => {
                self.stage.kill_registry()?;
                self.kills.registry += 1;
            }
            Victim::Receiver(at) => {
                self.receivers[at].kill()?;
                self.kills.receivers += 1;
            }
            Victim::Sender(at) => {
                self.lines[at] = self.senders[at].kill()?;
                self.ledger.sender_killed(Actor::try_from(at)?);
                self.kills.senders += 1;
            }
        }
        Ok(())
    }

    fn start(&mut self, victim: Victim) -> Result<()> {
        match victim {
            Victim::Registry => self.start_registry(),
            Victim::Receiver(at) => self.start_receiver(at),
            Victim::Sender(at) => self.start_sender(at),
        }
    }

    fn start_registry(&mut self) -> Result<()> {
        while self.dice.one_of_thousand(CUT_SHORT) {
            self.stage.begin_registry()?;
            let moment = self.dice.below(OUTAGE);
            self.ledger.wait_for_events(u64::MAX / 2, moment);
            self.stage.kill_registry()?;
            self.kills.registry += 1;
        }
        self.stage.start_registry()
    }

    fn start_receiver(&mut self, at: usize) -> Result<()> {
        let host = &mut self.receivers[at];
        host.life += 1;
        let node = self.stage.start_node(&host.name, host.reach)?;
        let program = self.stage.attach(&host.name)?;
        let receiver = Receiver {
            ledger: Arc::clone(&self.ledger),
            life: host.life,
            dice: Dice::new(self.dice.roll()),
        };
        host.running = Some((node, thread::spawn(|| receiver.live(program))));
        Ok(())
    }

    fn start_sender(&mut self, at: usize) -> Result<()> {
        let host = &mut self.senders[at];
        host.life += 1;
        let node = self.stage.start_node(&host.name, host.reach)?;
        let program = self.stage.attach(&host.name)?;
        let sender = Sender {
            ledger: Arc::clone(&self.ledger),
            me: Actor::try_from(at)?,
            life: host.life,
            lines: self.lines[at].clone(),
        };
        host.running = Some((node, thread::spawn(|| sender.live(program))));
        Ok(())
    }
}
