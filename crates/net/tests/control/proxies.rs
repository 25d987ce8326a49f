//! The way through an HTTP proxy.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use waymesh_net::control::{
    Carrier, CarrierChoice, ConnectError, ControlSocket, Received, TlsTrust,
};
use waymesh_proto::Code;

use crate::certificates::{Authority, outdated_self_signed};
use crate::fake::{self, BRIEF, GREETING, PATIENCE, Server, connect, handler, next, target};

const BOTH: [CarrierChoice; 2] = [
    CarrierChoice::Only(Carrier::WebSocket),
    CarrierChoice::Only(Carrier::Poll),
];

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Connects to the same port of this machine.
    Connects,
    /// Answers these bytes.
    Says(&'static str),
    /// Reads and says nothing.
    IsSilent,
}

struct Proxy {
    port: u16,
    /// The heads of the requests.
    seen: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn start(manner: Manner, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, manner, tls, Arc::clone(&seen)));
        Self {
            port,
            seen,
            _task: task,
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

async fn accept(
    listener: TcpListener,
    manner: Manner,
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let mut tunnels = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        tunnels.spawn(async move {
            match tls {
                None => tunnel(stream, manner, &seen).await,
                Some(tls) => {
                    let stream = tls.accept(stream).await.expect("a client with trust");
                    tunnel(stream, manner, &seen).await;
                }
            }
        });
    }
}

async fn tunnel(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    seen: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).expect("ASCII");
    let port = head
        .split_whitespace()
        .nth(1)
        .and_then(|to| to.rsplit_once(':'));
    let port: u16 = port
        .and_then(|(_, port)| port.parse().ok())
        .expect("a port");
    seen.lock().expect("not poisoned").push(head);
    match manner {
        Manner::Connects => {
            let mut server = TcpStream::connect(("127.0.0.1", port))
                .await
                .expect("a server");
            let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
            stream.write_all(answer).await.expect("a reader");
            // Either side may end it.
            let _ = copy_bidirectional(&mut stream, &mut server).await;
        }
        Manner::Says(answer) => stream.write_all(answer.as_bytes()).await.expect("a reader"),
        Manner::IsSilent => std::future::pending().await,
    }
}

async fn is_greeted(socket: Result<ControlSocket, ConnectError>) {
    let mut socket = socket.expect("a connection");
    assert_eq!(next(&mut socket).await, Received::Text(GREETING.into()));
}

#[tokio::test]
async fn a_registry_is_reached_through_a_proxy_that_alone_knows_its_host() {
    let authority = Authority::new();
    let tls = authority.issue("registry.example").server();
    let server = Server::start(Some(tls), handler(fake::registry)).await;
    let proxy = Proxy::start(Manner::Connects, None).await;
    let trust = TlsTrust::default()
        .with_ca_pem(&authority.pem())
        .expect("a CA");
    let url = format!("https://registry.example:{}", server.port);
    let at = format!("http://alice:s%40crit@127.0.0.1:{}", proxy.port);
    let target = target(&url, &trust, &[("HTTPS_PROXY", at)]);
    let websocket = connect(&target, CarrierChoice::Only(Carrier::WebSocket)).await;
    is_greeted(websocket).await;
    let head = proxy.seen().remove(0);
    let expected = format!("CONNECT registry.example:{} HTTP/1.1\r\n", server.port);
    assert!(head.starts_with(&expected), "{head}");
    let credentials = data_encoding::BASE64.encode(b"alice:s@crit");
    assert!(
        head.contains(&format!(": Basic {credentials}\r\n")),
        "{head}"
    );
}

