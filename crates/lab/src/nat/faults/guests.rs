//! What a TURN server must refuse: strangers, and members who want what is not theirs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use waymesh_proto::ipc::Event;

use super::report::Finding;
use super::scene::{Plan, Scene};
use super::{Conditions, Fault};
use crate::nat::client::{Asked, Guest, PROBED_PORT, Permitted, credentials};
use crate::nat::kind::Kind;
use crate::nat::net::Host;
use crate::nat::site::{Door, REGISTRY};

/// Addresses that no relay may be asked for.
const FORBIDDEN: [&str; 12] = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.1.2.3",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.2",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
];

/// The registry's own: its relays are there, and whatever else listens is out of reach.
const OWN: [&str; 2] = ["127.0.0.1", "203.0.113.1"];

/// How long something that was passed on may be under way.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// Longer than the test.
const HOUR: i64 = 3_600;

fn server() -> SocketAddr {
    (REGISTRY, 443).into()
}

/// A scene whose pair only watches.
fn set(conditions: &Conditions, fault: Fault) -> Result<(Scene, Host, Vec<u8>)> {
    let plan = Plan {
        kinds: [Kind::None; 2],
        ..Plan::homes(fault)
    };
    let mut scene = Scene::set(conditions, plan, |_| Ok(()))?;
    let mallory = scene.site.net.add_host("mallory", Kind::None)?;
    let secret = scene.site.turn_secret()?;
    Ok((scene, mallory, secret))
}

/// Asks for an allocation from this host.
fn ask(host: &Host, of: Option<waymesh_net::turn::client::Credentials>) -> Result<Asked> {
    host.namespace.run(|| Guest::ask(server(), of))
}

/// Who a node is, from itself.
fn agent_id(door: &Door) -> Result<String> {
    let mut program = door.attach()?;
    match program.until(|event| matches!(event, Event::Hello(_)))? {
        Event::Hello(hello) => Ok(hello.agent_id.to_string()),
        other => bail!("{other:?} is no greeting"),
    }
}

/// Credentials of nobody, made up, over, or of one who was put out get nothing.
pub(super) fn stranger(conditions: &Conditions) -> Result<Finding> {
    let (mut scene, mallory, secret) = set(conditions, Fault::TurnStranger)?;
    let anna = agent_id(&scene.site.door(&scene.members[0]))?;
    let otto = agent_id(&scene.site.door(&scene.members[1]))?;
    let tries = [
        ("none", None),
        ("made up", Some(credentials(b"guessed", &anna, HOUR))),
        ("over", Some(credentials(&secret, &anna, -2))),
        ("of nobody", Some(credentials(&secret, "nobody", HOUR))),
    ];
    for (what, of) in tries {
        match ask(&mallory, of)? {
            Asked::Refused(error) => scene.noted(format!("{what}: {error}")),
            Asked::Allocated(_) => scene.violated(format!("an allocation for credentials {what}")),
        }
    }
    let issued = credentials(&secret, &otto, HOUR / 2);
    let mut kept = match ask(&mallory, Some(issued.clone()))? {
        Asked::Allocated(guest) => guest,
        Asked::Refused(error) => return Err(error).context("good credentials were refused"),
    };
    ensure!(kept.is_kept()?, "an allocation of a member is not kept");
    scene.site.revoke("otto")?;
    if kept.is_kept()? {
        scene.violated("a revoked member keeps its allocation".into());
    }
    match ask(&mallory, Some(issued))? {
        Asked::Refused(error) => scene.noted(format!("of one put out: {error}")),
        Asked::Allocated(_) => scene.violated("an allocation for a revoked member".into()),
    }
    scene.close(conditions)
}

/// A socket on a host that gets what is relayed to an address.
fn listen(host: &Host, address: IpAddr) -> Result<UdpSocket> {
    host.namespace
        .run(|| Ok(UdpSocket::bind((address, PROBED_PORT))?))
}

fn hears(socket: &UdpSocket) -> Result<bool> {
    socket.set_read_timeout(Some(ON_THE_WAY))?;
    Ok(socket.recv_from(&mut [0; 64]).is_ok())
}

/// A member asks for permissions towards what is private, or the registry's own.
pub(super) fn private(conditions: &Conditions) -> Result<Finding> {
    let (mut scene, mallory, secret) = set(conditions, Fault::RelayPrivate)?;
    let anna = agent_id(&scene.site.door(&scene.members[0]))?;
    let asked = ask(&mallory, Some(credentials(&secret, &anna, HOUR)))?;
    let Asked::Allocated(mut guest) = asked else {
        bail!("good credentials were refused: {asked:?}");
    };
    let witness = scene.site.net.add_host("witness", Kind::None)?;
    let address = scene
        .site
        .net
        .with(|internet| internet.public_address(witness.id));
    let address = address.context("the witness has an address")?;
    let heard = listen(&witness, Ipv4Addr::UNSPECIFIED.into())?;
    ensure!(
        guest.permit(address)? == Permitted::Yes,
        "{address} is refused"
    );
    ensure!(hears(&heard)?, "nothing is relayed to {address}");
    for address in OWN {
        let address: IpAddr = address.parse()?;
        let heard = listen(&scene.site.registry_host, address)?;
        let permitted = guest.permit(address)?;
        if hears(&heard)? {
            scene.violated(format!("{address} is relayed to ({permitted:?})"));
        }
    }
    for address in FORBIDDEN {
        match guest.permit(address.parse()?)? {
            Permitted::No(error) => scene.noted(format!("{address}: {error}")),
            Permitted::Yes => scene.violated(format!("{address} may be relayed to")),
        }
    }
    scene.close(conditions)
}
