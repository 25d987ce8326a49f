//! Faults of addresses: NATs that forget, and hosts that move.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::report::Finding;
use super::scene::{Plan, Scene};
use super::{Conditions, Fault};
use crate::nat::internet::Forget;

/// How often a NAT maps anew, and for how long.
const REBINDING_EVERY: Duration = Duration::from_secs(3);
const REBINDING: Duration = Duration::from_secs(15);

pub(super) fn flush(conditions: &Conditions) -> Result<Finding> {
    Scene::play(conditions, Plan::homes(Fault::NatFlush), |scene, _| {
        let host = scene.members[0].host.id;
        scene
            .site
            .net
            .with(|internet| internet.flush(host, Forget::Everything));
        Ok(Instant::now())
    })
}

pub(super) fn change(conditions: &Conditions) -> Result<Finding> {
    Scene::play(conditions, Plan::homes(Fault::NetworkChange), |scene, _| {
        let moment = Instant::now();
        let member = &mut scene.members[0];
        scene.site.net.move_host(&mut member.host, member.kind)?;
        Ok(moment)
    })
}

pub(super) fn rebinding(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan::homes(Fault::Rebinding);
    Scene::endure(conditions, plan, REBINDING, |scene, traffic, until| {
        let host = scene.members[0].host.id;
        while Instant::now() < until {
            scene
                .site
                .net
                .with(|internet| internet.flush(host, Forget::Udp));
            traffic.run(REBINDING_EVERY)?;
        }
        Ok(())
    })
}
