//! A registry as far as the connection to it goes: it greets, and sends back what it is sent.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use waymesh_net::control::{
    CarrierChoice, ConnectError, ControlSocket, Message, ProofRequest, ProxyEnvironment, Received,
    Target, TlsTrust,
};
use waymesh_proto::control::CONTROL_PATH;
use waymesh_proto::http::{
    POLL_IN_PATH, POLL_OUT_PATH, POLL_PATH, PROOF_HEADER, PROOF_NONCE_HEADER, SESSION_HEADER,
};
use waymesh_proto::poll::{POLL_BODY_MAX_BYTES, PollMessage};
use waymesh_proto::{Code, Fault};

/// Longest time that any step of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Limit of an attempt that is to run into it.
pub(crate) const BRIEF: Duration = Duration::from_millis(300);

/// What the registry says first.
pub(crate) const GREETING: &str = "welcome";

/// A handler's answer with this status closes the connection without one.
const CLOSE: u16 = 444;

const SESSION: &str = "000102030405060708090a0b0c0d0e0f";

pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers a request.
pub(crate) type Handler = Arc<dyn Fn(Request<Incoming>, Arc<World>) -> Boxed<Reply> + Send + Sync>;

/// What is done with a socket after the upgrade.
pub(crate) type Speak = fn(TokioIo<Upgraded>) -> Boxed<()>;

/// What the handlers of one server share.
pub(crate) struct World {
    scheme: &'static str,
    tasks: Mutex<JoinSet<()>>,
    /// Method and path of every request.
    seen: Mutex<Vec<String>>,
    /// Connections so far.
    pub(crate) connections: AtomicU64,
    /// Nonces given out so far, numbered.
    nonces: AtomicU64,
    to_node: mpsc::Sender<Message>,
    outbox: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    /// What the test allows a handler to do.
    calls: Semaphore,
}

impl World {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().expect("not poisoned").spawn(task);
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Whether any request to this path has come.
    pub(crate) fn has_seen(&self, path: &str) -> bool {
        self.seen().iter().any(|line| line.ends_with(path))
    }

    /// Lets one [`World::called`] return.
    pub(crate) fn call(&self) {
        self.calls.add_permits(1);
    }

    pub(crate) async fn called(&self) {
        self.calls
            .acquire()
            .await
            .expect("an open semaphore")
            .forget();
    }

    pub(crate) async fn push(&self, message: Message) {
        self.to_node.send(message).await.expect("an open queue");
    }
}

/// A server on a port of its own; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) world: Arc<World>,
}

impl Server {
    pub(crate) async fn start(tls: Option<Arc<ServerConfig>>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (to_node, outbox) = mpsc::channel(4_096);
        let world = Arc::new(World {
            scheme: if tls.is_some() { "https" } else { "http" },
            tasks: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicU64::new(0),
            nonces: AtomicU64::new(0),
            to_node,
            outbox: tokio::sync::Mutex::new(outbox),
            calls: Semaphore::new(0),
        });
        let tls = tls.map(TlsAcceptor::from);
        world.spawn(accept(listener, tls, handler, Arc::clone(&world)));
        Self { port, world }
    }

    /// A whole registry that speaks plain HTTP.
    pub(crate) async fn registry() -> Self {
        Self::start(None, handler(registry)).await
    }

    /// A registry whose upgrade goes another way.
    pub(crate) async fn upgrading(upgrade: Handler) -> Self {
        let all = move |request: Request<Incoming>, world| {
            if request.uri().path() == CONTROL_PATH {
                upgrade(request, world)
            } else {
                Box::pin(registry(request, world))
            }
        };
        Self::start(None, Arc::new(all)).await
    }

