//! TLS of the registry: its certificate, the pin of it, and what is spoken on top.
//!
//! A given certificate is for nodes that trust its authority. A self-signed
//! one is for nodes that know its pin: the SHA-256 of the public key
//! (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7), which invites carry. Only the
//! key of that is kept; the certificate around it is made anew at every start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig, crypto};

/// HTTP on top (RFC 7301 §6), so that no client tries HTTP/2.
const HTTP: &[u8] = b"http/1.1";

/// TURN on top (RFC 7443).
pub(crate) const TURN: &[u8] = b"stun.turn";

/// What is spoken on top of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnTop {
    /// HTTP alone.
    Http,
    /// TURN too.
    HttpAndTurn,
}

/// The kind of key that is made: every TLS stack knows it.
const KEY_KIND: &SignatureAlgorithm = &PKCS_ECDSA_P256_SHA256;

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or does not hold what it should.
    #[error("{path} holds no usable {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// The file holds no certificate.
    #[error("{0} holds no certificate")]
    NoCertificate(PathBuf),
    /// The kept key cannot be used.
    #[error("the TLS key in the data directory cannot be used: {0}")]
    Key(#[from] rcgen::Error),
    /// The certificate and the key cannot be used, or not together.
    #[error("the TLS certificate and key cannot be used: {0}")]
    Credentials(#[from] rustls::Error),
}

impl TlsError {
    /// What to do about it.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::NoCertificate(_) => {
                "give the certificate with its chain, and its private key, as PEM files"
            }
            Self::Key(_) => {
                "restore tls.key from a backup; if it is removed a new one is made, and nodes that know the old pin must be invited anew"
            }
            Self::Credentials(_) => "give the key that the certificate was made for",
        }
    }
}

/// What the registry shows to whoever connects, and proves that it holds.
#[derive(Debug)]
pub(crate) struct Credentials {
    config: Arc<ServerConfig>,
    key_hash: [u8; 32],
    signed_by: Signer,
}

/// Who has signed a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    Itself,
    Authority,
}

impl Credentials {
    /// Reads a certificate with its chain and its key. Gives everything that is wrong with them.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> (Option<Self>, Vec<TlsError>) {
        let chain = read_chain(certificate);
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
            path: key.to_owned(),
            what: "private key",
            source,
        });
        match (chain, key) {
            (Ok(chain), Ok(key)) => match Self::new(chain, key) {
                Ok(credentials) => (Some(credentials), Vec::new()),
                Err(error) => (None, vec![error]),
            },
            (chain, key) => (None, chain.err().into_iter().chain(key.err()).collect()),
        }
    }

    /// Makes a certificate around a kept key. The names are for clients that know no pin.
    pub(crate) fn self_signed(key: Vec<u8>, names: Vec<String>) -> Result<Self, TlsError> {
        let key = PrivatePkcs8KeyDer::from(key);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, KEY_KIND)?;
        let certificate = CertificateParams::new(names)?.self_signed(&pair)?;
        Self::new(vec![certificate.der().clone()], key.into())
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let (key_hash, signed_by) = judge(&chain)?;
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        let config = Arc::new(config);
        Ok(Self {
            config,
            key_hash,
            signed_by,
        })
    }

    /// The pin that nodes need; `None` when the certificate comes from an authority.
    pub(crate) fn pin(&self) -> Option<[u8; 32]> {
        (self.signed_by == Signer::Itself).then_some(self.key_hash)
    }

    /// The SHA-256 of the public key, whoever has signed the certificate.
    pub(crate) const fn key_hash(&self) -> [u8; 32] {
        self.key_hash
    }

    /// What does the handshakes.
    ///
    /// TURN comes before HTTP: the first protocol of the server's that a client
    /// offers too is taken, and coturn's client offers HTTP as well.
    pub(crate) fn acceptor(&self, on_top: OnTop) -> TlsAcceptor {
        let mut config = Arc::clone(&self.config);
        if on_top == OnTop::HttpAndTurn {
            let protocols = vec![TURN.to_vec(), HTTP.to_vec()];
            Arc::make_mut(&mut config).alpn_protocols = protocols;
        }
        TlsAcceptor::from(config)
    }
}

