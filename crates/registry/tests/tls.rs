//! TLS: whom a node that knows the pin speaks with, and whom not.

mod support;

use std::time::Duration;

use support::{House, Member, PATIENCE, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waymesh_net::control::http::Client;
use waymesh_net::control::{
    ConnectError, ProofRequest, ProxyEnvironment, RequestError, Target, TlsTrust,
};
use waymesh_registry::{Registry, RegistryConfig, Tls};

/// A client of a registry that trusts this, and proves to be that member.
fn client(house: &House, trust: &TlsTrust, member: &Member) -> Client {
    let prover = member.clone();
    let prove =
        move |request: ProofRequest<'_>| prover.proof(request.method, request.url, request.nonce);
    let target = Target::new(
        house.registry.url().clone(),
        trust,
        &ProxyEnvironment::default(),
    );
    let target = target.expect("a target");
    Client::new(target.with_prover(std::sync::Arc::new(prove)))
}

async fn agents(house: &House, trust: &TlsTrust) -> Result<Vec<u8>, RequestError> {
    let alice = house.member("alice", 1);
    let certificate = format!("DPoP {}", alice.certificate);
    let headers = [("authorization", certificate.as_str())];
    let mut client = client(house, trust, &alice);
    client.get("/v1/agents", &headers, PATIENCE).await
}

fn pinned(pin: [u8; 32]) -> TlsTrust {
    TlsTrust::default().with_pin(pin)
}

#[tokio::test]
async fn a_self_signed_registry_is_trusted_by_its_pin_and_by_nothing_else() {
    let house = House::with_tls(Some(Tls::SelfSigned)).await;
    assert!(house.registry.url().is_tls());
    let pin = house.registry.tls_pin().expect("a pin");
    let body = agents(&house, &pinned(pin)).await.expect("an answer");
    assert!(body.starts_with(b"{\"agents\":"));
    let mut wrong = pin;
    wrong[31] ^= 1;
    for trust in [pinned(wrong), TlsTrust::default()] {
        let error = agents(&house, &trust).await.expect_err("not trusted");
        assert!(
            matches!(error, RequestError::Connect(ConnectError::UntrustedTls(_))),
            "{error}"
        );
    }
    house.registry.stop().await;
}

#[tokio::test]
async fn the_pin_is_the_same_after_a_restart() {
    let house = House::with_tls(Some(Tls::SelfSigned)).await;
    let pin = house.registry.tls_pin().expect("a pin");
    let house = house.restart().await;
    assert_eq!(house.registry.tls_pin(), Some(pin));
    agents(&house, &pinned(pin)).await.expect("an answer");
    house.registry.stop().await;
}

#[tokio::test]
async fn a_given_certificate_is_shown_and_trusted_through_its_authority() {
    let files = tempfile::tempdir().expect("a directory");
    let write = |name: &str, label: &str, der: &[u8]| {
        let text = data_encoding::BASE64.encode(der);
        let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        let path = files.path().join(name);
        std::fs::write(&path, &pem).expect("a file");
        (path, pem)
    };
    let key = || rcgen::KeyPair::generate().expect("a key");
    let (own, authority) = (key(), key());
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "an authority of its own");
    let ca = params.self_signed(&authority).expect("a certificate");
    let issuer = rcgen::Issuer::new(params, authority);
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".into()]).expect("parameters");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "a registry");
    let signed = params.signed_by(&own, &issuer).expect("a certificate");
    let (_, ca) = write("ca.pem", "CERTIFICATE", ca.der());
    let (certificate, _) = write("certificate.pem", "CERTIFICATE", signed.der());
    let (key, _) = write("key.pem", "PRIVATE KEY", &own.serialize_der());

    let house = House::with_tls(Some(Tls::Files { certificate, key })).await;
    assert_eq!(house.registry.tls_pin(), None);
    let trust = TlsTrust::default()
        .with_ca_pem(ca.as_bytes())
        .expect("an authority");
    agents(&house, &trust).await.expect("an answer");
    let error = agents(&house, &TlsTrust::default()).await;
    assert!(error.is_err());
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_speaks_plain_http_to_tls_is_told_so() {
    let house = House::with_tls(Some(Tls::SelfSigned)).await;
    let (status, body) = http(house.addr(), "GET /v1/health").await;
    assert_eq!(status, 400);
    assert!(
        body.contains("bad_request") && body.contains("https"),
        "{body}"
    );
}

#[tokio::test]
async fn whoever_speaks_neither_is_cut_off_and_others_are_served() {
    let house = House::with_tls(Some(Tls::SelfSigned)).await;
    for garbage in [&b"\x00\x01\x02\x03"[..], b"\x16\x03\x01\x00\x02ab", b"\xff"] {
        let mut stream = TcpStream::connect(house.addr())
            .await
            .expect("a connection");
        stream.write_all(garbage).await.expect("a connection");
        stream.shutdown().await.expect("a connection");
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("an end");
    }
    let pin = house.registry.tls_pin().expect("a pin");
    agents(&house, &pinned(pin)).await.expect("an answer");
}

#[tokio::test]
async fn a_registry_that_listens_on_all_addresses_speaks_tls_at_each_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = RegistryConfig {
        listen: "0.0.0.0:0".parse().expect("an address"),
        ..support::config(&dir, support::loopback(0))
    };
    let registry = Registry::start(config).await.expect("a registry");
    let port = registry.local_addr().port();
    assert!(registry.url().is_tls());
    let pin = registry.tls_pin().expect("a pin");
    for host in ["127.0.0.1", "127.0.0.2", "localhost"] {
        let origin = format!("https://{host}:{port}").parse().expect("an origin");
        let target = Target::new(origin, &pinned(pin), &ProxyEnvironment::default());
        let mut client = Client::new(target.expect("a target"));
        let health = client.get("/v1/health", &[], Duration::from_secs(10)).await;
        health.expect("an answer");
    }
    registry.stop().await;
}
