//! coturn as a TURN server that is not waymesh's, on a host of the lab.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::net::{Host, Net};
use super::probe;

/// The port of TURN (RFC 8656 §7).
const PORT: u16 = 3_478;

/// What it shares with the registry.
pub(crate) const SECRET: &str = "of-the-lab";

/// How long it may take to start. Chosen far above what is expected.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A host with coturn on it.
#[derive(Debug)]
pub(crate) struct Coturn {
    pub(crate) host: Host,
    address: Ipv4Addr,
    child: Option<Child>,
}

/// Whether there is coturn here.
pub(crate) fn is_here() -> bool {
    let version = Command::new("turnserver")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok()
}

/// The URL by which others know a server at this address.
pub(crate) fn url(address: Ipv4Addr) -> String {
    format!("turn:{address}:{PORT}?transport=udp")
}

impl Coturn {
    /// Starts coturn on a new host with a public address.
    pub(crate) fn start(net: &Net, label: &str, address: Ipv4Addr, folder: &Path) -> Result<Self> {
        let mut coturn = Self {
            host: net.add_server(label, &[address])?,
            address,
            child: None,
        };
        coturn.restart(folder)?;
        Ok(coturn)
    }

    /// Starts it again where it was; it remembers nothing.
    pub(crate) fn restart(&mut self, folder: &Path) -> Result<()> {
        let file = |ending: &str| folder.join(format!("coturn-{}.{ending}", self.address));
        let mut command = Command::new("turnserver");
        command
            .args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--simple-log"])
            .args(["--use-auth-secret", "--realm=lab"])
            .arg(format!("--static-auth-secret={SECRET}"))
            .arg(format!("--listening-ip={}", self.address))
            .arg(format!("--relay-ip={}", self.address))
            .arg(format!("--listening-port={PORT}"))
            .arg(format!("--pidfile={}", file("pid").display()))
            .arg(format!("--log-file={}", file("log").display()))
            .arg(format!("--userdb={}", file("db").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let spawned = self.host.namespace.run(|| Ok(command.spawn()?));
        self.child = Some(spawned.context("starting turnserver (coturn)")?);
        let server = SocketAddr::from((self.address, PORT));
        let until = Instant::now() + STARTS_WITHIN;
        while Instant::now() < until {
            if self.host.namespace.run(|| probe::is_there(server))? {
                return Ok(());
            }
        }
        ensure!(self.child.is_none(), "turnserver (coturn) does not answer");
        Ok(())
    }

    /// Ends it without a word (SIGKILL).
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("coturn is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
