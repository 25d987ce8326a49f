//! A whole node before a peer that lies, sends garbage, or stops reading.

mod support;

use support::rogue::{Rogue, Seen};
use support::{Host, any_port, echo, host, name, registry, skill};
use tempfile::TempDir;
use waymesh_node::{SendOptions, Topology};
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::Code;
use waymesh_proto::ids::LinkId;
use waymesh_proto::limits::{MESSAGE_MAX_BYTES, OUTBOX_MAX_BYTES, OUTBOX_MAX_MESSAGES};
use waymesh_proto::link::LinkEvent;
use waymesh_proto::signaling::Signal;
use waymesh_registry::Registry;

/// Two honest nodes and mallory.
struct Scene {
    a: Host,
    b: Host,
    mallory: Rogue,
    house: (Registry, TempDir),
}

async fn scene() -> Scene {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    let a = host("a", &registry, Topology::OnDemand).await;
    let b = host("b", &registry, Topology::OnDemand).await;
    // Whoever was called is registered.
    echo(&b, "a").await;
    let mallory = Rogue::log_in(&registry, name("mallory")).await;
    Scene {
        a,
        b,
        mallory,
        house: (registry, dir),
    }
}

fn up(seen: &Seen) -> Option<LinkId> {
    match seen {
        Seen::Link(LinkEvent::Up { link, .. }) => Some(*link),
        _ => None,
    }
}

fn down(seen: &Seen) -> Option<LinkId> {
    match seen {
        Seen::Link(LinkEvent::Down { link, .. }) => Some(*link),
        _ => None,
    }
}

#[tokio::test]
async fn forged_replayed_and_senseless_signals_are_dropped_and_counted() {
    let Scene {
        a,
        b,
        mut mallory,
        house: _house,
    } = scene().await;
    let to = (a.node.info().agent_id, a.node.info().incarnation);
    let mut forged = mallory.sign(to, 1, mallory_offer());
    forged.body = forged.body.replace("garbage", "forged!");
    let garbage = mallory.sign(to, 2, mallory_offer());
    let candidate = "candidate:garbage".to_owned();
    let candidate = mallory.sign(to, 2, Signal::Candidate { candidate });
    for signal in [forged, garbage.clone(), candidate, garbage] {
        mallory.say(signal).await;
    }
    // An honest offer after all that is answered.
    let offer = mallory.offer();
    let offer = mallory.sign(to, 3, offer);
    mallory.say(offer).await;
    let answered = |seen: &Seen| matches!(seen, Seen::Signal(Signal::Answer { .. })).then_some(());
    mallory.until(answered).await;
    echo(&b, "a").await;
    let metrics = a.node.metrics();
    assert_eq!(metrics.registry.signals_forged, 1);
    assert_eq!(metrics.core.replayed_offers, 1);
}

fn mallory_offer() -> Signal {
    let sdp = "garbage".to_owned();
    Signal::Offer { sdp }
}

#[tokio::test]
async fn garbage_on_a_channel_ends_the_link_is_counted_and_a_new_link_is_made() {
    let Scene {
        a,
        b,
        mut mallory,
        house: _house,
    } = scene().await;
    let (to, hang) = (name("mallory"), skill("hang"));
    let call = a
        .agent
        .call(&to, &hang, Payload::json("1"), support::PATIENCE);
    let misbehave = async {
        let first = mallory.until(up).await;
        mallory.send(first, &[0xff; 100]);
        assert_eq!(mallory.until(down).await, first);
        // The call still wants a link, and garbage on the next ends that one alone too.
        let second = mallory.until(up).await;
        mallory.send(second, b"");
        mallory.send(second, &[0xff]);
        assert_eq!(mallory.until(down).await, second);
        mallory.until(up).await;
    };
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        () = misbehave => {}
    }
    echo(&b, "a").await;
    assert_eq!(a.node.metrics().core.bad_frames, 2);
}

#[tokio::test]
async fn a_peer_that_stops_reading_costs_bounded_memory_and_holds_up_nobody() {
    let Scene {
        a,
        b,
        mut mallory,
        house: _house,
    } = scene().await;
    let to = name("mallory");
    let connect = a.agent.connect(&to, support::PATIENCE);
    let heard = |seen: &Seen| matches!(seen, Seen::Link(LinkEvent::Frame { .. })).then_some(());
    let (connected, ()) = tokio::join!(connect, mallory.until(heard));
    connected.expect("a link");
    // From here on mallory reads nothing.
    let mut accepted = 0;
    let full = loop {
        let payload = Payload::json(vec![b'1'; 20_000]);
        match a.agent.send(&to, payload, SendOptions::default()).await {
            Ok(_) => accepted += 1,
            Err(fault) => break fault,
        }
        assert!(
            accepted <= OUTBOX_MAX_MESSAGES,
            "messages are taken without end"
        );
        echo(&a, "b").await;
    };
    assert_eq!(full.code, Code::QueueFull);
    echo(&b, "a").await;
    let bound = (OUTBOX_MAX_BYTES + MESSAGE_MAX_BYTES) as u64;
    assert!(a.node.metrics().outbox_bytes <= bound);
    drop(mallory);
}
