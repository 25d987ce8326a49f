//! What WebSockets carry: both directions at once, slowly, and nothing too large.

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use waymesh_net::control::{
    Carrier, CarrierChoice, ControlSocket, Message, ReceiveError, Received, SendError,
};
use waymesh_proto::control::CONTROL_MAX_BYTES;
use waymesh_proto::mailbox::PART_BYTES;

use crate::fake::{BRIEF, Boxed, PATIENCE, Server, Speak, connect, drain, next, websocket};

async fn connected(speak: Speak) -> ControlSocket {
    let server = Server::speaking(speak).await;
    let socket = connect(&server.target(), CarrierChoice::Only(Carrier::WebSocket)).await;
    socket.expect("a connection")
}

/// More than all buffers between two sockets hold: 32 MiB of parts.
const FLOOD_PARTS: usize = 512;

/// A registry that reads nothing until all that it pushes has been read.
fn pushes_before_it_reads(io: TokioIo<Upgraded>) -> Boxed<()> {
    Box::pin(async move {
        let mut socket = websocket(io).await;
        for _ in 0..FLOOD_PARTS {
            let part = WsMessage::binary(vec![1; PART_BYTES]);
            socket.send(part).await.expect("a reader");
        }
        for _ in 0..FLOOD_PARTS {
            socket.next().await.expect("a part").expect("a part");
        }
        socket.send(WsMessage::text("all")).await.expect("a reader");
    })
}

#[tokio::test]
async fn two_sides_that_push_at_each_other_do_not_wait_for_ever() {
    let (mut sender, mut receiver) = connected(pushes_before_it_reads).await.split();
    let sending = async {
        for _ in 0..FLOOD_PARTS {
            let part = Message::Binary(vec![2; PART_BYTES]);
            sender.send(part, PATIENCE).await.expect("sent");
        }
    };
    let receiving = async {
        let mut parts = 0;
        loop {
            match receiver.receive().await.expect("a message") {
                Received::Binary(part) => parts += usize::from(part.len() == PART_BYTES),
                Received::Text(_) => return parts,
                Received::Alive => {}
            }
        }
    };
    let both = async { tokio::join!(sending, receiving) };
    let ((), parts) = timeout(PATIENCE, both).await.expect("no deadlock");
    assert_eq!(parts, FLOOD_PARTS);
}

#[tokio::test]
async fn who_does_not_read_is_given_up_in_time() {
    let mut socket = connected(|io| {
        Box::pin(async move {
            let _open = io;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let error = loop {
        let part = Message::Binary(vec![0; CONTROL_MAX_BYTES]);
        if let Err(error) = socket.send(part, BRIEF).await {
            break error;
        }
    };
    assert!(
        matches!(error, SendError::Timeout(limit) if limit == BRIEF),
        "{error}"
    );
}

/// Writes one part of a text frame for each thing that it is sent.
fn writes_a_text_in_parts(mut io: TokioIo<Upgraded>) -> Boxed<()> {
    Box::pin(async move {
        for part in [&[0x81, 4, b'a'][..], b"b", b"cd"] {
            let mut asked = [0; 64];
            let read_bytes = io.read(&mut asked).await.expect("something");
            assert!(read_bytes > 0);
            io.write_all(part).await.expect("a reader");
        }
        std::future::pending::<()>().await;
    })
}

#[tokio::test]
async fn bytes_of_a_message_that_is_not_whole_are_a_sign_of_life() {
    let mut socket = connected(writes_a_text_in_parts).await;
    drain(&mut socket);
    for expected in [
        Received::Alive,
        Received::Alive,
        Received::Text("abcd".into()),
    ] {
        let go = Message::Text("go".into());
        socket.send(go, PATIENCE).await.expect("sent");
        let received = timeout(PATIENCE, socket.receive()).await.expect("in time");
        assert_eq!(received.expect("open"), expected);
    }
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_read_and_one_byte_more_is_not() {
    let mut socket = connected(|io| {
        Box::pin(async move {
            let mut socket = websocket(io).await;
            for len in [CONTROL_MAX_BYTES, CONTROL_MAX_BYTES + 1] {
                let message = WsMessage::text("x".repeat(len));
                // The reader goes away in the middle of the second.
                let _ = socket.send(message).await;
            }
            while let Some(Ok(_)) = socket.next().await {}
        })
    })
    .await;
    assert!(
        matches!(next(&mut socket).await, Received::Text(text) if text.len() == CONTROL_MAX_BYTES)
    );
    let error = loop {
        match socket.receive().await {
            Ok(Received::Alive) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReceiveError::Unreadable(_)), "{error}");
}
