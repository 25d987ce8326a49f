//! All pairs of kinds with real processes: how soon the first answer comes, which path a
//! pair ends up on and when, beside what theory allows.

mod pair;
mod report;
mod summary;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::kind::Kind;
use super::net::Sixth;
use super::options::{Families, Options};
use super::proof;
use super::site::{Door, FoundBy, Member, Site};
use super::table;
use pair::Pair;
use report::{Report, Row};

/// Which pairs to try, and how far apart they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these kinds, each with each
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Only these pairs, as symmetric:none; the first one calls
    #[arg(long, value_parser = super::kind::pair, value_delimiter = ',', conflicts_with = "kinds")]
    pairs: Vec<(Kind, Kind)>,
    /// The round trip between any two hosts, as in 50ms
    #[arg(long, default_value = "50ms", value_parser = super::duration)]
    rtt: Duration,
    /// Pairs that are tried at once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    #[command(flatten)]
    families: Families,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let options = &args.options;
    let rounds = rounds(&args.kinds, &args.pairs);
    let mut site = Site::set(
        &options.binary()?,
        args.rtt,
        args.families.sixth(),
        FoundBy::Address,
        options.registry_args.clone(),
    )?;
    let report = Report::new(args.rtt, options.json);
    let tried = try_all(&mut site, &rounds, args, &report);
    if let Some(folder) = &options.keep {
        site.keep_logs(folder)?;
    }
    tried?;
    for line in site.panics()? {
        report.violated(&format!("a process panicked: {line}"));
    }
    Ok(report.end())
}

/// Pairs, in rounds of which each has a network at most once in each role.
fn rounds(kinds: &[Kind], pairs: &[(Kind, Kind)]) -> Vec<Vec<(Kind, Kind)>> {
    if pairs.is_empty() {
        let kinds = if kinds.is_empty() {
            proof::all()
        } else {
            kinds
        };
        let shifted =
            |by: usize| (0..kinds.len()).map(move |at| (kinds[at], kinds[(at + by) % kinds.len()]));
        return (0..kinds.len()).map(|by| shifted(by).collect()).collect();
    }
    let mut rounds: Vec<Vec<(Kind, Kind)>> = Vec::new();
    for pair in pairs {
        let is_free = |round: &&mut Vec<(Kind, Kind)>| {
            round
                .iter()
                .all(|(own, their)| *own != pair.0 && *their != pair.1)
        };
        match rounds.iter_mut().find(is_free) {
            Some(round) => round.push(*pair),
            None => rounds.push(vec![*pair]),
        }
    }
    rounds
}

/// The nodes of one role, one a kind.
fn crowd(site: &mut Site, role: &str, kinds: &[Kind], args: &Args) -> Result<Vec<Member>> {
    let begin = |kind: &Kind| {
        let name = format!("{}-{role}", kind.name());
        site.begin_member(&name, *kind, &args.options.node_args)
    };
    kinds.iter().map(begin).collect()
}

fn try_all(
    site: &mut Site,
    rounds: &[Vec<(Kind, Kind)>],
    args: &Args,
    report: &Report,
) -> Result<()> {
    let of = |pick: fn(&(Kind, Kind)) -> Kind| {
        let mut kinds: Vec<_> = rounds.iter().flatten().map(pick).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    };
    let mut callers = crowd(site, "a", &of(|pair| pair.0), args)?;
    let mut callees = crowd(site, "b", &of(|pair| pair.1), args)?;
    for member in callers.iter_mut().chain(&mut callees) {
        member
            .node
            .told("registered")
            .with_context(|| format!("{} joins", member.name))?;
    }
    let doors = |crowd: &[Member]| crowd.iter().map(|member| site.door(member)).collect();
    let (from, to): (Vec<_>, Vec<_>) = (doors(&callers), doors(&callees));
    for round in rounds {
        try_round(round, (&from, &to), args, report);
    }
    Ok(())
}

fn find(crowd: &[Door], kind: Kind) -> Result<&Door> {
    let found = crowd.iter().find(|door| door.kind == kind);
    found.with_context(|| format!("nobody is in {}", kind.name()))
}

fn try_round(round: &[(Kind, Kind)], crowds: (&[Door], &[Door]), args: &Args, report: &Report) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..usize::from(args.jobs).min(round.len()) {
            scope.spawn(|| {
                while let Some(pair) = round.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match try_pair(*pair, crowds, args.families.sixth()) {
                        Ok(row) => report.row(row),
                        Err(error) => {
                            let (own, their) = (pair.0.name(), pair.1.name());
                            report.failed(&format!("{own} calls {their}: {error:#}"));
                        }
                    }
                }
            });
        }
    });
}

fn try_pair(
    (own, their): (Kind, Kind),
    (from, to): (&[Door], &[Door]),
    sixth: Sixth,
) -> Result<Row> {
    let pair = Pair {
        caller: find(from, own)?,
        callee: find(to, their)?,
        theory: table::best_path(own, their, sixth),
    };
    pair.play()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_tried_once_and_no_network_twice_in_a_round() {
        let rounds = rounds(&[], &[]);
        let mut all: Vec<_> = rounds.concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), proof::all().len().pow(2));
        assert_eq!(rounds.concat().len(), all.len());
        for round in rounds {
            let mut callers: Vec<_> = round.iter().map(|pair| pair.0).collect();
            callers.dedup();
            let mut callees: Vec<_> = round.iter().map(|pair| pair.1).collect();
            callees.sort();
            callees.dedup();
            assert_eq!((callers.len(), callees.len()), (round.len(), round.len()));
        }
    }

    #[test]
    fn given_pairs_are_put_into_rounds() {
        let (a, b) = (Kind::None, Kind::Symmetric);
        let rounds = rounds(&[], &[(a, b), (b, a), (a, a)]);
        assert_eq!(rounds, [vec![(a, b), (b, a)], vec![(a, a)]]);
    }
}
