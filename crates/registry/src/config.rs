//! What a registry is started with, and all that is wrong with it.

use std::net::SocketAddr;
use std::path::PathBuf;

use waymesh_proto::control::{Origin, OriginError};

use crate::ice::{CheckedIce, IceConfig, IceConfigError};
use crate::start_error::StartError;
use crate::tls::{Credentials, TlsError};

/// What a registry is started with.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its keys and database are; made if missing. One process at a time uses it.
    pub data_dir: PathBuf,
    /// The URL that nodes connect to, when it is not the listening address.
    pub public_url: Option<String>,
    /// How connections are encrypted. `None` chooses: not at all on loopback,
    /// self-signed elsewhere.
    pub tls: Option<Tls>,
    /// Which STUN and TURN servers its members are told of, its own among them.
    pub ice: IceConfig,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP. On loopback only: for programs of this machine, or behind a
    /// proxy that speaks TLS.
    Off,
    /// TLS with a key that is made once and kept in the data directory. Invites
    /// carry its pin, so that nobody has to install a certificate.
    SelfSigned,
    /// TLS with a given certificate.
    Files {
        /// The certificate and what leads from it to its authority, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
}

/// One thing that is wrong with a [`RegistryConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Plain HTTP would leave the machine. Listen on loopback, or leave TLS on.
    #[error("{0} is not a loopback address, and TLS is off")]
    PlainListen(SocketAddr),
    /// The public URL is not one; correct it.
    #[error("the public URL {url:?} is {source}")]
    PublicUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: OriginError,
    },
    /// Logins to the public URL would cross a network in plain text.
    #[error("the public URL {0} is plain HTTP and leaves this machine")]
    PlainPublicUrl(Origin),
    /// Nobody would get an answer at the public URL.
    #[error("the public URL {0} is plain HTTP, and the registry speaks TLS")]
    PublicUrlWithoutTls(Origin),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The STUN and TURN servers cannot be as configured.
    #[error(transparent)]
    Ice(#[from] IceConfigError),
}

impl ConfigError {
    /// What to do about it.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::PlainListen(_) => "listen on 127.0.0.1 or [::1], or leave TLS on",
            Self::PublicUrl { .. } => "give it as http://HOST:PORT or https://HOST",
            Self::PlainPublicUrl(_) => "give an https:// URL, or one of this machine",
            Self::PublicUrlWithoutTls(_) => "give an https:// URL",
            Self::Tls(error) => error.hint(),
            Self::Ice(error) => error.hint(),
        }
    }
}

/// A configuration in which nothing is wrong.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) public: Option<Origin>,
    pub(crate) tls: CheckedTls,
    pub(crate) ice: CheckedIce,
}

/// How connections are encrypted, and with what if that is known already.
#[derive(Debug)]
pub(crate) enum CheckedTls {
    Off,
    SelfSigned,
    Given(Credentials),
}

impl RegistryConfig {
    /// Checks all that can be checked before a file is made or a port opened.
    ///
    /// # Errors
    /// [`StartError::Config`] with everything that is wrong.
    pub(crate) fn check(&self) -> Result<Checked, StartError> {
        let mut errors = Vec::new();
        let tls = self.check_tls(&mut errors);
        let public = self.check_public(&mut errors);
        let mut ice_errors = Vec::new();
        let ice = self.ice.check(self.listen, &mut ice_errors);
        errors.extend(ice_errors.into_iter().map(ConfigError::Ice));
        match (tls, ice, errors.is_empty()) {
            (Some(tls), Some(ice), true) => Ok(Checked { public, tls, ice }),
            _ => Err(StartError::Config(errors)),
        }
    }

    /// What was chosen, or what is chosen when nothing was.
    fn tls(&self) -> Tls {
        match &self.tls {
            Some(tls) => tls.clone(),
            None if self.listen.ip().is_loopback() => Tls::Off,
            None => Tls::SelfSigned,
        }
    }

