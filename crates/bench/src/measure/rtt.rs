//! Round trip of 256 bytes: every contestant in turn, a short round each.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::Measure;
use crate::contestant::{Connection, Contestant, op, payload};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit, compare};
use crate::settings::Settings;

/// The size of the message and of its echo.
const MESSAGE_BYTES: u32 = 256;

/// Round trips of each contestant before anything counts: enough for connections,
/// allocators and branch predictors to settle, measured.
const WARM_UP: u32 = 500;

/// The largest round trip that a histogram holds, nanoseconds: one minute.
const LONGEST_NS: u64 = 60_000_000_000;

struct Runner {
    who: Contestant,
    connection: Connection,
    nanos: Histogram<u64>,
}

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let message = payload(op::ECHO, MESSAGE_BYTES);
    let mut runners = Vec::new();
    for who in Contestant::ALL {
        let mut connection = Connection::open(who, settings).await?;
        for _ in 0..WARM_UP {
            connection.round_trip(&message).await?;
        }
        runners.push(Runner {
            who,
            connection,
            nanos: histogram()?,
        });
    }
    let a_round = settings.round_trips.div_ceil(settings.rounds);
    for _ in 0..settings.rounds {
        for runner in &mut runners {
            runner.round(&message, a_round).await?;
        }
    }
    let mut figures: Vec<_> = runners.iter().flat_map(Runner::figures).collect();
    compare(&mut figures);
    Ok(figures)
}

/// A histogram of nanoseconds with three significant digits.
pub(super) fn histogram() -> Result<Histogram<u64>, BenchError> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3)
        .map_err(|error| BenchError::contestant("the histogram", error))
}

/// Notes a time that has passed; one past the largest counts as the largest.
pub(super) fn note(nanos: &mut Histogram<u64>, since: Instant) {
    let passed = u64::try_from(since.elapsed().as_nanos()).unwrap_or(LONGEST_NS);
    nanos.saturating_record(passed);
}

impl Runner {
    async fn round(&mut self, message: &[u8], count: u32) -> Result<(), BenchError> {
        for _ in 0..count {
            let start = Instant::now();
            self.connection.round_trip(message).await?;
            note(&mut self.nanos, start);
        }
        Ok(())
    }

    fn figures(&self) -> [Figure; 2] {
        [(Metric::P50, 0.50), (Metric::P99, 0.99)].map(|(metric, quantile)| Figure {
            contestant: self.who,
            size_bytes: Some(MESSAGE_BYTES),
            ..Figure::alone(
                Measure::Rtt,
                metric,
                self.nanos.value_at_quantile(quantile) as f64 / 1e3,
                Unit::Us,
                self.nanos.len(),
            )
        })
    }
}
