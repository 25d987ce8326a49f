//! `waymesh bench`: waymesh and its rivals, measured in the same run.

use serde::Serialize;
use waymesh_bench::{Contestant, Figure, Measure, Settings};
use waymesh_proto::{Code, Fault};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, or_dash, table};
use crate::stop::{self, StdinGuard};

const EXAMPLES: &str = "\
Examples:
  waymesh bench link                     everything; takes some minutes
  waymesh bench link --quick rtt         a look at round trips only
  waymesh bench link --json rtt one_way  one figure a line

Only waymesh encrypts; all others are plaintext on loopback. Build with --release.";

const MAILBOX_EXAMPLES: &str = "\
Examples:
  waymesh bench mailbox                        everything; takes a minute
  waymesh bench mailbox --quick first_answer   a look at cold calls only

Build with --release.";

const RELAY_EXAMPLES: &str = "\
Examples:
  waymesh bench relay           both relays in turns; takes a minute
  waymesh bench relay --quick   a look

Install coturn (turnserver) to compare with it. Build with --release.";

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    Link(LinkArgs),
    Mailbox(MailboxArgs),
    Registry(RegistryArgs),
    Relay(RelayArgs),
}

/// The mailbox: first answers, delivery, durable messages a second, sealing
#[derive(Debug, clap::Args)]
#[command(after_help = MAILBOX_EXAMPLES)]
pub(crate) struct MailboxArgs {
    /// What to measure: first_answer, mailbox, stored, sealing [default: all]
    measures: Vec<Measure>,
    /// A tenth of everything: a look, not a figure to publish
    #[arg(long)]
    quick: bool,
}

/// The registry: many nodes that join at once, memory, cost at rest
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// A tenth of everything: a look, not a figure to publish
    #[arg(long)]
    quick: bool,
    /// Nodes that join
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
}

/// Relaying: throughput and latency through our TURN server and coturn's, if installed
#[derive(Debug, clap::Args)]
#[command(after_help = RELAY_EXAMPLES)]
pub(crate) struct RelayArgs {
    /// A tenth of everything: a look, not a figure to publish
    #[arg(long)]
    quick: bool,
    /// Allocations that are held at once, at most 4,000; each takes an open file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000))]
    allocations: Option<u32>,
}

/// Links: round trip, messages a second, set-up, memory, idle cost, mesh
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LinkArgs {
    /// What to measure: rtt, one_way, setup, memory, idle, mesh [default: all]
    measures: Vec<Measure>,
    /// A tenth of everything: a look, not a figure to publish
    #[arg(long)]
    quick: bool,
    /// Round trips of each contestant
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: Option<u32>,
    /// Messages of each contestant and size, one way
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    messages: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Measured<'a> {
    event: &'static str,
    #[serde(flatten)]
    figure: &'a Figure,
}

#[derive(Debug, Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    figures: usize,
    #[serde(skip)]
    all: Vec<Figure>,
}

pub(crate) async fn run(bench: Bench, context: &Context) -> Result<Outcome, Fault> {
    let stopped = stop::requested(StdinGuard::Off)?;
    let settings = match bench {
        Bench::Link(args) => link(args)?,
        Bench::Mailbox(args) => mailbox(args)?,
        Bench::Registry(args) => registry(args)?,
        Bench::Relay(args) => relay(args)?,
    };
    let spinner = context.out.progress("measuring");
    let mut all = Vec::new();
    let measuring = waymesh_bench::run(&settings, |figure| {
        spinner.set_message(format!("measured {}", figure.measure.name()));
        if context.out.is_json() {
            context.out.tell(&Measured {
                event: "figure",
                figure,
            });
        }
        all.push(figure.clone());
    });
    tokio::select! {
        done = measuring => done.map_err(|error| Fault::new(Code::Internal, error.to_string()))?,
        () = stopped => return Err(Fault::new(Code::Cancelled, "the benchmark was stopped")),
    }
    spinner.finish_and_clear();
    context.out.tell(&Done {
        event: "result",
        ok: true,
        figures: all.len(),
        all,
    });
    Ok(Outcome::Done)
}

/// Settings for measures: those that are named, else all of a group.
fn settings(named: Vec<Measure>, group: &[Measure], quick: bool) -> Result<Settings, Fault> {
    if let Some(stranger) = named.iter().find(|measure| !group.contains(measure)) {
        let names: Vec<_> = group.iter().map(|measure| measure.name()).collect();
        let message = format!("{} is not one of: {}", stranger.name(), names.join(", "));
        return Err(Fault::new(Code::Usage, message).with_hint("see `waymesh bench --help`"));
    }
    let program = std::env::current_exe().map_err(|error| {
        Fault::new(
            Code::SidecarFailed,
            format!("this program cannot find itself: {error}"),
        )
    })?;
    let mut settings = Settings::new(program, vec!["bench-role".to_owned()]);
    if quick {
        settings = settings.quick();
    }
    settings.measures = if named.is_empty() {
        group.to_vec()
    } else {
        named
    };
    Ok(settings)
}

fn link(args: LinkArgs) -> Result<Settings, Fault> {
    let mut settings = settings(args.measures, &Measure::LINK, args.quick)?;
    settings.round_trips = args.round_trips.unwrap_or(settings.round_trips);
    settings.one_way_messages = args.messages.unwrap_or(settings.one_way_messages);
    Ok(settings)
}

fn mailbox(args: MailboxArgs) -> Result<Settings, Fault> {
    settings(args.measures, &Measure::MAILBOX, args.quick)
}

fn registry(args: RegistryArgs) -> Result<Settings, Fault> {
    let mut settings = settings(Vec::new(), &Measure::REGISTRY, args.quick)?;
    settings.joining_nodes = args.nodes.unwrap_or(settings.joining_nodes);
    Ok(settings)
}

fn relay(args: RelayArgs) -> Result<Settings, Fault> {
    let mut settings = settings(Vec::new(), &Measure::RELAY, args.quick)?;
    settings.relay_allocations = args.allocations.unwrap_or(settings.relay_allocations);
    Ok(settings)
}

impl Tell for Measured<'_> {
    fn text(&self, _: Look) -> String {
        String::new()
    }
}

impl Tell for Done {
    fn text(&self, look: Look) -> String {
        let header = [
            "measure",
            "who",
            "bytes",
            "figure",
            "value",
            "÷ gRPC unary",
            "÷ gRPC bidi",
            "÷ coturn",
            "samples",
        ];
        let table = table(look, &header, self.all.iter().map(row).collect());
        let has = |who| self.all.iter().any(|figure| figure.contestant == who);
        let relays = self.all.iter().any(|f| f.measure == Measure::Relay);
        if relays && !has(Contestant::Coturn) {
            return format!("{table}\ncoturn (turnserver) is not installed here");
        }
        table
    }
}

fn row(figure: &Figure) -> Vec<String> {
    let ratio = |ratio: Option<f64>| or_dash(ratio.map(|ratio| format!("{ratio:.2}")));
    vec![
        figure.measure.name().to_owned(),
        figure.contestant.label().to_owned(),
        or_dash(figure.size_bytes),
        figure.metric.label().to_owned(),
        format!("{} {}", rounded(figure.value), figure.unit.symbol()),
        ratio(figure.vs_grpc_unary),
        ratio(figure.vs_grpc_bidi),
        ratio(figure.vs_coturn),
        figure.samples.to_string(),
    ]
}

/// Three digits of a small number, all digits of a large one.
fn rounded(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
