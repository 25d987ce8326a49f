//! STUN and TURN at the registry's one port: who is served, who is not, and
//! what members are told of it.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::ServerName;
use support::turn::{Pipe, Turn, house, on_loopback, servers, tcp, told_credentials};
use support::{House, Member, PATIENCE, http};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use waymesh_net::turn::client::{ClientEvent, Credentials, RelayFamily};
use waymesh_net::turn::server::RelaySecret;
use waymesh_proto::control::ClientMessage;
use waymesh_proto::ice::{IceServers, IceTransport, IceUrl};
use waymesh_proto::{AgentId, Code};
use waymesh_registry::{IceConfig, Tls, TurnConfig};

const HOUR: Duration = Duration::from_secs(3_600);

/// What "at once" means.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Credentials that this registry would give, good for so long from an hour ago.
fn credentials(house: &House, agent: AgentId, life: Duration) -> Credentials {
    let secret = std::fs::read(house.data_dir().join("turn.secret")).expect("a secret");
    credentials_of(&secret, agent, life)
}

fn credentials_of(secret: &[u8], agent: AgentId, life: Duration) -> Credentials {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ends = now.expect("a clock") - HOUR + life;
    let (username, credential) = RelaySecret::new(secret).issue(&agent, ends);
    Credentials {
        username,
        credential,
    }
}

fn good(house: &House, who: &Member) -> Credentials {
    credentials(house, who.agent_id(), 2 * HOUR)
}

/// Each sends the other something through its own allocation.
async fn talk(a: (&mut Turn, SocketAddr), b: (&mut Turn, SocketAddr)) {
    let ((a, at_a), (b, at_b)) = (a, b);
    // Odd on purpose: streams pad ChannelData (RFC 8656 §12.5).
    for text in [&b"odd"[..], &[7; 1_201]] {
        b.client.permit(Instant::now(), at_a.ip());
        b.flush().await;
        a.client.send(Instant::now(), at_b, text);
        // The first one may come before the permission there; so it is sent until it does.
        let heard = loop {
            a.event_within(Duration::from_millis(20)).await;
            if let Some(event) = b.event_within(Duration::from_millis(200)).await {
                break event;
            }
            a.client.send(Instant::now(), at_b, text);
        };
        let ClientEvent::Data { peer, bytes } = heard else {
            panic!("{heard:?}");
        };
        assert_eq!((peer, &bytes[..]), (at_a, text));
    }
}

#[tokio::test]
async fn one_port_relays_over_udp_and_tcp_and_answers_http() {
    let house = house(None, on_loopback()).await;
    let (alice, bob) = (house.member("alice", 1), house.member("bob", 2));
    let udp = Pipe::udp("127.0.0.1", house.addr()).await;
    let (mut a, at_a) = Turn::allocated(udp, good(&house, &alice)).await;
    let pipe = Pipe::stream(tcp(&house).await);
    let (mut b, at_b) = Turn::allocated(pipe, good(&house, &bob)).await;
    talk((&mut a, at_a), (&mut b, at_b)).await;
    talk((&mut b, at_b), (&mut a, at_a)).await;
    let (status, _) = http(house.addr(), "GET /v1/health").await;
    assert_eq!(status, 200);
    house.registry.stop().await;
}

#[tokio::test]
async fn a_relay_has_an_ipv6_address_for_whoever_asks_and_reaches_ipv6_peers_by_it() {
    let allow = ["127.0.0.1", "::1"].map(String::from).to_vec();
    let both = IceConfig {
        turn: Some(TurnConfig {
            relay_allow: allow,
            ..TurnConfig::default()
        }),
        ..IceConfig::default()
    };
    let house = house(None, both).await;
    let alice = house.member("alice", 1);
    let pipes = [
        Pipe::udp("127.0.0.1", house.addr()).await,
        Pipe::stream(tcp(&house).await),
    ];
    for pipe in pipes {
        let mut turn = Turn::of_family(pipe, good(&house, &alice), RelayFamily::V6);
        let event = turn.event().await;
        let ClientEvent::Allocated { relayed, .. } = event else {
            panic!("{event:?}");
        };
        assert!(relayed.is_ipv6(), "{relayed}");
        let peer = UdpSocket::bind("[::1]:0").await.expect("a port");
        let to = peer.local_addr().expect("an address");
        turn.client.send(Instant::now(), to, b"there");
        let mut bytes = [0; 16];
        let heard = async {
            tokio::select! {
                heard = peer.recv_from(&mut bytes) => heard.expect("a datagram"),
                event = turn.event() => panic!("{event:?}"),
            }
        };
        assert_eq!(
            timeout(PATIENCE, heard).await.expect("in time"),
            (5, relayed)
        );
        peer.send_to(b"back", relayed).await.expect("sent");
        let back = turn.event().await;
        assert!(
            matches!(&back, ClientEvent::Data { peer, bytes } if *peer == to && bytes == b"back"),
            "{back:?}"
        );
        // Addresses that are none of the open internet, in IPv6's own forms, and
        // those that hold such an IPv4 address.
        for peer in [
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "64:ff9b::a00:1",
            "2002:c0a8:1::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        ] {
            let ip: IpAddr = peer.parse().expect("an address");
            turn.client.permit(Instant::now(), ip);
            let event = turn.event().await;
            assert!(
                matches!(&event, ClientEvent::PeerRefused { ip: refused, error } if *refused == ip && error.code() == Some(403)),
                "{peer}: {event:?}"
            );
        }
    }
    house.registry.stop().await;
}

