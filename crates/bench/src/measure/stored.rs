//! Messages a second that become durable for a receiver that is away: many senders fill
//! one mailbox, each has the word of the registry for each of its messages.

use std::time::Instant;

use waymesh_node::Topology;

use super::Measure;
use crate::contestant::waymesh::{Crowd, Embedded, Registry};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::role::{Until, When};
use crate::settings::Settings;

/// The size of a message.
const MESSAGE_BYTES: u32 = 1024;

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let registry = Registry::start(settings).await?;
    // Known to the mesh, and away.
    let receiver = Embedded::named("absent", &registry, Topology::MailboxOnly).await?;
    let to = receiver.name().clone();
    receiver.stop().await;
    let senders = settings.stored_senders;
    let mut crowd = Crowd::start(settings, &registry, senders, When::MailboxOnly).await?;
    let start = Instant::now();
    let size = (MESSAGE_BYTES, settings.stored_messages);
    crowd.send(&to, size, Until::Stored).await?;
    let seconds = start.elapsed().as_secs_f64();
    crowd.stop().await?;
    registry.stop().await?;
    let messages = u64::from(senders) * u64::from(settings.stored_messages);
    Ok(vec![Figure {
        size_bytes: Some(MESSAGE_BYTES),
        ..Figure::alone(
            Measure::Stored,
            Metric::Messages,
            messages as f64 / seconds,
            Unit::PerSecond,
            messages,
        )
    }])
}
