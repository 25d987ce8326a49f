//! What a run of faults prints.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use waymesh_proto::link::Path;

use super::Fault;
use crate::nat::spread::{Spread, ms};
use crate::nat::table::path_name;
use crate::nat::traffic::{Recovery, Toll};

/// What was seen of one fault.
#[derive(Debug, Default)]
pub(super) struct Finding {
    began: Option<(Path, Duration)>,
    recoveries: Vec<Recovery>,
    /// The longest silence of each time that was endured.
    endured: Vec<Duration>,
    ends: Vec<Path>,
    toll: Toll,
    notes: Vec<String>,
    violations: Vec<String>,
}

impl Finding {
    /// The first path, and when both sides had it.
    pub(super) fn begun(&mut self, path: Path, after: Duration) {
        self.began = Some((path, after));
    }

    /// Traffic is there again.
    pub(super) fn recovered(&mut self, recovery: Recovery) {
        self.recoveries.push(recovery);
    }

    /// Traffic went on all the time, but for so long at most.
    pub(super) fn endured(&mut self, silence: Duration) {
        self.endured.push(silence);
    }

    /// The path after a fault.
    pub(super) fn steady(&mut self, path: Path) {
        self.ends.push(path);
    }

    /// All is over.
    pub(super) fn ended(&mut self, toll: Toll) {
        if !toll.is_clean() {
            let Toll {
                lost,
                duplicated,
                disordered,
                failed,
                ..
            } = &toll;
            self.violations.push(format!(
                "{lost} lost, {duplicated} twice, {disordered} out of order, refused: {failed:?}"
            ));
        }
        self.toll = toll;
    }

    /// How often the fault happened.
    fn runs(&self) -> usize {
        self.recoveries.len() + self.endured.len()
    }

    /// Whether something was as it must not be.
    pub(super) fn is_bad(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Something that is to be said.
    pub(super) fn noted(&mut self, what: String) {
        self.notes.push(what);
    }

    /// Something is as it must not be.
    pub(super) fn violated(&mut self, what: String) {
        self.violations.push(what);
    }
}

/// A fault as JSON has it; times are milliseconds.
#[derive(Debug, Serialize)]
struct Line<'a> {
    fault: String,
    ok: bool,
    runs: usize,
    first_path: Option<Path>,
    first_path_ms: Option<f64>,
    /// From when the three times after it are counted.
    since: &'static str,
    again_goal_ms: Option<f64>,
    again_p50_ms: Option<f64>,
    again_max_ms: Option<f64>,
    silence_p50_ms: Option<f64>,
    silence_max_ms: Option<f64>,
    linked_p50_ms: Option<f64>,
    linked_max_ms: Option<f64>,
    endured_silence_max_ms: Option<f64>,
    again_by: Vec<Path>,
    paths_after: &'a [Path],
    sent: usize,
    lost: usize,
    duplicated: u64,
    disordered: u64,
    delay_p50_ms: f64,
    delay_p99_ms: f64,
    delay_max_ms: f64,
    notes: &'a [String],
    violations: &'a [String],
}

/// Prints each fault as it is over.
#[derive(Debug)]
pub(super) struct Report {
    is_json: bool,
    is_bad: AtomicBool,
}

impl Report {
    pub(super) const fn new(is_json: bool) -> Self {
        Self {
            is_json,
            is_bad: AtomicBool::new(false),
        }
    }

    pub(super) fn tell(&self, fault: Fault, found: Result<Finding>) {
        let finding = found.unwrap_or_else(|error| Finding {
            violations: vec![format!("{error:#}")],
            ..Finding::default()
        });
        if !finding.violations.is_empty() {
            self.is_bad.store(true, Ordering::Relaxed);
        }
        if self.is_json {
            let line = Line::new(fault, &finding);
            println!(
                "{}",
                serde_json::to_string(&line).expect("figures always serialise")
            );
        } else {
            print(fault, &finding);
        }
    }

