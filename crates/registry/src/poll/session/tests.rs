use futures_util::{FutureExt, SinkExt};
use tokio::time::Instant;

use super::*;

fn pair() -> (Arc<Session>, impl Incoming, impl Outlet) {
    let (session, carrier) = Session::new(AgentId::from_bytes([1; 32]));
    let (incoming, outlet) = carrier.split();
    (session, incoming, outlet)
}

fn text(text: &str) -> Outgoing {
    Outgoing::Text(Utf8Bytes::from(text))
}

fn texts(body: &[u8]) -> Vec<&str> {
    let messages = PollMessage::all(body).expect("messages");
    let text = |message| match message {
        PollMessage::Text(text) => text,
        PollMessage::Binary(_) => panic!("a text"),
    };
    messages.into_iter().map(text).collect()
}

#[tokio::test]
async fn what_is_posted_comes_in_in_order_and_what_is_sent_goes_out() {
    let (session, mut incoming, mut outlet) = pair();
    let messages = [PollMessage::Text("a"), PollMessage::Binary(b"b")];
    let messages = messages.map(received).into();
    session.take_in(messages).await.expect("taken");
    let first = incoming.next().await.expect("a message");
    assert!(matches!(first, Ok(Received::Text(text)) if text == "a"));
    let second = incoming.next().await.expect("a message");
    assert!(matches!(second, Ok(Received::Binary(bytes)) if bytes[..] == *b"b"));
    outlet.send(text("x")).await.expect("a session");
    outlet.send(text("y")).await.expect("a session");
    assert_eq!(
        texts(&session.give_out().await.expect("a body")),
        ["x", "y"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_get_waits_until_there_is_something_or_its_time_is_up() {
    let (session, _incoming, mut outlet) = pair();
    let start = Instant::now();
    let (body, sent) = tokio::join!(session.give_out(), outlet.send(Outgoing::Ping));
    assert_eq!((body, sent.is_ok()), (Ok(Vec::new()), true));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(session.give_out().await, Ok(Vec::new()));
    assert_eq!(start.elapsed(), WAIT);
}

#[tokio::test]
async fn a_second_get_is_turned_away_while_the_first_waits() {
    let (session, _incoming, _outlet) = pair();
    let mut first = Box::pin(session.give_out());
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(session.give_out().await, Err(Unserved::Busy));
}

#[tokio::test]
async fn a_second_body_is_turned_away_while_the_first_is_read() {
    let (session, _incoming, _outlet) = pair();
    let first = session.begin_in().expect("the first");
    assert_eq!(session.begin_in().err(), Some(Unserved::Busy));
    drop(first);
    assert!(session.begin_in().is_ok());
}

#[tokio::test]
async fn a_body_is_closed_before_it_is_too_large() {
    let (session, _incoming, mut outlet) = pair();
    let largest = POLL_BODY_MAX_BYTES - 2 * POLL_HEAD_BYTES - 1;
    for message in ["x".repeat(largest), "y".into(), "z".into()] {
        outlet.send(text(&message)).await.expect("a session");
    }
    let body = session.give_out().await.expect("a body");
    assert_eq!(body.len(), POLL_BODY_MAX_BYTES);
    assert_eq!(texts(&session.give_out().await.expect("a body")), ["z"]);
}

#[tokio::test]
async fn the_last_messages_are_fetched_and_then_the_session_is_over() {
    let (session, _incoming, mut outlet) = pair();
    outlet.send(text("farewell")).await.expect("a session");
    outlet.send(Outgoing::Close).await.expect("a session");
    let body = session.give_out().await.expect("a body");
    assert_eq!(texts(&body), ["farewell"]);
    assert!(outlet.send(text("too late")).await.is_err());
    assert_eq!(session.give_out().await, Err(Unserved::Over));
    assert_eq!(session.give_out().await, Err(Unserved::Over));
    session.emptied().await;
}

#[tokio::test]
async fn a_get_that_its_sender_gives_up_ends_the_session_at_once() {
    let (session, mut incoming, mut outlet) = pair();
    let mut fetch = Box::pin(session.give_out());
    assert!(fetch.as_mut().now_or_never().is_none());
    assert!(incoming.next().now_or_never().is_none());
    drop(fetch);
    assert!(incoming.next().await.is_none());
    assert!(outlet.send(text("lost")).await.is_err());
    assert_eq!(session.give_out().await, Err(Unserved::Over));
}

#[tokio::test(start_paused = true)]
async fn a_session_lasts_as_long_as_somebody_polls_and_not_longer() {
    let (session, mut incoming, _outlet) = pair();
    let start = Instant::now();
    let polls = async {
        for _ in 0..4 {
            assert_eq!(session.give_out().await, Ok(Vec::new()));
        }
    };
    let (end, ()) = tokio::join!(incoming.next(), polls);
    assert!(end.is_none());
    assert_eq!(start.elapsed(), WAIT * 4 + IDLE);
}

#[tokio::test(start_paused = true)]
async fn as_many_bodies_as_the_limit_wait_and_one_more_is_too_slow() {
    let (session, _incoming, _outlet) = pair();
    for _ in 0..IN_TO_CONNECTION_CAP {
        assert_eq!(session.take_in(Vec::new()).await, Ok(()));
    }
    assert_eq!(session.take_in(Vec::new()).await, Err(Unserved::TooSlow));
}