/// A registry with TLS, and what connects to it by TLS with these protocols.
async fn tls_house() -> (House, impl Fn(&[&[u8]]) -> TlsConnector) {
    let files = tempfile::tempdir().expect("a directory");
    let write = |name: &str, label: &str, der: &[u8]| {
        let text = data_encoding::BASE64.encode(der);
        let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        let path = files.path().join(name);
        std::fs::write(&path, pem).expect("a file");
        path
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".into()]).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer_key = rcgen::KeyPair::generate().expect("a key");
    let root = params.self_signed(&issuer_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(params, issuer_key);
    let params = rcgen::CertificateParams::new(["127.0.0.1".into()]).expect("parameters");
    let own = params.signed_by(&key, &issuer).expect("a certificate");
    let tls = Tls::Files {
        certificate: write("certificate.pem", "CERTIFICATE", own.der()),
        key: write("key.pem", "PRIVATE KEY", &key.serialize_der()),
    };
    let house = house(Some(tls), on_loopback()).await;
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    let connector = move |protocols: &[&[u8]]| {
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    };
    (house, connector)
}

#[tokio::test]
async fn tls_on_the_one_port_carries_turn_by_alpn_or_by_its_first_byte_and_http_too() {
    let (house, connector) = tls_house().await;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let alice = house.member("alice", 1);
    let offers: [&[&[u8]]; 3] = [
        &[b"stun.turn"],
        // As coturn's client offers them.
        &[b"http/1.1", b"stun.turn"],
        &[],
    ];
    for protocols in offers {
        let stream = connector(protocols)
            .connect(name.clone(), tcp(&house).await)
            .await
            .expect("a handshake");
        Turn::allocated(Pipe::stream(stream), good(&house, &alice)).await;
    }
    // Outside of TLS too.
    let plain = Pipe::stream(tcp(&house).await);
    Turn::allocated(plain, good(&house, &alice)).await;
    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let stream = connector(protocols)
            .connect(name.clone(), tcp(&house).await)
            .await;
        let mut stream = stream.expect("a handshake");
        let request = format!("GET /v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", house.addr());
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    house.registry.stop().await;
}

#[tokio::test]
async fn nobody_is_relayed_for_without_good_credentials() {
    let house = house(None, on_loopback()).await;
    let alice = house.member("alice", 1);
    let forged = credentials_of(b"another secret", alice.agent_id(), 2 * HOUR);
    let expired = credentials(&house, alice.agent_id(), HOUR - Duration::from_secs(1));
    for credentials in [forged, expired] {
        for pipe in [
            Pipe::udp("127.0.0.1", house.addr()).await,
            Pipe::stream(tcp(&house).await),
        ] {
            let mut turn = Turn::new(pipe, credentials.clone());
            let event = turn.event().await;
            assert!(
                matches!(event, ClientEvent::CredentialsRefused { .. }),
                "{event:?}"
            );
        }
    }
    house.registry.stop().await;
}

#[tokio::test]
async fn private_addresses_are_not_relayed_to_and_named_ones_are() {
    let house = house(None, on_loopback()).await;
    let alice = house.member("alice", 1);
    let udp = Pipe::udp("127.0.0.1", house.addr()).await;
    let (mut turn, _) = Turn::allocated(udp, good(&house, &alice)).await;
    for peer in ["10.0.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.2"] {
        let ip: IpAddr = peer.parse().expect("an address");
        turn.client.permit(Instant::now(), ip);
        let event = turn.event().await;
        assert!(
            matches!(&event, ClientEvent::PeerRefused { ip: refused, error } if *refused == ip && error.code() == Some(403)),
            "{peer}: {event:?}"
        );
    }
    let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let to = peer.local_addr().expect("an address");
    turn.client.send(Instant::now(), to, b"hello");
    let mut bytes = [0; 16];
    let heard = async {
        tokio::select! {
            heard = peer.recv(&mut bytes) => heard.expect("a datagram"),
            event = turn.event() => panic!("{event:?}"),
        }
    };
    assert_eq!(timeout(PATIENCE, heard).await.expect("in time"), 5);
    house.registry.stop().await;
}

#[tokio::test]
async fn a_member_is_told_servers_that_serve_it_after_its_login_and_before_they_end() {
    let short = IceConfig {
        lifetime: Duration::from_secs(2),
        ..on_loopback()
    };
    let house = house(None, short).await;
    let mut raw = house.log_in("alice", 1, 1).await;
    let first = servers(&mut raw).await;
    let urls: Vec<_> = first.servers.iter().flat_map(|s| &s.urls).collect();
    let port = house.addr().port();
    let expected = [
        format!("stun:127.0.0.1:{port}"),
        format!("turn:127.0.0.1:{port}?transport=udp"),
        format!("turn:127.0.0.1:{port}?transport=tcp"),
    ];
    let texts: Vec<_> = urls.iter().map(|url| url.to_string()).collect();
    assert_eq!(texts, expected);
    assert_eq!(
        house
            .registry
            .ice_urls()
            .iter()
            .map(IceUrl::to_string)
            .collect::<Vec<_>>(),
        expected
    );
    let lifetime_ms = first.lifetime_ms.expect("an end");
    assert!((1_000..=2_000).contains(&lifetime_ms), "{lifetime_ms}");
    let again = timeout(2 * AT_ONCE, servers(&mut raw)).await;
    let again = again.expect("before they end");
    assert_ne!(told_credentials(&again), told_credentials(&first));
    let udp = urls
        .iter()
        .find(|url| url.scheme().relays() && url.transport() == IceTransport::Udp);
    let udp = udp.expect("TURN over UDP");
    let server = SocketAddr::new(udp.host().parse().expect("an address"), udp.port());
    let pipe = Pipe::udp("127.0.0.1", server).await;
    Turn::allocated(pipe, told_credentials(&again)).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn on_loopback_nothing_is_told_and_nobody_listens_unless_that_is_asked_for() {
    let house = house(None, IceConfig::default()).await;
    assert!(house.registry.ice_urls().is_empty());
    let mut raw = house.log_in("alice", 1, 1).await;
    raw.say(&ClientMessage::IceServers).await;
    assert_eq!(servers(&mut raw).await, IceServers::default());
    UdpSocket::bind(house.addr())
        .await
        .expect("nobody has the UDP port");
    house.registry.stop().await;
}

#[tokio::test]
async fn servers_that_are_asked_for_too_often_are_refused() {
    let house = house(None, on_loopback()).await;
    let mut raw = house.log_in("alice", 1, 1).await;
    servers(&mut raw).await;
    for _ in 0..8 {
        raw.say(&ClientMessage::IceServers).await;
        servers(&mut raw).await;
    }
    raw.say(&ClientMessage::IceServers).await;
    assert_eq!(raw.error().await, Code::RateLimited);
    house.registry.stop().await;
}

#[tokio::test]
async fn a_flood_of_strangers_does_not_keep_a_member_from_its_relay() {
    let house = house(None, on_loopback()).await;
    let alice = house.member("alice", 1);
    let flood = UdpSocket::bind("127.0.0.9:0").await.expect("a port");
    let server = house.addr();
    let mut flooding = tokio::task::JoinSet::new();
    flooding.spawn(async move {
        // Allocate without credentials (RFC 8656 §7.1), each a new transaction.
        let mut request =
            *b"\x00\x03\x00\x08\x21\x12\xa4\x42............\x00\x19\x00\x04\x11\x00\x00\x00";
        loop {
            request[8..20].copy_from_slice(&rand::random::<[u8; 12]>());
            let _ = flood.send_to(&request, server).await;
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..5 {
        let pipe = Pipe::udp("127.0.0.1", house.addr()).await;
        let begun = Instant::now();
        let (mut turn, _) = Turn::allocated(pipe, good(&house, &alice)).await;
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        turn.client.close(Instant::now());
        turn.flush().await;
    }
    drop(flooding);
    house.registry.stop().await;
}
