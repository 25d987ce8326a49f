//! Who may ask what over HTTP, and how that is proved.

mod support;

use support::http::{Answer, ask, get_as, nonce};
use support::{House, Member, config, found, http, http_with, loopback, now_ms};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_registry::Registry;
use waymesh_trust::{Keypair, dpop};

/// A request for the agents with this certificate and proof.
async fn agents(house: &House, certificate: &str, proof: &str) -> Answer {
    let addr = house.addr();
    let headers = format!("host: {addr}\r\nauthorization: DPoP {certificate}\r\ndpop: {proof}\r\n");
    ask(addr, "GET /v1/agents", &headers, &[]).await
}

fn url(house: &House) -> String {
    format!("http://{}/v1/agents", house.addr())
}

#[tokio::test]
async fn a_member_that_proves_to_be_one_may_ask_for_the_agents() {
    let house = House::start().await;
    let alice = house.member("alice", 1);
    let answer = get_as(house.addr(), &alice, "/v1/agents").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("\"agents\":["), "{}", answer.text());
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_proves_nothing_is_told_how_to() {
    let house = House::start().await;
    let addr = house.addr();
    let host = format!("host: {addr}\r\n");
    let answer = ask(addr, "GET /v1/agents", &host, &[]).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "unauthorized")
    );
    let wanted = answer.header("www-authenticate");
    assert_eq!(wanted, Some(r#"DPoP algs="EdDSA""#));
    let alice = house.member("alice", 1);
    let certificate = format!("{host}authorization: DPoP {}\r\n", alice.certificate);
    let answer = ask(addr, "GET /v1/agents", &certificate, &[]).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "unauthorized")
    );
    let bearer = format!("{host}authorization: Bearer {}\r\n", alice.certificate);
    let answer = ask(addr, "GET /v1/agents", &bearer, &[]).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "unauthorized")
    );
}

#[tokio::test]
async fn a_proof_needs_the_nonce_of_the_registry_and_gets_it_with_the_refusal() {
    let house = House::start().await;
    let alice = house.member("alice", 1);
    let certificate = alice.certificate.as_str();
    let mut nonce = None;
    for old in [None, Some("AAAA".to_owned())] {
        let proof = alice.proof("GET", &url(&house), old.as_deref());
        let answer = agents(&house, certificate, &proof).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "unauthorized")
        );
        let wanted = answer.header("www-authenticate").expect("a challenge");
        assert!(wanted.contains(r#"error="use_dpop_nonce""#), "{wanted}");
        nonce = Some(answer.nonce().to_owned());
    }
    let proof = alice.proof("GET", &url(&house), nonce.as_deref());
    assert_eq!(agents(&house, certificate, &proof).await.status, 200);
}

