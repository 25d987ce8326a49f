//! Lies in what two nodes say to each other to make a link.

use std::sync::Mutex;

use waymesh_node::Topology;
use waymesh_proto::control::ServerMessage;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_proto::{Incarnation, SessionId};
use waymesh_trust::{mesh_id, signal};

use crate::registry::{Malice, receiver, registry_keypair, unix_ms};
use crate::scene::{
    Host, PATIENCE, Scene, alice, answered, eventually, mallory, mesh, name, scene,
};

/// Changes every signal on its way.
fn changed(evil: impl Fn(&mut SignedSignal) + Send + Sync + 'static) -> Malice {
    Malice::none().signal(move |_, mut signal| {
        let to = receiver(&signal);
        evil(&mut signal);
        vec![(to, signal)]
    })
}

/// Puts another digit into the DTLS fingerprint.
fn other_fingerprint(signal: &mut SignedSignal) {
    const MARK: &str = "fingerprint:sha-256 ";
    if let Some(at) = signal.body.find(MARK).map(|at| at + MARK.len()) {
        let digit = if signal.body[at..].starts_with('0') {
            "1"
        } else {
            "0"
        };
        signal.body.replace_range(at..=at, digit);
    }
}

/// An offer from bob to alice, of any age.
fn bobs_offer(scene: &Scene, issued_ms: u64) -> SignalBody {
    SignalBody {
        mesh: mesh_id(&mesh().mesh_key()),
        from: scene.bob.id(),
        from_incarnation: scene.bob.node.info().incarnation,
        to: scene.alice.id(),
        to_incarnation: scene.alice.node.info().incarnation,
        session: SessionId::from_bytes([5; 16]),
        seq: 0,
        issued_ms,
        signal: Signal::Offer { sdp: "v=0".into() },
    }
}

cases! {
    it_swaps_the_fingerprint_of_a_link => answered(
        Topology::OnDemand,
        changed(other_fingerprint),
        bob_or_alice,
        |metrics| metrics.registry.signals_forged,
    );
    it_signs_signals_itself => answered(
        Topology::OnDemand,
        changed(|signal| {
            let body = signal.decode_body().expect("a body");
            *signal = signal::sign(&registry_keypair(), &signal.cert.clone(), &body);
        }),
        bob_or_alice,
        |metrics| metrics.registry.signals_forged,
    );
    it_puts_mallorys_certificate_behind_a_signal => answered(
        Topology::OnDemand,
        Malice::none().signal(|house, mut signal| {
            signal.cert = house.record("mallory").expect("mallory").certificate.clone();
            vec![(receiver(&signal), signal)]
        }),
        bob_or_alice,
        |metrics| metrics.registry.signals_forged,
    );
    it_puts_a_minted_certificate_behind_a_signal => answered(
        Topology::OnDemand,
        changed(|signal| {
            let body = signal.decode_body().expect("a body");
            signal.cert = crate::forge::minted("bob", body.from);
        }),
        bob_or_alice,
        |metrics| metrics.registry.signals_forged,
    );
    it_replays_every_signal => replayed();
    it_replays_signals_of_an_earlier_attempt_to_the_same_node => replayed_later();
    it_passes_signals_in_another_order => reordered();
    it_drops_every_signal => answered(
        Topology::OnDemand,
        Malice::none().signal(|_, _| Vec::new()),
        alice,
        |metrics| metrics.registry.items_opened,
    );
    it_passes_on_no_answer => answered(
        Topology::OnDemand,
        Malice::none().signal(|_, signal| {
            let body = signal.decode_body().expect("a body");
            match body.signal {
                Signal::Answer { .. } => Vec::new(),
                _ => vec![(body.to, signal)],
            }
        }),
        alice,
        |metrics| metrics.registry.items_opened,
    );
    it_shows_every_signal_to_mallory_too => answered(
        Topology::OnDemand,
        Malice::none().signal(|house, signal| {
            let mallory = house.record("mallory").expect("mallory").agent.agent_id;
            vec![(receiver(&signal), signal.clone()), (mallory, signal)]
        }),
        mallory,
        |metrics| metrics.registry.signals_misdirected,
    );
    it_answers_an_offer_with_the_answer_to_another => other_answer();
    it_brings_a_signal_of_an_hour_ago => stale();
    it_brings_a_signal_of_another_mesh => foreign();
    it_brings_a_signal_to_an_earlier_life => earlier_life();
    it_makes_a_signal_that_is_no_signal => garbage();
}

/// The one of the two who is offered a link.
fn bob_or_alice(scene: &Scene) -> &Host {
    match scene.bob.metrics().registry.signals_forged {
        0 => &scene.alice,
        _ => &scene.bob,
    }
}