    /// A registry that says this after the upgrade, and closes after it.
    pub(crate) async fn speaking(speak: Speak) -> Self {
        let upgrade: Handler =
            Arc::new(move |request, world| ready(upgraded(request, &world, speak)));
        Self::upgrading(upgrade).await
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The way to it over plain HTTP, with a key.
    pub(crate) fn target(&self) -> Target {
        target(&self.url("http"), &TlsTrust::default(), &[])
    }
}

pub(crate) fn handler<F>(f: fn(Request<Incoming>, Arc<World>) -> F) -> Handler
where
    F: Future<Output = Reply> + Send + 'static,
{
    Arc::new(move |request, world| Box::pin(f(request, world)))
}

pub(crate) fn ready(reply: Reply) -> Boxed<Reply> {
    Box::pin(std::future::ready(reply))
}

/// The way to a URL, with a key and these variables in the environment.
pub(crate) fn target(url: &str, trust: &TlsTrust, environment: &[(&str, String)]) -> Target {
    let read = |name: &str| {
        let mut variables = environment.iter();
        variables.find_map(|(key, value)| (*key == name).then(|| value.clone()))
    };
    let origin = url.parse().expect("an origin");
    Target::new(origin, trust, &ProxyEnvironment::new(read))
        .expect("a usable target")
        .with_prover(Arc::new(prove))
}

fn prove(request: ProofRequest<'_>) -> String {
    let ProofRequest { method, url, nonce } = request;
    format!("{method} {url} {}", nonce.unwrap_or("-"))
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    world: Arc<World>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        world.connections.fetch_add(1, Ordering::Relaxed);
        let (handler, in_task) = (Arc::clone(&handler), Arc::clone(&world));
        match tls.clone() {
            None => world.spawn(serve(stream, handler, in_task)),
            Some(tls) => world.spawn(async move {
                // A client that trusts nobody goes away.
                if let Ok(stream) = tls.accept(stream).await {
                    serve(stream, handler, in_task).await;
                }
            }),
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    handler: Handler,
    world: Arc<World>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let line = format!("{} {}", request.method(), request.uri().path());
        world.seen.lock().expect("not poisoned").push(line);
        let reply = handler(request, Arc::clone(&world));
        async {
            match reply.await {
                reply if reply.status().as_u16() == CLOSE => Err("the handler closes"),
                reply => Ok(reply),
            }
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // The client's sudden end is its own affair.
    let _ = connection.with_upgrades().await;
}

pub(crate) fn reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = status;
    reply
}

/// No answer: the connection is closed.
pub(crate) fn no_reply() -> Reply {
    reply(StatusCode::from_u16(CLOSE).expect("a status"), "")
}

/// The registry's way to say no.
pub(crate) fn refusal(status: StatusCode, code: Code) -> Reply {
    let fault = Fault::new(code, "no").with_hint("do not");
    let body = serde_json::json!({ "error": fault });
    reply(status, body.to_string())
}

/// Answers as a registry does: WebSocket and long-poll.
pub(crate) async fn registry(request: Request<Incoming>, world: Arc<World>) -> Reply {
    match request.uri().path() {
        CONTROL_PATH => upgraded(request, &world, greet_and_echo),
        _ => proved(request, world).await,
    }
}

/// Lets an upgrade pass and speaks then.
pub(crate) fn upgraded(request: Request<Incoming>, world: &World, speak: Speak) -> Reply {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return refusal(StatusCode::BAD_REQUEST, Code::BadRequest);
    };
    let accept = derive_accept_key(key.as_bytes());
    world.spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.expect("an upgrade");
        speak(TokioIo::new(upgraded)).await;
    });
    let mut reply = reply(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, "upgrade".parse().expect("a value"));
    headers.insert(UPGRADE, "websocket".parse().expect("a value"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.parse().expect("a value"));
    reply
}

pub(crate) async fn websocket(io: TokioIo<Upgraded>) -> WebSocketStream<TokioIo<Upgraded>> {
    WebSocketStream::from_raw_socket(io, Role::Server, None).await
}

fn greet_and_echo(io: TokioIo<Upgraded>) -> Boxed<()> {
    Box::pin(async move {
        let mut socket = websocket(io).await;
        let mut next = Some(Ok(WsMessage::text(GREETING)));
        while let Some(Ok(message)) = next {
            let is_content = message.is_text() || message.is_binary();
            if is_content && socket.send(message).await.is_err() {
                return;
            }
            next = socket.next().await;
        }
    })
}

