//! `waymesh bench link`: waymesh and its rivals, measured in the same run.

use serde::Serialize;
use waymesh_bench::{Figure, Measure, Settings};
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

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    Link(LinkArgs),
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
    let Bench::Link(args) = bench;
    let stopped = stop::requested(StdinGuard::Off)?;
    let settings = settings(args)?;
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

fn settings(args: LinkArgs) -> Result<Settings, Fault> {
    let program = std::env::current_exe().map_err(|error| {
        Fault::new(
            Code::SidecarFailed,
            format!("this program cannot find itself: {error}"),
        )
    })?;
    let mut settings = Settings::new(program, vec!["bench-role".to_owned()]);
    if args.quick {
        settings = settings.quick();
    }
    if !args.measures.is_empty() {
        settings.measures = args.measures;
    }
    settings.round_trips = args.round_trips.unwrap_or(settings.round_trips);
    settings.one_way_messages = args.messages.unwrap_or(settings.one_way_messages);
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
            "samples",
        ];
        table(look, &header, self.all.iter().map(row).collect())
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
