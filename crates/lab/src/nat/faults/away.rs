//! Faults of absence: of the registry, of a node, of a server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::report::Finding;
use super::scene::{Plan, Scene};
use super::{Conditions, Fault, Sleep};
use crate::nat::traffic::{Traffic, Voice};

/// How long path and registry are both gone.
const OUTAGE: Duration = Duration::from_secs(4);

/// How long traffic goes on by link alone before that dies too. Chosen: nodes have noticed
/// that the registry is gone.
const LINK_ALONE: Duration = Duration::from_secs(1);

/// How long it is looked that nothing waits for silent servers.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// How long a node sleeps: longer than its peer waits for it, or very long.
const SHORT: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_secs(600);

/// Between messages to one that sleeps: so many fit its mailbox.
const SLOWLY: Duration = Duration::from_secs(1);

/// Servers that do not answer: one that nobody has, one without an address.
const SILENT: [&str; 2] = ["stun:203.0.113.250:3478", "stun:nowhere.invalid:3478"];

/// Kills the registry, then cuts what the two have between them.
fn lose_all(scene: &mut Scene, traffic: &mut Traffic) -> Result<()> {
    scene.site.kill_registry()?;
    traffic.run(LINK_ALONE)?;
    let ids = scene.members.each_ref().map(|member| member.host.id);
    let cut = scene.site.net.with(|internet| {
        let [one, other] = ids.map(|id| internet.public_address(id));
        let (one, other) = one.zip(other)?;
        internet.cut(one, other);
        internet.cut(other, one);
        Some(())
    });
    cut.context("both have addresses of IPv4")?;
    traffic.run(OUTAGE)
}

pub(super) fn path_first(conditions: &Conditions) -> Result<Finding> {
    Scene::play(
        conditions,
        Plan::homes(Fault::RegistryGone),
        |scene, traffic| {
            lose_all(scene, traffic)?;
            scene.site.net.with(|internet| internet.heal());
            let moment = Instant::now();
            // Without the registry: what heals is the path that they had.
            traffic.come_again(moment, super::scene::LIMIT)?;
            scene.site.start_registry()?;
            Ok(moment)
        },
    )
}

pub(super) fn registry_first(conditions: &Conditions) -> Result<Finding> {
    Scene::play(
        conditions,
        Plan::homes(Fault::RegistryBack),
        |scene, traffic| {
            lose_all(scene, traffic)?;
            let moment = Instant::now();
            scene.site.start_registry()?;
            traffic.come_again(moment, super::scene::LIMIT)?;
            scene.site.net.with(|internet| internet.heal());
            Ok(moment)
        },
    )
}

pub(super) fn asleep(conditions: &Conditions) -> Result<Finding> {
    let time = match conditions.sleep {
        Sleep::Short => SHORT,
        Sleep::Long => LONG,
    };
    Scene::play(conditions, Plan::homes(Fault::Asleep), |scene, traffic| {
        let pid = i32::try_from(scene.members[0].node.pid())?;
        let pid = Pid::from_raw(pid).context("a process has a number")?;
        traffic.set_voice(0, Voice::Silent);
        let pace = traffic.set_pace(SLOWLY);
        kill_process(pid, Signal::STOP)?;
        let slept = traffic.run(time);
        kill_process(pid, Signal::CONT)?;
        slept?;
        traffic.set_voice(0, Voice::Speaks);
        traffic.set_pace(pace);
        Ok(Instant::now())
    })
}

pub(super) fn silent_stun(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        registry_args: SILENT
            .iter()
            .flat_map(|url| ["--stun-url", url])
            .map(Into::into)
            .collect(),
        ..Plan::homes(Fault::SilentStun)
    };
    Scene::endure(conditions, plan, UNDISTURBED, |_, traffic, until| {
        traffic.run_until(until, |_| false)
    })
}
