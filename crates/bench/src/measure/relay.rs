//! Relaying: datagrams a second and added latency through our TURN server and
//! through coturn in turns, and what an allocation costs.

use std::net::UdpSocket;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::Measure;
use super::rtt::{histogram, note};
use crate::contestant::Contestant;
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit, compare_with_coturn};
use crate::procfs::rss_kib;
use crate::relay::{Allocation, Channel, Echo, Server, Sink};
use crate::settings::Settings;

/// The size of a payload: what DTLS makes of a full data channel packet.
const PAYLOAD_BYTES: u32 = 1_200;

/// Datagrams on their way at most. Chosen: they fit the default socket buffer of
/// every hop (212,992 bytes, 2,304 of which a datagram of this size takes).
const WINDOW: u64 = 48;

/// Waits in a row in which nothing arrived before a relay is given up. Chosen: ten seconds.
const SILENCES_MAX: u32 = 200;

/// Round trips and datagrams of each relay before anything counts, a part of a round.
const WARM_UP_PARTS: u32 = 4;

struct Runner {
    server: Server,
    echo: (Channel, Echo),
    sink: (Channel, Sink),
    nanos: Histogram<u64>,
    /// Datagrams a second, a round each.
    rates: Vec<f64>,
    arrived: u64,
}

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let mut runners = vec![Runner::new(Server::ours(settings).await?)?];
    if let Some(coturn) = Server::coturn()? {
        runners.push(Runner::new(coturn)?);
    }
    let mut direct = histogram()?;
    let echo = Echo::start()?;
    let socket = crate::relay::local_socket()?;
    socket
        .connect(echo.address())
        .map_err(BenchError::io("connecting a UDP socket"))?;
    let trips = settings.relay_round_trips.div_ceil(settings.rounds);
    let datagrams = settings.relay_datagrams.div_ceil(settings.rounds);
    for runner in &mut runners {
        runner.trips(trips / WARM_UP_PARTS)?;
        runner.burst(datagrams / WARM_UP_PARTS)?;
        runner.nanos.reset();
        runner.rates.clear();
    }
    for _ in 0..settings.rounds {
        directly(&socket, trips, &mut direct)?;
        for runner in &mut runners {
            runner.trips(trips)?;
            runner.burst(datagrams)?;
        }
    }
    let base = direct.value_at_quantile(0.50);
    let mut figures = vec![micros(Contestant::Udp, Metric::P50, base, direct.len())];
    for runner in runners {
        figures.extend(runner.figures(base));
        figures.extend(held(runner.server, settings.relay_allocations).await?);
    }
    compare_with_coturn(&mut figures);
    Ok(figures)
}

/// Round trips to an echo without a relay.
fn directly(socket: &UdpSocket, count: u32, nanos: &mut Histogram<u64>) -> Result<(), BenchError> {
    let mut bytes = vec![b'x'; PAYLOAD_BYTES as usize];
    for _ in 0..count {
        let start = Instant::now();
        let run = socket.send(&bytes).and_then(|_| socket.recv(&mut bytes));
        run.map_err(BenchError::io("a UDP round trip"))?;
        note(nanos, start);
    }
    Ok(())
}

impl Runner {
    fn new(server: Server) -> Result<Self, BenchError> {
        let (echo, sink) = (Echo::start()?, Sink::start()?);
        let channel = |peer| {
            let allocation = Allocation::open(server.address, &server.credentials(0))?;
            allocation.bind(peer, PAYLOAD_BYTES as usize)
        };
        Ok(Self {
            echo: (channel(echo.address())?, echo),
            sink: (channel(sink.address())?, sink),
            nanos: histogram()?,
            rates: Vec::new(),
            arrived: 0,
            server,
        })
    }

    /// Round trips through the relay, one after the other.
    fn trips(&mut self, count: u32) -> Result<(), BenchError> {
        for _ in 0..count {
            let start = Instant::now();
            if self.echo.0.round_trip()? {
                note(&mut self.nanos, start);
            }
        }
        Ok(())
    }

    /// As many datagrams as the relay takes while some are on their way; what
    /// is lost is not counted, and shows as time.
    fn burst(&mut self, count: u32) -> Result<(), BenchError> {
        let (channel, sink) = &self.sink;
        let before = self.arrived;
        let (mut sent, mut seen, mut silences) = (0_u64, 0_u64, 0);
        let start = Instant::now();
        while seen + WINDOW < u64::from(count) {
            while sent < seen + WINDOW {
                channel.send()?;
                sent += 1;
            }
            match sink.next_report()? {
                Some(total) => {
                    self.arrived = self.arrived.max(total);
                    seen = self.arrived - before;
                    silences = 0;
                }
                None if silences >= SILENCES_MAX => {
                    let text = "it relays nothing any more";
                    return Err(BenchError::contestant(self.server.who.label(), text));
                }
                // They are lost: others take their place.
                None => (sent, silences) = (seen, silences + 1),
            }
        }
        let rate = seen as f64 / start.elapsed().as_secs_f64();
        self.rates.push(rate);
        while let Some(total) = sink.next_report()? {
            self.arrived = self.arrived.max(total);
        }
        Ok(())
    }

    fn figures(&self, direct_nanos: u64) -> Vec<Figure> {
        let who = self.server.who;
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        let rate = rates.get(rates.len() / 2).copied().unwrap_or_default();
        let figure = |metric, value, unit| Figure {
            contestant: who,
            size_bytes: Some(PAYLOAD_BYTES),
            ..Figure::alone(Measure::Relay, metric, value, unit, rates.len() as u64)
        };
        let (trips, p50) = (self.nanos.len(), self.nanos.value_at_quantile(0.50));
        let added = p50.saturating_sub(direct_nanos);
        vec![
            figure(Metric::Messages, rate, Unit::PerSecond),
            figure(
                Metric::Payload,
                rate * f64::from(PAYLOAD_BYTES) / 1e6,
                Unit::MbPerSecond,
            ),
            micros(who, Metric::P50, p50, trips),
            micros(who, Metric::P99, self.nanos.value_at_quantile(0.99), trips),
            micros(who, Metric::AddedP50, added, trips),
        ]
    }
}

fn micros(who: Contestant, metric: Metric, nanos: u64, samples: u64) -> Figure {
    Figure {
        contestant: who,
        size_bytes: Some(PAYLOAD_BYTES),
        ..Figure::alone(
            Measure::Relay,
            metric,
            nanos as f64 / 1e3,
            Unit::Us,
            samples,
        )
    }
}

/// Holds so many allocations at once, each of another member, and gives what they cost.
async fn held(server: Server, count: u32) -> Result<[Figure; 2], BenchError> {
    let before = rss_kib(server.pid()?)?;
    let mut all = Vec::new();
    for member in 1..=count {
        let credentials = server.credentials(member);
        all.push(Allocation::open(server.address, &credentials)?);
    }
    let after = rss_kib(server.pid()?)?;
    let a_piece = after.saturating_sub(before) as f64 / f64::from(count);
    let figure = |metric, value, unit| Figure {
        contestant: server.who,
        ..Figure::alone(Measure::Relay, metric, value, unit, u64::from(count))
    };
    let figures = [
        figure(Metric::Allocations, all.len() as f64, Unit::Count),
        figure(Metric::PerAllocation, a_piece, Unit::Kib),
    ];
    drop(all);
    server.stop().await?;
    Ok(figures)
}
