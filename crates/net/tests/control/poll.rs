//! What long-poll carries, and what ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{FutureExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::time::timeout;
use waymesh_net::control::{
    Carrier, CarrierChoice, ControlSocket, Message, ReceiveError, Received, SendError,
};
use waymesh_proto::Code;
use waymesh_proto::control::CONTROL_MAX_BYTES;
use waymesh_proto::http::{POLL_IN_PATH, POLL_OUT_PATH};
use waymesh_proto::mailbox::PART_BYTES;
use waymesh_proto::poll::{POLL_BODY_MAX_BYTES, POLL_HEAD_BYTES};

use crate::fake::{
    BRIEF, Handler, PATIENCE, Reply, Server, World, connect, drain, next, no_reply, put, ready,
    refusal, registry, reply,
};

const POLL: CarrierChoice = CarrierChoice::Only(Carrier::Poll);

/// A registry that answers requests to one path in its own way.
async fn answering(path: &'static str, answer: fn() -> Reply) -> Server {
    let handler: Handler = Arc::new(move |request, world| {
        if request.uri().path() == path {
            ready(answer())
        } else {
            Box::pin(registry(request, world))
        }
    });
    Server::start(None, handler).await
}

async fn connected(server: &Server) -> ControlSocket {
    connect(&server.target(), POLL).await.expect("a session")
}

/// The error that ends receiving.
async fn end_of(socket: &mut ControlSocket) -> ReceiveError {
    let end = async {
        loop {
            if let Err(error) = socket.receive().await {
                return error;
            }
        }
    };
    let error = timeout(PATIENCE, end).await.expect("in time");
    let again = socket.receive().await;
    assert!(matches!(again, Err(ReceiveError::Closed)), "{again:?}");
    error
}

