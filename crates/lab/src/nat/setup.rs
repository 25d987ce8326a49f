//! How many round trips a link takes: two endpoints far apart, SCTP's handshake in the
//! descriptions or on the wire.
//!
//! Signals take what they take through a registry as far away as the peer: half a round
//! trip to it and half a one from it. What nodes do besides is left out: resolving a name
//! (one round trip more, for a peer never heard of), signing and checking.

mod ends;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use waymesh_net::webrtc::SctpHandshake;

use super::spread::{Spread, ms, shown};
use ends::{Ends, Link};

/// How far apart the two are, and how often to try.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The round trip between the two hosts, and to what passes their signals on
    #[arg(long, default_value = "100ms", value_parser = super::duration)]
    rtt: Duration,
    /// Links that are made in each way
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Prints lines of JSON
    #[arg(long)]
    json: bool,
}

/// A part of making a link.
type Part = (&'static str, fn(&Link) -> Duration);

/// The whole, and what it consists of.
const PARTS: [Part; 4] = [
    ("all", |link| link.up),
    ("signaling", |link| link.answered),
    ("ICE", |link| link.secured.saturating_sub(link.answered)),
    ("DTLS and SCTP", |link| link.up.saturating_sub(link.secured)),
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    for (name, sctp) in [
        ("SCTP in the descriptions", SctpHandshake::InDescriptions),
        ("SCTP on the wire", SctpHandshake::OnTheWire),
    ] {
        let mut ends = Ends::start(args.rtt, sctp)?;
        let links: Result<Vec<Link>> = (0..args.runs).map(|_| ends.link()).collect();
        report(name, &links?, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One part, as it is printed in JSON.
#[derive(Debug, Serialize)]
struct Line {
    way: &'static str,
    part: &'static str,
    runs: usize,
    rtt_ms: f64,
    p50_ms: Option<f64>,
    max_ms: Option<f64>,
    p50_rtts: Option<f64>,
    max_rtts: Option<f64>,
}

#[expect(clippy::print_stdout, reason = "this is the program's output")]
fn report(way: &'static str, links: &[Link], args: &Args) -> Result<()> {
    if !args.json {
        let (runs, rtt) = (links.len(), ms(args.rtt));
        println!("{way}: {runs} links at a round trip of {rtt:.0} ms");
    }
    for (part, of) in PARTS {
        let Spread { p50, max } = Spread::of(links.iter().map(of));
        let trips = |time: Option<Duration>| time.map(|time| round_trips(time, args.rtt));
        if args.json {
            let line = Line {
                way,
                part,
                runs: links.len(),
                rtt_ms: ms(args.rtt),
                p50_ms: p50.map(ms),
                max_ms: max.map(ms),
                p50_rtts: trips(p50),
                max_rtts: trips(max),
            };
            println!("{}", serde_json::to_string(&line)?);
        } else {
            let trips = |time| trips(time).map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"));
            println!(
                "  {part:<14} p50 {:>5} ms = {} round trips, max {:>5} ms = {}",
                shown(p50),
                trips(p50),
                shown(max),
                trips(max)
            );
        }
    }
    Ok(())
}

/// How many round trips a time is, with one decimal; without a round trip, none.
fn round_trips(time: Duration, rtt: Duration) -> f64 {
    if rtt.is_zero() {
        return 0.0;
    }
    (time.as_secs_f64() / rtt.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_round_trips_with_one_decimal() {
        let ms = Duration::from_millis;
        assert_eq!(round_trips(ms(512), ms(100)), 5.1);
        assert_eq!(round_trips(ms(512), Duration::ZERO), 0.0);
    }

    #[test]
    fn the_parts_of_a_link_add_up_to_the_whole() {
        let link = Link {
            answered: Duration::from_millis(200),
            secured: Duration::from_millis(310),
            up: Duration::from_millis(530),
        };
        let [whole, parts @ ..] = PARTS.map(|(_, of)| of(&link));
        assert_eq!(parts.iter().sum::<Duration>(), whole);
    }
}
