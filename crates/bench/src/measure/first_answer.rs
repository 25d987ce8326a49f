//! The first answer of a peer that this node has never spoken to, and the moment from
//! which a link carries the traffic.
//!
//! Each call is cold: the peer is looked up, its certificate verified, the call sealed and
//! pushed through the registry, and the answer comes back the same way, while the link is made.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use waymesh_node::Event;
use waymesh_proto::Name;
use waymesh_proto::link::Path;

use super::Measure;
use super::rtt::{histogram, note};
use crate::contestant::waymesh::{Crowd, Embedded, Registry};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::role::When;
use crate::settings::Settings;

/// Peers that are called before anything counts.
const WARM_UP: u32 = 3;

/// How long a link may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let registry = Registry::start(settings).await?;
    let node = Embedded::start(&registry).await?;
    let mut client = node.client();
    let peers = settings.setups + WARM_UP;
    let crowd = Crowd::start(settings, &registry, peers, When::OnDemand).await?;
    let (mut answers, mut links) = (histogram()?, histogram()?);
    let mut by_mailbox = 0_u32;
    for (run, peer) in crowd.names().iter().enumerate() {
        let counts = run >= WARM_UP as usize;
        let start = Instant::now();
        let path = node.echo(peer, b"first").await?;
        if counts {
            note(&mut answers, start);
            by_mailbox += u32::from(path == Some(Path::Mailbox));
        }
        linked(&mut client, peer).await?;
        if counts {
            note(&mut links, start);
        }
    }
    crowd.stop().await?;
    node.stop().await;
    registry.stop().await?;
    let ms = |metric, nanos: u64| {
        Figure::alone(
            Measure::FirstAnswer,
            metric,
            nanos as f64 / 1e6,
            Unit::Ms,
            answers.len(),
        )
    };
    Ok(vec![
        ms(Metric::P50, answers.value_at_quantile(0.50)),
        ms(Metric::P99, answers.value_at_quantile(0.99)),
        ms(Metric::LinkP50, links.value_at_quantile(0.50)),
        ms(Metric::LinkMax, links.max()),
        Figure::alone(
            Measure::FirstAnswer,
            Metric::ByMailbox,
            f64::from(by_mailbox),
            Unit::Count,
            answers.len(),
        ),
    ])
}

/// Waits until the link to a peer is up.
async fn linked(client: &mut waymesh_node::Client, peer: &Name) -> Result<(), BenchError> {
    let up = async {
        while let Some(event) = client.recv().await {
            if matches!(&event, Event::PeerConnected { peer: up } if up.agent == *peer) {
                return Ok(());
            }
        }
        Err(BenchError::contestant("waymesh", "the node has stopped"))
    };
    timeout(PATIENCE, up).await.map_err(|_| BenchError::Stuck {
        what: "a link after the first answer",
        limit: PATIENCE,
    })?
}
