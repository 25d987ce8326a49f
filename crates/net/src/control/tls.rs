//! Whom TLS connections trust: a pinned key, given authorities, the system's,
//! or the key that is shown first.

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
use super::first_use::FirstUse;
use super::issuer::issuer;

/// What is spoken inside (RFC 7301); the registry's port also serves others.
const ALPN: &[u8] = b"http/1.1";

/// What is spoken with a TURN server (RFC 7443); the other is for boxes on the
/// way that let nothing else pass.
const RELAY_ALPN: [&[u8]; 2] = [b"stun.turn", ALPN];

/// Whose certificates a registry may show.
///
/// | key | CA | trusted |
/// |---|---|---|
/// | – | – | what the system trusts, for the URL's host |
/// | – | given | what the system trusts, and what these authorities have issued, for the URL's host |
/// | pinned | – | the pinned key alone, whatever name and dates its certificate has |
/// | pinned | given | the pinned key, and what these authorities have issued for the URL's host |
/// | first use | either | what would be trusted without it; else the key that a connection is shown first, and for that connection no other |
#[derive(Debug, Clone, Default)]
pub struct TlsTrust {
    key: KeyTrust,
    ca: Vec<CertificateDer<'static>>,
}

/// Which key is trusted without an authority that vouches for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum KeyTrust {
    #[default]
    None,
    Pinned([u8; 32]),
    FirstUse,
}

impl TlsTrust {
    /// Trusts the key whose `SubjectPublicKeyInfo` (DER, RFC 5280 §4.1.2.7) has this SHA-256.
    #[must_use]
    pub fn with_pin(mut self, spki_sha256: [u8; 32]) -> Self {
        self.key = KeyTrust::Pinned(spki_sha256);
        self
    }

    /// Trusts the key that each control connection is shown first, in place of
    /// a pin. This protects from nobody who stands between: it is for a caller
    /// that knows no key and has the one that was seen
    /// ([`ControlSocket::first_use_key`](super::ControlSocket::first_use_key))
    /// compared by the other side, and pins it from then on.
    #[must_use]
    pub const fn with_first_use(mut self) -> Self {
        self.key = KeyTrust::FirstUse;
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

    /// For TURN servers, see [`Tls::for_relay`].
    fn for_relay(&self) -> Self {
        let key = match self.key {
            KeyTrust::Pinned(pin) => KeyTrust::Pinned(pin),
            KeyTrust::None | KeyTrust::FirstUse => KeyTrust::None,
        };
        Self {
            key,
            ca: self.ca.clone(),
        }
    }

    /// The authorities alone, without the registry's key: for a proxy on the way.
    pub(super) fn without_key(&self) -> Self {
        Self {
            key: KeyTrust::None,
            ca: self.ca.clone(),
        }
    }

    /// The authorities to believe, the system's among them where nothing is pinned.
    fn roots(&self) -> Result<RootCertStore, TargetError> {
        let with_system = !matches!(self.key, KeyTrust::Pinned(_));
        self.roots_and(with_system.then(system_roots))
    }

    fn roots_and(
        &self,
        system: Option<Vec<CertificateDer<'static>>>,
    ) -> Result<RootCertStore, TargetError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.ca {
            roots
                .add(certificate.clone())
                .map_err(|e| TargetError::Ca(e.to_string()))?;
        }
        roots.add_parsable_certificates(system.unwrap_or_default());
        Ok(roots)
    }
}

/// The authorities that the system trusts.
fn system_roots() -> Vec<CertificateDer<'static>> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "certificates of the system are left out");
    }
    system.certs
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// The SHA-256 of the key that was shown, if one could be read.
    pub found: Option<[u8; 32]>,
    /// The SHA-256 of the key that was expected, if one is pinned.
    pub pin: Option<[u8; 32]>,
    /// Who has issued the certificate, as it says itself: anybody may write any name there.
    pub issuer: Option<String>,
    why: String,
}

