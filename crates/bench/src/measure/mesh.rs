//! Nodes that start at the same moment, each a process of its own: until every node
//! has a link to every other.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::Measure;
use super::rtt::{histogram, note};
use crate::child::Child;
use crate::contestant::waymesh::{Registry, name};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::role::{Role, Said, When};
use crate::settings::Settings;

/// A mesh of ten is to be whole within it.
const LIMIT: Duration = Duration::from_secs(1);

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let mut nanos = histogram()?;
    let mut within = 0_u32;
    for _ in 0..settings.mesh_runs {
        let registry = Registry::start(settings).await?;
        let start = Instant::now();
        let members = mesh(settings, &registry).await?;
        note(&mut nanos, start);
        within += u32::from(start.elapsed() <= LIMIT);
        for member in members {
            member.stop().await?;
        }
        registry.stop().await?;
    }
    let mut figures: Vec<_> = [(Metric::P50, 0.50), (Metric::Max, 1.00)]
        .map(|(metric, quantile)| {
            let ms = nanos.value_at_quantile(quantile) as f64 / 1e6;
            Figure::alone(Measure::Mesh, metric, ms, Unit::Ms, nanos.len())
        })
        .into();
    figures.push(Figure::alone(
        Measure::Mesh,
        Metric::RunsWithinLimit,
        f64::from(within),
        Unit::Count,
        nanos.len(),
    ));
    Ok(figures)
}

/// Starts all nodes and waits until the mesh is whole.
async fn mesh(settings: &Settings, registry: &Registry) -> Result<Vec<Child>, BenchError> {
    let mut members = Vec::new();
    for number in 0..settings.mesh_nodes {
        let name = name(&format!("member-{number}"))?;
        let role = Role::Nodes {
            registry: registry.url().to_owned(),
            data_dir: registry.folder().join(name.as_str()),
            names: vec![name],
            topology: When::FullMesh,
        };
        members.push(Child::spawn(settings, &role, Some(registry.invite()))?);
    }
    let others = settings.mesh_nodes.saturating_sub(1);
    try_join_all(members.iter_mut().map(|member| linked(member, others))).await?;
    Ok(members)
}

/// Waits until a node has so many links.
async fn linked(member: &mut Child, links: u32) -> Result<(), BenchError> {
    let mut peers = std::collections::BTreeSet::new();
    while peers.len() < links as usize {
        if let Said::Up { peer, .. } = member.next().await? {
            peers.insert(peer);
        }
    }
    Ok(())
}