    fn check_tls(&self, errors: &mut Vec<ConfigError>) -> Option<CheckedTls> {
        match self.tls() {
            Tls::Off if !self.listen.ip().is_loopback() => {
                errors.push(ConfigError::PlainListen(self.listen));
                None
            }
            Tls::Off => Some(CheckedTls::Off),
            Tls::SelfSigned => Some(CheckedTls::SelfSigned),
            Tls::Files { certificate, key } => {
                let (given, wrong) = Credentials::from_files(&certificate, &key);
                errors.extend(wrong.into_iter().map(ConfigError::Tls));
                given.map(CheckedTls::Given)
            }
        }
    }

    fn check_public(&self, errors: &mut Vec<ConfigError>) -> Option<Origin> {
        let url = self.public_url.as_ref()?;
        match url.parse::<Origin>() {
            Ok(origin) if origin.is_tls() => Some(origin),
            Ok(origin) if !origin.is_loopback() => {
                errors.push(ConfigError::PlainPublicUrl(origin));
                None
            }
            Ok(origin) if self.tls() != Tls::Off => {
                errors.push(ConfigError::PublicUrlWithoutTls(origin));
                None
            }
            Ok(origin) => Some(origin),
            Err(source) => {
                let url = url.clone();
                errors.push(ConfigError::PublicUrl { url, source });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, public_url: Option<&str>, tls: Option<Tls>) -> RegistryConfig {
        RegistryConfig {
            listen: listen.parse().expect("an address"),
            data_dir: PathBuf::new(),
            public_url: public_url.map(str::to_owned),
            tls,
            ice: IceConfig::default(),
        }
    }

    fn errors(config: &RegistryConfig) -> Vec<ConfigError> {
        match config.check() {
            Ok(_) => Vec::new(),
            Err(StartError::Config(errors)) => errors,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_not_said_is_plain_on_loopback_and_self_signed_elsewhere() {
        for (listen, is_plain) in [
            ("127.0.0.1:0", true),
            ("[::1]:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.0.2.1:7700", false),
        ] {
            let checked = config(listen, None, None).check().expect("nothing wrong");
            let off = matches!(checked.tls, CheckedTls::Off);
            assert_eq!(off, is_plain, "{listen}");
        }
    }

    #[test]
    fn plain_http_never_leaves_the_machine() {
        use ConfigError::{PlainListen, PlainPublicUrl};
        let listen = config("0.0.0.0:0", None, Some(Tls::Off));
        assert!(matches!(errors(&listen)[..], [PlainListen(_)]));
        let public = config("127.0.0.1:0", Some("http://mesh.example"), None);
        assert!(matches!(errors(&public)[..], [PlainPublicUrl(_)]));
        for url in ["http://localhost:1", "http://127.3.4.5:1", "http://[::1]:1"] {
            assert!(errors(&config("127.0.0.1:0", Some(url), None)).is_empty());
        }
        let proxied = config("127.0.0.1:0", Some("https://mesh.example"), None);
        assert!(errors(&proxied).is_empty());
    }

    #[test]
    fn a_plain_url_of_a_registry_that_speaks_tls_is_refused() {
        let config = config(
            "127.0.0.1:0",
            Some("http://127.0.0.1:1"),
            Some(Tls::SelfSigned),
        );
        let errors = errors(&config);
        assert!(matches!(errors[..], [ConfigError::PublicUrlWithoutTls(_)]));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let files = Tls::Files {
            certificate: "/nowhere/certificate.pem".into(),
            key: "/nowhere/key.pem".into(),
        };
        let mut config = config("0.0.0.0:0", Some("mesh.example"), Some(files));
        config.ice.stun_urls.push("http://stun.example".into());
        let error = config.check().expect_err("refused");
        let text = error.to_string();
        for part in ["mesh.example", "certificate.pem", "key.pem", "stun.example"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
