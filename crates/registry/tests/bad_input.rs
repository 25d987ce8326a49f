//! What a registry does with clients that are broken, slow or hostile.

mod support;

use support::{House, Raw, large_skills, mesh_key};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use waymesh_proto::control::{CONTROL_MAX_BYTES, ClientMessage, ServerMessage};
use waymesh_proto::limits::SIGNALING_MAX_BYTES;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Code, Incarnation, SessionId};
use waymesh_trust::{Keypair, mesh_id, signal};

fn offer(from: u8, to: u8, sdp: String) -> SignalBody {
    let id = |seed| -> AgentId { Keypair::from_seed(&[seed; 32]).agent_id() };
    SignalBody {
        mesh: mesh_id(&mesh_key()),
        from: id(from),
        from_incarnation: Incarnation::new(1),
        to: id(to),
        to_incarnation: Incarnation::new(1),
        session: SessionId::from_bytes([1; 16]),
        seq: 0,
        issued_ms: 0,
        signal: Signal::Offer { sdp },
    }
}

fn signed(house: &House, from: u8, body: &SignalBody) -> SignedSignal {
    let sender = house.member("alice", from);
    signal::sign(&sender.keypair, &sender.certificate, body)
}

#[tokio::test]
async fn malformed_messages_get_a_code_and_the_connection_lives_on() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    for (message, code) in [
        (Message::Text("{".into()), Code::BadRequest),
        (
            Message::Text(r#"{"type":"dance"}"#.into()),
            Code::UnknownVerb,
        ),
        (
            Message::Text(" ".repeat(CONTROL_MAX_BYTES + 1).into()),
            Code::TooLarge,
        ),
    ] {
        alice.say_raw(message).await;
        assert_eq!(alice.error().await, code);
    }
    alice.say(&ClientMessage::WatchAll).await;
    assert!(matches!(alice.next().await, ServerMessage::Records { .. }));
}

#[tokio::test]
async fn a_malformed_part_of_an_item_ends_the_connection_with_its_code() {
    let house = House::start().await;
    for bytes in [&[][..], &[0], &[1, 2, 3], &[2, 0, 0], &[3, 1], &[255; 9]] {
        let mut alice = house.log_in("alice", 1, 1).await;
        alice.say_raw(Message::Binary(bytes.to_vec().into())).await;
        assert_eq!(alice.error().await, Code::BadRequest, "{bytes:?}");
        alice.closed().await;
    }
}

#[tokio::test]
async fn a_flood_of_malformed_messages_ends_the_connection() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    for _ in 0..=waymesh_core::registry::REFUSED_MESSAGES_MAX {
        alice.say_raw(Message::Text("{".into())).await;
    }
    alice.closed().await;
    assert_eq!(house.metric("waymesh_registry_closed_abuse_total").await, 1);
}

#[tokio::test]
async fn a_message_far_too_large_ends_the_connection_with_its_code() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let text = " ".repeat(2 * CONTROL_MAX_BYTES + 1);
    alice.say_raw(Message::Text(text.into())).await;
    assert_eq!(alice.error().await, Code::TooLarge);
}

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_connection_with_its_code() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let MaybeTlsStream::Plain(stream) = alice.ws.get_mut() else {
        panic!("no TLS here");
    };
    // RFC 6455 §5.2: a final text frame of one byte, masked with zeros.
    let frame = [0x81, 0x81, 0, 0, 0, 0, 0xff];
    stream.write_all(&frame).await.expect("a connection");
    assert_eq!(alice.error().await, Code::NotUtf8);
    alice.closed().await;
}

#[tokio::test]
async fn whoever_says_something_else_than_a_login_first_is_refused() {
    let house = House::start().await;
    for (message, code) in [
        (
            Message::Text(ClientMessage::WatchAll.encode().into()),
            Code::Unauthorized,
        ),
        (Message::Text("{".into()), Code::BadRequest),
        (Message::Binary(vec![0].into()), Code::Unauthorized),
    ] {
        let mut raw = Raw::connect(&house.registry).await;
        raw.say_raw(message).await;
        assert_eq!(raw.error().await, code);
        raw.closed().await;
    }
}