    pub(super) fn code(&self) -> ExitCode {
        if self.is_bad.load(Ordering::Relaxed) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Of all recoveries of a finding: traffic again, silence, link again.
fn spreads(finding: &Finding) -> [Spread; 3] {
    let all = || finding.recoveries.iter();
    [
        Spread::of(all().map(|recovery| recovery.again)),
        Spread::of(all().map(|recovery| recovery.silence)),
        Spread::of(all().filter_map(|recovery| recovery.linked)),
    ]
}

impl<'a> Line<'a> {
    fn new(fault: Fault, finding: &'a Finding) -> Self {
        let [again, silence, linked] = spreads(finding);
        let toll = &finding.toll;
        Self {
            fault: fault.name(),
            ok: finding.violations.is_empty(),
            runs: finding.runs(),
            first_path: finding.began.map(|(path, _)| path),
            first_path_ms: finding.began.map(|(_, after)| ms(after)),
            since: fault.clock(),
            again_goal_ms: fault.goal().map(|goal| ms(goal.limit())),
            again_p50_ms: again.p50.map(ms),
            again_max_ms: again.max.map(ms),
            silence_p50_ms: silence.p50.map(ms),
            silence_max_ms: silence.max.map(ms),
            linked_p50_ms: linked.p50.map(ms),
            linked_max_ms: linked.max.map(ms),
            endured_silence_max_ms: finding.endured.iter().max().copied().map(ms),
            again_by: finding
                .recoveries
                .iter()
                .map(|recovery| recovery.by)
                .collect(),
            paths_after: &finding.ends,
            sent: toll.sent,
            lost: toll.lost,
            duplicated: toll.duplicated,
            disordered: toll.disordered,
            delay_p50_ms: ms(toll.delay(500)),
            delay_p99_ms: ms(toll.delay(990)),
            delay_max_ms: ms(toll.delay(1_000)),
            notes: &finding.notes,
            violations: &finding.violations,
        }
    }
}

fn print(fault: Fault, finding: &Finding) {
    let [again, silence, linked] = spreads(finding);
    let toll = &finding.toll;
    let mut said = vec![format!("{} runs", finding.runs())];
    if let Some((path, after)) = finding.began {
        said.push(format!(
            "{} at first, after {:.0} ms",
            path_name(path),
            ms(after)
        ));
    }
    if !finding.recoveries.is_empty() {
        let by = finding
            .recoveries
            .iter()
            .map(|recovery| path_name(recovery.by));
        let goal = fault.goal().map(|goal| again.beside(goal));
        let goal = goal.unwrap_or_default();
        let by = counted(by);
        let clock = fault.clock();
        said.push(format!("{clock}: traffic again {again}{goal} by {by}"));
        said.push(format!("silence {silence}"));
        said.push(format!("by link {linked}"));
    }
    if let Some(longest) = finding.endured.iter().max() {
        said.push(format!("longest silence meanwhile {:.0} ms", ms(*longest)));
    }
    if !finding.ends.is_empty() {
        said.push(format!(
            "then {}",
            counted(finding.ends.iter().map(|path| path_name(*path)))
        ));
    }
    said.push(format!(
        "{} messages, {} lost, {} twice, {} out of order, delay p50 {:.0} p99 {:.0} max {:.0} ms",
        toll.sent,
        toll.lost,
        toll.duplicated,
        toll.disordered,
        ms(toll.delay(500)),
        ms(toll.delay(990)),
        ms(toll.delay(1_000)),
    ));
    said.extend(finding.notes.iter().cloned());
    println!("{}: {}", fault.name(), said.join("; "));
    for violation in &finding.violations {
        println!("VIOLATION: {}: {violation}", fault.name());
    }
}

/// Each word with how often it is there.
fn counted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts = std::collections::BTreeMap::<_, u32>::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let each = counts
        .into_iter()
        .map(|(word, times)| format!("{word} {times}"));
    each.collect::<Vec<_>>().join(", ")
}
