//! One process of the binary: what it says on standard output, and its end.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use waymesh_proto::Fault;

use super::diagnosis::{Checks, Foreseen};

/// How long a process may say nothing before the run fails: far above what is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that wait to be taken; a process that says more waits itself.
const LINES_CAP: usize = 1_024;

/// The environment variable that a node takes its invite from.
const INVITE_VARIABLE: &str = "WAYMESH_INVITE";

/// A line of standard output, with the fields that the lab reads.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Said {
    /// False when the line tells an error.
    pub(crate) ok: Option<bool>,
    pub(crate) event: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) invite: Option<String>,
    pub(crate) error: Option<Fault>,
    /// Of doctor.
    pub(crate) paths: Option<Vec<Foreseen>>,
    /// Of doctor.
    pub(crate) checks: Option<Checks>,
}

/// A running process; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Receiver<Said>,
}

impl Process {
    /// Starts the binary with `--json`; what it logs is appended to `log`.
    pub(crate) fn spawn(
        name: &str,
        binary: &Path,
        args: impl IntoIterator<Item = OsString>,
        invite: &str,
        log: &Path,
    ) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"WAYMESH_") {
                command.env_remove(name);
            }
        }
        if !invite.is_empty() {
            command.env(INVITE_VARIABLE, invite);
        }
        let mut child = command
            .arg("--json")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let stdout = child.stdout.take().context("it has no pipe")?;
        let (told, lines) = sync_channel(LINES_CAP);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let said = serde_json::from_str(&line).unwrap_or_default();
                if told.send(said).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
        })
    }

    /// The next line, whatever it tells.
    ///
    /// # Errors
    ///
    /// When it does not come in time, or the process has ended.
    pub(crate) fn hear(&mut self) -> Result<Said> {
        self.hear_before(Instant::now() + PATIENCE)
    }

    fn hear_before(&mut self, deadline: Instant) -> Result<Said> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(said) => Ok(said),
            Err(RecvTimeoutError::Timeout) => bail!("{} says nothing", self.name),
            Err(RecvTimeoutError::Disconnected) => bail!("{} has ended by itself", self.name),
        }
    }

    /// The next line.
    ///
    /// # Errors
    ///
    /// When it tells an error, does not come in time, or the process has ended.
    pub(crate) fn next(&mut self) -> Result<Said> {
        self.next_before(Instant::now() + PATIENCE)
    }

    fn next_before(&mut self, deadline: Instant) -> Result<Said> {
        match self.hear_before(deadline)? {
            Said {
                ok: Some(false),
                error,
                ..
            } => Err(match error {
                Some(fault) => anyhow!(fault).context(format!("{} failed", self.name)),
                None => anyhow!("{} failed", self.name),
            }),
            said => Ok(said),
        }
    }

    /// Waits for an event and gives its line.
    pub(crate) fn told(&mut self, event: &str) -> Result<Said> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self
                .next_before(deadline)
                .with_context(|| format!("waiting for `{event}`"))?;
            if said.event.as_deref() == Some(event) {
                return Ok(said);
            }
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the process without a word (SIGKILL).
    pub(crate) fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended by itself: {status}", self.name);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
