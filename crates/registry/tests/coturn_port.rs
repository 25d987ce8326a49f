//! coturn's client against a whole registry: STUN and TURN by UDP, TCP and TLS at
//! the port that also serves HTTP.
//!
//! Without `turnutils_uclient` (Debian package `coturn`) the tests say `SKIPPED`,
//! unless `CI=true`: there it must be.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::turn::on_loopback;
use support::{House, PATIENCE, http, uclient};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use waymesh_registry::{IceConfig, Tls};

/// A secret that can be said on a command line, as long as one must be.
const SECRET: &str = "of-this-test-alone-and-32-bytes!";

/// For how long the client makes its credentials.
const DAY: Duration = Duration::from_secs(86_400);

/// A registry with that secret.
async fn house(tls: Option<Tls>) -> House {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("a directory");
    let file = data.join("turn.secret");
    fs::write(&file, SECRET).expect("a file");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
    let ice = IceConfig {
        lifetime: DAY,
        ..on_loopback()
    };
    let house = House::within(dir, tls, ice).await;
    house.found().await;
    house
}

/// Has the client send so many messages that a peer sends back, and gives what it printed.
async fn relayed(house: &House, flags: &[&str]) -> Option<String> {
    let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = peer.local_addr().expect("an address").port();
    let mut tasks = JoinSet::new();
    tasks.spawn(uclient::echo(peer));
    let flags = [flags, &["-n", "20", "-l", "101"]].concat();
    let output = uclient::run(house.addr().port(), SECRET, port, &flags).await?;
    let out = String::from_utf8_lossy(&output.stdout);
    let said = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{flags:?}: {said}");
    assert!(!said.contains("tot_recv_msgs=0\n"), "{flags:?}: {said}");
    Some(said)
}

#[tokio::test]
async fn the_one_port_of_a_registry_relays_for_it_by_udp_and_tcp() {
    let house = house(None).await;
    for flags in [
        &["-z", "2"][..],
        &["-t", "-z", "2"],
        &["-t", "-s", "-z", "2"],
    ] {
        let Some(said) = relayed(&house, flags).await else {
            return house.registry.stop().await;
        };
        assert!(said.contains("Total lost packets 0 "), "{flags:?}: {said}");
    }
    let (status, _) = http(house.addr(), "GET /v1/health").await;
    assert_eq!(status, 200);
    // Twenty messages of each run went through.
    let counted = async { while house.metric("waymesh_relay_to_peers_total").await < 60 {} };
    let counted = timeout(PATIENCE, counted).await;
    counted.expect("it is counted");
    house.registry.stop().await;
}

#[tokio::test]
async fn the_one_port_of_a_registry_with_tls_relays_for_it_by_tls_and_outside_of_it() {
    let house = house(Some(Tls::SelfSigned)).await;
    // Not all come back by TLS: this client takes the first message of each record.
    for flags in [&["-t", "-S"][..], &["-t", "-z", "2"], &["-z", "2"]] {
        if relayed(&house, flags).await.is_none() {
            break;
        }
    }
    house.registry.stop().await;
}

#[tokio::test]
async fn a_registry_refuses_it_with_another_secret() {
    let house = house(None).await;
    for flags in [&[][..], &["-t"]] {
        let port = house.addr().port();
        let Some(output) = uclient::run(port, "another secret", port, flags).await else {
            break;
        };
        assert!(!output.status.success(), "{flags:?}");
        assert_eq!(house.metric("waymesh_relay_allocations_total").await, 0);
    }
    house.registry.stop().await;
}
