//! Servers of the test's own words, as far as an allocation takes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use waymesh_proto::ice::Credential;

use super::*;
use crate::turn::credential::{Integrity, Key, PasswordAlgorithm};
use crate::turn::message::{Message, Method, Writer, code, kind};

/// What a server says to whoever has no credentials (RFC 8489 §9.2.4).
fn challenge(request: &[u8]) -> Vec<u8> {
    let request = Message::parse(request).expect("a request");
    let mut answer = Writer::error(&request, code::UNAUTHENTICATED);
    answer.put(kind::REALM, b"realm").put(kind::NONCE, b"nonce");
    answer.finish()
}

async fn challenged(mut stream: TcpStream) {
    let mut buffer = [0; READ_BYTES];
    let length = stream.read(&mut buffer).await.expect("a request");
    let answer = challenge(&buffer[..length]);
    stream.write_all(&answer).await.expect("it is read");
    // The other side closes.
    let _ = stream.read(&mut buffer).await;
}

async fn asked(url: String, limit: Duration) -> Result<Reached, NotReached> {
    let asking = Asking {
        credentials: None,
        trust: TlsTrust::default(),
        proxies: ProxyEnvironment::default(),
        limit,
    };
    reach(&url.parse().expect("a URL"), &asking).await
}

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_that_wants_credentials_is_reached_by_udp() {
    let mut server = JoinSet::new();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address = serve(&mut server, here, challenge).await;
    let reached = asked(format!("turn:{address}"), LIMIT).await;
    assert!(
        matches!(reached, Ok(Reached::WantsCredentials)),
        "{reached:?}"
    );
}

#[tokio::test]
async fn a_server_that_wants_credentials_is_reached_by_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        challenged(stream).await;
    });
    let reached = asked(format!("turn:{address}?transport=tcp"), LIMIT).await;
    assert!(
        matches!(reached, Ok(Reached::WantsCredentials)),
        "{reached:?}"
    );
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = silent.local_addr().expect("an address");
    for scheme in ["turn", "turns"] {
        let url = format!("{scheme}:{address}?transport=tcp");
        let reached = asked(url, Duration::from_millis(200)).await;
        assert!(
            matches!(reached, Err(NotReached::Timeout(_))),
            "{reached:?}"
        );
    }
}

/// Relays by IPv6 alone, for alice: IPv4 is refused (RFC 8656 §7.2).
fn answer_by_ipv6(request: &[u8]) -> Vec<u8> {
    let parsed = Message::parse(request).expect("a request");
    let key = Key::new("alice", "realm", "password", PasswordAlgorithm::Md5);
    if !parsed.verify(&key) {
        return challenge(request);
    }
    let is_v6 = parsed.has(kind::REQUESTED_ADDRESS_FAMILY);
    let mut answer = match parsed.method() {
        Some(Method::Allocate) if !is_v6 => {
            Writer::error(&parsed, code::ADDRESS_FAMILY_NOT_SUPPORTED)
        }
        _ => Writer::success(&parsed),
    };
    if is_v6 {
        answer
            .put_xor_address(kind::XOR_RELAYED_ADDRESS, relayed())
            .put_xor_address(kind::XOR_MAPPED_ADDRESS, relayed())
            .put_number(kind::LIFETIME, 600);
    }
    answer.sign(&key, Integrity::Sha1).finish()
}

fn relayed() -> SocketAddr {
    "[2001:db8::1]:50000".parse().expect("an address")
}

/// A server at this address that answers every datagram so.
async fn serve(
    server: &mut JoinSet<()>,
    bind: SocketAddr,
    answer: fn(&[u8]) -> Vec<u8>,
) -> SocketAddr {
    let socket = UdpSocket::bind(bind).await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    server.spawn(async move {
        let mut buffer = [0; READ_BYTES];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let answer = answer(&buffer[..length]);
            socket.send_to(&answer, from).await.expect("it is sent");
        }
    });
    address
}

fn by_alice() -> Asking {
    Asking {
        credentials: Some(Credentials {
            username: "alice".into(),
            credential: Credential::new("password".into()),
        }),
        trust: TlsTrust::default(),
        proxies: ProxyEnvironment::default(),
        limit: LIMIT,
    }
}

#[tokio::test]
async fn a_server_that_relays_by_ipv6_alone_is_taken_as_nodes_take_it() {
    let mut server = JoinSet::new();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address = serve(&mut server, here, answer_by_ipv6).await;
    let url = format!("turn:{address}").parse().expect("a URL");
    let reached = reach(&url, &by_alice()).await;
    assert!(
        matches!(reached, Ok(Reached::Relays(at)) if at == relayed()),
        "{reached:?}"
    );
}

#[tokio::test]
async fn a_server_that_one_family_reaches_is_reached() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let silent = silent.local_addr().expect("an address");
    let mut server = JoinSet::new();
    let here = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let answers = serve(&mut server, here, answer_by_ipv6).await;
    let until = Instant::now() + LIMIT;
    let reached = by_families(&[silent, answers], &by_alice(), until).await;
    assert!(matches!(reached, Ok(Reached::Relays(_))), "{reached:?}");
}

#[test]
fn a_name_that_takes_too_long_is_no_matter_of_udp() {
    let url: IceUrl = "turn:turn.example".parse().expect("a URL");
    let late = NotReached::Io(io::ErrorKind::TimedOut.into());
    let fault = late.fault(&url);
    let hint = fault.hint.expect("a hint");
    assert_eq!(fault.code, Code::Timeout);
    assert!(hint.contains("DNS") && !hint.contains("UDP"), "{hint}");
}
