//! A TURN server on loopback, over UDP, TCP and TLS, in one task.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use waymesh_net::control::TlsTrust;
use waymesh_net::turn::framing::{Decoder, padding};
use waymesh_net::turn::server::{
    AllocationId, Ends, Limits, Network, Now, PeerPolicy, RelaySecret, SECRET_BYTES, Server,
    ServerConfig, ServerEvent, StreamId, Via,
};
use waymesh_proto::AgentId;
use waymesh_proto::ice::IceServer;

/// A running server; it ends when it is dropped.
pub(crate) struct TestRelay {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// Who vouches for it.
    pub(crate) trust: TlsTrust,
    secret: RelaySecret,
    _task: JoinSet<()>,
}

impl TestRelay {
    pub(crate) async fn start() -> Self {
        let secret = RelaySecret::new(&[7; SECRET_BYTES]);
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tls_listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tls = tls_listener.local_addr();
        let (udp_address, tcp) = (udp.local_addr(), listener.local_addr());
        let (acceptor, trust) = acceptor();
        let config = ServerConfig {
            realm: "test".into(),
            secret: secret.clone(),
            policy: PeerPolicy {
                allow: vec![Network::new([127, 0, 0, 0].into(), 8).expect("a network")],
                own: Vec::new(),
            },
            limits: Limits::default(),
            alternate: None,
            seed: [3; 32],
        };
        let (messages_in, messages) = mpsc::channel(256);
        let host = Host {
            server: Server::new(config, Instant::now()),
            udp,
            relays: HashMap::new(),
            streams: HashMap::new(),
            tasks: JoinSet::new(),
            messages_in,
        };
        let doors = Doors {
            tcp: listener,
            tls: tls_listener,
            acceptor,
        };
        let mut task = JoinSet::new();
        task.spawn(host.run(doors, messages));
        Self {
            udp: udp_address.expect("bound"),
            tcp: tcp.expect("bound"),
            tls: tls.expect("bound"),
            trust,
            secret,
            _task: task,
        }
    }

    /// The server by these URLs, with good credentials.
    pub(crate) fn by(&self, urls: &[String]) -> IceServer {
        let member: AgentId = AgentId::from_bytes([9; 32]);
        let (username, credential) = self
            .secret
            .issue(&member, unix() + Duration::from_secs(600));
        IceServer {
            urls: urls.iter().map(|url| url.parse().expect("a URL")).collect(),
            username: Some(username),
            credential: Some(credential),
        }
    }

    pub(crate) fn udp_url(&self) -> String {
        format!("turn:{}?transport=udp", self.udp)
    }

    pub(crate) fn tcp_url(&self) -> String {
        format!("turn:{}?transport=tcp", self.tcp)
    }

    pub(crate) fn tls_url(&self) -> String {
        format!("turns:{}?transport=tcp", self.tls)
    }
}

/// Where streams come in.
struct Doors {
    tcp: TcpListener,
    tls: TcpListener,
    acceptor: TlsAcceptor,
}

/// TLS with a certificate of its own, and who trusts it.
fn acceptor() -> (TlsAcceptor, TlsTrust) {
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]);
    let signed = signed.expect("a certificate");
    let base64 = data_encoding::BASE64.encode(signed.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    let trust = TlsTrust::default().with_ca_pem(pem.as_bytes());
    let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of the provider")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    (acceptor, trust.expect("a certificate"))
}

fn unix() -> Duration {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    unix.expect("after 1970")
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix: unix(),
    }
}

/// A message of a stream, or its end.
type FromStream = (Ends, Option<Vec<u8>>);

struct Host {
    server: Server,
    udp: UdpSocket,
    relays: HashMap<AllocationId, UdpSocket>,
    streams: HashMap<Ends, mpsc::Sender<Vec<u8>>>,
    tasks: JoinSet<()>,
    messages_in: mpsc::Sender<FromStream>,
}

impl Host {
    async fn run(mut self, doors: Doors, mut messages: mpsc::Receiver<FromStream>) {
        let mut next = 0;
        loop {
            tokio::select! {
                () = self.readable() => self.read(),
                Some((ends, message)) = messages.recv() => match message {
                    Some(message) => self.hear(ends, &message),
                    None => self.server.handle_stream_closed(&ends),
                },
                Ok((stream, remote)) = doors.tcp.accept() => {
                    next += 1;
                    stream.set_nodelay(true).expect("connected");
                    let local = stream.local_addr().expect("connected");
                    self.accept(async { Some(stream) }, local, remote, StreamId(next));
                }
                Ok((stream, remote)) = doors.tls.accept() => {
                    next += 1;
                    stream.set_nodelay(true).expect("connected");
                    let local = stream.local_addr().expect("connected");
                    let handshake = doors.acceptor.accept(stream);
                    let secure = async { handshake.await.ok() };
                    self.accept(secure, local, remote, StreamId(next));
                }
            }
            self.drain();
        }
    }