#[tokio::test]
async fn a_proof_for_the_public_url_holds_behind_a_proxy_that_changes_the_host() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = config(&dir, loopback(0));
    settings.public_url = Some("https://mesh.example".into());
    let registry = Registry::start(settings).await.expect("a registry");
    found(&dir).await;
    let addr = registry.local_addr();
    let alice = Member::new("alice", 1, registry.key());
    for (url, status) in [
        ("https://mesh.example/v1/agents", 200),
        ("http://mesh.example/v1/agents", 401),
        ("https://other.example/v1/agents", 401),
    ] {
        let nonce = nonce(addr).await;
        let proof = alice.proof("GET", url, Some(&nonce));
        let headers = format!(
            "host: {addr}\r\nauthorization: DPoP {}\r\ndpop: {proof}\r\n",
            alice.certificate
        );
        let answer = ask(addr, "GET /v1/agents", &headers, &[]).await;
        assert_eq!(answer.status, status, "{url}");
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_nonce_does_not_outlive_the_registry_that_gave_it() {
    let house = House::start().await;
    let old = nonce(house.addr()).await;
    let house = house.restart().await;
    let alice = house.member("alice", 1);
    let proof = alice.proof("GET", &url(&house), Some(&old));
    let answer = agents(&house, alice.certificate.as_str(), &proof).await;
    let wanted = answer.header("www-authenticate").expect("a challenge");
    assert!(wanted.contains(r#"error="use_dpop_nonce""#), "{wanted}");
}

#[tokio::test]
async fn a_proof_is_good_once() {
    let house = House::start().await;
    let alice = house.member("alice", 1);
    let nonce = nonce(house.addr()).await;
    let proof = alice.proof("GET", &url(&house), Some(&nonce));
    let certificate = alice.certificate.as_str();
    assert_eq!(agents(&house, certificate, &proof).await.status, 200);
    let again = agents(&house, certificate, &proof).await;
    assert_eq!((again.status, again.code().as_str()), (401, "replayed"));
}

#[tokio::test]
async fn a_proof_for_something_else_is_refused() {
    let house = House::start().await;
    let (alice, bob) = (house.member("alice", 1), house.member("bob", 2));
    let other = House::start().await;
    let good = url(&house);
    for (what, method, url, certificate, status, code) in [
        ("method", "POST", &good, &alice, 401, "unauthorized"),
        ("registry", "GET", &url(&other), &alice, 401, "unauthorized"),
        ("certificate", "GET", &good, &bob, 401, "unauthorized"),
    ] {
        let nonce = nonce(house.addr()).await;
        let proof = alice.proof(method, url, Some(&nonce));
        let answer = agents(&house, certificate.certificate.as_str(), &proof).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{what}"
        );
    }
    let path = format!("{good}/more");
    let nonce = nonce(house.addr()).await;
    let proof = alice.proof("GET", &path, Some(&nonce));
    let answer = agents(&house, alice.certificate.as_str(), &proof).await;
    assert_eq!(answer.code(), "unauthorized", "path");
}

#[tokio::test]
async fn a_stolen_certificate_is_worth_nothing_without_its_key() {
    let house = House::start().await;
    let alice = house.member("alice", 1);
    let nonce = nonce(house.addr()).await;
    let thief = Keypair::from_seed(&[66; 32]);
    let request = dpop::Request {
        method: "GET",
        url: &url(&house),
        certificate: Some(&alice.certificate),
    };
    let proof = dpop::prove(&thief, request, Some(&nonce), [1; 16], now_ms());
    let answer = agents(&house, alice.certificate.as_str(), &proof).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "unauthorized")
    );
}

#[tokio::test]
async fn certificates_of_strangers_and_of_former_members_are_refused() {
    let house = House::start().await;
    let former = Member::until(
        "former",
        1,
        house.registry.key(),
        now_ms() - CLOCK_LEEWAY_MS - 1_000,
    );
    let answer = get_as(house.addr(), &former, "/v1/agents").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "certificate_expired")
    );
    let stranger = Member {
        certificate: "eyJhbGciOiJFZERTQSJ9.e30.AAAA".parse().expect("a token"),
        ..house.member("stranger", 2)
    };
    let answer = get_as(house.addr(), &stranger, "/v1/agents").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "bad_certificate")
    );
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_an_hour_is_named() {
    let house = House::start().await;
    let alice = house.member("alice", 1);
    let nonce = nonce(house.addr()).await;
    let request = dpop::Request {
        method: "GET",
        url: &url(&house),
        certificate: Some(&alice.certificate),
    };
    let late = now_ms() - 3_600_000;
    let proof = dpop::prove(&alice.keypair, request, Some(&nonce), [1; 16], late);
    let answer = agents(&house, alice.certificate.as_str(), &proof).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "clock_skew"));
}

#[tokio::test]
async fn proofs_that_are_none_get_a_code() {
    let house = House::start().await;
    let addr = house.addr();
    let alice = house.member("alice", 1);
    for proof in ["", "x", "a.b.c", &"x".repeat(10_000)] {
        let answer = agents(&house, alice.certificate.as_str(), proof).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "bad_request")
        );
    }
    let nonce = nonce(addr).await;
    let proof = alice.proof("GET", &url(&house), Some(&nonce));
    let headers = format!(
        "host: {addr}\r\nauthorization: DPoP {}\r\ndpop: {proof}\r\ndpop: {proof}\r\n",
        alice.certificate
    );
    let twice = ask(addr, "GET /v1/agents", &headers, &[]).await;
    assert_eq!((twice.status, twice.code().as_str()), (401, "bad_request"));
}

