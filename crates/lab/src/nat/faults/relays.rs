//! Faults of relays: killed, with short-lived credentials, flooded.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use waymesh_proto::link::Path;

use super::report::Finding;
use super::scene::{LIMIT, Plan, Scene};
use super::{Conditions, Fault};
use crate::nat::coturn::{self, Coturn};
use crate::nat::internet::Forget;
use crate::nat::kind::Kind;
use crate::nat::net::Net;
use crate::nat::site::{FoundBy, REGISTRY};
use crate::nat::traffic::Traffic;

/// Where the two servers are of which one is killed.
const RELAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 3)];

/// How long it is looked which of them relays. Chosen: longer than nodes believe what a
/// server said, so that none was asked just before the fault.
const LOOK: Duration = Duration::from_millis(1_500);

/// Between two questions whether nodes use a server that is back. Chosen: few beside it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long the registry is gone when it is killed.
const GONE: Duration = Duration::from_secs(1);

/// How long credentials are good, in seconds, and how long traffic goes on with them.
const LIFETIME: &str = "4s";
const LIFETIMES: Duration = Duration::from_secs(20);

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(8);

/// A home, and one whose NAT maps each other end anew: only a relay joins them.
fn relayed(fault: Fault) -> Plan {
    Plan {
        kinds: [Kind::Symmetric, Kind::PortRestricted],
        path: Path::Relay,
        after: &[Path::Relay],
        ..Plan::homes(fault)
    }
}

/// Two servers of coturn; whichever relays is killed, and comes back after the next run.
pub(super) fn death(conditions: &Conditions) -> Result<Finding> {
    if !coturn::is_here() {
        bail!("there is no turnserver (coturn)");
    }
    let secret = tempfile::NamedTempFile::new().context("making a file")?;
    fs::write(secret.path(), coturn::SECRET)?;
    let mut registry_args = vec!["--no-turn".into()];
    for address in RELAYS {
        registry_args.extend(["--turn-url".into(), coturn::url(address).into()]);
    }
    registry_args.extend(["--turn-secret-file".into(), secret.path().into()]);
    let plan = Plan {
        registry_args,
        ..relayed(Fault::RelayDeath)
    };
    let folder = tempfile::tempdir().context("making a folder")?;
    let mut relays = Vec::new();
    let scene = Scene::set(conditions, plan, |site| {
        for (number, address) in RELAYS.into_iter().enumerate() {
            let label = format!("coturn-{number}");
            relays.push(Coturn::start(&site.net, &label, address, folder.path())?);
        }
        Ok(())
    })?;
    let mut dead: Option<usize> = None;
    scene.repeat(conditions, |scene, traffic| {
        if let Some(dead) = dead.take() {
            let [one, other] = scene.doors();
            let old = [one.relays()?, other.relays()?].concat();
            relays[dead].restart(folder.path())?;
            use_again(scene, traffic, RELAYS[dead], &old)?;
        }
        let busy = busiest(&scene.site.net, &relays, traffic)?;
        let moment = Instant::now();
        relays[busy].kill()?;
        dead = Some(busy);
        Ok(moment)
    })
}

/// Lets traffic go on until both have an allocation at a server that is back, not one of
/// these.
fn use_again(
    scene: &Scene,
    traffic: &mut Traffic,
    server: Ipv4Addr,
    old: &[SocketAddr],
) -> Result<()> {
    let until = Instant::now() + LIMIT;
    let is_new = |relay: &SocketAddr| relay.ip() == server && !old.contains(relay);
    for door in scene.doors() {
        while !door.relays()?.iter().any(is_new) {
            ensure!(
                Instant::now() < until,
                "{} does not use {server} again",
                door.name
            );
            traffic.run(LOOK_AGAIN)?;
        }
    }
    Ok(())
}

/// Which of these gets most packets.
fn busiest(net: &Net, relays: &[Coturn], traffic: &mut Traffic) -> Result<usize> {
    let count = || -> Vec<u64> {
        let arrived = |relay: &Coturn| net.with(|internet| internet.arrived_at(relay.host.id));
        relays.iter().map(arrived).collect()
    };
    let before = count();
    traffic.run(LOOK)?;
    let grown = count().into_iter().zip(before);
    let grown = grown.map(|(after, before)| after - before);
    let busiest = grown.enumerate().max_by_key(|(_, packets)| *packets);
    busiest.map(|(at, _)| at).context("there are relays")
}

