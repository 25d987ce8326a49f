//! When to stop: Ctrl-C, `kill`, or the end of standard input for those who watch it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use waymesh_proto::{Code, Fault};

/// Whether the end of standard input stops the program.
///
/// A parent that holds the other end of the pipe can then never leave this program
/// behind, even when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StdinGuard {
    /// Standard input is not read.
    Off,
    /// The program stops when standard input closes; what comes in is ignored.
    On,
}

impl From<bool> for StdinGuard {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// Catches the signals from now on; the future ends with the first reason to stop.
///
/// # Errors
///
/// [`Code::Internal`] when the system refuses the handlers.
pub(crate) fn requested(guard: StdinGuard) -> Result<impl Future<Output = ()>, Fault> {
    let catch = |kind| {
        signal(kind).map_err(|error| {
            Fault::new(Code::Internal, format!("signals cannot be caught: {error}"))
        })
    };
    let mut interrupt = catch(SignalKind::interrupt())?;
    let mut terminate = catch(SignalKind::terminate())?;
    let stdin = match guard {
        StdinGuard::Off => None,
        StdinGuard::On => Some(end_of_stdin()),
    };
    Ok(async move {
        let stdin = async {
            match stdin {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stdin => {}
        }
    })
}

/// Reads on a thread: tokio's own standard input would hold up the end of the runtime.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(end);
    });
    ended
}
