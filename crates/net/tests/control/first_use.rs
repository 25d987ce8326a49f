//! Trust on first use: what is accepted, what is told of it, and where it ends.

use std::sync::Arc;

use tokio_rustls::rustls::{ServerConfig, version};
use waymesh_net::control::{Carrier, CarrierChoice, ConnectError, Received, Target, TlsTrust};
use waymesh_proto::Code;

use crate::certificates::{Authority, new_key, outdated_self_signed, server_in_turn};
use crate::fake::{self, GREETING, Server, connect, handler, next, target};

const WEBSOCKET: CarrierChoice = CarrierChoice::Only(Carrier::WebSocket);
const POLL: CarrierChoice = CarrierChoice::Only(Carrier::Poll);

async fn registry(tls: Arc<ServerConfig>) -> Server {
    Server::start(Some(tls), handler(fake::registry)).await
}

fn first_use(server: &Server) -> Target {
    let trust = TlsTrust::default().with_first_use();
    target(&server.url("https"), &trust, &[])
}

/// Connects, is greeted, and gives the key that was trusted on first use.
async fn greeted(target: &Target, by: CarrierChoice) -> Result<Option<[u8; 32]>, ConnectError> {
    let mut socket = connect(target, by).await?;
    assert_eq!(next(&mut socket).await, Received::Text(GREETING.into()));
    Ok(socket.first_use_key())
}

#[tokio::test]
async fn any_key_is_accepted_at_first_and_told_by_either_carrier() {
    let shown = outdated_self_signed();
    for by in [WEBSOCKET, POLL] {
        let server = registry(shown.server()).await;
        let key = greeted(&first_use(&server), by).await.expect("trust");
        assert_eq!(key, Some(shown.pin()));
    }
    let tls_1_2 = shown.server_with(&[&version::TLS12], &shown.key);
    let server = registry(tls_1_2).await;
    let key = greeted(&first_use(&server), WEBSOCKET).await;
    assert_eq!(key.expect("trust"), Some(shown.pin()));
}

#[tokio::test]
async fn who_does_not_hold_the_key_that_it_shows_is_refused_all_the_same() {
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let shown = outdated_self_signed();
        let server = registry(shown.server_with(versions, &new_key())).await;
        let error = greeted(&first_use(&server), WEBSOCKET).await;
        let error = error.expect_err("no trust");
        assert_eq!(error.fault().code, Code::UntrustedTls, "{error}");
        assert!(!server.world.has_seen("/v1/control"));
    }
}

#[tokio::test]
async fn all_streams_of_one_connection_must_show_the_same_key() {
    let (first, other) = (outdated_self_signed(), outdated_self_signed());
    let server = registry(server_in_turn(&[&first, &other])).await;
    let mut socket = connect(&first_use(&server), POLL).await.expect("a session");
    assert_eq!(socket.first_use_key(), Some(first.pin()));
    let error = socket.receive().await.expect_err("no trust");
    assert!(error.to_string().contains("not trusted"), "{error}");
    assert!(!server.world.has_seen("/v1/poll/out"));
}

#[tokio::test]
async fn who_comes_between_after_an_authority_has_vouched_is_refused() {
    let authority = Authority::new();
    let vouched = authority.issue("127.0.0.1");
    let server = registry(server_in_turn(&[&vouched, &outdated_self_signed()])).await;
    let trust = TlsTrust::default().with_ca_pem(&authority.pem());
    let trust = trust.expect("a certificate").with_first_use();
    let target = target(&server.url("https"), &trust, &[]);
    let mut socket = connect(&target, POLL).await.expect("a session");
    assert_eq!(socket.first_use_key(), None);
    let error = socket.receive().await.expect_err("no trust");
    assert!(error.to_string().contains("not trusted"), "{error}");
}

#[tokio::test]
async fn what_an_authority_vouches_for_is_not_trusted_on_first_use_alone() {
    let authority = Authority::new();
    let server = registry(authority.issue("127.0.0.1").server()).await;
    let trust = TlsTrust::default().with_ca_pem(&authority.pem());
    let trust = trust.expect("a certificate").with_first_use();
    let target = target(&server.url("https"), &trust, &[]);
    for by in [WEBSOCKET, POLL] {
        assert_eq!(greeted(&target, by).await.expect("trust"), None);
    }
}

#[tokio::test]
async fn the_next_connection_is_another_first_use_until_a_key_is_pinned() {
    let (first, other) = (outdated_self_signed(), outdated_self_signed());
    let server = registry(server_in_turn(&[&first, &other])).await;
    let target = first_use(&server);
    for shown in [&first, &other] {
        let key = greeted(&target, WEBSOCKET).await.expect("trust");
        assert_eq!(key, Some(shown.pin()));
    }
    let pinned = |pin| {
        let pinned = target.trusting(&TlsTrust::default().with_pin(pin));
        pinned.expect("a usable target")
    };
    let key = greeted(&pinned(other.pin()), WEBSOCKET).await;
    assert_eq!(key.expect("trust"), None);
    let error = greeted(&pinned(first.pin()), WEBSOCKET).await;
    let error = error.expect_err("no trust");
    assert_eq!(error.fault().code, Code::UntrustedTls, "{error}");
}

#[tokio::test]
async fn nothing_is_told_where_there_is_no_tls() {
    let server = Server::registry().await;
    let trust = TlsTrust::default().with_first_use();
    let target = target(&server.url("http"), &trust, &[]);
    assert_eq!(greeted(&target, WEBSOCKET).await.expect("a way"), None);
}