/// The registry relays, is killed, and comes back.
pub(super) fn registry(conditions: &Conditions) -> Result<Finding> {
    Scene::play(
        conditions,
        relayed(Fault::RegistryKilled),
        |scene, traffic| {
            let moment = Instant::now();
            scene.site.kill_registry()?;
            traffic.run(GONE)?;
            scene.site.start_registry()?;
            Ok(moment)
        },
    )
}

/// The same, but it comes back with another address, which its name has then.
pub(super) fn moved(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        found_by: FoundBy::Name,
        ..relayed(Fault::RegistryMoved)
    };
    Scene::play(conditions, plan, |scene, traffic| {
        let moment = Instant::now();
        scene.site.kill_registry()?;
        traffic.run(GONE)?;
        scene.site.move_registry()?;
        scene.site.start_registry()?;
        Ok(moment)
    })
}

/// One who is not to be found by others, in a network that lets out TCP to port 443 alone:
/// its relay is all it has, and its NAT forgets the connection to it.
pub(super) fn only(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        kinds: [Kind::OnlyTcp443, Kind::PortRestricted],
        first_args: ["--ice-transport-policy", "relay"].map(Into::into).into(),
        ..relayed(Fault::RelayOnly)
    };
    let scene = Scene::set(conditions, plan, |_| Ok(()))?;
    // Before the gates, of which one lets nothing of the kind out.
    let [one, other] = scene.members.each_ref().map(|member| member.host.id);
    scene.site.net.with(|internet| {
        internet.watch(one, other);
        internet.watch(other, one);
    });
    scene.each_run(conditions, |scene, traffic| {
        let moment = Instant::now();
        let net = &scene.site.net;
        net.with(|internet| internet.flush(one, Forget::Everything));
        scene.recovered(traffic, moment)?;
        let net = &scene.site.net;
        let tried = net.with(|internet| internet.watched());
        if tried > 0 {
            scene.violated(format!("{tried} packets went to the other without a relay"));
        }
        Ok(())
    })
}

/// Credentials end several times while the registry relays.
pub(super) fn expiry(conditions: &Conditions) -> Result<Finding> {
    let plan = Plan {
        registry_args: vec!["--turn-lifetime".into(), LIFETIME.into()],
        ..relayed(Fault::TurnExpiry)
    };
    Scene::endure(conditions, plan, LIFETIMES, |_, traffic, until| {
        traffic.run_until(until, |_| false)
    })
}

/// A stranger sends to the TURN port whatever makes work, as fast as it can.
pub(super) fn flood(conditions: &Conditions) -> Result<Finding> {
    let is_over = AtomicBool::new(false);
    let plan = relayed(Fault::TurnFlood);
    Scene::endure(conditions, plan, FLOOD, |scene, traffic, until| {
        let mallory = scene.site.net.add_host("mallory", Kind::None)?;
        is_over.store(false, Ordering::Relaxed);
        let sent = std::thread::scope(|scope| {
            let flood = scope.spawn(|| mallory.namespace.run(|| pour(&is_over)));
            let ran = traffic.run_until(until, |_| false);
            is_over.store(true, Ordering::Relaxed);
            let sent = flood.join();
            ran.map(|()| sent)
        })?;
        let Ok(sent) = sent else {
            bail!("the flooder panicked");
        };
        scene.noted(format!("{} packets of a flood", sent?));
        Ok(())
    })
}

/// Allocate requests without credentials, with wrong ones, channel data, and garbage.
fn pour(is_over: &AtomicBool) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SocketAddr::from((REGISTRY, 443)))?;
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut allocate = vec![0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        allocate.extend_from_slice(&rand::random::<[u8; 12]>());
        allocate.extend_from_slice(&[0, 0x19, 0, 4, 17, 0, 0, 0]);
        let mut channel = vec![0x40, 0, 0, 64];
        channel.extend_from_slice(&[0; 64]);
        let garbage: [u8; 200] = std::array::from_fn(|_| rand::random());
        for packet in [allocate.as_slice(), &channel, &garbage] {
            // Errors come back when nobody listens any more.
            if socket.send(packet).is_ok() {
                sent += 1;
            }
        }
    }
    Ok(sent)
}