#[tokio::test]
async fn a_member_that_asks_too_often_is_told_to_wait_and_others_are_served() {
    let house = House::start().await;
    let (alice, bob) = (house.member("alice", 1), house.member("bob", 2));
    let mut limited = None;
    for _ in 0..200 {
        let answer = get_as(house.addr(), &alice, "/v1/agents?limit=1").await;
        if answer.status != 200 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("a limit");
    assert_eq!(
        (limited.status, limited.code().as_str()),
        (429, "rate_limited")
    );
    assert_eq!(limited.header("retry-after"), Some("1"));
    let answer = get_as(house.addr(), &bob, "/v1/agents").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn without_a_mesh_there_are_no_members() {
    let house = House::without_mesh(None).await;
    let alice = house.member("alice", 1);
    let answer = get_as(house.addr(), &alice, "/v1/agents").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_mesh"));
    assert!(
        answer.text().contains("waymesh invite"),
        "{}",
        answer.text()
    );
    let (status, body) = http(house.addr(), "GET /v1/health").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"mesh\":null"), "{body}");
}

#[tokio::test]
async fn the_counters_are_told_to_this_machine_only() {
    let house = House::start().await;
    let addr = house.addr();
    assert_eq!(http(addr, "GET /metrics").await.0, 200);
    for header in [
        "forwarded: for=192.0.2.1",
        "x-forwarded-for: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "x-real-ip: 192.0.2.1",
    ] {
        let headers = format!("host: {addr}\r\n{header}\r\n");
        let (status, body) = http_with(addr, "GET /metrics", &headers).await;
        assert_eq!(status, 403, "{header}");
        assert!(body.contains("unauthorized"), "{body}");
    }
}

#[tokio::test]
async fn mistakes_get_a_coded_error() {
    let house = House::start().await;
    let (addr, alice) = (house.addr(), house.member("alice", 1));
    for (line, status, code) in [
        ("GET /nowhere", 404, "unknown_verb"),
        ("POST /v1/agents", 405, "bad_request"),
        ("GET /v1/poll", 405, "bad_request"),
        ("GET /v1/control", 400, "bad_request"),
    ] {
        let (got, body) = http(addr, line).await;
        assert_eq!(got, status, "{line}: {body}");
        assert!(
            body.contains(&format!("\"code\":\"{code}\"")),
            "{line}: {body}"
        );
    }
    for query in [
        "name=NOT%20A%20NAME",
        "name=%ff",
        "limit=0",
        "limit=1025",
        "limit=x",
    ] {
        let answer = get_as(addr, &alice, &format!("/v1/agents?{query}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad_request"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_web_page_can_neither_open_a_control_connection_nor_ask_over_http() {
    let house = House::start().await;
    let addr = house.addr();
    let port = addr.port();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, status, code) in [
        (
            format!("host: {addr}\r\norigin: http://evil.example\r\n"),
            403,
            "unauthorized",
        ),
        (
            format!("host: {addr}\r\norigin: null\r\n"),
            403,
            "unauthorized",
        ),
        (
            format!("host: {addr}\r\norigin: http://{addr}\r\n"),
            403,
            "unauthorized",
        ),
        (
            format!("host: evil.example:{port}\r\n"),
            421,
            "wrong_registry",
        ),
    ] {
        for (path, more) in [
            ("/v1/control", upgrade),
            ("/v1/agents", ""),
            ("/metrics", ""),
        ] {
            let line = format!("GET {path}");
            let (got, body) = http_with(addr, &line, &format!("{headers}{more}")).await;
            assert_eq!(got, status, "{path} {headers}");
            assert!(body.contains(code), "{body}");
        }
    }
    let localhost = format!("host: localhost:{port}\r\n");
    let (status, _) = http_with(addr, "GET /v1/health", &localhost).await;
    assert_eq!(status, 200);
    assert_eq!(
        house.metric("waymesh_registry_http_refused_total").await,
        12
    );
}
