//! coturn's client, and what it speaks to through a relay.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::process::Command;
use waymesh_proto::AgentId;

/// A run of the client that takes longer has failed; the longest is some seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Sends back what it gets.
pub(crate) async fn echo(socket: UdpSocket) {
    let mut bytes = vec![0; 65_536];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        let _ = socket.send_to(&bytes[..length], from).await;
    }
}

/// Says that there is no client here; in CI there must be one.
#[expect(clippy::print_stderr, reason = "whoever runs the tests is to see it")]
fn skipped(error: std::io::Error) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "turnutils_uclient does not run: {error}");
    eprintln!("SKIPPED: turnutils_uclient does not run ({error}); install coturn");
}

/// Runs the client to its end, against a server on loopback and through it to a
/// port there. It makes credentials for a day out of the secret. `None` when there
/// is no client.
pub(crate) async fn run(port: u16, secret: &str, peer: u16, flags: &[&str]) -> Option<Output> {
    let member = AgentId::from_bytes([7; 32]).to_string();
    let (port, peer) = (port.to_string(), peer.to_string());
    let run = Command::new("turnutils_uclient")
        .args(["-c", "-u", &member, "-W", secret, "-p", &port])
        .args(["-e", "127.0.0.1", "-r", &peer])
        .args(flags)
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(PATIENCE, run).await;
    run.expect("the client ends in time").map_err(skipped).ok()
}
