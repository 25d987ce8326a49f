//! Whom TLS connections trust: a pinned key, given authorities, or the system's.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme,
};
use waymesh_proto::{Code, Fault};

use super::dial::Io;
use super::error::{ConnectError, TargetError};

/// What is spoken inside (RFC 7301); the registry's port also serves others.
const ALPN: &[u8] = b"http/1.1";

/// Whose certificates a registry may show.
///
/// | pin | CA | trusted |
/// |---|---|---|
/// | – | – | what the system trusts, for the URL's host |
/// | – | given | what the system trusts, and what these authorities have issued, for the URL's host |
/// | given | – | the pinned key alone, whatever name and dates its certificate has |
/// | given | given | the pinned key, and what these authorities have issued for the URL's host |
#[derive(Debug, Clone, Default)]
pub struct TlsTrust {
    pin: Option<[u8; 32]>,
    ca: Vec<CertificateDer<'static>>,
}

impl TlsTrust {
    /// Trusts the key whose `SubjectPublicKeyInfo` (DER, RFC 5280 §4.1.2.7) has this SHA-256.
    #[must_use]
    pub fn with_pin(mut self, spki_sha256: [u8; 32]) -> Self {
        self.pin = Some(spki_sha256);
        self
    }

    /// Trusts the authorities whose certificates these are, in PEM form: those
    /// of a company that intercepts TLS, or of a private registry.
    ///
    /// # Errors
    /// [`TargetError::Ca`]: there is no certificate, or what is there is not one.
    pub fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, TargetError> {
        let count = self.ca.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.ca
                .push(certificate.map_err(|e| TargetError::Ca(e.to_string()))?);
        }
        if self.ca.len() == count {
            return Err(TargetError::Ca("no certificate is there".into()));
        }
        Ok(self)
    }

    /// The same without the registry's pin: for a proxy on the way.
    pub(super) fn without_pin(&self) -> Self {
        let ca = self.ca.clone();
        Self { pin: None, ca }
    }

    /// The authorities to believe, the system's among them where nothing is pinned.
    fn roots(&self) -> Result<RootCertStore, TargetError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.ca {
            roots
                .add(certificate.clone())
                .map_err(|e| TargetError::Ca(e.to_string()))?;
        }
        if self.pin.is_none() {
            let system = rustls_native_certs::load_native_certs();
            for error in &system.errors {
                tracing::debug!(%error, "certificates of the system are left out");
            }
            roots.add_parsable_certificates(system.certs);
        }
        Ok(roots)
    }
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// The SHA-256 of the key that was shown, if one could be read.
    pub found: Option<[u8; 32]>,
    /// The SHA-256 of the key that was expected, if one is pinned.
    pub pin: Option<[u8; 32]>,
    why: String,
}

impl Distrust {
    /// The error as users are told, with both fingerprints.
    pub fn fault(&self) -> Fault {
        let shown = self.found.map_or_else(
            || "it shows no readable key".into(),
            |found| format!("it shows the TLS key {}", HEXLOWER.encode(&found)),
        );
        let hint = match self.pin {
            Some(pin) => format!(
                "{shown}, the invite pins {}; ask for a new invite, or give --ca FILE if your network intercepts TLS",
                HEXLOWER.encode(&pin)
            ),
            None => format!(
                "{shown}; use an invite, which pins the registry's key, or give --ca FILE with the authority to trust"
            ),
        };
        Fault::new(Code::UntrustedTls, self.to_string()).with_hint(hint)
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TLS certificate is not trusted: {}", self.why)
    }
}

impl std::error::Error for Distrust {}

/// Checks what a server shows against a [`TlsTrust`].
#[derive(Debug)]
struct Verifier {
    pin: Option<[u8; 32]>,
    /// None where there is no authority to believe.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn distrust(&self, found: Option<[u8; 32]>, why: impl fmt::Display) -> TlsError {
        let (pin, why) = (self.pin, why.to_string());
        let distrust = Distrust { found, pin, why };
        CertificateError::Other(OtherError(Arc::new(distrust))).into()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let parsed = ParsedCertificate::try_from(leaf).map_err(|e| self.distrust(None, e))?;
        let found = sha256(&parsed.subject_public_key_info());
        if self.pin == Some(found) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities
                .verify_server_cert(leaf, intermediates, name, ocsp, now)
                .map_err(|e| self.distrust(Some(found), reason(&e))),
            None if self.pin.is_some() => {
                Err(self.distrust(Some(found), "its key is not the pinned one"))
            }
            None => Err(self.distrust(Some(found), "the system names no authority")),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// In words, where the library's are for programmers.
fn reason(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no trusted authority has issued it".into()
        }
        TlsError::InvalidCertificate(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// The settings of TLS for this trust.
pub(super) fn config(trust: &TlsTrust) -> Result<Arc<ClientConfig>, TargetError> {
    let provider = Arc::new(default_provider());
    let roots = trust.roots()?;
    let authorities = if roots.is_empty() {
        None
    } else {
        let roots = Arc::new(roots);
        let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        Some(builder.build().expect("there are roots and no CRLs"))
    };
    let verifier = Verifier {
        pin: trust.pin,
        authorities,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Speaks TLS on a connection.
pub(super) async fn wrap(
    (config, name): &(Arc<ClientConfig>, ServerName<'static>),
    io: Io,
) -> Result<TlsStream<Io>, ConnectError> {
    TlsConnector::from(Arc::clone(config))
        .connect(name.clone(), io)
        .await
        .map_err(tls_failed)
}

fn tls_failed(error: io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
    match inner {
        Some(TlsError::InvalidCertificate(CertificateError::Other(other))) => {
            match other.0.downcast_ref::<Distrust>() {
                Some(distrust) => ConnectError::UntrustedTls(distrust.clone()),
                None => ConnectError::Tls(error),
            }
        }
        // The certificate is good, but the server does not hold its key.
        Some(TlsError::InvalidCertificate(why)) => {
            let why = why.to_string();
            let (found, pin) = (None, None);
            ConnectError::UntrustedTls(Distrust { found, pin, why })
        }
        _ => ConnectError::Tls(error),
    }
}
