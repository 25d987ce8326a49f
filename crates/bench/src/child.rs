//! The parent's end of a child process: start it in a role, talk in JSON lines over
//! its standard input and output, and see it end.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::error::BenchError;
use crate::role::{INVITE_VARIABLE, Role, Said, Told};
use crate::settings::Settings;

/// How long a child may say nothing while something is expected of it. Chosen far above
/// every measured figure: it only turns a hang into an error.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What the variables begin with that stand for flags of the program; they are meant for
/// the benchmark, not for its children.
const ENV_PREFIX: &[u8] = b"WAYMESH_";

/// A running child; dropped, it is killed.
pub(crate) struct Child {
    role: &'static str,
    process: tokio::process::Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a role and waits until it is ready; gives the address that it announced.
    pub(crate) async fn start(
        settings: &Settings,
        role: &Role,
    ) -> Result<(Self, String), BenchError> {
        let mut child = Self::spawn(settings, role, None)?;
        let address = child.ready().await?;
        Ok((child, address))
    }

    /// Starts a role without waiting for it; `invite` is that of its mesh.
    pub(crate) fn spawn(
        settings: &Settings,
        role: &Role,
        invite: Option<&str>,
    ) -> Result<Self, BenchError> {
        let text = serde_json::to_string(role).map_err(|error| BenchError::Child {
            role: role.label(),
            why: error.to_string(),
        })?;
        let mut command = Command::new(&settings.program);
        command.args(&settings.role_args).arg(text);
        Self::launch(role.label(), command, invite)
    }

    /// Starts a program as its users do: it must speak JSON lines and end when its
    /// standard input closes.
    pub(crate) fn launch(
        role: &'static str,
        mut command: Command,
        invite: Option<&str>,
    ) -> Result<Self, BenchError> {
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(ENV_PREFIX) {
                command.env_remove(name);
            }
        }
        if let Some(invite) = invite {
            command.env(INVITE_VARIABLE, invite);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io("starting a child process"))?;
        let missing = || BenchError::Child {
            role,
            why: "it has no pipes".into(),
        };
        let stdin = process.stdin.take().ok_or_else(missing)?;
        let stdout = process.stdout.take().ok_or_else(missing)?;
        Ok(Self {
            role,
            process,
            stdin,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// The process id, for measuring it.
    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        self.process.id().ok_or_else(|| BenchError::Child {
            role: self.role,
            why: "it has ended".into(),
        })
    }

    /// Waits until the child listens and gives the address that it announces.
    pub(crate) async fn ready(&mut self) -> Result<String, BenchError> {
        match self.next().await? {
            Said::Ready {
                address: Some(address),
            } => Ok(address),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits until the child's nodes are registered.
    pub(crate) async fn registered(&mut self) -> Result<(), BenchError> {
        loop {
            match self.next().await? {
                Said::Registered => return Ok(()),
                Said::Ready { .. } => {}
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// The next thing that the child says.
    pub(crate) async fn next(&mut self) -> Result<Said, BenchError> {
        let line = timeout(SILENCE_MAX, self.lines.next_line())
            .await
            .map_err(|_| BenchError::Stuck {
                what: self.role,
                limit: SILENCE_MAX,
            })?
            .map_err(BenchError::io("reading from a child process"))?;
        let line = line.ok_or_else(|| BenchError::Child {
            role: self.role,
            why: "it ended; its own error is above".into(),
        })?;
        serde_json::from_str(&line).map_err(|error| BenchError::Child {
            role: self.role,
            why: format!("it said {line:?}: {error}"),
        })
    }

    /// Tells the child to do something.
    pub(crate) async fn tell(&mut self, told: &Told) -> Result<(), BenchError> {
        let mut line = serde_json::to_vec(told).map_err(|error| BenchError::Child {
            role: self.role,
            why: error.to_string(),
        })?;
        line.push(b'\n');
        self.stdin
            .write_all(&line)
            .await
            .map_err(BenchError::io("writing to a child process"))
    }

    /// Asks the child to end, by closing its standard input, and sees it end.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        drop(self.stdin);
        timeout(SILENCE_MAX, self.process.wait())
            .await
            .map_err(|_| BenchError::Stuck {
                what: self.role,
                limit: SILENCE_MAX,
            })?
            .map(drop)
            .map_err(BenchError::io("waiting for a child process"))
    }

    /// The error for something that should not have been said now.
    pub(crate) fn unexpected(&self, said: &Said) -> BenchError {
        BenchError::Child {
            role: self.role,
            why: format!("it said {said:?} out of turn"),
        }
    }
}
