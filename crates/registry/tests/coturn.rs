//! coturn's client against our server: another implementation must find what it expects.
//!
//! Without `turnutils_uclient` (Debian package `coturn`) the tests say `SKIPPED`,
//! unless `CI=true`: there it must be.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use support::uclient::{self, PATIENCE, echo};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use waymesh_net::turn::server::RelaySecret;
use waymesh_registry::turn::{Limits, Relay, RelayConfig, RelayCounters, RelayHandle, StreamEnds};

const SECRET: &str = "of the test alone";

/// A server on loopback that relays to loopback.
fn start(limits: Limits) -> Relay {
    let config = RelayConfig {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        other: None,
        relay_ips: Vec::new(),
        relay_ports: None,
        realm: "waymesh".into(),
        secret: RelaySecret::new(SECRET.as_bytes()),
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        removed: BTreeSet::new(),
        limits,
    };
    Relay::start(config).expect("a relay")
}

/// How long a hostile client goes on, if it does not end before.
const HOSTILE_FOR: Duration = Duration::from_secs(10);

/// What surrounds a server under test; dropping it ends all of it.
struct Bed {
    relay: Relay,
    tasks: JoinSet<()>,
    peer: u16,
}

impl Bed {
    async fn new() -> Self {
        let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let port = peer.local_addr().expect("an address").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(echo(peer));
        Self {
            relay: start(Limits {
                // The client makes its credentials itself, for a day or so.
                credential_lifetime: Duration::from_secs(2 * 24 * 3_600),
                ..Limits::default()
            }),
            tasks,
            peer: port,
        }
    }

    fn udp(&self) -> u16 {
        self.relay.handle().addresses()[0].port()
    }

    async fn tcp(&mut self, tls: Option<TlsAcceptor>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        self.tasks.spawn(accept(listener, self.relay.handle(), tls));
        port
    }

    /// Runs the client to its end. `None` when there is no client.
    async fn run(&self, port: u16, secret: &str, flags: &[&str]) -> Option<Output> {
        uclient::run(port, secret, self.peer, flags).await
    }

    /// What the client printed in a run that it thinks good.
    async fn client(&self, port: u16, flags: &[&str]) -> Option<String> {
        let output = self.run(port, SECRET, flags).await?;
        let out = String::from_utf8_lossy(&output.stdout);
        let said = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{flags:?}: {said}");
        Some(said)
    }

    /// All messages came back, and the server counted them.
    async fn all_come_back(&self, port: u16, flags: &[&str]) {
        let before = self.relay.handle().counters().server.to_peers;
        let Some(said) = self.client(port, flags).await else {
            return;
        };
        assert!(said.contains("Total lost packets 0 "), "{flags:?}: {said}");
        assert!(!said.contains("tot_recv_msgs=0\n"), "{flags:?}: {said}");
        self.counted(|c| c.server.to_peers > before).await;
    }

    /// What the server counts, once it is so; it publishes every second.
    async fn counted(&self, so: impl Fn(&RelayCounters) -> bool) -> RelayCounters {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let counters = self.relay.handle().counters();
            if so(&counters) {
                return counters;
            }
            assert!(tokio::time::Instant::now() < deadline, "{counters:?}");
            tokio::task::yield_now().await;
        }
    }
}

async fn accept(listener: TcpListener, relay: RelayHandle, tls: Option<TlsAcceptor>) {
    while let Ok((stream, remote)) = listener.accept().await {
        let local: SocketAddr = stream.local_addr().expect("an address");
        let ends = StreamEnds { local, remote };
        match &tls {
            None => relay.serve_stream(stream, ends),
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    relay.serve_stream(stream, ends);
                }
            }
        }
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn over_udp_by_channels_and_by_indications() {
    let bed = Bed::new().await;
    let port = bed.udp();
    bed.all_come_back(port, &["-n", "50", "-z", "2", "-l", "101"])
        .await;
    bed.all_come_back(port, &["-s", "-n", "50", "-z", "2", "-l", "101"])
        .await;
    bed.all_come_back(
        port,
        &["-n", "20", "-z", "2", "-l", "1200", "-m", "5", "-g"],
    )
    .await;
}

#[tokio::test]
async fn over_tcp_with_a_payload_that_needs_padding() {
    let mut bed = Bed::new().await;
    let port = bed.tcp(None).await;
    bed.all_come_back(port, &["-t", "-n", "50", "-z", "2", "-l", "101"])
        .await;
    bed.all_come_back(port, &["-t", "-s", "-n", "50", "-z", "2", "-l", "101"])
        .await;
}

#[tokio::test]
async fn over_tls() {
    let mut bed = Bed::new().await;
    let port = bed.tcp(Some(acceptor())).await;
    let flags = ["-t", "-S", "-n", "20", "-l", "101"];
    let Some(said) = bed.client(port, &flags).await else {
        return;
    };
    // Not all: this client takes the first message of each TLS record and drops the rest.
    assert!(!said.contains("tot_recv_msgs=0\n"), "{said}");
    let relayed = |c: &RelayCounters| c.server.to_peers >= 20 && c.server.to_clients >= 20;
    let counters = bed.counted(relayed).await;
    assert_eq!(counters.sockets.dropped_slow_stream, 0);
    assert_eq!(counters.server.dropped_unpermitted, 0);
}

#[tokio::test]
async fn two_clients_reach_each_other_through_their_relays() {
    let bed = Bed::new().await;
    let flags = ["-y", "-m", "4", "-n", "20", "-z", "2", "-l", "101"];
    bed.all_come_back(bed.udp(), &flags).await;
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once() {
    let bed = Bed::new().await;
    let Some(output) = bed.run(bed.udp(), "another secret", &[]).await else {
        return;
    };
    assert!(!output.status.success());
    let counters = bed.counted(|c| c.server.refused_credentials > 0).await;
    assert_eq!(counters.server.allocations_made, 0);
}

#[tokio::test]
async fn what_hostile_clients_of_coturns_own_tests_send_leaves_the_server_at_work() {
    let bed = Bed::new().await;
    let port = bed.udp();
    for kind in ["-N", "-R"] {
        // How and when it ends is the client's affair.
        let flags = [kind, "-n", "3"];
        let run = bed.run(port, SECRET, &flags);
        if let Ok(None) = tokio::time::timeout(HOSTILE_FOR, run).await {
            return;
        }
    }
    bed.all_come_back(port, &["-n", "10", "-z", "2"]).await;
}
