//! The NAT lab: real processes in networks of every kind.
//!
//! Each host is a network namespace whose only way out is a TUN device; this program holds
//! the other ends of all of them and is the internet between. No veth, no netfilter, no
//! netem: NATs, firewalls and impairment are models of the lab's own, which do exactly what
//! they say. Root and `/dev/net/tun` are needed.
//!
//! - words and decisions, sans-IO: [`packet`], [`translator`], [`firewall`], [`hello`],
//!   [`weather`], [`internet`];
//! - what there is and what is possible: [`kind`], [`theory`];
//! - what makes it real: [`namespace`], [`router`], [`net`];
//! - what is done with it: [`proof`] (each kind is what it says, by a test of the lab's
//!   own: [`probe`]); [`matrix`] (each kind with each, by real processes: [`site`]);
//!   [`doctor`] (what `waymesh doctor` says of each kind);
//!   [`faults`] (what becomes of [`traffic`] when something breaks); [`setup`] (how many
//!   round trips a link takes).
//!
//! It owns the namespaces `wm<pid>-…`; those of dead processes are swept at each start.

mod client;
mod coturn;
mod doctor;
mod faults;
mod firewall;
mod hello;
mod hosts;
mod internet;
mod kind;
mod matrix;
mod namespace;
mod net;
mod options;
mod packet;
mod probe;
mod proof;
mod router;
mod setup;
mod site;
mod spread;
mod table;
mod theory;
mod traffic;
mod translator;
mod watch;
mod weather;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use kind::Kind;
use options::Families;

/// What to do in networks of every kind.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Proves with a test of the lab's own (RFC 5780) that each kind is what it says
    Prove(ProveArgs),
    /// Prints what each kind is, and what is possible between each two
    Theory(Families),
    /// Lets faults happen to a pair that exchanges messages without a pause
    Faults(faults::Args),
    /// Counts the round trips that a link takes, SCTP's handshake in the descriptions or not
    Setup(setup::Args),
    /// Asks `waymesh doctor` in every kind of network, and compares what it says with theory
    Doctor(doctor::Args),
    /// Tries all pairs of kinds with real processes: first answer, path, time to it
    Matrix(matrix::Args),
}

#[derive(Debug, clap::Args)]
struct ProveArgs {
    /// Only these kinds
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
}

/// The exit code when nothing could be tried here; `./test` knows it.
const SKIPPED: u8 = 77;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Verb::Theory(args) = &args.verb {
        table::print(args.sixth());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = namespace::missing() {
        return Ok(skipped(why));
    }
    match &args.verb {
        Verb::Theory(_) => Ok(ExitCode::SUCCESS),
        Verb::Prove(args) => prove(args),
        Verb::Setup(args) => setup::run(args),
        Verb::Matrix(args) => matrix::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Faults(args) => faults::run(args),
    }
}

fn prove(args: &ProveArgs) -> Result<ExitCode> {
    let kinds = if args.kinds.is_empty() {
        proof::all()
    } else {
        &args.kinds
    };
    Ok(match proof::prove(kinds)? {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Reads a time: a number and ms, s or m.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let read = units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*factor).map(Duration::from_millis)
    });
    read.ok_or_else(|| "a time is a number and ms, s or m, as in 50ms".to_owned())
}

#[expect(clippy::print_stdout, reason = "this is the program's output")]
fn skipped(why: &str) -> ExitCode {
    println!("SKIPPED: {why}");
    ExitCode::from(SKIPPED)
}

/// Why a packet did not come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Dropped {
    /// It is no packet.
    Malformed,
    /// Its source is not its host's.
    ForeignSource,
    /// Nobody has its target.
    Dark,
    /// A NAT can translate neither it nor what it quotes.
    NotTranslatable,
    /// A NAT has no mapping for it.
    NoMapping,
    /// A NAT does not let its source in.
    Filtered,
    /// A NAT does not send back in what is for its own outside address.
    NoHairpin,
    /// A NAT has no port left.
    NoPort,
    /// A firewall does not let it out.
    Forbidden,
    /// Its line is cut.
    Cut,
    /// Its line lost it.
    Lost,
    /// Its line's queue is full.
    QueueFull,
    /// It is larger than its line takes.
    TooBig,
}
