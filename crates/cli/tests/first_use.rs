//! Joining by six digits over TLS for which nobody vouches: trust on first use,
//! and what becomes of those who stand between.

mod support;

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use support::{Mesh, Ran, Running, Way, run};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A certificate that its own key has signed.
struct Shown {
    certificate: CertificateDer<'static>,
    key: rcgen::KeyPair,
}

impl Shown {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["127.0.0.1".into()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            key,
        }
    }

    /// Writes what `--tls-cert` and `--tls-key` take.
    fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let write = |name: &str, label: &str, der: &[u8]| {
            let base64 = data_encoding::BASE64.encode(der);
            let pem = format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
            let path = folder.join(name);
            std::fs::write(&path, pem).expect("a file");
            path
        };
        let certificate = write("tls.pem", "CERTIFICATE", &self.certificate);
        let key = write("tls.pem.key", "PRIVATE KEY", &self.key.serialize_der());
        (certificate, key)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of the provider")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key);
        TlsAcceptor::from(Arc::new(config.expect("a usable key")))
    }

    /// Speaks TLS with whoever shows this.
    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of the provider")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

/// Where a relay passes on what it hears.
#[derive(Clone)]
struct Upstream {
    addr: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Upstream {
    /// Passes everything on and back, until either side ends it.
    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut tcp = TcpStream::connect(self.addr).await?;
        match self.tls {
            None => copy_bidirectional(&mut stream, &mut tcp).await?,
            Some(tls) => {
                let name = ServerName::IpAddress(self.addr.ip().into());
                let mut tls = tls.connect(name, tcp).await?;
                copy_bidirectional(&mut stream, &mut tls).await?
            }
        };
        Ok(())
    }
}

/// Somebody at the registry's public address who speaks TLS with a key of
/// their own and passes everything on. Dropped, it ends.
struct Relay {
    _stop: oneshot::Sender<()>,
}

impl Relay {
    fn start(listener: TcpListener, shown: &Shown, upstream: Upstream) -> Self {
        let (stop, stopped) = oneshot::channel();
        let acceptor = shown.acceptor();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = relay(listener, acceptor, upstream) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { _stop: stop }
    }
}

async fn relay(listener: TcpListener, acceptor: TlsAcceptor, upstream: Upstream) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let mut streams = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        streams.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                // The end of either side is its own affair.
                let _ = upstream.serve(stream).await;
            }
        });
    }
}

/// A registry whose public URL leads to a relay.
struct Relayed {
    folder: TempDir,
    url: String,
    _registry: Running,
    _relay: Relay,
}

impl Relayed {
    /// The registry speaks TLS as `registry` where that is given, else plain HTTP.
    fn start(registry: Option<&Shown>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let mut args = ["registry", "--listen", "127.0.0.1:0", "--public-url", &url]
            .map(PathBuf::from)
            .to_vec();
        args.extend(["--data-dir".into(), folder.path().join("registry")]);
        if let Some(shown) = registry {
            let (certificate, key) = shown.write(folder.path());
            args.extend(["--tls-cert".into(), certificate, "--tls-key".into(), key]);
        }
        let process = Running::start(args);
        let ready = process.told("ready");
        assert_eq!(ready["url"], *url);
        let upstream = Upstream {
            addr: text(&ready["listen"]).parse().expect("an address"),
            tls: registry.map(Shown::connector),
        };
        let relay = Relay::start(listener, &Shown::new(), upstream);
        Self {
            folder,
            url,
            _registry: process,
            _relay: relay,
        }
    }

    fn at(&self, name: &str, args: &[&str]) -> Ran {
        let dir = self.folder.path().join(name);
        let args = args.iter().map(OsStr::new);
        run(args.chain([OsStr::new("--data-dir"), dir.as_os_str()]))
    }

    /// Starts bob with new digits.
    fn join(&self) -> Running {
        let made = self.at("registry", &["invite", "--code"]);
        let code = text(&made.done()["code"]).to_owned();
        self.start_node(&["--name", "bob", "--registry", &self.url, "--invite", &code])
    }

    /// Starts bob.
    fn start_node(&self, args: &[&str]) -> Running {
        let dir = self.folder.path().join("bob");
        let args = ["node", "--data-dir"]
            .iter()
            .map(OsStr::new)
            .chain([dir.as_os_str()])
            .chain(args.iter().map(OsStr::new));
        Running::start(args)
    }
}

#[test]
fn six_digits_are_enough_for_a_registry_with_a_tls_key_of_its_own() {
    let mut mesh = Mesh::unfounded(Way::Tls);
    mesh.stop_registry();
    let ready = mesh.start_registry();
    let made = mesh.admin(&["invite", "--code"]);
    let made = made.done();
    let code = text(&made["code"]);
    let args = ["--name", "bob", "--invite", code, "--registry", &mesh.url];
    let bob = mesh.begin_node(&mesh.data_dir("bob"), &args);
    let told = bob.told("pending");
    assert_eq!(told["mesh_fingerprint"], made["mesh_fingerprint"]);
    let request = text(&told["request"]);
    let fingerprint = text(&told["fingerprint"]);
    mesh.admin(&["approve", request, "--fingerprint", fingerprint])
        .done();
    bob.told("registered");
    let shown = mesh.at("bob", &["identity", "show"]);
    assert_eq!(shown.done()["tls_pin"], ready["tls_pin"]);
    bob.interrupted();
    let bob = mesh.begin_node(&mesh.data_dir("bob"), &[]);
    bob.told("registered");
}

#[test]
fn who_stands_between_a_newcomer_and_the_registry_is_found_out() {
    let mesh = Relayed::start(Some(&Shown::new()));
    let ran = mesh.join().ended();
    assert_eq!((ran.code, ran.error_code()), (Some(1), "untrusted_tls"));
    let hint = text(&ran.last()["error"]["hint"]);
    assert!(hint.contains("stands between"), "{hint}");
    assert!(mesh.at("registry", &["pending"]).lines.is_empty());
    let shown = mesh.at("bob", &["identity", "show"]);
    assert_eq!(shown.done()["registry"], Value::Null);
}

#[test]
fn a_proxy_may_speak_tls_for_the_registry_and_its_key_is_pinned() {
    let mesh = Relayed::start(None);
    let bob = mesh.join();
    let told = bob.told("pending");
    mesh.at("registry", &["pending"]);
    mesh.at("registry", &["approve", text(&told["request"])])
        .done();
    bob.told("registered");
    let shown = mesh.at("bob", &["identity", "show"]);
    assert!(shown.done()["tls_pin"].is_string());
    bob.interrupted();
    mesh.start_node(&[]).told("registered");
}