    async fn readable(&self) {
        std::future::poll_fn(|context| {
            let mut sockets = self.relays.values().chain([&self.udp]);
            let is_any = sockets.any(|socket| socket.poll_recv_ready(context).is_ready());
            if is_any {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn read(&mut self) {
        let mut bytes = [0; 2_048];
        while let Ok((len, remote)) = self.udp.try_recv_from(&mut bytes) {
            let ends = Ends {
                via: Via::Udp,
                local: self.udp.local_addr().expect("bound"),
                remote,
            };
            self.hear(ends, &bytes[..len]);
        }
        let ids: Vec<_> = self.relays.keys().copied().collect();
        for id in ids {
            while let Some(Ok((len, peer))) =
                self.relays.get(&id).map(|s| s.try_recv_from(&mut bytes))
            {
                self.hear_peer(id, peer, &bytes[..len]);
            }
        }
    }

    fn hear(&mut self, ends: Ends, bytes: &[u8]) {
        let Some(out) = self.server.handle_client(now(), &ends, bytes) else {
            return self.drain();
        };
        let (from, relayed, peer) = (out.from, out.relayed, out.peer);
        match out.to_relay {
            Some(to) => {
                let data = out.data.to_vec();
                self.hear_peer(to, relayed, &data);
            }
            None => {
                if let Some(socket) = self.relays.get(&from) {
                    let _ = socket.try_send_to(out.data, peer);
                }
            }
        }
    }

    fn hear_peer(&mut self, to: AllocationId, peer: SocketAddr, bytes: &[u8]) {
        let out = self.server.handle_peer(Instant::now(), to, peer, bytes);
        if let Some(out) = out {
            let (to, mut message) = (out.to, Vec::new());
            out.write(&mut message);
            self.send(to, message);
        }
    }

    fn send(&self, to: Ends, mut message: Vec<u8>) {
        match self.streams.get(&to) {
            Some(stream) => {
                message.extend_from_slice(padding(message.len()));
                let _ = stream.try_send(message);
            }
            None => {
                let _ = self.udp.try_send_to(&message, to.remote);
            }
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Open { allocation, .. } => {
                    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
                    socket.set_nonblocking(true).expect("a socket");
                    let socket = UdpSocket::from_std(socket).expect("a runtime");
                    let relayed = socket.local_addr().expect("bound");
                    self.relays.insert(allocation, socket);
                    self.server.relay_opened(now(), allocation, Ok(relayed));
                }
                ServerEvent::Close { allocation } => drop(self.relays.remove(&allocation)),
                ServerEvent::Hangup { .. } => {}
            }
        }
        while let Some(answer) = self.server.poll_transmit() {
            self.send(answer.to, answer.bytes);
        }
    }

    fn accept<S>(
        &mut self,
        stream: impl Future<Output = Option<S>> + Send + 'static,
        local: SocketAddr,
        remote: SocketAddr,
        id: StreamId,
    ) where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let ends = Ends {
            via: Via::Stream(id),
            local,
            remote,
        };
        let (out, mut outgoing) = mpsc::channel::<Vec<u8>>(256);
        self.streams.insert(ends, out);
        let messages = self.messages_in.clone();
        self.tasks.spawn(async move {
            // A client that does not trust it goes away.
            let Some(stream) = stream.await else { return };
            let (mut reader, mut writer) = split(stream);
            let (mut decoder, mut bytes) = (Decoder::default(), [0; 4_096]);
            loop {
                tokio::select! {
                    Some(message) = outgoing.recv() => {
                        if writer.write_all(&message).await.is_err() {
                            break;
                        }
                    }
                    read = reader.read(&mut bytes) => match read {
                        Ok(len) if len > 0 => decoder.extend(&bytes[..len]),
                        _ => break,
                    },
                }
                while let Ok(Some(message)) = decoder.poll() {
                    let _ = messages.send((ends, Some(message.to_vec()))).await;
                }
            }
            let _ = messages.send((ends, None)).await;
        });
    }
}
