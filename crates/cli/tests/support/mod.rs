//! What the process tests share: the real binary, its lines, and a mesh of processes.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

mod mesh;
pub(crate) mod proxy;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use mesh::{Mesh, Way};

/// How long a process may say nothing before a test fails: far above what is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that wait for a test.
const LINES_CAP: usize = 10_000;

/// How a command ended and what it said on standard output.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) lines: Vec<Value>,
}

impl Ran {
    /// The last line.
    pub(crate) fn last(&self) -> &Value {
        self.lines.last().expect("the command said something")
    }

    /// The only line of a command that did what it was asked to.
    pub(crate) fn done(&self) -> &Value {
        assert_eq!((self.code, self.lines.len()), (Some(0), 1), "{self:?}");
        self.last()
    }

    /// The code of the error that the command told.
    pub(crate) fn error_code(&self) -> &str {
        assert_eq!(self.last()["ok"], false, "{self:?}");
        self.last()["error"]["code"].as_str().expect("a code")
    }
}

fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymesh"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WAYMESH_")) {
        command.env_remove(name);
    }
    command.arg("--json").args(args);
    command
}

/// Runs a command to its end.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ran {
    finish(command(args))
}

/// Runs a command to its end with this proxy in its environment.
pub(crate) fn run_behind<A: AsRef<OsStr>>(proxy: &str, args: impl IntoIterator<Item = A>) -> Ran {
    let mut command = command(args);
    command.env("HTTPS_PROXY", proxy).env_remove("NO_PROXY");
    finish(command)
}

/// Runs a command to its end with another folder for temporary files.
pub(crate) fn run_in<A: AsRef<OsStr>>(tmp: &Path, args: impl IntoIterator<Item = A>) -> Ran {
    let mut command = command(args);
    command.env("TMPDIR", tmp);
    finish(command)
}

fn finish(mut command: Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    Ran {
        code: output.status.code(),
        lines,
    }
}

/// A process that goes on running; dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
}

impl Running {
    pub(crate) fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(command(args))
    }

    pub(crate) fn start_in<A: AsRef<OsStr>>(tmp: &Path, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = command(args);
        command.env("TMPDIR", tmp);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        let (told, lines) = sync_channel(LINES_CAP);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("JSON");
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    /// Says a line on the process's standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{line}").expect("it is read");
    }

    /// Waits for an event and gives its line.
    pub(crate) fn told(&self, event: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("no {event}"));
            assert_ne!(line["ok"], false, "waiting for {event}: {line}");
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(mut self) -> Ran {
        let lines: Vec<_> = self.lines.iter().collect();
        let code = self.child.wait().expect("it ends").code();
        Ran { code, lines }
    }

    /// Interrupts the process as Ctrl-C does, and waits for its end.
    pub(crate) fn interrupted(self) -> Ran {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.expect("kill runs").success());
        self.ended()
    }

    /// Closes the process's standard input, and waits for its end.
    pub(crate) fn stdin_closed(mut self) -> Ran {
        self.stdin = None;
        self.ended()
    }

    /// Ends the process without a word (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is running");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program beside a node, speaking JSON lines on its socket.
pub(crate) struct Program {
    lines: BufReader<UnixStream>,
}

impl Program {
    pub(crate) fn attach(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a node");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            lines: BufReader::new(stream),
        }
    }

    pub(crate) fn tell(&mut self, line: &Value) {
        let stream = self.lines.get_mut();
        writeln!(stream, "{line}").expect("the node reads");
    }

    /// Waits for an event of a type and gives its line.
    pub(crate) fn told(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("the node writes");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["type"] == event {
                return line;
            }
        }
    }
}
