//! The only place that prints: results and errors to standard output, for people or,
//! with `--json`, one object a line.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use waymesh_proto::Fault;

/// How often a spinner moves.
const TICK: Duration = Duration::from_millis(100);

/// Something to tell: as JSON for programs, as text for people.
pub(crate) trait Tell: Serialize {
    /// What people read; nothing is printed when it is empty.
    fn text(&self, look: Look) -> String;
}

/// What the output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A terminal: tables have borders, long work has a spinner.
    Terminal,
    /// A pipe or file: columns are separated by spaces, nothing moves.
    Plain,
}

/// Where a command's results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    look: Look,
}

#[derive(Serialize)]
struct Failure<'a> {
    ok: bool,
    error: &'a Fault,
}

impl Output {
    /// Output for people, or JSON.
    pub(crate) fn new(json: bool) -> Self {
        let look = if io::stdout().is_terminal() {
            Look::Terminal
        } else {
            Look::Plain
        };
        Self { json, look }
    }

    /// Whether results are told as JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Tells a result or an event.
    pub(crate) fn tell(self, what: &impl Tell) {
        if self.json {
            print_json(what);
        } else {
            let text = what.text(self.look);
            if !text.is_empty() {
                print(&format!("{text}\n"));
            }
        }
    }

    /// Tells an error: what happened, why, and what to do.
    pub(crate) fn fail(self, fault: &Fault) {
        if self.json {
            print_json(&Failure {
                ok: false,
                error: fault,
            });
            return;
        }
        let mut text = format!("error: {} ({})\n", fault.message, fault.code);
        if let Some(hint) = &fault.hint {
            text.push_str(&format!("  try: {hint}\n"));
        }
        print(&text);
    }

    /// Prints text that is neither a result nor an error: help and version.
    pub(crate) fn verbatim(self, text: &str) {
        print(text);
    }

    /// A spinner on standard error while work goes on; invisible unless a person looks on.
    pub(crate) fn progress(self, message: impl Into<String>) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(message.into());
        bar.enable_steady_tick(TICK);
        bar
    }
}

/// A table of columns and rows.
pub(crate) fn table(look: Look, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.to_vec()).add_rows(rows);
    match look {
        Look::Terminal => table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic),
        Look::Plain => table.load_style(presets::NOTHING),
    };
    let lines = table.to_string();
    lines
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A value, or a dash when it is not known.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Milliseconds with a fraction, to the nanosecond.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// The name that a plain enum of the protocol has in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "-".to_owned(),
    }
}

fn print_json(what: &impl Serialize) {
    match serde_json::to_string(what) {
        Ok(line) => print(&format!("{line}\n")),
        Err(error) => tracing::error!(%error, "a result could not be written as JSON"),
    }
}

/// Writes and flushes. A reader that has gone away (`waymesh agents | head -1`) is no
/// error of ours.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::warn!(%error, "standard output cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::api::PeerState;

    #[test]
    fn a_table_in_a_pipe_is_columns_without_borders() {
        let text = table(
            Look::Plain,
            &["a", "long name"],
            vec![vec!["1".into(), "2".into()]],
        );
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line == line.trim_end()));
        assert!(!text.contains('│'));
    }

    #[test]
    fn a_state_is_shown_by_its_name_in_json() {
        assert_eq!(word(&PeerState::Linked), "linked");
        assert_eq!(or_dash::<u8>(None), "-");
    }
}
