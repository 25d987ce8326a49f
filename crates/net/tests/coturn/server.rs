//! coturn's `turnserver` on loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use waymesh_net::control::TlsTrust;
use waymesh_net::stun::binding::{Binding, Question};
use waymesh_net::turn::client::Credentials;
use waymesh_proto::ice::Credential;

/// Longest time until it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

pub(crate) const REALM: &str = "relay.example";
const SECRET: &str = "a secret of the test";

/// How it knows users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// `use-auth-secret`: names that begin with the time of their end.
    Secret,
    /// `lt-cred-mech` with one user.
    Static,
}

/// A running server, killed when it is dropped.
pub(crate) struct Coturn {
    child: Child,
    command: Vec<String>,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    pub(crate) trust: TlsTrust,
    folder: tempfile::TempDir,
}

/// Says that a test was skipped; in CI nothing may be.
#[expect(clippy::print_stderr, reason = "a skipped test is loud")]
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "SKIPPED in CI: {why}");
    eprintln!("SKIPPED: {why}");
}

impl Coturn {
    /// Starts one; `None`, loudly, where it is not installed.
    pub(crate) fn start(users: Users, more: &[&str]) -> Option<Self> {
        if Command::new("turnserver")
            .arg("--version")
            .output()
            .is_err()
        {
            skip("turnserver is missing: apt-get install coturn");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]);
        let signed = signed.expect("a certificate");
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        let certificate = pem("CERTIFICATE", signed.cert.der());
        fs::write(&cert, &certificate).expect("a file");
        let private = pem("PRIVATE KEY", &signed.signing_key.serialize_der());
        fs::write(&key, private).expect("a file");
        let trust = TlsTrust::default().with_ca_pem(certificate.as_bytes());
        let (port, tls_port) = (free_port(), free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command: Vec<String> = [
            "-n",
            "--no-cli",
            "--no-dtls",
            "--allow-loopback-peers",
            "--simple-log",
            "--listening-ip=127.0.0.1",
            "--relay-ip=127.0.0.1",
            "--fingerprint",
        ]
        .map(str::to_owned)
        .into();
        command.extend([
            format!("--listening-port={port}"),
            format!("--tls-listening-port={tls_port}"),
            format!("--realm={REALM}"),
            format!("--cert={}", path("cert")),
            format!("--pkey={}", path("key")),
            format!("--pidfile={}", path("pid")),
            format!("--log-file={}", path("log")),
            format!("--userdb={}", path("db")),
        ]);
        command.extend(match users {
            Users::Secret => vec![
                "--use-auth-secret".into(),
                format!("--static-auth-secret={SECRET}"),
            ],
            Users::Static => vec!["--lt-cred-mech".into(), "--user=alice:right".into()],
        });
        command.extend(more.iter().map(|option| (*option).to_owned()));
        let child = spawn(&command);
        let server = Self {
            child,
            command,
            port,
            tls_port,
            trust: trust.expect("a certificate"),
            folder,
        };
        server.wait();
        Some(server)
    }

    /// Kills it and starts it again at the same ports: it remembers nothing.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = spawn(&self.command);
        self.wait();
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Until it answers Binding requests.
    fn wait(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(("127.0.0.1", self.port)).expect("loopback");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a duration");
        let end = Instant::now() + STARTS_WITHIN;
        let mut buffer = [0; 1_500];
        while Instant::now() < end {
            let mut binding = Binding::new(Question::default(), Instant::now(), [3; 32]);
            let request = binding.poll_transmit().expect("the question");
            // Refused while nobody listens.
            if socket.send(&request).is_ok()
                && let Ok(count) = socket.recv(&mut buffer)
                && binding.handle_datagram(Instant::now(), &buffer[..count])
            {
                let answer = binding.poll_outcome().expect("an outcome").expect("good");
                assert_eq!(Ok(answer.mapped), socket.local_addr().map_err(|e| e.kind()));
                return;
            }
        }
        let log = fs::read_dir(self.folder.path()).expect("the folder");
        let logs = log
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok());
        panic!("turnserver does not answer: {}", logs.collect::<String>());
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

fn spawn(arguments: &[String]) -> Child {
    Command::new("turnserver")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("turnserver starts")
}

/// A port that is free for UDP and TCP. Taken anew at once, which may fail in theory.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = tcp.local_addr().expect("an address").port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Credentials of `use-auth-secret` that end then, seconds since 1970.
pub(crate) fn timed(expires: u64) -> Credentials {
    let username = format!("{expires}:01890a5d-ac96-774b-bcce-b302099a8057");
    let key = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        SECRET.as_bytes(),
    );
    let tag = aws_lc_rs::hmac::sign(&key, username.as_bytes());
    Credentials {
        credential: Credential::new(data_encoding::BASE64.encode(tag.as_ref())),
        username,
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// The user of [`Users::Static`].
pub(crate) fn alice(password: &str) -> Credentials {
    Credentials {
        username: "alice".into(),
        credential: Credential::new(password.into()),
    }
}
