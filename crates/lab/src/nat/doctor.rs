//! `waymesh doctor` in a network of each kind: whether it says what theory says. It is asked
//! beside a running node, with the membership of one that has ended, and as a stranger.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

mod expected;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::expected::{Asked, Expected};
use super::kind::Kind;
use super::namespace::Namespace;
use super::net::{Host, Sixth};
use super::proof;
use super::site::{FoundBy, Member, REGISTRY, Site};
use super::table::path_name;
use crate::stage::{Checks, Foreseen, Process};

/// The registry's second address, by which NATs are examined (RFC 5780).
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const OTHER_PORT: u16 = 3_479;

/// A round trip between any two hosts. Chosen: within a continent.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// In which networks doctor is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The binary whose processes are tried [default: `waymesh` beside this program]
    #[arg(long, value_name = "PATH")]
    waymesh: Option<PathBuf>,
    /// Only these kinds
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Copies the logs of all processes here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let binary = crate::binary(args.waymesh.as_deref())?;
    let kinds = match args.kinds.is_empty() {
        true => proof::all(),
        false => &args.kinds,
    };
    let other = format!("{OTHER}:{OTHER_PORT}").into();
    let more = vec!["--turn-other".into(), other];
    let found_by = FoundBy::Address;
    let mut site = Site::set_at(
        &binary,
        &[REGISTRY, OTHER],
        ROUND_TRIP,
        Sixth::Without,
        found_by,
        more,
    )?;
    let tried = try_kinds(&mut site, kinds);
    if let Some(folder) = &args.keep {
        site.keep_logs(folder)?;
    }
    let mut wrong = tried?;
    for line in site.panics()? {
        println!("VIOLATION: a process panicked: {line}");
        wrong += 1;
    }
    println!(
        "{} kinds, each asked in 3 ways; wrong: {wrong}",
        kinds.len()
    );
    Ok(match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// A host in a network of a kind, and the name that its node has.
struct Guest {
    name: String,
    kind: Kind,
    host: Host,
}

/// Asks in every network; gives how often doctor was wrong.
fn try_kinds(site: &mut Site, kinds: &[Kind]) -> Result<usize> {
    let begin = |kind: &Kind| site.begin_member(&kind.name(), *kind, &[]);
    let members: Vec<Member> = kinds.iter().map(begin).collect::<Result<_>>()?;
    let (mut guests, mut nodes) = (Vec::new(), Vec::new());
    for mut member in members {
        member.node.told("registered")?;
        nodes.push(member.node);
        guests.push(Guest {
            name: member.name.to_string(),
            kind: member.kind,
            host: member.host,
        });
    }
    println!(
        "{:<20}{:<9}{:<9}{:<9}{:<11}{:>5}  TURN",
        "kind", "asked", "public", "cone", "symmetric", "s"
    );
    let mut wrong = ask(site, &guests, Asked::BesideNode)?;
    wrong += ask(site, &guests, Asked::AsStranger)?;
    for node in nodes {
        node.kill()?;
    }
    wrong += ask(site, &guests, Asked::AsMember)?;
    wrong += ask_nowhere(site)?;
    Ok(wrong)
}

/// Asks where there is no network at all: no path is promised, and the reason is told.
fn ask_nowhere(site: &Site) -> Result<usize> {
    let nowhere = Namespace::make("nowhere")?;
    let said = site.begin_doctor(&nowhere, "nobody")?.hear()?;
    let (Some(paths), Some(checks)) = (said.paths, said.checks) else {
        bail!("doctor has told neither paths nor checks where there is no network");
    };
    let promises = paths
        .iter()
        .any(|f| f.path.is_some() || f.otherwise.is_some());
    let why = checks.route.error;
    if promises || said.ok != Some(false) || why.is_none() {
        println!("VIOLATION: without a network: {paths:?}, {why:?}");
        return Ok(1);
    }
    let why = why.map_or_else(String::new, |fault| fault.message);
    println!(
        "{:<20}{:<9}{:<9}{:<9}{:<9}  {why}",
        "no network", "stranger", "none", "none", "none"
    );
    Ok(0)
}

/// Asks in all networks at once.
fn ask(site: &Site, guests: &[Guest], asked: Asked) -> Result<usize> {
    let begin = |guest: &Guest| {
        let data_dir = match asked {
            Asked::BesideNode | Asked::AsMember => guest.name.clone(),
            Asked::AsStranger => "nobody".to_owned(),
        };
        site.begin_doctor(&guest.host.namespace, &data_dir)
    };
    let begun = Instant::now();
    let doctors: Vec<Process> = guests.iter().map(begin).collect::<Result<_>>()?;
    let mut wrong = 0;
    for (guest, mut doctor) in guests.iter().zip(doctors) {
        let said = doctor.next().with_context(|| guest.kind.name())?;
        let expected = Expected::of(guest.kind, asked);
        let differences = match (&said.paths, &said.checks) {
            (Some(paths), Some(checks)) => {
                print_row(guest.kind, asked, paths, checks, begun.elapsed());
                expected.differences(paths, checks)
            }
            _ => vec!["it has told neither paths nor checks".to_owned()],
        };
        for difference in &differences {
            println!("VIOLATION: {}: {difference}", guest.kind.name());
        }
        wrong += usize::from(!differences.is_empty());
    }
    Ok(wrong)
}

fn print_row(kind: Kind, asked: Asked, paths: &[Foreseen], checks: &Checks, since: Duration) {
    let shown: Vec<_> = paths.iter().map(shown).collect();
    let [public, cone, symmetric] = shown.as_slice() else {
        return;
    };
    let turn: Vec<_> = checks
        .turn
        .iter()
        .map(|turn| format!("{} {}", expected::transport(&turn.url), turn.reach))
        .collect();
    println!(
        "{:<20}{:<9}{public:<9}{cone:<9}{symmetric:<11}{:>5.1}  {}",
        kind.name(),
        asked.name(),
        since.as_secs_f64(),
        turn.join(", ")
    );
}

fn shown(foreseen: &Foreseen) -> String {
    match (foreseen.path, foreseen.otherwise) {
        (Some(path), _) => path_name(path).to_owned(),
        (None, Some(least)) => format!("{}+", path_name(least)),
        (None, None) => "none".to_owned(),
    }
}