impl Distrust {
    /// The error as users are told, with both fingerprints.
    pub fn fault(&self) -> Fault {
        let mut shown = self.found.map_or_else(
            || "it shows no readable key".into(),
            |found| format!("it shows the TLS key {}", HEXLOWER.encode(&found)),
        );
        if let Some(issuer) = &self.issuer {
            shown.push_str(&format!(", issued by {issuer:?}"));
        }
        let hint = match self.pin {
            Some(pin) => format!(
                "{shown}, and {} is pinned, by the invite or since the first connection; ask for a new invite, or give --ca FILE if your network intercepts TLS",
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
#[derive(Debug, Clone)]
struct Verifier {
    key: KeyTrust,
    /// What was seen where [`KeyTrust::FirstUse`] holds.
    first_use: Arc<FirstUse>,
    /// None where there is no authority to believe.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(trust: &TlsTrust) -> Result<Self, TargetError> {
        Ok(Self::with_roots(trust, trust.roots()?))
    }

    fn with_roots(trust: &TlsTrust, roots: RootCertStore) -> Self {
        let provider = Arc::new(default_provider());
        let authorities = (!roots.is_empty()).then(|| {
            let (roots, provider) = (Arc::new(roots), Arc::clone(&provider));
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider);
            builder.build().expect("there are roots and no CRLs")
        });
        Self {
            key: trust.key,
            first_use: Arc::default(),
            authorities,
            provider,
        }
    }

    fn distrust(
        &self,
        leaf: &CertificateDer<'_>,
        found: Option<[u8; 32]>,
        why: impl fmt::Display,
    ) -> TlsError {
        let pin = match self.key {
            KeyTrust::Pinned(pin) => Some(pin),
            KeyTrust::None | KeyTrust::FirstUse => None,
        };
        let distrust = Distrust {
            found,
            pin,
            issuer: issuer(leaf),
            why: why.to_string(),
        };
        CertificateError::Other(OtherError(Arc::new(distrust))).into()
    }

    /// Judges a key that no authority vouches for; `why` says what they find wrong.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        found: [u8; 32],
        why: String,
    ) -> Result<ServerCertVerified, TlsError> {
        match self.key {
            KeyTrust::FirstUse if self.first_use.admits(found) => {
                Ok(ServerCertVerified::assertion())
            }
            KeyTrust::FirstUse => {
                let why = "another one was shown before on the same connection";
                Err(self.distrust(leaf, Some(found), why))
            }
            KeyTrust::None | KeyTrust::Pinned(_) => Err(self.distrust(leaf, Some(found), why)),
        }
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
        let parsed = ParsedCertificate::try_from(leaf).map_err(|e| self.distrust(leaf, None, e))?;
        let found = sha256(&parsed.subject_public_key_info());
        if self.key == KeyTrust::Pinned(found) {
            return Ok(ServerCertVerified::assertion());
        }
        let why = match (&self.authorities, self.key) {
            (Some(authorities), _) => {
                match authorities.verify_server_cert(leaf, intermediates, name, ocsp, now) {
                    Ok(verified) => {
                        self.first_use.handle_vouched();
                        return Ok(verified);
                    }
                    Err(error) => reason(&error),
                }
            }
            (None, KeyTrust::Pinned(_)) => "its key is not the pinned one".into(),
            (None, _) => "the system names no authority".into(),
        };
        self.judge(leaf, found, why)
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

/// What speaks TLS with one host. A cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verifier: Arc<Verifier>,
}

impl Tls {
    pub(super) fn new(trust: &TlsTrust, name: ServerName<'static>) -> Result<Self, TargetError> {
        Ok(Self::with(Verifier::new(trust)?, name, &[ALPN]))
    }

    /// For a TURN server, which may be the registry's own or another: trusted are
    /// the pinned key **and** what the system or the given authorities vouch for.
    /// Wider than for the registry, because what is relayed is protected end to
    /// end: who passes for a relay can only fail to relay. A key is not trusted on
    /// first use.
    pub(super) fn for_relay(
        trust: &TlsTrust,
        name: ServerName<'static>,
    ) -> Result<Self, TargetError> {
        let trust = trust.for_relay();
        let roots = trust.roots_and(Some(system_roots()))?;
        let verifier = Verifier::with_roots(&trust, roots);
        Ok(Self::with(verifier, name, &RELAY_ALPN))
    }

    fn with(verifier: Verifier, name: ServerName<'static>, alpn: &[&[u8]]) -> Self {
        let verifier = Arc::new(verifier);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Self {
            config: Arc::new(config),
            name,
            verifier,
        }
    }

    /// The same with another trust.
    pub(super) fn trusting(&self, trust: &TlsTrust) -> Result<Self, TargetError> {
        Self::new(trust, self.name.clone())
    }

    /// The same for another connection, which has been shown nothing yet;
    /// `None` where that makes no difference.
    pub(super) fn anew(&self) -> Option<Self> {
        let verifier = Verifier {
            first_use: Arc::default(),
            ..Verifier::clone(&self.verifier)
        };
        (verifier.key == KeyTrust::FirstUse)
            .then(|| Self::with(verifier, self.name.clone(), &[ALPN]))
    }

    /// The key that is trusted only because it was shown first.
    pub(super) fn first_use_key(&self) -> Option<[u8; 32]> {
        self.verifier.first_use.key()
    }

    /// Speaks TLS on a stream.
    pub(super) async fn wrap(&self, io: Io) -> Result<TlsStream<Io>, ConnectError> {
        TlsConnector::from(Arc::clone(&self.config))
            .connect(self.name.clone(), io)
            .await
            .map_err(tls_failed)
    }
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
            ConnectError::UntrustedTls(Distrust {
                found: None,
                pin: None,
                issuer: None,
                why,
            })
        }
        _ => ConnectError::Tls(error),
    }
}
