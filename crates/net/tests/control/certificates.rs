//! Certificates for tests, and the servers' side of TLS with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use tokio_rustls::rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, version};

/// A certificate and the key that a server signs with.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, new_key());
        Self(issuer.expect("an authority"))
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        let base64 = BASE64.encode(self.0.der());
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n").into_bytes()
    }

    /// A certificate for these names or addresses.
    pub(crate) fn issue(&self, host: &str) -> Shown {
        let key = new_key();
        let params = CertificateParams::new([host.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Shown {
            certificate: certificate.der().clone(),
            key,
        }
    }
}

/// A certificate for another host that has been over for years.
pub(crate) fn outdated_self_signed() -> Shown {
    let key = new_key();
    let mut params = CertificateParams::new(["elsewhere.example".to_owned()]).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    Shown {
        certificate: certificate.der().clone(),
        key,
    }
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

impl Shown {
    /// What an invite pins.
    pub(crate) fn pin(&self) -> [u8; 32] {
        let hash = digest(&SHA256, &self.key.subject_public_key_info());
        hash.as_ref().try_into().expect("32 bytes")
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server_with(&[&version::TLS13, &version::TLS12], &self.key)
    }

    /// A server that shows the certificate and signs with a key that may be another one.
    pub(crate) fn server_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        key: &KeyPair,
    ) -> Arc<ServerConfig> {
        Arc::new(config(versions, vec![self.signed_by(key)]))
    }

    fn signed_by(&self, key: &KeyPair) -> Arc<CertifiedKey> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_supported_type(&der).expect("a usable key");
        Arc::new(CertifiedKey::new(vec![self.certificate.clone()], signer))
    }
}

/// A server that shows each of these to one connection, and the last to all others.
pub(crate) fn server_in_turn(shown: &[&Shown]) -> Arc<ServerConfig> {
    let all = shown.iter().map(|shown| shown.signed_by(&shown.key));
    let mut config = config(&[&version::TLS13], all.collect());
    // What is resumed shows nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

fn config(
    versions: &[&'static SupportedProtocolVersion],
    shown: Vec<Arc<CertifiedKey>>,
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions of the provider")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(InTurn {
            shown,
            next: AtomicUsize::new(0),
        }));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[derive(Debug)]
struct InTurn {
    shown: Vec<Arc<CertifiedKey>>,
    next: AtomicUsize,
}

impl ResolvesServerCert for InTurn {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.shown.get(next).or(self.shown.last()).cloned()
    }
}
