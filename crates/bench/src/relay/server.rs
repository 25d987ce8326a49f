//! A relay: a child process that listens on loopback and may relay there.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::process::{Child as Process, Command};
use waymesh_net::turn::client::Credentials;
use waymesh_net::turn::server::RelaySecret;
use waymesh_proto::AgentId;

use crate::child::Child;
use crate::contestant::Contestant;
use crate::error::BenchError;
use crate::settings::Settings;

/// How long the credentials of a run are good. Chosen: no run takes so long.
const CREDENTIAL_LIFE: Duration = Duration::from_secs(3_600);

/// coturn's program.
const COTURN: &str = "turnserver";

/// What credentials for coturn are made of; it listens on loopback while it is measured.
const COTURN_SECRET: &str = "benchmark";

/// A running relay; dropped, it ends.
pub(crate) struct Server {
    pub(crate) who: Contestant,
    pub(crate) address: SocketAddr,
    secret: RelaySecret,
    process: Running,
    _folder: TempDir,
}

enum Running {
    Ours(Child),
    Coturn(Process),
}

impl Server {
    /// A registry, as its users start it.
    pub(crate) async fn ours(settings: &Settings) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::io("making a folder"))?;
        let data_dir = folder.path().join("registry");
        let mut command = Command::new(&settings.program);
        command
            .args(["--json", "--log", "error", "registry", "--stdin-guard"])
            .args(["--listen", "127.0.0.1:0", "--relay-allow", "127.0.0.1"])
            // More than any machine: coturn has no limit either.
            .args(["--relay-rate", "1000000"])
            .arg("--data-dir")
            .arg(&data_dir);
        let mut child = Child::launch("the registry", command, None)?;
        let url = child.ready().await?;
        let address = url.trim_start_matches("http://").parse();
        let address = address.map_err(|error| BenchError::contestant("waymesh", error))?;
        let secret = std::fs::read(data_dir.join("turn.secret"))
            .map_err(BenchError::io("reading the secret of the relay"))?;
        Ok(Self {
            who: Contestant::Waymesh,
            address,
            secret: RelaySecret::new(&secret),
            process: Running::Ours(child),
            _folder: folder,
        })
    }

    /// coturn with UDP alone and its defaults else; `None` where it is not installed.
    pub(crate) fn coturn() -> Result<Option<Self>, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::io("making a folder"))?;
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let address = free
            .and_then(|socket| socket.local_addr())
            .map_err(BenchError::io("looking for a free port"))?;
        let file = folder.path().join("turnserver.conf");
        let text = format!(
            "listening-ip=127.0.0.1\nlistening-port={}\nrelay-ip=127.0.0.1\n\
             use-auth-secret\nstatic-auth-secret={COTURN_SECRET}\nrealm=benchmark\n\
             allow-loopback-peers\nno-tcp\nno-tls\nno-dtls\nno-cli\nno-stdout-log\n\
             log-file=/dev/null\npidfile={}\nuserdb={}\n",
            address.port(),
            folder.path().join("pid").display(),
            folder.path().join("db").display(),
        );
        std::fs::write(&file, text).map_err(BenchError::io("configuring coturn"))?;
        let started = Command::new(COTURN)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BenchError::io("starting coturn")(error)),
        };
        Ok(Some(Self {
            who: Contestant::Coturn,
            address,
            secret: RelaySecret::new(COTURN_SECRET.as_bytes()),
            process: Running::Coturn(process),
            _folder: folder,
        }))
    }

    /// Credentials of the member of this number.
    pub(crate) fn credentials(&self, member: u32) -> Credentials {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&member.to_be_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ends = now.unwrap_or_default() + CREDENTIAL_LIFE;
        let (username, credential) = self.secret.issue(&AgentId::from_bytes(id), ends);
        Credentials {
            username,
            credential,
        }
    }

    /// Its process, for measuring it.
    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        match &self.process {
            Running::Ours(child) => child.pid(),
            Running::Coturn(process) => process
                .id()
                .ok_or_else(|| BenchError::contestant("coturn", "it has ended")),
        }
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        match self.process {
            Running::Ours(child) => child.stop().await,
            Running::Coturn(mut process) => process
                .kill()
                .await
                .map_err(BenchError::io("ending coturn")),
        }
    }
}
