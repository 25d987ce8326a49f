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
//!   own: [`probe`]).
//!
//! It owns the namespaces `wm<pid>-…`; those of dead processes are swept at each start.

mod firewall;
mod hello;
mod internet;
mod kind;
mod namespace;
mod net;
mod packet;
mod probe;
mod proof;
mod router;
mod table;
mod theory;
mod translator;
mod weather;

use std::process::ExitCode;

use anyhow::Result;

use kind::Kind;

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
    /// Prints what is possible between each two kinds, and why
    Theory,
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
    match &args.verb {
        Verb::Theory => table::print(),
        Verb::Prove(args) => {
            if let Some(why) = namespace::missing() {
                return Ok(skipped(why));
            }
            let kinds = if args.kinds.is_empty() {
                proof::all()
            } else {
                &args.kinds
            };
            if proof::prove(kinds)? > 0 {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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
