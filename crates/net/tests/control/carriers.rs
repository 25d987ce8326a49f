//! Which carrier is taken, and what an answer that is not an upgrade means.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use tokio::io::AsyncWriteExt;
use waymesh_net::control::{
    Carrier, CarrierChoice, ConnectError, ControlSocket, Message, ProxyEnvironment, Received,
    Target, TlsTrust,
};
use waymesh_proto::Code;
use waymesh_proto::control::{CONTROL_MAX_BYTES, CONTROL_PATH};
use waymesh_proto::http::POLL_PATH;

use crate::fake::{
    self, BRIEF, GREETING, Handler, PATIENCE, Server, connect, handler, next, no_reply, ready,
    refusal, reply, upgraded,
};

const AUTO: CarrierChoice = CarrierChoice::Auto {
    first: Carrier::WebSocket,
};

async fn exchange_on(socket: &mut ControlSocket) {
    assert_eq!(next(socket).await, Received::Text(GREETING.into()));
    let large = "x".repeat(CONTROL_MAX_BYTES);
    let bytes = vec![7; CONTROL_MAX_BYTES];
    for (message, back) in [
        (Message::Text("hi".into()), Received::Text("hi".into())),
        (Message::Binary(vec![]), Received::Binary(vec![])),
        (Message::Text(large.clone()), Received::Text(large)),
        (Message::Binary(bytes.clone()), Received::Binary(bytes)),
    ] {
        socket.send(message, PATIENCE).await.expect("sent");
        assert_eq!(next(socket).await, back);
    }
}

#[tokio::test]
async fn both_carriers_carry_texts_and_bytes_up_to_the_largest_message() {
    for carrier in [Carrier::WebSocket, Carrier::Poll] {
        let server = Server::registry().await;
        let socket = connect(&server.target(), CarrierChoice::Only(carrier)).await;
        let mut socket = socket.expect("a connection");
        assert_eq!(socket.carrier(), carrier);
        exchange_on(&mut socket).await;
        socket.close().await;
    }
}

#[tokio::test]
async fn both_carriers_refuse_to_send_more_than_the_largest_message() {
    for carrier in [Carrier::WebSocket, Carrier::Poll] {
        let server = Server::registry().await;
        let socket = connect(&server.target(), CarrierChoice::Only(carrier)).await;
        let mut socket = socket.expect("a connection");
        let error = socket
            .send(Message::Binary(vec![0; CONTROL_MAX_BYTES + 1]), PATIENCE)
            .await
            .expect_err("too large");
        assert_eq!(error.fault().code, Code::TooLarge);
        exchange_on(&mut socket).await;
    }
}

#[tokio::test]
async fn a_websocket_is_taken_where_it_passes() {
    let server = Server::registry().await;
    let mut socket = connect(&server.target(), AUTO).await.expect("a connection");
    assert_eq!(socket.carrier(), Carrier::WebSocket);
    exchange_on(&mut socket).await;
    assert!(!server.world.has_seen(POLL_PATH));
}

#[tokio::test]
async fn the_carrier_that_worked_before_is_tried_first() {
    let server = Server::registry().await;
    let first = Carrier::Poll;
    let choice = CarrierChoice::Auto { first };
    let mut socket = connect(&server.target(), choice)
        .await
        .expect("a connection");
    assert_eq!(socket.carrier(), Carrier::Poll);
    exchange_on(&mut socket).await;
    assert!(!server.world.has_seen(CONTROL_PATH));
}

