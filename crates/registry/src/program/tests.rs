use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::ice::{IceConfig, TurnConfig};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry on loopback that relays there.
async fn start(dir: &tempfile::TempDir) -> Registry {
    let turn = TurnConfig {
        relay_allow: vec!["127.0.0.0/8".into()],
        ..TurnConfig::default()
    };
    let config = RegistryConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: dir.path().join("data"),
        public_url: None,
        tls: None,
        ice: IceConfig {
            turn: Some(turn),
            ..IceConfig::default()
        },
    };
    Registry::start(config).await.expect("a registry")
}

/// The whole answer to a request.
async fn ask(registry: &Registry, path: &str) -> String {
    let addr = registry.local_addr();
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("a request");
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("in time").expect("an answer");
    answer
}

#[tokio::test]
async fn a_relay_that_dies_is_noticed_by_whoever_runs_the_registry_or_asks_how_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut registry = start(&dir).await;
    let health = ask(&registry, "/v1/health").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains(r#""turn":"serving""#), "{health}");
    let metrics = ask(&registry, "/metrics").await;
    assert!(metrics.contains("\nwaymesh_relay_up 1\n"), "{metrics}");
    let early = registry.failed().now_or_never();
    assert!(early.is_none(), "nothing has failed yet");

    let relay = registry.relay.as_ref().expect("a relay");
    relay.handle().break_down();
    let failed = timeout(PATIENCE, registry.failed()).await;
    failed.expect("it is noticed");
    let health = ask(&registry, "/v1/health").await;
    assert!(health.starts_with("HTTP/1.1 503"), "{health}");
    assert!(health.contains(r#""ok":false"#), "{health}");
    assert!(health.contains(r#""turn":"failed""#), "{health}");
    let metrics = ask(&registry, "/metrics").await;
    assert!(metrics.contains("\nwaymesh_relay_up 0\n"), "{metrics}");
    registry.stop().await;
}
