//! A message to an agent that is not there: stored in its mailbox, delivered when it is back.

use std::time::{Duration, Instant};

use waymesh_proto::api::SendState;
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Follow, Verb, Wait};
use waymesh_proto::limits::TTL_DEFAULT_MS;
use waymesh_proto::{Class, Code, Fault, Priority};

use super::report::Absence;
use super::stage::{Actor, Stage};
use crate::output::millis;
use crate::sidecar::Until;

/// What the message says, as JSON.
const WORDS: &str = r#""good morning""#;

/// Stops an agent, sends it a message, starts it again and sees it take the message.
pub(super) async fn write_to(
    absent: &Name,
    from: &mut Actor,
    stage: &mut Stage,
    registry: &str,
    limit: Duration,
) -> Result<Absence, Fault> {
    stage.stop_agent(absent).await;
    let sent = Instant::now();
    let message = from.sidecar.start_send(message(absent)).await?;
    let stored = from
        .sidecar
        .followed(&message, Until::Stored, limit)
        .await?;
    let stored_ms = millis(sent.elapsed());
    if stored.state != SendState::Stored {
        let why = format!("{absent} was gone and yet its message was not stored");
        return Err(Fault::new(Code::Internal, why));
    }
    let back = Instant::now();
    let agents = std::slice::from_ref(absent);
    let mut agents = stage.add_agents(registry, agents, limit).await?;
    for agent in &mut agents {
        agent.sidecar.attach_inbox(limit).await?;
        agent.sidecar.take_message(limit).await?;
    }
    let delivered = from.sidecar.followed(&message, Until::Delivered, limit);
    let delivered = delivered.await?;
    Ok(Absence {
        event: "absence",
        from: from.name.clone(),
        to: absent.clone(),
        stored_ms,
        stored_path: stored.path,
        state: delivered.state,
        delivered_ms: millis(back.elapsed()),
    })
}

fn message(to: &Name) -> Verb {
    Verb::Send {
        to: to.clone(),
        payload: Payload::json(WORDS),
        class: Class::Control,
        priority: Priority::Normal,
        ttl: Duration::from_millis(TTL_DEFAULT_MS),
        wait: Wait::Delivered,
        follow: Follow::default(),
    }
}