/// Answers requests that carry a proof, and asks for a nonce in it.
pub(crate) async fn proved(request: Request<Incoming>, world: Arc<World>) -> Reply {
    let proof = request.headers().get(PROOF_HEADER).cloned();
    let host = request.headers().get("host").cloned();
    let proof = proof.as_ref().and_then(|p| p.to_str().ok());
    let host = host.as_ref().and_then(|h| h.to_str().ok());
    let (Some(proof), Some(host)) = (proof, host) else {
        return refusal(StatusCode::BAD_REQUEST, Code::BadRequest);
    };
    let asked = format!(
        "{} {}://{host}{} ",
        request.method(),
        world.scheme,
        request.uri().path()
    );
    let nonce = proof.strip_prefix(&asked).and_then(|n| n.parse().ok());
    let last = world.nonces.fetch_add(1, Ordering::Relaxed);
    let mut reply = match nonce {
        Some(nonce) if (1_u64..=last).contains(&nonce) => poll(request, &world).await,
        _ => refusal(StatusCode::UNAUTHORIZED, Code::Unauthorized),
    };
    let nonce = (last + 1).to_string().parse().expect("a value");
    reply.headers_mut().insert(PROOF_NONCE_HEADER, nonce);
    reply
}

async fn poll(request: Request<Incoming>, world: &World) -> Reply {
    let path = request.uri().path();
    if path == POLL_PATH {
        world.push(Message::Text(GREETING.into())).await;
        let body = format!(r#"{{"session":"{SESSION}"}}"#);
        return reply(StatusCode::CREATED, body);
    }
    let session = request.headers().get(SESSION_HEADER);
    if session.is_none_or(|session| session != SESSION) {
        return refusal(StatusCode::GONE, Code::UnknownId);
    }
    match path {
        POLL_IN_PATH => {
            let body = request.into_body().collect().await.expect("a body");
            take_in(&body.to_bytes(), world).await
        }
        POLL_OUT_PATH => reply(StatusCode::OK, next_body(world).await),
        _ => refusal(StatusCode::NOT_FOUND, Code::UnknownVerb),
    }
}

/// Sends everything back.
async fn take_in(body: &[u8], world: &World) -> Reply {
    if body.len() > POLL_BODY_MAX_BYTES {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge);
    }
    for message in PollMessage::all(body).expect("a row of messages") {
        world
            .push(match message {
                PollMessage::Text(text) => Message::Text(text.to_owned()),
                PollMessage::Binary(bytes) => Message::Binary(bytes.to_vec()),
            })
            .await;
    }
    reply(StatusCode::NO_CONTENT, "")
}

async fn next_body(world: &World) -> Vec<u8> {
    let mut outbox = world.outbox.lock().await;
    let mut body = Vec::new();
    put(&mut body, outbox.recv().await.expect("an open queue"));
    while body.len() < POLL_BODY_MAX_BYTES / 4
        && let Ok(message) = outbox.try_recv()
    {
        put(&mut body, message);
    }
    body
}

pub(crate) fn put(body: &mut Vec<u8>, message: Message) {
    match &message {
        Message::Text(text) => PollMessage::Text(text).put(body),
        Message::Binary(bytes) => PollMessage::Binary(bytes).put(body),
    }
}

/// Connects with all patience.
pub(crate) async fn connect(
    target: &Target,
    choice: CarrierChoice,
) -> Result<ControlSocket, ConnectError> {
    ControlSocket::connect(target, choice, PATIENCE).await
}

/// Takes the signs of life that are there already.
pub(crate) fn drain(socket: &mut ControlSocket) {
    while let Some(received) = socket.receive().now_or_never() {
        assert_eq!(received.expect("open"), Received::Alive);
    }
}

/// The next message, signs of life passed over.
pub(crate) async fn next(socket: &mut ControlSocket) -> Received {
    let message = async {
        loop {
            match socket.receive().await.expect("a message") {
                Received::Alive => {}
                message => return message,
            }
        }
    };
    tokio::time::timeout(PATIENCE, message)
        .await
        .expect("in time")
}
