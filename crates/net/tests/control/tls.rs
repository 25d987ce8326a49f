//! Whom TLS trusts.

use data_encoding::HEXLOWER;
use tokio_rustls::rustls::version;
use waymesh_net::control::{
    Carrier, CarrierChoice, ConnectError, ProxyEnvironment, Target, TargetError, TlsTrust,
};
use waymesh_proto::Code;

use crate::certificates::{Authority, Shown, new_key, outdated_self_signed};
use crate::fake::{self, GREETING, Server, connect, handler, next, target};

const WEBSOCKET: CarrierChoice = CarrierChoice::Only(Carrier::WebSocket);

async fn registry_with(shown: &Shown) -> Server {
    let tls = Some(shown.server());
    Server::start(tls, handler(fake::registry)).await
}

/// Tries a WebSocket over TLS.
async fn greeted(server: &Server, trust: &TlsTrust) -> Result<(), ConnectError> {
    let target = target(&server.url("https"), trust, &[]);
    let mut socket = connect(&target, WEBSOCKET).await?;
    assert_eq!(
        next(&mut socket).await,
        waymesh_net::control::Received::Text(GREETING.into())
    );
    Ok(())
}

fn ca(authority: &Authority) -> TlsTrust {
    let trust = TlsTrust::default().with_ca_pem(&authority.pem());
    trust.expect("a certificate")
}

#[tokio::test]
async fn a_pinned_key_is_trusted_whatever_name_and_dates_its_certificate_has() {
    let shown = outdated_self_signed();
    let server = registry_with(&shown).await;
    let trust = TlsTrust::default().with_pin(shown.pin());
    greeted(&server, &trust).await.expect("trust");
}

#[tokio::test]
async fn a_pinned_key_is_trusted_by_tls_1_2_too() {
    let shown = outdated_self_signed();
    let tls = shown.server_with(&[&version::TLS12], &shown.key);
    let server = Server::start(Some(tls), handler(fake::registry)).await;
    let trust = TlsTrust::default().with_pin(shown.pin());
    greeted(&server, &trust).await.expect("trust");
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_refused_and_both_are_told() {
    let (shown, expected) = (outdated_self_signed(), outdated_self_signed());
    let server = registry_with(&shown).await;
    let trust = TlsTrust::default().with_pin(expected.pin());
    let error = greeted(&server, &trust).await.expect_err("no trust");
    let fault = error.fault();
    assert_eq!(fault.code, Code::UntrustedTls);
    let hint = fault.hint.expect("a hint");
    assert!(hint.contains(&HEXLOWER.encode(&shown.pin())), "{hint}");
    assert!(hint.contains(&HEXLOWER.encode(&expected.pin())), "{hint}");
}

#[tokio::test]
async fn who_shows_the_pinned_certificate_without_its_key_is_refused() {
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let shown = outdated_self_signed();
        let tls = shown.server_with(versions, &new_key());
        let server = Server::start(Some(tls), handler(fake::registry)).await;
        let trust = TlsTrust::default().with_pin(shown.pin());
        let error = greeted(&server, &trust).await.expect_err("no trust");
        assert_eq!(error.fault().code, Code::UntrustedTls, "{error}");
        assert!(!server.world.has_seen("/v1/control"));
    }
}

#[tokio::test]
async fn a_given_authority_is_trusted_for_the_host_of_the_url_alone() {
    let authority = Authority::new();
    let server = registry_with(&authority.issue("127.0.0.1")).await;
    greeted(&server, &ca(&authority)).await.expect("trust");
    let elsewhere = registry_with(&authority.issue("elsewhere.example")).await;
    let error = greeted(&elsewhere, &ca(&authority)).await;
    let error = error.expect_err("no trust");
    assert!(matches!(error, ConnectError::UntrustedTls(_)), "{error}");
}

#[tokio::test]
async fn a_given_authority_is_trusted_beside_a_pin() {
    let (authority, registry) = (Authority::new(), outdated_self_signed());
    let interceptor = registry_with(&authority.issue("127.0.0.1")).await;
    let trust = ca(&authority).with_pin(registry.pin());
    greeted(&interceptor, &trust).await.expect("trust");
    greeted(&registry_with(&registry).await, &trust)
        .await
        .expect("trust");
    let stranger = registry_with(&outdated_self_signed()).await;
    let error = greeted(&stranger, &trust).await.expect_err("no trust");
    assert!(matches!(error, ConnectError::UntrustedTls(_)), "{error}");
}

#[tokio::test]
async fn what_no_authority_has_issued_is_refused_with_its_fingerprint() {
    let shown = outdated_self_signed();
    let server = registry_with(&shown).await;
    for trust in [TlsTrust::default(), ca(&Authority::new())] {
        let error = greeted(&server, &trust).await.expect_err("no trust");
        let fault = error.fault();
        assert_eq!(fault.code, Code::UntrustedTls);
        let hint = fault.hint.expect("a hint");
        assert!(hint.contains(&HEXLOWER.encode(&shown.pin())), "{hint}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_no_registry_of_an_https_url() {
    let server = Server::registry().await;
    let error = greeted(&server, &TlsTrust::default()).await;
    let error = error.expect_err("no TLS");
    assert!(matches!(error, ConnectError::Tls(_)), "{error}");
    assert_eq!(error.fault().code, Code::RegistryUnreachable);
}

#[test]
fn plain_http_is_spoken_on_this_machine_only() {
    let new = |url: &str| {
        let origin = url.parse().expect("an origin");
        Target::new(origin, &TlsTrust::default(), &ProxyEnvironment::default())
    };
    for url in ["http://localhost:1", "http://127.8.9.1", "http://[::1]:2"] {
        new(url).expect(url);
    }
    for url in ["http://registry.example", "http://10.0.0.1", "http://[::2]"] {
        let error = new(url).expect_err(url);
        assert!(matches!(error, TargetError::PlainHttp(_)), "{error}");
        assert_eq!(error.fault().code, Code::Usage);
    }
    new("https://registry.example").expect("TLS goes anywhere");
}

#[test]
fn a_file_without_a_certificate_is_no_authority() {
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let end = "\n-----END CERTIFICATE-----\n";
    let no_certificate = format!("{begin}bm90IERFUg=={end}");
    for pem in ["", "nothing", begin, &no_certificate] {
        let result = TlsTrust::default().with_ca_pem(pem.as_bytes());
        let target = result.and_then(|trust| {
            let origin = "https://registry.example".parse().expect("an origin");
            Target::new(origin, &trust, &ProxyEnvironment::default())
        });
        assert!(matches!(target, Err(TargetError::Ca(_))), "{pem:?}");
    }
}
