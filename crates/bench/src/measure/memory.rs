//! Memory of a link on each side: one node linked with many others, which live in a
//! second process.

use super::Measure;
use crate::contestant::waymesh::{Crowd, Registry, Sidecar};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::procfs::rss_kib;
use crate::role::When;
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let links = settings.memory_links;
    let registry = Registry::start(settings).await?;
    let hub = Sidecar::start(settings, &registry).await?;
    let mut crowd = Crowd::start(settings, &registry, links, When::OnDemand).await?;
    let before = (rss_kib(hub.pid()?)?, rss_kib(crowd.pid()?)?);
    crowd.connect_to(hub.name()).await?;
    let after = (rss_kib(hub.pid()?)?, rss_kib(crowd.pid()?)?);
    crowd.stop().await?;
    hub.stop().await?;
    registry.stop().await?;
    let per_link = |metric, before: u64, after: u64| {
        let kib = after.saturating_sub(before) as f64 / f64::from(links);
        Figure::alone(Measure::Memory, metric, kib, Unit::Kib, u64::from(links))
    };
    Ok(vec![
        per_link(Metric::PerLinkHub, before.0, after.0),
        per_link(Metric::PerLinkSpoke, before.1, after.1),
    ])
}
