//! What a run prints.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Counts, Verdict};

/// How often each kind was killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kills {
    pub(crate) registry: u32,
    pub(crate) receivers: u32,
    pub(crate) senders: u32,
}

impl Kills {
    pub(crate) const fn all_are(self, least: u32) -> bool {
        self.registry >= least && self.receivers >= least && self.senders >= least
    }
}

/// The figures of one run, as JSON has them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    seed: u64,
    registry_kills: u32,
    receiver_kills: u32,
    sender_kills: u32,
    sent: u64,
    stored: u64,
    delivered: u64,
    failed: BTreeMap<String, u64>,
    orphaned: u64,
    orphaned_stored: u64,
    given: u64,
    redelivered: u64,
    redelivered_after_delivered: u64,
    gaps: u64,
    lost: u64,
    given_twice: u64,
    seconds: f64,
    violations: Vec<String>,
}

impl Report {
    pub(crate) fn new(seed: u64, kills: Kills, verdict: Verdict, took: Duration) -> Self {
        let Counts {
            sent,
            stored,
            delivered,
            failed,
            orphaned,
            orphaned_stored,
            given,
            redelivered,
            redelivered_after_delivered,
            gaps,
            lost,
            given_twice,
            violations,
        } = verdict.counts;
        Self {
            ok: violations == 0,
            seed,
            registry_kills: kills.registry,
            receiver_kills: kills.receivers,
            sender_kills: kills.senders,
            sent,
            stored,
            delivered,
            failed,
            orphaned,
            orphaned_stored,
            given,
            redelivered,
            redelivered_after_delivered,
            gaps,
            lost,
            given_twice,
            seconds: took.as_secs_f64(),
            violations: verdict.violations,
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        if self.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            let line = serde_json::to_string(self).expect("figures always serialise");
            return println!("{line}");
        }
        println!(
            "kill: registry {} times, receivers {}, senders {}, in {:.1} s (seed {})",
            self.registry_kills, self.receiver_kills, self.sender_kills, self.seconds, self.seed
        );
        println!(
            "  {} messages: {} seen as stored, {} as delivered, failed: {:?}; the senders of {} were killed, {} of them stored",
            self.sent,
            self.stored,
            self.delivered,
            self.failed,
            self.orphaned,
            self.orphaned_stored
        );
        println!(
            "  {} given, {} again to another life ({} of them delivered before), {} told as missing",
            self.given, self.redelivered, self.redelivered_after_delivered, self.gaps
        );
        println!(
            "  {} lost, {} given twice to one life",
            self.lost, self.given_twice
        );
        for violation in &self.violations {
            println!("VIOLATION: {violation}");
        }
    }
}