#[tokio::test]
async fn a_signal_is_passed_on_unchanged_and_a_forged_sender_is_not() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let mut bob = house.log_in("bob", 2, 1).await;
    let signal = signed(&house, 1, &offer(1, 2, "v=0".into()));
    bob.say(&ClientMessage::Signal {
        signal: signal.clone(),
    })
    .await;
    assert_eq!(bob.error().await, Code::Unauthorized);
    alice
        .say(&ClientMessage::Signal {
            signal: signal.clone(),
        })
        .await;
    let passed = ServerMessage::Signal { signal };
    assert_eq!(bob.next().await, passed);
}

#[tokio::test]
async fn a_signal_of_the_largest_size_is_passed_on_and_one_byte_more_is_too_large() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let mut bob = house.log_in("bob", 2, 1).await;
    let bare = signed(&house, 1, &offer(1, 2, String::new()));
    let largest = "s".repeat(SIGNALING_MAX_BYTES - bare.body.len());
    let signal = signed(&house, 1, &offer(1, 2, largest.clone()));
    alice.say(&ClientMessage::Signal { signal }).await;
    assert!(matches!(bob.next().await, ServerMessage::Signal { .. }));
    let signal = signed(&house, 1, &offer(1, 2, largest + "s"));
    alice.say(&ClientMessage::Signal { signal }).await;
    assert_eq!(alice.error().await, Code::TooLarge);
}

#[tokio::test]
async fn signals_to_a_client_that_does_not_read_are_undeliverable_and_do_not_cut_it_off() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let mut slow = house.log_in("slow", 2, 1).await;
    let signal = signed(&house, 1, &offer(1, 2, "s".repeat(60 * 1024)));
    // What the kernel takes is unknown: fill until one comes back.
    let mut passed_on = 0;
    loop {
        let signal = signal.clone();
        alice.say(&ClientMessage::Signal { signal }).await;
        let name = "nobody".parse().expect("a name");
        alice.say(&ClientMessage::Resolve { name }).await;
        match alice.next().await {
            ServerMessage::Unknown { .. } => passed_on += 1,
            ServerMessage::Undeliverable { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    for _ in 0..passed_on {
        assert!(matches!(slow.next().await, ServerMessage::Signal { .. }));
    }
    slow.say(&ClientMessage::WatchAll).await;
    assert!(matches!(slow.next().await, ServerMessage::Records { .. }));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_does_not_hold_up_others() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    let mut slow = house.log_in("slow", 2, 1).await;
    slow.say(&ClientMessage::WatchAll).await;
    assert!(matches!(slow.next().await, ServerMessage::Records { .. }));
    let name = "slow".parse().expect("a name");
    alice.say(&ClientMessage::Resolve { name }).await;
    assert!(matches!(alice.next().await, ServerMessage::Records { .. }));
    // What the kernel takes is unknown: change records until their watcher is gone,
    // with as many agents as that needs, since each may change only so much.
    let nobody = || "nobody".parse().expect("a name");
    'slow: for key in 3.. {
        let mut changer = house.log_in(&format!("changer-{key}"), key, 1).await;
        for change in 0.. {
            let skills = large_skills(&format!("change {change}"));
            changer.say(&ClientMessage::Skills { skills }).await;
            changer
                .say(&ClientMessage::Resolve { name: nobody() })
                .await;
            match changer.next().await {
                ServerMessage::Unknown { .. } => {}
                ServerMessage::Error { error } if error.code == Code::RateLimited => break,
                other => panic!("{other:?}"),
            }
            alice.say(&ClientMessage::Resolve { name: nobody() }).await;
            match alice.next().await {
                ServerMessage::Unknown { .. } => {}
                ServerMessage::Records { agents } if !agents[0].agent.online => break 'slow,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        house
            .metric("waymesh_registry_closed_slow_reader_total")
            .await,
        1
    );
}
