//! Faults of lines: cut, lossy, slow, narrow, one-way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use waymesh_proto::link::Path;

use super::report::Finding;
use super::scene::{Plan, RTT, Scene};
use super::{Conditions, Fault};
use crate::nat::internet::Direction;
use crate::nat::packet::Protocol;
use crate::nat::site::round_trip;
use crate::nat::weather::{Cut, Mtu, Weather};

/// How long a line is cut: longer than a node takes to notice.
const CUT: Duration = Duration::from_secs(5);

/// How long bad weather is endured.
const WHILE: Duration = Duration::from_secs(15);

/// A round trip around the world by satellite, or so.
const FAR: Duration = Duration::from_millis(300);

/// A tenth, in thousandths.
const TENTH: u32 = 100;

/// The smallest packet that IPv6 allows links to be limited to (RFC 8200 §5).
const NARROW: u16 = 1_280;

pub(super) fn cut(conditions: &Conditions) -> Result<Finding> {
    Scene::play(conditions, Plan::homes(Fault::CutHeal), |scene, traffic| {
        let host = &scene.members[0].host;
        let whole = round_trip(RTT);
        scene.site.net.set_weather(
            host,
            Weather {
                cut: Cut::Yes,
                ..whole
            },
        );
        traffic.run(CUT)?;
        scene.site.net.set_weather(host, whole);
        Ok(Instant::now())
    })
}

pub(super) fn loss(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan::homes(Fault::Loss);
    Scene::endure(conditions, plan, WHILE, |scene, traffic, until| {
        let host = &scene.members[0].host;
        let whole = round_trip(RTT);
        scene.site.net.set_weather(
            host,
            Weather {
                loss: TENTH,
                ..whole
            },
        );
        traffic.run_until(until, |_| false)?;
        scene.site.net.set_weather(host, whole);
        Ok(())
    })
}

pub(super) fn far(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        rtt: FAR,
        ..Plan::homes(Fault::Rtt300)
    };
    Scene::endure(conditions, plan, WHILE, |_, traffic, until| {
        traffic.run_until(until, |_| false)
    })
}

/// One of them has a narrow device and knows it. The other is told what is too big for its
/// line; who sends to it is not.
pub(super) fn narrow(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        // Several packets each.
        padding: 6_000,
        ..Plan::homes(Fault::Mtu1280)
    };
    Scene::endure(conditions, plan, WHILE, |scene, traffic, until| {
        let narrow = |mtu| Weather {
            mtu,
            ..round_trip(RTT)
        };
        let [one, other] = &scene.members;
        one.host.namespace.set_mtu(NARROW)?;
        scene.site.net.with(|internet| {
            let id = other.host.id;
            internet.set_weather(id, Direction::Up, narrow(Mtu::Told(NARROW)));
            internet.set_weather(id, Direction::Down, narrow(Mtu::Silent(NARROW)));
        });
        traffic.run_until(until, |_| false)
    })
}

pub(super) fn one_way(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        after: &[Path::Direct, Path::Relay, Path::Mailbox],
        ..Plan::homes(Fault::Asymmetric)
    };
    Scene::play(conditions, plan, |scene, traffic| {
        scene.site.net.with(|internet| internet.heal());
        traffic.steady(&[Path::Direct], super::scene::LIMIT)?;
        let [one, other] = &scene.members;
        let addresses = scene.site.net.with(|internet| {
            let address = |id| internet.public_address(id);
            address(one.host.id).zip(address(other.host.id))
        });
        let (from, to) = addresses.context("both have addresses of IPv4")?;
        scene.site.net.with(|internet| internet.cut(from, to));
        Ok(Instant::now())
    })
}

/// UDP is blocked before one of them, which then has a relay by TCP; free again, it is direct
/// again.
pub(super) fn no_udp(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        after: &[Path::Relay],
        ..Plan::homes(Fault::UdpBlockedLater)
    };
    let scene = Scene::set(conditions, plan, |_| Ok(()))?;
    scene.each_run(conditions, |scene, traffic| {
        let host = scene.members[0].host.id;
        let forbid = |scene: &Scene, what| {
            let net = &scene.site.net;
            net.with(|internet| internet.forbid(host, what));
        };
        let blocked = Instant::now();
        forbid(scene, Some(Protocol::Udp));
        scene.recovered(traffic, blocked)?;
        let free = Instant::now();
        forbid(scene, None);
        let (_, direct) = traffic
            .steady(&[Path::Direct], super::scene::LIMIT)
            .context("after UDP was free again")?;
        let after = direct.saturating_duration_since(free);
        scene.noted(format!(
            "direct {:.1} s after UDP was free again",
            after.as_secs_f64()
        ));
        Ok(())
    })
}
