use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::turn::framing::ChannelData;
use crate::turn::message::{TransactionId, Writer};

/// Longest time that a step may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Opened {
    stream: Stream,
    wake: Arc<Notify>,
}

impl Opened {
    async fn next(&mut self) -> StreamEvent {
        loop {
            if let Some(event) = self.stream.poll() {
                return event;
            }
            let woken = timeout(PATIENCE, self.wake.notified()).await;
            woken.expect("an event in time");
        }
    }
}

fn open(url: &str, proxies: &ProxyEnvironment) -> Opened {
    let wake = Arc::new(Notify::new());
    let url = url.parse().expect("a URL");
    let stream = Stream::connect(&url, &TlsTrust::default(), proxies, Arc::clone(&wake));
    Opened { stream, wake }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

async fn opened() -> (Opened, TcpStream) {
    let (listener, port) = listen().await;
    let mut opened = open(
        &format!("turn:127.0.0.1:{port}?transport=tcp"),
        &ProxyEnvironment::default(),
    );
    let (server, _) = timeout(PATIENCE, listener.accept())
        .await
        .expect("in time")
        .expect("a connection");
    assert_eq!(opened.next().await, StreamEvent::Connected);
    (opened, server)
}

fn channel_data(data: &[u8]) -> Vec<u8> {
    let mut bytes = ChannelData::header(0x4000, data.len())
        .expect("short")
        .to_vec();
    bytes.extend_from_slice(data);
    bytes
}

fn request() -> Vec<u8> {
    Writer::new(Class::Request, Method::Refresh, TransactionId::new([1; 12])).finish()
}

#[tokio::test]
async fn a_payload_of_101_bytes_is_padded_both_ways() {
    let (mut opened, mut server) = opened().await;
    opened.stream.send(channel_data(&[7; 101]));
    opened.stream.send(request());
    let mut bytes = vec![0; 108 + 20];
    server.read_exact(&mut bytes).await.expect("both");
    assert_eq!(&bytes[105..108], &[0; 3]);
    assert_eq!(&bytes[108..], request());
    // Back, in two parts; the first message of a server is STUN.
    bytes.rotate_left(108);
    server.write_all(&bytes[..50]).await.expect("room");
    assert_eq!(opened.next().await, StreamEvent::Message(request()));
    server.write_all(&bytes[50..]).await.expect("room");
    let expected = StreamEvent::Message(channel_data(&[7; 101]));
    assert_eq!(opened.next().await, expected);
}

#[tokio::test]
async fn payloads_that_find_the_queue_full_are_dropped_and_requests_are_not() {
    // Nothing is taken: the task runs only while the test waits.
    let (mut opened, mut server) = opened().await;
    let payloads = TO_SERVER_CAP - REQUESTS_RESERVED;
    for _ in 0..payloads {
        opened.stream.send(channel_data(b"data"));
    }
    assert_eq!(opened.stream.dropped(), 0);
    opened.stream.send(channel_data(b"one more"));
    assert_eq!(opened.stream.dropped(), 1);
    for _ in 0..REQUESTS_RESERVED {
        opened.stream.send(request());
    }
    assert_eq!(opened.stream.dropped(), 1);
    opened.stream.send(request());
    assert_eq!(opened.stream.dropped(), 2);
    let mut bytes = vec![0; payloads * 8 + REQUESTS_RESERVED * 20];
    server.read_exact(&mut bytes).await.expect("all of them");
}

#[tokio::test]
async fn the_end_is_told_in_words() {
    let none = ProxyEnvironment::default();
    let (listener, port) = listen().await;
    drop(listener);
    let mut refused = open(&format!("turn:127.0.0.1:{port}?transport=tcp"), &none);
    let StreamEvent::Closed(StreamError::Refused(words)) = refused.next().await else {
        panic!("a refusal");
    };
    assert!(words.contains("refused"), "{words}");

    let mut unknown = open("turn:no-such-host.invalid:1?transport=tcp", &none);
    let closed = unknown.next().await;
    assert!(
        matches!(closed, StreamEvent::Closed(StreamError::Refused(_))),
        "{closed:?}"
    );

    let (mut opened, server) = opened().await;
    drop(server);
    assert_eq!(
        opened.next().await,
        StreamEvent::Closed(StreamError::Closed)
    );
    opened.stream.send(request());
    assert_eq!(opened.stream.dropped(), 1);
}

#[tokio::test]
async fn who_speaks_http_is_no_turn_server() {
    let (mut opened, mut server) = opened().await;
    server
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .expect("room");
    assert_eq!(
        opened.next().await,
        StreamEvent::Closed(StreamError::NotTurn)
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_what_it_said() {
    let (listener, port) = listen().await;
    let proxies = ProxyEnvironment::new(|name| {
        (name == "https_proxy").then(|| format!("http://127.0.0.1:{port}"))
    });
    let mut opened = open("turns:relay.invalid:443", &proxies);
    let (mut proxy, _) = listener.accept().await.expect("a connection");
    let mut head = vec![0; 1_024];
    let count = proxy.read(&mut head).await.expect("a request");
    let head = String::from_utf8_lossy(&head[..count]);
    assert!(head.starts_with("CONNECT relay.invalid:443 "), "{head}");
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    proxy.write_all(answer.as_bytes()).await.expect("room");
    let StreamEvent::Closed(error) = opened.next().await else {
        panic!("an end");
    };
    let words = error.to_string();
    assert!(words.contains("403"), "{words}");
    assert!(words.contains(&format!("127.0.0.1:{port}")), "{words}");
}

#[tokio::test]
async fn a_dropped_stream_closes_its_connection() {
    let (opened, mut server) = opened().await;
    drop(opened);
    let read = timeout(PATIENCE, server.read(&mut [0])).await;
    assert_eq!(read.expect("in time").expect("an end"), 0);
}
