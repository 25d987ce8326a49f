//! Logs: to standard error, never among results.

use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

/// Starts logging with the filter that was asked for, or the command's own.
///
/// A filter that does not parse is reported by clap before this is reached.
pub(crate) fn start(cli: &Cli) {
    let filter = match (&cli.global.log, &cli.command) {
        (Some(filter), _) => filter.as_str(),
        (None, Command::Registry(_) | Command::Node(_)) => "info",
        (None, _) => "error",
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
}

/// Checks a filter on the command line.
pub(crate) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}
