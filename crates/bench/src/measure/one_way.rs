//! Messages and bytes a second one way, reliable and ordered, and whether the memory
//! of both waymesh processes stays flat under it.

use std::time::Instant;

use super::Measure;
use crate::contestant::{Connection, Contestant};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit, compare};
use crate::procfs::{peak_rss_kib, rss_kib};
use crate::settings::Settings;

/// Sizes that are sent; the second is the largest that every WebRTC stack takes as one
/// message (RFC 8831 §6.6).
const SIZES: [u32; 2] = [1024, 16 * 1024];

/// Rounds among which the contestants take turns.
const ROUNDS: u32 = 5;

/// Those that deliver reliably and in order.
const CONTESTANTS: [Contestant; 5] = [
    Contestant::Tcp,
    Contestant::Websocket,
    Contestant::GrpcUnary,
    Contestant::GrpcBidi,
    Contestant::Waymesh,
];

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for size in SIZES {
        figures.extend(of_size(settings, size).await?);
    }
    compare(&mut figures);
    Ok(figures)
}

async fn of_size(settings: &Settings, size: u32) -> Result<Vec<Figure>, BenchError> {
    let count = messages(settings, size);
    let mut runners = Vec::new();
    for who in CONTESTANTS {
        let mut connection = Connection::open(who, settings).await?;
        connection.one_way(size, count.div_ceil(10)).await?;
        runners.push((who, connection, Vec::new()));
    }
    let mut memory = Memory::default();
    for _ in 0..ROUNDS {
        for (_, connection, rates) in &mut runners {
            memory.before(connection)?;
            let start = Instant::now();
            connection.one_way(size, count).await?;
            rates.push(f64::from(count) / start.elapsed().as_secs_f64());
            memory.after(connection)?;
        }
    }
    let mut figures = Vec::new();
    for (who, _, rates) in runners {
        figures.extend(of_rates(who, size, count, rates));
    }
    figures.extend(memory.figures(size));
    Ok(figures)
}

/// Messages of one round: all rounds together send what the settings say, and of larger
/// messages as many as carry four times the bytes.
fn messages(settings: &Settings, size: u32) -> u32 {
    let share = if size > SIZES[0] { 4 } else { 1 };
    settings.one_way_messages.div_ceil(ROUNDS * share).max(100)
}

fn of_rates(who: Contestant, size: u32, count: u32, mut rates: Vec<f64>) -> [Figure; 2] {
    rates.sort_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    let samples = u64::from(count) * u64::from(ROUNDS);
    [
        (Metric::Messages, median, Unit::PerSecond),
        (
            Metric::Payload,
            median * f64::from(size) / 1e6,
            Unit::MbPerSecond,
        ),
    ]
    .map(|(metric, value, unit)| Figure {
        contestant: who,
        size_bytes: Some(size),
        ..Figure::alone(Measure::OneWay, metric, value, unit, samples)
    })
}

/// Memory of the two waymesh processes, KiB.
#[derive(Default)]
struct Memory {
    before: Option<(u64, u64)>,
    peak: (u64, u64),
    samples: u64,
}

impl Memory {
    fn before(&mut self, connection: &Connection) -> Result<(), BenchError> {
        if let (Some((near, far)), None) = (connection.waymesh_pids()?, self.before) {
            self.before = Some((rss_kib(near)?, rss_kib(far)?));
        }
        Ok(())
    }

    fn after(&mut self, connection: &Connection) -> Result<(), BenchError> {
        if let Some((near, far)) = connection.waymesh_pids()? {
            self.peak = (peak_rss_kib(near)?, peak_rss_kib(far)?);
            self.samples += 1;
        }
        Ok(())
    }

    fn figures(&self, size: u32) -> Vec<Figure> {
        let (near, far) = self.before.unwrap_or_default();
        [
            (Metric::SenderRssBefore, near),
            (Metric::SenderRssPeak, self.peak.0),
            (Metric::ReceiverRssBefore, far),
            (Metric::ReceiverRssPeak, self.peak.1),
        ]
        .map(|(metric, kib)| Figure {
            size_bytes: Some(size),
            ..Figure::alone(Measure::OneWay, metric, kib as f64, Unit::Kib, self.samples)
        })
        .into()
    }
}
