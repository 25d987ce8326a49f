//! What a run of the matrix prints.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use waymesh_proto::link::Path;

use super::summary::Summary;
use crate::nat::kind::Kind;
use crate::nat::spread::{ms, shown as shown_ms};
use crate::nat::table::path_name;

/// What came of one pair.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) caller: Kind,
    pub(super) callee: Kind,
    pub(super) theory: Path,
    /// From before the caller's program asked until it had the echo.
    pub(super) first_answer: Duration,
    pub(super) first_path: Option<Path>,
    /// The first link, and when both sides had said that they use it.
    pub(super) linked: Option<(Path, Duration)>,
    /// What both ended up on; `None` when they did not agree.
    pub(super) path: Option<Path>,
    /// When both had said that they are on the path that they ended up on, counted like the
    /// first answer; `None` without a link.
    pub(super) settled: Option<Duration>,
    /// Why each side is where it is.
    pub(super) reasons: [String; 2],
}

impl Row {
    /// Whether theory allows nothing better.
    pub(super) fn is_best(&self) -> bool {
        self.path == Some(self.theory)
    }
}

/// A pair as JSON has it; times are milliseconds.
#[derive(Debug, Serialize)]
struct Line<'a> {
    caller: String,
    callee: String,
    ok: bool,
    theory: Path,
    path: Option<Path>,
    first_answer_ms: f64,
    first_path: Option<Path>,
    first_link: Option<Path>,
    first_link_ms: Option<f64>,
    path_ms: Option<f64>,
    reasons: &'a [String; 2],
}

/// Prints each pair as it ends, and the figures of all.
#[derive(Debug)]
pub(super) struct Report {
    rtt: Duration,
    is_json: bool,
    so_far: Mutex<SoFar>,
}

/// What came of pairs, and what was as it must not be.
#[derive(Debug, Default)]
pub(super) struct SoFar {
    pub(super) rows: Vec<Row>,
    /// Pairs that exchanged nothing.
    pub(super) failed: usize,
    pub(super) violations: Vec<String>,
}

fn shown(path: Option<Path>) -> &'static str {
    path.map_or("-", path_name)
}

impl Report {
    pub(super) fn new(rtt: Duration, is_json: bool) -> Self {
        if !is_json {
            println!(
                "round trip {:.0} ms between any two hosts; times in ms",
                ms(rtt)
            );
            println!(
                "{:<19}{:<19}{:>7} {:<9}{:>7} {:<8}{:>7} {:<8}{:<8}",
                "caller", "callee", "answer", "by", "link", "by", "path", "", "theory"
            );
        }
        Self {
            rtt,
            is_json,
            so_far: Mutex::default(),
        }
    }

    /// One pair has come to its end.
    pub(super) fn row(&self, row: Row) {
        if self.is_json {
            let line = Line {
                caller: row.caller.name(),
                callee: row.callee.name(),
                ok: row.is_best(),
                theory: row.theory,
                path: row.path,
                first_answer_ms: ms(row.first_answer),
                first_path: row.first_path,
                first_link: row.linked.map(|(path, _)| path),
                first_link_ms: row.linked.map(|(_, at)| ms(at)),
                path_ms: row.settled.map(ms),
                reasons: &row.reasons,
            };
            println!(
                "{}",
                serde_json::to_string(&line).expect("figures always serialise")
            );
        } else {
            println!(
                "{:<19}{:<19}{:>7.0} {:<9}{:>7} {:<8}{:>7} {:<8}{:<8}{}",
                row.caller.name(),
                row.callee.name(),
                ms(row.first_answer),
                shown(row.first_path),
                shown_ms(row.linked.map(|(_, at)| at)),
                shown(row.linked.map(|(path, _)| path)),
                shown_ms(row.settled),
                shown(row.path),
                path_name(row.theory),
                if row.is_best() {
                    ""
                } else {
                    "  <- not what theory allows"
                },
            );
            if !row.is_best() {
                for reason in &row.reasons {
                    println!("    {reason}");
                }
            }
        }
        self.lock().rows.push(row);
    }

    /// One pair has exchanged nothing.
    pub(super) fn failed(&self, what: &str) {
        self.violated(what);
        self.lock().failed += 1;
    }

    /// Something is as it must not be.
    pub(super) fn violated(&self, what: &str) {
        // Lines of JSON have it in the summary.
        if !self.is_json {
            println!("VIOLATION: {what}");
        }
        self.lock().violations.push(what.to_owned());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the figures.
    pub(super) fn end(self) -> ExitCode {
        let so_far = self.so_far.into_inner();
        let so_far = so_far.unwrap_or_else(PoisonError::into_inner);
        let summary = Summary::of(self.rtt, so_far);
        if self.is_json {
            println!(
                "{}",
                serde_json::to_string(&summary).expect("figures always serialise")
            );
        } else {
            summary.print();
        }
        if summary.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
