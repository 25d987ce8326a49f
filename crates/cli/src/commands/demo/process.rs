//! One process of the demo: this same binary, running another command.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use waymesh_proto::{Code, Fault};

/// How long a process may take to say goodbye before it is killed. Chosen: it does so in
/// milliseconds unless something is wrong.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// What the variables begin with that stand for flags. They are meant for the demo, not
/// for its processes.
const ENV_PREFIX: &[u8] = b"WAYMESH_";

/// A running process. It ends when its standard input closes, so it cannot outlive the
/// demo, however that ends; dropped, it is killed.
pub(super) struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// A line that a process tells with `--json`.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    event: Option<String>,
    /// Where a registry listens.
    pub(super) url: Option<String>,
    error: Option<Fault>,
}

impl Process {
    /// Starts `waymesh --json` with these arguments.
    pub(super) fn start<A: AsRef<OsStr>>(
        name: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, Fault> {
        let failed = |why: String| {
            Fault::new(
                Code::SidecarFailed,
                format!("{name} could not be started: {why}"),
            )
        };
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(ENV_PREFIX) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["--json", "--log", "error"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        match (stdin, stdout) {
            (Some(stdin), Some(stdout)) => Ok(Self {
                name: name.to_owned(),
                child,
                stdin,
                lines: BufReader::new(stdout).lines(),
            }),
            _ => Err(failed("it has no pipes".into())),
        }
    }

    /// Waits until the process tells an event; its own error becomes ours.
    pub(super) async fn told(&mut self, event: &str, limit: Duration) -> Result<Line, Fault> {
        timeout(limit, self.next_told(event)).await.map_err(|_| {
            Fault::new(
                Code::Timeout,
                format!("{} was not {event} within {limit:?}", self.name),
            )
            .with_hint("give it more time with --timeout")
        })?
    }

    async fn next_told(&mut self, event: &str) -> Result<Line, Fault> {
        let failed = |why: String| Fault::new(Code::SidecarFailed, why);
        while let Some(text) = self
            .lines
            .next_line()
            .await
            .map_err(|error| failed(format!("{} cannot be read: {error}", self.name)))?
        {
            let line: Line = serde_json::from_str(&text)
                .map_err(|error| failed(format!("{} said {text:?}: {error}", self.name)))?;
            if let Some(fault) = line.error {
                return Err(fault);
            }
            if line.event.as_deref() == Some(event) {
                return Ok(line);
            }
        }
        Err(failed(format!("{} ended before it was {event}", self.name)))
    }

    /// Lets the process say goodbye and sees it end.
    pub(super) async fn stop(mut self) {
        drop(self.stdin);
        if timeout(GOODBYE_MAX, self.child.wait()).await.is_err() {
            tracing::warn!(process = self.name, "had to be killed");
            let _ = self.child.kill().await;
        }
    }
}
