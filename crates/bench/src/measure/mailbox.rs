//! By mailbox, to a receiver that is connected: from sending until its application has the
//! message, and until the sender has the word that it is durable. One message at a time;
//! both nodes live in this process, so that one clock measures, and make no links.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use waymesh_node::{Client, Command, Event, Storing, Topology, new_id};
use waymesh_proto::api::SendState;
use waymesh_proto::envelope::Payload;
use waymesh_proto::{Class, MessageId, Name, Priority};

use super::Measure;
use super::rtt::histogram;
use crate::contestant::waymesh::{Embedded, Registry};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::settings::Settings;

/// The size of a message.
const MESSAGE_BYTES: u32 = 1024;

/// Messages before anything counts.
const WARM_UP: u32 = 50;

/// How long one message may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let registry = Registry::start(settings).await?;
    let sender = Embedded::named("sender", &registry, Topology::MailboxOnly).await?;
    let receiver = Embedded::named("receiver", &registry, Topology::MailboxOnly).await?;
    let mut pair = Pair {
        sender: sender.client(),
        receiver: receiver.client(),
        to: receiver.name().clone(),
    };
    let claim = Command::ClaimInbox { id: new_id() };
    pair.receiver.send(claim).await.map_err(gone)?;
    let (mut delivery, mut stored) = (histogram()?, histogram()?);
    for run in 0..settings.mailbox_messages + WARM_UP {
        let (start, times) = pair.one().await?;
        if run >= WARM_UP {
            let nanos = |at: Instant| u64::try_from((at - start).as_nanos()).unwrap_or(u64::MAX);
            delivery.saturating_record(nanos(times.delivered));
            // One that is delivered before it is durable need not become so.
            if let Some(at) = times.stored {
                stored.saturating_record(nanos(at));
            }
        }
    }
    sender.stop().await;
    receiver.stop().await;
    registry.stop().await?;
    let ms = |metric, nanos: u64, samples| Figure {
        size_bytes: Some(MESSAGE_BYTES),
        ..Figure::alone(
            Measure::Mailbox,
            metric,
            nanos as f64 / 1e6,
            Unit::Ms,
            samples,
        )
    };
    Ok(vec![
        ms(
            Metric::DeliveryP50,
            delivery.value_at_quantile(0.50),
            delivery.len(),
        ),
        ms(
            Metric::DeliveryP99,
            delivery.value_at_quantile(0.99),
            delivery.len(),
        ),
        ms(
            Metric::StoredP50,
            stored.value_at_quantile(0.50),
            stored.len(),
        ),
        ms(
            Metric::StoredP99,
            stored.value_at_quantile(0.99),
            stored.len(),
        ),
    ])
}

struct Pair {
    sender: Client,
    receiver: Client,
    to: Name,
}

struct Times {
    delivered: Instant,
    stored: Option<Instant>,
}

impl Pair {
    /// Sends one message and sees it through to its last state.
    async fn one(&mut self) -> Result<(Instant, Times), BenchError> {
        let id = new_id();
        let start = Instant::now();
        let command = Command::Send {
            id,
            to: self.to.clone(),
            class: Class::Control,
            priority: Priority::Normal,
            ttl: PATIENCE,
            storing: Storing::default(),
            payload: Payload::bytes(
                "application/octet-stream",
                vec![b'x'; MESSAGE_BYTES as usize],
            ),
        };
        self.sender.send(command).await.map_err(gone)?;
        let times = timeout(PATIENCE, self.follow(id)).await;
        let stuck = |_| BenchError::Stuck {
            what: "a message by mailbox",
            limit: PATIENCE,
        };
        Ok((start, times.map_err(stuck)??))
    }

    async fn follow(&mut self, message: MessageId) -> Result<Times, BenchError> {
        let (mut delivered, mut stored, mut is_over) = (None, None, false);
        while !is_over || delivered.is_none() {
            tokio::select! {
                event = self.receiver.recv() => {
                    if let Some(Event::Message { inbound: Some(message), .. }) = event {
                        delivered = Some(Instant::now());
                        let consumed = Command::Consumed { message };
                        self.receiver.send(consumed).await.map_err(gone)?;
                    }
                }
                event = self.sender.recv() => match event {
                    Some(Event::State { id, state, fault, .. }) if id == message => match state {
                        SendState::Queued => {}
                        SendState::Stored => stored = Some(Instant::now()),
                        SendState::Delivered => is_over = true,
                        _ => {
                            let why = fault.map_or_else(|| format!("{state:?}"), |f| f.to_string());
                            return Err(gone(why));
                        }
                    },
                    Some(_) => {}
                    None => return Err(gone("the node has stopped")),
                },
            }
        }
        delivered
            .map(|delivered| Times { delivered, stored })
            .ok_or_else(|| gone("the message never came"))
    }
}

fn gone(error: impl ToString) -> BenchError {
    BenchError::contestant("waymesh", error)
}