/// A new private key, PKCS#8.
pub(crate) fn fresh_key() -> Result<Vec<u8>, TlsError> {
    Ok(KeyPair::generate_for(KEY_KIND)?.serialize_der())
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(failed)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

/// The hash of a certificate's key, and who has signed it: itself when it is
/// alone and its own issuer.
fn judge(chain: &[CertificateDer<'static>]) -> Result<([u8; 32], Signer), rustls::Error> {
    let leaf = chain
        .first()
        .ok_or(rustls::Error::NoCertificatesPresented)?;
    let parsed =
        webpki::EndEntityCert::try_from(leaf).map_err(|_| rustls::CertificateError::BadEncoding)?;
    let mut key_hash = [0; 32];
    let hash = digest(&SHA256, &parsed.subject_public_key_info());
    key_hash.copy_from_slice(hash.as_ref());
    let is_alone = chain.len() == 1 && parsed.issuer() == parsed.subject();
    let signed_by = match is_alone {
        true => Signer::Itself,
        false => Signer::Authority,
    };
    Ok((key_hash, signed_by))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            Self { dir }
        }

        fn write(&self, name: &str, label: &str, der: &[&[u8]]) -> PathBuf {
            let path = self.dir.path().join(name);
            let pem = |der: &&[u8]| {
                let text = data_encoding::BASE64.encode(der);
                format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
            };
            let text: String = der.iter().map(pem).collect();
            std::fs::write(&path, text).expect("a file");
            path
        }
    }

    fn key() -> KeyPair {
        KeyPair::generate_for(KEY_KIND).expect("a key")
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params
    }

    fn pin(key: &KeyPair) -> Option<[u8; 32]> {
        use rcgen::PublicKeyData;
        let hash = digest(&SHA256, &key.subject_public_key_info());
        hash.as_ref().try_into().ok()
    }

    #[test]
    fn the_pin_is_that_of_the_kept_key_at_every_start() {
        let kept = fresh_key().expect("a key");
        let der = PrivatePkcs8KeyDer::from(kept.clone());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, KEY_KIND).expect("a key");
        for names in [vec![], vec!["localhost".into(), "192.0.2.1".into()]] {
            let made = Credentials::self_signed(kept.clone(), names).expect("credentials");
            assert_eq!(made.pin(), pin(&pair));
            assert!(made.pin().is_some());
        }
    }

    #[test]
    fn a_given_certificate_needs_a_pin_only_if_nobody_else_has_signed_it() {
        let (files, own, authority) = (Files::new(), key(), key());
        let key_path = files.write("key.pem", "PRIVATE KEY", &[&own.serialize_der()]);
        let alone = params("own").self_signed(&own).expect("a certificate");
        let path = files.write("alone.pem", "CERTIFICATE", &[alone.der()]);
        let (given, errors) = Credentials::from_files(&path, &key_path);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(given.and_then(|g| g.pin()), pin(&own));

        let issuer = rcgen::Issuer::new(params("authority"), authority);
        let signed = params("own").signed_by(&own, &issuer).expect("signed");
        let path = files.write("signed.pem", "CERTIFICATE", &[signed.der()]);
        let (given, errors) = Credentials::from_files(&path, &key_path);
        assert!(errors.is_empty(), "{errors:?}");
        let given = given.expect("credentials");
        assert_eq!((given.pin(), Some(given.key_hash())), (None, pin(&own)));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (files, own) = (Files::new(), key());
        let key_path = files.write("key.pem", "PRIVATE KEY", &[&key().serialize_der()]);
        let alone = params("own").self_signed(&own).expect("a certificate");
        let path = files.write("alone.pem", "CERTIFICATE", &[alone.der()]);
        let (given, errors) = Credentials::from_files(&path, &key_path);
        assert!(given.is_none());
        assert!(
            matches!(errors[..], [TlsError::Credentials(_)]),
            "{errors:?}"
        );
    }

    #[test]
    fn files_without_certificate_or_key_are_refused_with_their_names() {
        let files = Files::new();
        let empty = files.write("empty.pem", "", &[]);
        let (given, errors) = Credentials::from_files(&empty, &empty);
        assert!(given.is_none());
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.iter().all(|e| e.to_string().contains("empty.pem")));
    }
}
