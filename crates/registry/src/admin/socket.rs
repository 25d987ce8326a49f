//! The admin socket of a running registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use waymesh_net::local::{self, BindError};
use waymesh_proto::{Code, Fault};

use super::api::{ADMIN_LINE_MAX_BYTES, Answer};
use super::desk::Desk;
use super::lines::{Line, Lines, request};

/// Connections at a time; one more is told `rate_limited` and closed. Chosen:
/// admin commands come one by one, scripts a few at once.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may take to send its next line, or to take an answer.
/// Chosen: somebody may think between two questions.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after an accept that failed: too many files may be open. Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening admin socket. The file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens in a data directory whose lock the caller holds.
    ///
    /// # Errors
    /// A [`BindError`] when the file cannot be made.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        let listener = local::bind(path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves until `stop` changes.
    pub(crate) async fn serve(self, desk: Desk, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let refusal = refusal(&stream, connections.len());
                        connections.spawn(connection(stream, refusal, desk.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "an admin connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                // An error means that the registry was dropped.
                _ = stop.changed() => break,
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn refusal(stream: &UnixStream, open: usize) -> Option<Fault> {
    if !local::is_allowed(stream) {
        return Some(
            Fault::new(Code::Unauthorized, "the registry belongs to another user")
                .with_hint("run the command as the user that runs the registry"),
        );
    }
    (open >= CONNECTIONS_MAX).then(|| {
        let message = format!("the registry has {CONNECTIONS_MAX} admin connections already");
        Fault::new(Code::RateLimited, message).with_hint("let the other commands end first")
    })
}

/// Answers line by line until the other side closes, or was refused.
async fn connection(stream: UnixStream, refusal: Option<Fault>, desk: Desk) {
    let mut lines = Lines::new(stream);
    if let Some(fault) = refusal {
        write(&mut lines, Answer::Error(fault)).await;
        return;
    }
    while let Ok(Ok(line)) = timeout(LINE_TIMEOUT, lines.read()).await {
        let (answer, is_last) = match line {
            Line::End => return,
            Line::TooLong => (Err(too_long()), true),
            Line::Whole(line) => match request(&line) {
                Ok(request) => (desk.answer(request).await, false),
                Err(fault) => (Err(fault), false),
            },
        };
        if !write(&mut lines, answer.into()).await || is_last {
            return;
        }
    }
}

/// Whether the answer was taken.
async fn write(lines: &mut Lines, answer: Answer) -> bool {
    let written = timeout(LINE_TIMEOUT, lines.write(&answer)).await;
    matches!(written, Ok(Ok(())))
}

fn too_long() -> Fault {
    let message = format!("the line is longer than {ADMIN_LINE_MAX_BYTES} bytes");
    Fault::new(Code::LineTooLong, message)
}
