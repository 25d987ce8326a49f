//! What a run of the matrix prints.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use waymesh_proto::link::Path;

use crate::nat::kind::Kind;
use crate::nat::spread::{Spread, ms, shown as shown_ms};
use crate::nat::table::path_name;

/// What came of one pair.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) caller: Kind,
    pub(super) callee: Kind,
    pub(super) theory: Path,
    pub(super) first_answer: Duration,
    pub(super) first_path: Option<Path>,
    /// The first link, and when it was there.
    pub(super) linked: Option<(Path, Duration)>,
    /// What both ended up on; `None` when they did not agree.
    pub(super) path: Option<Path>,
    /// When both were on the path that they ended up on; `None` without a link.
    pub(super) settled: Option<Duration>,
    /// Why each side is where it is.
    pub(super) reasons: [String; 2],
}

impl Row {
    /// Whether theory allows nothing better.
    fn is_best(&self) -> bool {
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

/// The figures of a run; times are milliseconds.
#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    rtt_ms: f64,
    pairs: usize,
    exchanging: usize,
    best: usize,
    direct_wanted: usize,
    direct: usize,
    relay_wanted: usize,
    relay: usize,
    first_answer_p50_ms: Option<f64>,
    first_answer_max_ms: Option<f64>,
    direct_p50_ms: Option<f64>,
    direct_max_ms: Option<f64>,
    relay_p50_ms: Option<f64>,
    relay_max_ms: Option<f64>,
    violations: Vec<String>,
}

/// Prints each pair as it ends, and the figures of all.
#[derive(Debug)]
pub(super) struct Report {
    rtt: Duration,
    is_json: bool,
    so_far: Mutex<SoFar>,
}

#[derive(Debug, Default)]
struct SoFar {
    rows: Vec<Row>,
    violations: Vec<String>,
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

    /// Something is as it must not be.
    pub(super) fn violated(&self, what: &str) {
        println!("VIOLATION: {what}");
        self.lock().violations.push(what.to_owned());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the figures.
    pub(super) fn end(self) -> ExitCode {
        let SoFar { rows, violations } = self
            .so_far
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = |path| rows.iter().filter(move |row| row.theory == path);
        let had = |path| wanted(path).filter(move |row| row.path == Some(path));
        let answers = Spread::of(rows.iter().map(|row| row.first_answer));
        let direct = Spread::of(had(Path::Direct).filter_map(|row| row.settled));
        let relay = Spread::of(had(Path::Relay).filter_map(|row| row.settled));
        let best = rows.iter().filter(|row| row.is_best()).count();
        let summary = Summary {
            ok: best == rows.len() && violations.is_empty(),
            rtt_ms: ms(self.rtt),
            pairs: rows.len() + violations.len(),
            exchanging: rows.len(),
            best,
            direct_wanted: wanted(Path::Direct).count(),
            direct: had(Path::Direct).count(),
            relay_wanted: wanted(Path::Relay).count(),
            relay: had(Path::Relay).count(),
            first_answer_p50_ms: answers.p50.map(ms),
            first_answer_max_ms: answers.max.map(ms),
            direct_p50_ms: direct.p50.map(ms),
            direct_max_ms: direct.max.map(ms),
            relay_p50_ms: relay.p50.map(ms),
            relay_max_ms: relay.max.map(ms),
            violations,
        };
        if self.is_json {
            println!(
                "{}",
                serde_json::to_string(&summary).expect("figures always serialise")
            );
        } else {
            summary.print(&answers, &direct, &relay);
        }
        if summary.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Summary {
    fn print(&self, answers: &Spread, direct: &Spread, relay: &Spread) {
        println!(
            "{} of {} pairs exchange messages; direct {} of {} where theory allows it, relayed {} of {}",
            self.exchanging,
            self.pairs,
            self.direct,
            self.direct_wanted,
            self.relay,
            self.relay_wanted
        );
        println!("first answer {answers}; to direct {direct}; to relay {relay}");
    }
}