#[tokio::test]
async fn a_session_takes_two_connections_however_much_it_carries() {
    let server = Server::registry().await;
    let mut socket = connected(&server).await;
    next(&mut socket).await;
    for number in 0..50 {
        let message = Message::Text(number.to_string());
        socket.send(message, PATIENCE).await.expect("sent");
        let expected = Received::Text(number.to_string());
        assert_eq!(next(&mut socket).await, expected);
    }
    assert_eq!(server.world.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn many_messages_arrive_in_order_in_few_requests() {
    let server = Server::registry().await;
    let (mut sender, mut receiver) = connected(&server).await.split();
    let messages: Vec<_> = (0..40)
        .map(|number| Message::Binary(vec![number; PART_BYTES]))
        .collect();
    let receiving = async {
        let mut numbers = Vec::new();
        while numbers.len() < 40 {
            if let Received::Binary(bytes) = receiver.receive().await.expect("open") {
                numbers.push(bytes[0]);
            }
        }
        numbers
    };
    let both = async { tokio::join!(sender.send_all(messages, PATIENCE), receiving) };
    let (sent, numbers) = timeout(PATIENCE, both).await.expect("in time");
    sent.expect("sent");
    assert_eq!(numbers, (0..40).collect::<Vec<u8>>());
    let posts = server.world.seen();
    let posts = posts.iter().filter(|line| line.ends_with(POLL_IN_PATH));
    // One more each time that the registry asks for a nonce: not at all here.
    assert_eq!(posts.count(), 40 / (256 * 1024 / (PART_BYTES + 5)) + 1);
}

#[tokio::test]
async fn receiving_may_be_dropped_at_any_time_and_loses_nothing() {
    let server = Server::registry().await;
    let (mut sender, mut receiver) = connected(&server).await.split();
    let sending = async {
        for number in 0..200 {
            let message = Message::Text(number.to_string());
            sender.send(message, PATIENCE).await.expect("sent");
        }
    };
    let receiving = async {
        let mut texts = Vec::new();
        while texts.len() < 201 {
            match receiver.receive().now_or_never() {
                None => tokio::task::yield_now().await,
                Some(Ok(Received::Text(text))) => texts.push(text),
                Some(other) => assert_eq!(other.expect("open"), Received::Alive),
            }
        }
        texts
    };
    let both = async { tokio::join!(sending, receiving) };
    let ((), texts) = timeout(PATIENCE, both).await.expect("in time");
    let expected = (0..200).map(|number| number.to_string());
    assert!(texts.into_iter().skip(1).eq(expected));
}

#[tokio::test]
async fn a_registry_that_closes_after_each_answer_is_asked_on_new_connections() {
    let handler: Handler = Arc::new(|request, world| {
        Box::pin(async {
            let mut reply = registry(request, world).await;
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(CONNECTION, close);
            reply
        })
    });
    let server = Server::start(None, handler).await;
    let mut socket = connected(&server).await;
    next(&mut socket).await;
    for text in ["one", "two", "three"] {
        let message = Message::Text(text.into());
        socket.send(message, PATIENCE).await.expect("sent");
        assert_eq!(next(&mut socket).await, Received::Text(text.into()));
    }
}

#[tokio::test]
async fn an_answer_without_messages_is_a_sign_of_life() {
    let server = answering(POLL_OUT_PATH, || reply(StatusCode::OK, "")).await;
    let mut socket = connected(&server).await;
    for _ in 0..3 {
        let received = timeout(PATIENCE, socket.receive()).await.expect("in time");
        assert_eq!(received.expect("open"), Received::Alive);
    }
}

/// The bytes of a message, one for each call.
fn in_parts(world: &Arc<World>) -> Reply {
    let mut message = Vec::new();
    put(&mut message, Message::Text("abc".into()));
    let world = Arc::clone(world);
    let frames = stream::unfold(message.into_iter(), move |mut bytes| {
        let world = Arc::clone(&world);
        async move {
            let byte = bytes.next()?;
            world.called().await;
            let frame = Frame::data(Bytes::from(vec![byte]));
            Some((Ok(frame), bytes))
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

#[tokio::test]
async fn bytes_of_an_answer_that_is_not_whole_are_a_sign_of_life() {
    let handler: Handler = Arc::new(|request, world| {
        if request.uri().path() == POLL_OUT_PATH {
            ready(in_parts(&world))
        } else {
            Box::pin(registry(request, world))
        }
    });
    let server = Server::start(None, handler).await;
    let mut socket = connected(&server).await;
    for _ in 1..POLL_HEAD_BYTES + "abc".len() {
        drain(&mut socket);
        server.world.call();
        let received = timeout(PATIENCE, socket.receive()).await.expect("in time");
        assert_eq!(received.expect("open"), Received::Alive);
    }
    server.world.call();
    assert_eq!(next(&mut socket).await, Received::Text("abc".into()));
}

#[tokio::test]
async fn the_end_of_a_session_is_told() {
    let server = answering(POLL_OUT_PATH, || reply(StatusCode::GONE, "")).await;
    let error = end_of(&mut connected(&server).await).await;
    assert!(matches!(error, ReceiveError::Closed), "{error}");
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_session_keeps_its_code() {
    let refuse = || refusal(StatusCode::FORBIDDEN, Code::Revoked);
    let server = answering(POLL_OUT_PATH, refuse).await;
    let error = end_of(&mut connected(&server).await).await;
    assert_eq!(error.fault().code, Code::Revoked);
    let server = answering(POLL_IN_PATH, refuse).await;
    let mut socket = connected(&server).await;
    let sent = socket.send(Message::Text("hi".into()), PATIENCE).await;
    assert_eq!(sent.expect_err("refused").fault().code, Code::Revoked);
}

#[tokio::test]
async fn answers_of_something_on_the_way_end_the_session() {
    let page = || reply(StatusCode::BAD_GATEWAY, "<html>");
    let server = answering(POLL_OUT_PATH, page).await;
    let error = end_of(&mut connected(&server).await).await;
    assert!(
        matches!(&error, ReceiveError::Unreadable(why) if why.contains("502")),
        "{error}"
    );
    let server = answering(POLL_IN_PATH, no_reply).await;
    let mut socket = connected(&server).await;
    let sent = socket.send(Message::Text("hi".into()), PATIENCE).await;
    assert!(matches!(sent, Err(SendError::Broken(_))), "{sent:?}");
}

#[tokio::test]
async fn who_does_not_answer_a_post_is_given_up_in_time() {
    let handler: Handler = Arc::new(|request, world| {
        if request.uri().path() == POLL_IN_PATH {
            Box::pin(std::future::pending())
        } else {
            Box::pin(registry(request, world))
        }
    });
    let server = Server::start(None, handler).await;
    let mut socket = connected(&server).await;
    let sent = socket.send(Message::Text("hi".into()), BRIEF).await;
    assert!(
        matches!(sent, Err(SendError::Timeout(limit)) if limit == BRIEF),
        "{sent:?}"
    );
}

fn body_of(len: usize) -> Reply {
    let mut body = Vec::new();
    put(&mut body, Message::Text("x".repeat(len)));
    reply(StatusCode::OK, body)
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_read_from_a_body_and_one_byte_more_is_not() {
    let server = answering(POLL_OUT_PATH, || body_of(CONTROL_MAX_BYTES)).await;
    let received = next(&mut connected(&server).await).await;
    assert!(matches!(received, Received::Text(text) if text.len() == CONTROL_MAX_BYTES));
    let server = answering(POLL_OUT_PATH, || body_of(CONTROL_MAX_BYTES + 1)).await;
    let error = end_of(&mut connected(&server).await).await;
    assert!(matches!(error, ReceiveError::Unreadable(_)), "{error}");
}

/// Messages that fill a body to this length exactly.
fn filled(len: usize) -> Reply {
    let mut body = Vec::new();
    put(&mut body, Message::Binary(vec![0; len / 2]));
    let rest = len - body.len() - 5;
    put(&mut body, Message::Binary(vec![0; rest]));
    assert_eq!(body.len(), len);
    reply(StatusCode::OK, body)
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_read_and_one_byte_more_is_not() {
    let server = answering(POLL_OUT_PATH, || filled(POLL_BODY_MAX_BYTES)).await;
    let received = next(&mut connected(&server).await).await;
    assert!(matches!(received, Received::Binary(_)), "{received:?}");
    let server = answering(POLL_OUT_PATH, || filled(POLL_BODY_MAX_BYTES + 1)).await;
    let error = end_of(&mut connected(&server).await).await;
    assert!(matches!(error, ReceiveError::Unreadable(_)), "{error}");
}

#[tokio::test]
async fn a_body_that_is_no_row_of_messages_ends_the_session() {
    for answer in [
        || reply(StatusCode::OK, &b"\x03\0\0\0\0"[..]),
        || reply(StatusCode::OK, &b"\x01\0\0\0\x09hi"[..]),
        || reply(StatusCode::OK, "<html>"),
    ] {
        let server = answering(POLL_OUT_PATH, answer).await;
        let error = end_of(&mut connected(&server).await).await;
        assert!(matches!(error, ReceiveError::Unreadable(_)), "{error}");
    }
}

#[tokio::test]
async fn a_session_without_an_id_is_none() {
    for answer in [
        || reply(StatusCode::CREATED, "{}"),
        || reply(StatusCode::CREATED, r#"{"session":"x"}"#),
        || {
            reply(
                StatusCode::OK,
                r#"{"session":"000102030405060708090a0b0c0d0e0f"}"#,
            )
        },
    ] {
        let server = answering(waymesh_proto::http::POLL_PATH, answer).await;
        let error = connect(&server.target(), POLL).await;
        let error = error.expect_err("no session");
        assert_eq!(error.fault().code, Code::RegistryUnreachable);
    }
}
