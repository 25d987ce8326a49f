//! What a node costs that has nothing to do: memory without links, and processor time
//! with ten links.

use super::Measure;
use crate::contestant::waymesh::{Crowd, Registry, Sidecar};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::procfs::{cpu_time, rss_kib};
use crate::role::When;
use crate::settings::Settings;

/// Links of the idle node.
const LINKS: u32 = 10;

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let registry = Registry::start(settings).await?;
    let hub = Sidecar::start(settings, &registry).await?;
    let rss = rss_kib(hub.pid()?)?;
    let mut crowd = Crowd::start(settings, &registry, LINKS, When::OnDemand).await?;
    crowd.connect_to(hub.name()).await?;
    let before = cpu_time(hub.pid()?)?;
    // The measure is the time itself: there is no event to wait for.
    tokio::time::sleep(settings.idle_time).await;
    let used = cpu_time(hub.pid()?)?.saturating_sub(before);
    crowd.stop().await?;
    hub.stop().await?;
    registry.stop().await?;
    let share = used.as_secs_f64() / settings.idle_time.as_secs_f64() * 100.0;
    Ok(vec![
        Figure::alone(Measure::Idle, Metric::Rss, rss as f64, Unit::Kib, 1),
        Figure::alone(Measure::Idle, Metric::CpuShare, share, Unit::Percent, 1),
    ])
}