#[tokio::test]
async fn plain_http_and_long_poll_go_through_a_proxy_too() {
    for choice in BOTH {
        let server = Server::registry().await;
        let proxy = Proxy::start(Manner::Connects, None).await;
        let at = format!("127.0.0.1:{}", proxy.port);
        let target = target(
            &server.url("http"),
            &TlsTrust::default(),
            &[("ALL_PROXY", at.clone())],
        );
        assert_eq!(target.proxy(), Some(&*at));
        is_greeted(connect(&target, choice).await).await;
        let head = &proxy.seen()[0];
        assert!(
            !head.to_lowercase().contains("proxy-authorization"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_proxy_may_speak_tls_itself() {
    let authority = Authority::new();
    let tls = || Some(authority.issue("127.0.0.1").server());
    let server = Server::start(tls(), handler(fake::registry)).await;
    let proxy = Proxy::start(Manner::Connects, tls()).await;
    let trust = TlsTrust::default()
        .with_ca_pem(&authority.pem())
        .expect("a CA");
    let at = format!("https://127.0.0.1:{}", proxy.port);
    let target = target(&server.url("https"), &trust, &[("https_proxy", at)]);
    let websocket = connect(&target, CarrierChoice::Only(Carrier::WebSocket)).await;
    is_greeted(websocket).await;
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn a_proxy_is_not_trusted_on_first_use() {
    let shown = outdated_self_signed();
    let server = Server::start(Some(shown.server()), handler(fake::registry)).await;
    let proxy = Proxy::start(Manner::Connects, Some(shown.server())).await;
    let trust = TlsTrust::default().with_first_use();
    let at = format!("https://127.0.0.1:{}", proxy.port);
    let target = target(&server.url("https"), &trust, &[("https_proxy", at)]);
    let error = connect(&target, BOTH[0]).await.expect_err("no trust");
    assert!(matches!(error, ConnectError::Proxy { .. }), "{error}");
    assert!(error.to_string().contains("not trusted"), "{error}");
    assert_eq!(proxy.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_host_of_no_proxy_is_reached_directly() {
    let server = Server::registry().await;
    let proxy = Proxy::start(Manner::Connects, None).await;
    let environment = [
        ("all_proxy", format!("http://127.0.0.1:{}", proxy.port)),
        ("NO_PROXY", "example.org, 127.0.0.0/8".to_owned()),
    ];
    let target = target(&server.url("http"), &TlsTrust::default(), &environment);
    assert_eq!(target.proxy(), None);
    is_greeted(connect(&target, BOTH[0]).await).await;
    assert_eq!(proxy.seen(), Vec::<String>::new());
}

/// Tries to get through a proxy with a password, and checks what is told of it.
async fn refused_by(manner: Manner, why: &str) {
    let server = Server::registry().await;
    let proxy = Proxy::start(manner, None).await;
    let at = format!("http://alice:secret@127.0.0.1:{}", proxy.port);
    let target = target(
        &server.url("http"),
        &TlsTrust::default(),
        &[("http_proxy", at)],
    );
    for first in [Carrier::WebSocket, Carrier::Poll] {
        let choice = CarrierChoice::Auto { first };
        let limit = if matches!(manner, Manner::IsSilent) {
            BRIEF
        } else {
            PATIENCE
        };
        let error = ControlSocket::connect(&target, choice, limit).await;
        let fault = error.expect_err("no way").fault();
        let text = format!("{fault:?}");
        assert_eq!(fault.code, Code::RegistryUnreachable);
        assert!(fault.message.contains(why), "{text}");
        assert!(
            text.contains(&format!("127.0.0.1:{}", proxy.port)),
            "{text}"
        );
        assert!(
            !text.contains("secret") && !text.contains("alice"),
            "{text}"
        );
    }
    assert_eq!(server.world.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_that_does_not_connect_is_named_without_its_password() {
    refused_by(Manner::Says("HTTP/1.1 403 Forbidden\r\n\r\n"), "403").await;
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
    refused_by(Manner::Says(wants), "407").await;
    refused_by(Manner::Says("SSH-2.0-OpenSSH\r\n"), "proxy").await;
    refused_by(Manner::Says(""), "proxy").await;
    refused_by(
        Manner::Says("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 x"),
        "proxy",
    )
    .await;
    refused_by(Manner::IsSilent, "proxy").await;
}

#[tokio::test]
async fn a_proxy_that_nobody_runs_is_named() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let environment = [("https_proxy", format!("http://{closed}"))];
    let url = "https://registry.example";
    let target = target(url, &TlsTrust::default(), &environment);
    let error = connect(&target, BOTH[0]).await.expect_err("nobody");
    assert!(
        matches!(&error, ConnectError::Proxy { proxy, .. } if *proxy == closed.to_string()),
        "{error}"
    );
}