async fn replayed() {
    let malice = Malice::none().signal(|_, signal| {
        let to = receiver(&signal);
        vec![(to, signal.clone()), (to, signal.clone()), (to, signal)]
    });
    let mut scene = scene(Topology::OnDemand, malice).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene
        .alice
        .agent
        .connect(&name("bob"), PATIENCE)
        .await
        .expect("a link");
    let replayed = |host: &Host| host.metrics().core.replayed_offers;
    assert!(replayed(&scene.alice) + replayed(&scene.bob) > 0);
    scene.check();
}

/// All signals of a link that works are passed on again after it is up.
async fn replayed_later() {
    let mut scene = scene(Topology::OnDemand, Malice::none()).await;
    scene
        .alice
        .agent
        .connect(&name("bob"), PATIENCE)
        .await
        .expect("a link");
    scene.registry.with(|house| {
        for signal in &house.signals {
            let signal = signal.clone();
            house.tell(receiver(&signal), &ServerMessage::Signal { signal });
        }
    });
    let count = |host: &Host| host.metrics().core.replayed_offers;
    eventually(|| count(&scene.alice) + count(&scene.bob) > 0).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}

/// Each signal waits for the next one of the same sender, and then goes after it.
async fn reordered() {
    let held = Mutex::new(None::<SignedSignal>);
    let malice = Malice::none().signal(move |_, signal| {
        let before = held.lock().expect("no panic").replace(signal.clone());
        match before {
            Some(before) => {
                *held.lock().expect("no panic") = None;
                let late = (receiver(&before), before);
                vec![(receiver(&signal), signal), late]
            }
            None => Vec::new(),
        }
    });
    let mut scene = scene(Topology::OnDemand, malice).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}

/// The answers of two attempts change places; each names its own offer.
async fn other_answer() {
    let malice = Malice::none().signal(|house, signal| {
        let body = signal.decode_body().expect("a body");
        let is_answer = |signal: &&SignedSignal| {
            matches!(
                signal.decode_body().expect("a body").signal,
                Signal::Answer { .. }
            )
        };
        let first = house.signals.iter().find(is_answer).cloned();
        match (body.signal, first) {
            (Signal::Answer { .. }, Some(first)) => vec![(receiver(&first), first)],
            _ => vec![(body.to, signal)],
        }
    });
    let mut scene = scene(Topology::OnDemand, malice).await;
    scene
        .alice
        .agent
        .connect(&name("bob"), PATIENCE)
        .await
        .expect("the first attempt");
    scene.call(PATIENCE).await.expect("bob's answer");
    let first = scene.registry.with(|house| house.signals.clone());
    scene.registry.with(|house| {
        for signal in first {
            let body = signal.decode_body().expect("a body");
            if matches!(body.signal, Signal::Answer { .. }) {
                // To who never made that offer.
                house.tell(body.from, &ServerMessage::Signal { signal });
            }
        }
    });
    let count = |host: &Host| {
        let counters = host.metrics().registry;
        counters.signals_unasked + counters.signals_misdirected
    };
    eventually(|| count(&scene.alice) + count(&scene.bob) > 0).await;
    scene.check();
}

/// Tells alice one signal and waits until she has counted it.
async fn told(
    make: impl Fn(&Scene) -> SignedSignal,
    counted: fn(&waymesh_node::metrics::Metrics) -> u64,
) {
    let mut scene = scene(Topology::OnDemand, Malice::none()).await;
    let signal = make(&scene);
    let alice = scene.alice.id();
    scene
        .registry
        .with(|house| house.tell(alice, &ServerMessage::Signal { signal }));
    scene.alice.until(counted).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}

fn sign_as_bob(scene: &Scene, body: &SignalBody) -> SignedSignal {
    let certificate = scene.registry.with(|house| {
        let bob = house.record("bob").expect("bob is there");
        bob.certificate.clone()
    });
    signal::sign(&scene.bob.keypair(), &certificate, body)
}

async fn stale() {
    let make = |scene: &Scene| sign_as_bob(scene, &bobs_offer(scene, unix_ms() - 3_600_000));
    told(make, |metrics| metrics.registry.signals_stale).await;
}

async fn foreign() {
    let make = |scene: &Scene| {
        let mut body = bobs_offer(scene, unix_ms());
        body.mesh = waymesh_proto::MeshId::from_bytes([1; 16]);
        sign_as_bob(scene, &body)
    };
    told(make, |metrics| metrics.registry.signals_misdirected).await;
}

async fn earlier_life() {
    let make = |scene: &Scene| {
        let mut body = bobs_offer(scene, unix_ms());
        body.to_incarnation = Incarnation::new(1);
        sign_as_bob(scene, &body)
    };
    told(make, |metrics| metrics.core.stale_signals).await;
}

async fn garbage() {
    let make = |scene: &Scene| {
        let mut signal = sign_as_bob(scene, &bobs_offer(scene, unix_ms()));
        signal.body = "{}".into();
        signal
    };
    told(make, |metrics| metrics.registry.signals_misdirected).await;
}
