//! A pair that exchanges messages while faults happen to it.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use waymesh_proto::link::Path;

use super::report::Finding;
use super::{Conditions, Fault};
use crate::nat::kind::Kind;
use crate::nat::net::Sixth;
use crate::nat::site::{Door, FoundBy, Member, Site};
use crate::nat::table;
use crate::nat::traffic::Traffic;

/// The round trip between any two hosts unless a fault is about it.
pub(super) const RTT: Duration = Duration::from_millis(50);

/// How long a pair may take to its path, and traffic to come again. Chosen far above every goal.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// What a pair begins as.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    pub(super) kinds: [Kind; 2],
    pub(super) rtt: Duration,
    /// The path before a fault.
    pub(super) path: Path,
    /// What is right after it.
    pub(super) after: &'static [Path],
    /// Bytes that go along with each message.
    pub(super) padding: usize,
    /// By what nodes find the registry.
    pub(super) found_by: FoundBy,
    /// Arguments for the registry beside those that all get.
    pub(super) registry_args: Vec<OsString>,
    /// Arguments for the first of the two beside those that all nodes get.
    pub(super) first_args: Vec<OsString>,
}

impl Plan {
    /// Two homes with a NAT each, and a direct path between them.
    pub(super) fn homes(fault: Fault) -> Self {
        Self {
            fault,
            kinds: [Kind::PortRestricted; 2],
            rtt: RTT,
            path: Path::Direct,
            after: &[Path::Direct],
            padding: 100,
            found_by: FoundBy::Address,
            registry_args: Vec::new(),
            first_args: Vec::new(),
        }
    }
}

/// A registry and two members.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) site: Site,
    pub(super) members: [Member; 2],
    plan: Plan,
    finding: Finding,
}

impl Scene {
    /// Starts the registry, does what is to be done before there are members, and lets two join.
    pub(super) fn set(
        conditions: &Conditions,
        mut plan: Plan,
        prepare: impl FnOnce(&Site) -> Result<()>,
    ) -> Result<Self> {
        if let Some((one, other)) = conditions.kinds {
            plan.kinds = [one, other];
            plan.path = table::best_path(one, other, Sixth::Without);
            if plan.after.len() == 1 {
                plan.after = match plan.path {
                    Path::Direct => &[Path::Direct],
                    Path::Relay => &[Path::Relay],
                    Path::Mailbox => &[Path::Mailbox],
                };
            }
        }
        let options = &conditions.options;
        let args = options.registry_args.iter().chain(&plan.registry_args);
        let args = args.cloned().collect();
        let mut site = Site::set(
            &conditions.binary,
            plan.rtt,
            Sixth::Without,
            plan.found_by,
            args,
        )?;
        prepare(&site)?;
        let [one, other] = plan.kinds;
        let first_args = [options.node_args.as_slice(), &plan.first_args].concat();
        let one = site.add_member("anna", one, &first_args)?;
        let other = site.add_member("otto", other, &options.node_args)?;
        Ok(Self {
            site,
            members: [one, other],
            plan,
            finding: Finding::default(),
        })
    }

    /// Where programs find the two.
    pub(super) fn doors(&self) -> [Door; 2] {
        [
            self.site.door(&self.members[0]),
            self.site.door(&self.members[1]),
        ]
    }

    /// Begins to send both ways, and waits for the path that is wanted.
    fn begin(&mut self) -> Result<Traffic> {
        let [one, other] = self.doors();
        let begun = Instant::now();
        let mut traffic = Traffic::begin([&one, &other], self.plan.padding)?;
        let (path, since) = traffic.steady(&[self.plan.path], LIMIT)?;
        let after = since.saturating_duration_since(begun);
        self.finding.begun(path, after);
        Ok(traffic)
    }

    /// Notes what a fault did, and waits until the wanted path is there again.
    pub(super) fn recovered(&mut self, traffic: &mut Traffic, fault: Instant) -> Result<()> {
        self.finding.recovered(traffic.recover(fault, LIMIT)?);
        self.steadied(traffic)
    }

