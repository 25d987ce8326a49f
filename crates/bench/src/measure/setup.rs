//! Link set-up: from the first wish for a link to open channels on both sides.
//!
//! Each run is a link to a peer that this node has never spoken to, so that nothing
//! is known beforehand: the peer is looked up, the offer and the answer go through
//! the registry, and ICE and DTLS run.

use std::time::Instant;

use super::Measure;
use super::rtt::{histogram, note};
use crate::contestant::waymesh::{Crowd, Embedded, Registry};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::role::When;
use crate::settings::Settings;

/// Links that are made before anything counts.
const WARM_UP: u32 = 3;

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let registry = Registry::start(settings).await?;
    let node = Embedded::start(&registry).await?;
    let mut crowd = Crowd::start(
        settings,
        &registry,
        settings.setups + WARM_UP,
        When::OnDemand,
    )
    .await?;
    let mut nanos = histogram()?;
    for (run, peer) in crowd.names().to_vec().into_iter().enumerate() {
        let start = Instant::now();
        let (here, there) = tokio::join!(node.connect(&peer), crowd.linked(1));
        here.and(there)?;
        if run >= WARM_UP as usize {
            note(&mut nanos, start);
        }
    }
    crowd.stop().await?;
    node.stop().await;
    registry.stop().await?;
    Ok([
        (Metric::P50, 0.50),
        (Metric::P99, 0.99),
        (Metric::Max, 1.00),
    ]
    .map(|(metric, quantile)| {
        Figure::alone(
            Measure::Setup,
            metric,
            nanos.value_at_quantile(quantile) as f64 / 1e6,
            Unit::Ms,
            nanos.len(),
        )
    })
    .into())
}
