//! Very many nodes that join at the same moment, each a member by invite with a data
//! directory of its own, and what they cost their registry while nothing happens.

use std::time::Instant;

use futures_util::future::try_join_all;

use super::Measure;
use crate::contestant::waymesh::{Crowd, Registry};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::procfs::{cpu_time, rss_kib};
use crate::role::When;
use crate::settings::Settings;

/// Nodes of one process: each has some open files, of which a process may have 1,024.
const NODES_A_PROCESS: u32 = 125;

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let registry = Registry::start(settings).await?;
    let before = rss_kib(registry.pid()?)?;
    let nodes = settings.joining_nodes;
    let start = Instant::now();
    let mut crowds = Vec::new();
    for first in (0..nodes).step_by(NODES_A_PROCESS as usize) {
        let some = NODES_A_PROCESS.min(nodes - first);
        crowds.push(Crowd::begin(settings, &registry, some, When::OnDemand)?);
    }
    try_join_all(crowds.iter_mut().map(Crowd::registered)).await?;
    let joined = start.elapsed();
    let rss = rss_kib(registry.pid()?)?;
    let cpu = cpu_time(registry.pid()?)?;
    tokio::time::sleep(settings.idle_time).await;
    let busy = cpu_time(registry.pid()?)?.saturating_sub(cpu);
    let share = busy.as_secs_f64() / settings.idle_time.as_secs_f64() * 100.0;
    for crowd in crowds {
        crowd.stop().await?;
    }
    registry.stop().await?;
    let figure =
        |metric, value, unit| Figure::alone(Measure::Joins, metric, value, unit, u64::from(nodes));
    let per_node = rss.saturating_sub(before) as f64 / f64::from(nodes);
    Ok(vec![
        figure(Metric::All, joined.as_secs_f64() * 1e3, Unit::Ms),
        figure(Metric::RegistryRss, rss as f64, Unit::Kib),
        figure(Metric::PerNode, per_node, Unit::Kib),
        figure(Metric::CpuShare, share, Unit::Percent),
    ])
}