    /// Notes what was endured since a moment, and that traffic goes on after it.
    fn endured(&mut self, traffic: &mut Traffic, since: Instant) -> Result<()> {
        traffic.come_again(Instant::now(), LIMIT)?;
        self.finding.endured(traffic.silence(since));
        self.steadied(traffic)
    }

    fn steadied(&mut self, traffic: &mut Traffic) -> Result<()> {
        let steady = traffic.steady(self.plan.after, LIMIT);
        let (path, _) = steady.context("after the fault")?;
        self.finding.steady(path);
        Ok(())
    }

    /// Ends all; gives what was seen.
    fn end(mut self, conditions: &Conditions, traffic: Traffic) -> Result<Finding> {
        self.finding.ended(traffic.end()?);
        self.close(conditions)
    }

    /// Ends all without traffic.
    pub(super) fn close(self, conditions: &Conditions) -> Result<Finding> {
        let mut finding = self.finding;
        for line in self.site.panics()? {
            finding.violated(format!("a process panicked: {line}"));
        }
        if finding.is_bad() {
            let dropped = self
                .site
                .net
                .with(|internet| format!("{:?}", internet.dropped()));
            finding.noted(format!("packets dropped: {dropped}"));
        }
        if let Some(folder) = &conditions.options.keep {
            self.site.keep_logs(&folder.join(self.plan.fault.name()))?;
        }
        Ok(finding)
    }

    /// Plays one fault as often as is wanted.
    pub(super) fn play(
        conditions: &Conditions,
        plan: Plan,
        fault: impl FnMut(&mut Self, &mut Traffic) -> Result<Instant>,
    ) -> Result<Finding> {
        Self::set(conditions, plan, |_| Ok(()))?.repeat(conditions, fault)
    }

    /// The same with what is there.
    pub(super) fn repeat(
        self,
        conditions: &Conditions,
        mut fault: impl FnMut(&mut Self, &mut Traffic) -> Result<Instant>,
    ) -> Result<Finding> {
        self.each_run(conditions, |scene, traffic| {
            let moment = fault(scene, traffic)?;
            scene.recovered(traffic, moment)
        })
    }

    /// Lets something happen as often as is wanted, and counts what became of all messages.
    pub(super) fn each_run(
        mut self,
        conditions: &Conditions,
        mut run: impl FnMut(&mut Self, &mut Traffic) -> Result<()>,
    ) -> Result<Finding> {
        let played = self.begin().and_then(|mut traffic| {
            let mut next = Instant::now();
            for number in 1..=conditions.runs {
                traffic.run_until(next, |_| false)?;
                next = Instant::now() + conditions.every;
                let ran = run(&mut self, &mut traffic);
                ran.with_context(|| format!("run {number}"))?;
            }
            Ok(traffic)
        });
        match played {
            Ok(traffic) => self.end(conditions, traffic),
            Err(error) => {
                self.violated(format!("{error:#}"));
                self.note_attempts();
                self.close(conditions)
            }
        }
    }

    /// Notes what each side tried last to make a link.
    fn note_attempts(&mut self) {
        for door in self.doors() {
            let attempts = door
                .attempts()
                .unwrap_or_else(|error| vec![format!("{error:#}")]);
            self.noted(format!("{} tried: {}", door.name, attempts.join(" | ")));
        }
    }

    /// Something that is to be said.
    pub(super) fn noted(&mut self, what: String) {
        self.finding.noted(what);
    }

    /// Something is as it must not be.
    pub(super) fn violated(&mut self, what: String) {
        self.finding.violated(what);
    }

    /// Lets a time pass in which traffic is to go on; its pauses and delays are what counts.
    pub(super) fn endure(
        conditions: &Conditions,
        plan: Plan,
        time: Duration,
        mut during: impl FnMut(&mut Self, &mut Traffic, Instant) -> Result<()>,
    ) -> Result<Finding> {
        let scene = Self::set(conditions, plan, |_| Ok(()))?;
        scene.each_run(conditions, |scene, traffic| {
            let begin = Instant::now();
            during(scene, traffic, begin + time)?;
            scene.endured(traffic, begin)
        })
    }
}