/// What middle boxes make of an upgrade.
fn not_passing() -> Vec<(&'static str, Handler)> {
    vec![
        (
            "takes the upgrade out of the request",
            handler(|mut request, world| async move {
                request.headers_mut().remove(SEC_WEBSOCKET_KEY);
                upgraded(request, &world, |_| Box::pin(async {}))
            }),
        ),
        (
            "answers a page of its own",
            handler(|_, _| async { reply(StatusCode::FORBIDDEN, "<html>policy</html>") }),
        ),
        (
            "answers JSON of its own",
            handler(|_, _| async { reply(StatusCode::OK, r#"{"error":{"code":"blocked"}}"#) }),
        ),
        (
            "sends somewhere else",
            handler(|_, _| async {
                let mut reply = reply(StatusCode::FOUND, "");
                let headers = reply.headers_mut();
                headers.insert(LOCATION, "https://login.example".parse().expect("a value"));
                reply
            }),
        ),
        (
            "closes instead of an answer",
            handler(|_, _| async { no_reply() }),
        ),
        (
            "answers another upgrade",
            handler(|request, world| async move {
                let mut reply = upgraded(request, &world, |_| Box::pin(std::future::pending()));
                let value = "AAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse().expect("a value");
                reply.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, value);
                reply
            }),
        ),
        (
            "closes after the upgrade",
            handler(
                |request, world| async move { upgraded(request, &world, |_| Box::pin(async {})) },
            ),
        ),
        (
            "says what no WebSocket says",
            handler(|request, world| async move {
                upgraded(request, &world, |mut io| {
                    Box::pin(async move {
                        // The reader goes away at the first of these.
                        let _ = io.write_all(&[0xff; 64]).await;
                    })
                })
            }),
        ),
    ]
}

#[tokio::test]
async fn where_something_on_the_way_lets_no_websocket_pass_long_poll_does() {
    for (what, upgrade) in not_passing() {
        let server = Server::upgrading(upgrade).await;
        let socket = connect(&server.target(), AUTO).await;
        let mut socket = socket.unwrap_or_else(|e| panic!("the box {what}: {e}"));
        assert_eq!(socket.carrier(), Carrier::Poll, "the box {what}");
        exchange_on(&mut socket).await;
        let only = CarrierChoice::Only(Carrier::WebSocket);
        match connect(&server.target(), only).await {
            Err(ConnectError::Handshake(_)) => {}
            Err(other) => panic!("the box {what}: {other}"),
            Ok(mut socket) => assert!(socket.receive().await.is_err(), "the box {what}"),
        }
    }
}

#[tokio::test]
async fn where_a_websocket_is_let_in_and_carries_nothing_long_poll_does() {
    let silent: [Handler; 2] = [
        Arc::new(|_, _| Box::pin(std::future::pending())),
        Arc::new(|request, world| {
            ready(upgraded(request, &world, |io| {
                Box::pin(async move {
                    let _open = io;
                    std::future::pending::<()>().await;
                })
            }))
        }),
    ];
    for upgrade in silent {
        let server = Server::upgrading(upgrade).await;
        let socket = ControlSocket::connect(&server.target(), AUTO, BRIEF).await;
        let mut socket = socket.expect("a connection");
        assert_eq!(socket.carrier(), Carrier::Poll);
        exchange_on(&mut socket).await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_registry_itself_is_handed_up() {
    for code in [Code::NoMesh, Code::WrongRegistry, Code::RateLimited] {
        let upgrade: Handler =
            Arc::new(move |_, _| ready(refusal(StatusCode::SERVICE_UNAVAILABLE, code)));
        let server = Server::upgrading(upgrade).await;
        let error = connect(&server.target(), AUTO).await;
        let fault = error.expect_err("a refusal").fault();
        assert_eq!(fault.code, code);
        assert_eq!(fault.hint.as_deref(), Some("do not"));
        assert!(!server.world.has_seen(POLL_PATH));
    }
}

#[tokio::test]
async fn a_refusal_of_a_long_poll_session_is_handed_up() {
    let refuses =
        handler(|_, _| async { refusal(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited) });
    let server = Server::start(None, refuses).await;
    let choice = CarrierChoice::Auto {
        first: Carrier::Poll,
    };
    let error = connect(&server.target(), choice).await;
    assert_eq!(
        error.expect_err("a refusal").fault().code,
        Code::RateLimited
    );
    assert!(!server.world.has_seen(CONTROL_PATH));
}

#[tokio::test]
async fn where_no_carrier_passes_the_reasons_of_both_are_told() {
    let page = handler(|_, _| async { reply(StatusCode::NOT_FOUND, "nothing here") });
    let server = Server::start(None, page).await;
    for first in [Carrier::WebSocket, Carrier::Poll] {
        let choice = CarrierChoice::Auto { first };
        let error = connect(&server.target(), choice).await;
        let text = error.expect_err("no registry").to_string();
        assert!(
            text.contains("websocket: ") && text.contains("poll: "),
            "{text}"
        );
        assert!(text.contains("404"), "{text}");
    }
}

#[tokio::test]
async fn without_a_key_there_is_no_long_poll() {
    let server = Server::registry().await;
    let origin = server.url("http").parse().expect("an origin");
    let target = Target::new(origin, &TlsTrust::default(), &ProxyEnvironment::default());
    let target = target.expect("a usable target");
    let poll = connect(&target, CarrierChoice::Only(Carrier::Poll)).await;
    assert!(matches!(poll, Err(ConnectError::Handshake(_))), "{poll:?}");
    let socket = connect(&target, AUTO).await.expect("a connection");
    assert_eq!(socket.carrier(), Carrier::WebSocket);
}

#[tokio::test]
async fn nobody_on_the_port_is_an_error_at_once() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let target = fake::target(&format!("http://{closed}"), &TlsTrust::default(), &[]);
    for carrier in [Carrier::WebSocket, Carrier::Poll] {
        let error = connect(&target, CarrierChoice::Auto { first: carrier }).await;
        let error = error.expect_err("nobody");
        assert!(matches!(error, ConnectError::Io(_)), "{error}");
    }
}
