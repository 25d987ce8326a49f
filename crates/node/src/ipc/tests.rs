//! The server on a real socket, before a scripted node.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use waymesh_core::app::{Command, Event, InboundId};
use waymesh_proto::api::Detail;
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, MeshId, MessageId, Name};
use waymesh_proto::ipc::{self, Hello, PROTOCOL, Verb};
use waymesh_proto::link::Path;

use super::*;

mod sending;

/// How long a test waits for what must come. Only a failing test waits so long.
const SOON: Duration = Duration::from_secs(20);

struct FakeCommands(mpsc::Sender<Command>);
struct FakeEvents(mpsc::Receiver<Event>);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Commands for FakeCommands {
    fn new_id(&self) -> MessageId {
        MessageId::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), [0; 10])
    }

    async fn send(&self, command: Command) -> bool {
        self.0.send(command).await.is_ok()
    }
}

impl Events for FakeEvents {
    async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// The node's end of one client.
struct NodeSide {
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
}

impl NodeSide {
    async fn command(&mut self) -> Command {
        soon(self.commands.recv()).await.expect("a command")
    }

    async fn tell(&self, event: Event) {
        self.events.send(event).await.expect("a client");
    }
}

struct FakeClients(mpsc::Sender<NodeSide>);

impl Clients for FakeClients {
    type Commands = FakeCommands;
    type Events = FakeEvents;

    fn open(&self) -> (FakeCommands, FakeEvents) {
        let (to_node, commands) = mpsc::channel(16);
        let (events, from_node) = mpsc::channel(64);
        let _ = self.0.try_send(NodeSide { commands, events });
        (FakeCommands(to_node), FakeEvents(from_node))
    }
}

/// A server with a scripted node behind it.
struct World {
    folder: tempfile::TempDir,
    clients: mpsc::Receiver<NodeSide>,
    hello: watch::Sender<Hello>,
    _server: JoinSet<()>,
}

impl World {
    fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = IpcServer::bind(folder.path()).expect("a socket");
        let (to_test, clients) = mpsc::channel(256);
        let (hello, told) = watch::channel(hello());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(FakeClients(to_test), told, limits));
        Self {
            folder,
            clients,
            hello,
            _server: tasks,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(SOCKET_NAME)
    }

    async fn tool(&mut self) -> (IpcClient, NodeSide) {
        let client = soon(IpcClient::connect(&self.path()))
            .await
            .expect("connected");
        let node = soon(self.clients.recv())
            .await
            .expect("a client of the node");
        (client, node)
    }

    /// A plain socket that has read its `hello`.
    async fn raw(&mut self) -> (Raw, NodeSide) {
        let stream = UnixStream::connect(self.path()).await.expect("connected");
        let mut raw = Raw {
            stream,
            decoder: ipc::Decoder::default(),
        };
        assert!(matches!(raw.next().await, Some(ipc::Event::Hello(_))));
        let node = soon(self.clients.recv())
            .await
            .expect("a client of the node");
        (raw, node)
    }
}

struct Raw {
    stream: UnixStream,
    decoder: ipc::Decoder<ipc::Event>,
}

impl Raw {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref()))
            .await
            .expect("written");
    }

    async fn next(&mut self) -> Option<ipc::Event> {
        loop {
            if let Some(event) = self.decoder.poll().expect("a sound line") {
                return Some(event);
            }
            if soon(self.stream.read_buf(self.decoder.room())).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn fault(&mut self) -> Fault {
        match self.next().await {
            Some(ipc::Event::Error { fault, .. }) => fault,
            other => panic!("not an error: {other:?}"),
        }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("in time")
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent: name("alice"),
        agent_id: AgentId::from_bytes([1; 32]),
        incarnation: Incarnation::new(7),
        registry: None,
        mesh: None,
        certificate_expires_ms: None,
        version: "0.1.0".into(),
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn message(inbound: u64, payload: Payload) -> Event {
    Event::Message {
        inbound: Some(InboundId(inbound)),
        id: MessageId::from_bytes([3; 16]),
        from: name("bob"),
        agent_id: AgentId::from_bytes([2; 32]),
        class: Class::Control,
        redelivered: false,
        path: Path::Direct,
        payload,
    }
}

const INFO: &[u8] = b"{\"type\":\"info\",\"id\":\"i\"}\n";

#[tokio::test]
async fn a_call_goes_to_the_node_and_its_answer_comes_back() {
    let mut world = World::start(Limits::default());
    let (mut tool, mut node) = world.tool().await;
    let verb = Verb::Call {
        to: name("bob"),
        skill: "echo".parse().expect("a skill"),
        payload: Payload::json(&b"{\"n\":1}"[..]),
        timeout: Duration::from_secs(1),
        idempotent: true,
        priority: waymesh_proto::Priority::Normal,
    };
    let script = async {
        let Command::Call {
            id,
            payload,
            idempotent: true,
            ..
        } = node.command().await
        else {
            panic!("not a call");
        };
        node.tell(Event::Answer {
            id,
            outcome: Ok(payload),
            path: Some(Path::Direct),
            request_path: Some(Path::Direct),
            elapsed: Duration::from_millis(2),
        })
        .await;
    };
    let (answer, ()) = tokio::join!(tool.request(verb), script);
    let ipc::Event::Result {
        payload,
        route: Some(route),
        ..
    } = answer.expect("an answer")
    else {
        panic!("not a result");
    };
    assert_eq!(payload, Payload::json(&b"{\"n\":1}"[..]));
    assert_eq!(route.elapsed, Duration::from_millis(2));
}

#[tokio::test]
async fn every_bad_line_gets_its_code_and_the_next_one_works() {
    let mut world = World::start(Limits::default());
    let (mut raw, _node) = world.raw().await;
    let bad: [(&[u8], Code); 7] = [
        (b"nonsense\n", Code::BadRequest),
        (b"{\"type\":\"fly\"}\n", Code::UnknownVerb),
        (b"{\"type\":\"send\",\"message\":1}\n", Code::BadRequest),
        (b"{\"type\":\"info\",\"x\":\"\xff\"}\n", Code::NotUtf8),
        (b"{\"type\":\"ack\",\"delivery\":5}\n", Code::UnknownId),
        (
            b"{\"type\":\"reply\",\"call_id\":5,\"result\":1}\n",
            Code::UnknownId,
        ),
        (b"{\"type\":\"cancel\",\"call\":\"c\"}\n", Code::UnknownId),
    ];
    for (line, code) in bad {
        raw.write(line).await;
        assert_eq!(raw.fault().await.code, code);
        raw.write(INFO).await;
        assert!(matches!(raw.next().await, Some(ipc::Event::Result { .. })));
    }
    raw.write(vec![b'x'; 70_000]).await;
    assert_eq!(raw.fault().await.code, Code::LineTooLong);
    assert_eq!(raw.next().await, None);
}

#[tokio::test]
async fn a_request_id_in_use_is_refused() {
    let mut world = World::start(Limits::default());
    let (mut raw, mut node) = world.raw().await;
    let line = b"{\"type\":\"ping\",\"id\":\"p\",\"target_peer\":\"bob\"}\n";
    raw.write(line).await;
    raw.write(line).await;
    assert_eq!(raw.fault().await.code, Code::DuplicateId);
    let Command::Ping { id, .. } = node.command().await else {
        panic!("not a ping");
    };
    let outcome = Ok((Path::Direct, Duration::from_millis(1)));
    node.tell(Event::Pong { id, outcome }).await;
    assert!(matches!(raw.next().await, Some(ipc::Event::Result { .. })));
    raw.write(line).await;
    assert!(matches!(node.command().await, Command::Ping { .. }));
}

#[tokio::test]
async fn a_client_hears_of_a_certificate_that_ends() {
    let mut world = World::start(Limits::default());
    let (mut raw, node) = world.raw().await;
    let remaining = Duration::from_secs(86_400);
    node.tell(Event::CertificateExpiring { remaining }).await;
    assert_eq!(
        raw.next().await,
        Some(ipc::Event::CertificateExpiring { remaining })
    );
}

#[tokio::test]
async fn a_node_that_becomes_a_member_says_so_to_whoever_asks() {
    let mut world = World::start(Limits::default());
    let (mut raw, _node) = world.raw().await;
    let mesh = MeshId::from_bytes([5; 16]);
    world.hello.send_modify(|hello| {
        hello.mesh = Some(mesh);
        hello.certificate_expires_ms = Some(77);
    });
    raw.write(INFO).await;
    let Some(ipc::Event::Result { payload, .. }) = raw.next().await else {
        panic!("no result");
    };
    let info: Hello = serde_json::from_slice(&payload.bytes).expect("what hello tells");
    let (tool, _) = world.tool().await;
    for hello in [&info, tool.hello()] {
        assert_eq!(hello.mesh, Some(mesh));
        assert_eq!(hello.certificate_expires_ms, Some(77));
    }
}

#[tokio::test]
async fn closing_the_connection_releases_the_client() {
    let mut world = World::start(Limits::default());
    let (raw, mut node) = world.raw().await;
    drop(raw);
    assert!(soon(node.commands.recv()).await.is_none());
}

#[tokio::test]
async fn a_client_that_only_stops_writing_still_gets_its_answers() {
    let mut world = World::start(Limits::default());
    let (mut raw, mut node) = world.raw().await;
    raw.write(b"{\"type\":\"list_peers\",\"id\":\"l\"}\n").await;
    raw.stream.shutdown().await.expect("half closed");
    let Command::ListPeers { id, .. } = node.command().await else {
        panic!("not a list");
    };
    node.tell(Event::Peers {
        id,
        peers: Vec::new(),
    })
    .await;
    assert!(matches!(
        raw.next().await,
        Some(ipc::Event::PeerList { .. })
    ));
    assert_eq!(raw.next().await, None);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go_and_its_neighbour_is_served() {
    let limits = Limits {
        pause_bytes: 64 * 1024,
        out_max_bytes: 256 * 1024,
        patience: Duration::from_millis(50),
        linger: Duration::from_secs(20),
    };
    let mut world = World::start(limits);
    let (mut deaf, node) = world.raw().await;
    let (mut tool, mut other) = world.tool().await;
    let told = AtomicU64::new(0);
    let flood = async {
        for inbound in 0.. {
            let payload = Payload::bytes("a/b", vec![0; 32 * 1024]);
            if node.events.send(message(inbound, payload)).await.is_err() {
                return;
            }
            told.fetch_add(1, Ordering::Relaxed);
        }
    };
    let neighbour = async {
        let verb = Verb::ListPeers {
            attempts: Detail::Now,
        };
        let script = async {
            let Command::ListPeers { id, .. } = other.command().await else {
                panic!("not a list");
            };
            other
                .tell(Event::Peers {
                    id,
                    peers: Vec::new(),
                })
                .await;
        };
        tokio::join!(tool.request(verb), script).0.expect("served");
    };
    tokio::join!(soon(flood), neighbour);
    // What left the node is bounded: the buffer, the channel, and the kernel's share.
    assert!(
        told.load(Ordering::Relaxed) < 100,
        "{told:?} messages of 32 KiB"
    );
    let mut last = None;
    while let Some(event) = deaf.next().await {
        last = Some(event);
    }
    let Some(ipc::Event::Error { id: None, fault }) = last else {
        panic!("no last word: {last:?}");
    };
    assert_eq!(fault.code, Code::SlowConsumer);
}

#[tokio::test]
async fn requests_wait_while_their_answers_are_not_read() {
    let limits = Limits {
        pause_bytes: 16 * 1024,
        ..Limits::default()
    };
    let mut world = World::start(limits);
    let (raw, _node) = world.raw().await;
    let (mut written, mut refused_in_a_row) = (0, 0);
    // Every turn lets the server run; one that still takes requests would take them.
    while refused_in_a_row < 5_000 {
        match raw.stream.try_write(&INFO.repeat(100)) {
            Ok(bytes) => (written, refused_in_a_row) = (written + bytes, 0),
            Err(_) => refused_in_a_row += 1,
        }
        assert!(
            written < 4 * 1024 * 1024,
            "{written} bytes of requests were taken"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_node_that_stops_says_so() {
    let mut world = World::start(Limits::default());
    let (mut raw, node) = world.raw().await;
    drop(node);
    assert_eq!(raw.fault().await.code, Code::ShuttingDown);
    assert_eq!(raw.next().await, None);
}

#[tokio::test]
async fn without_a_node_the_client_says_node_not_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(SOCKET_NAME);
    let absent = IpcClient::connect(&path).await.expect_err("nobody");
    assert_eq!(absent.code, Code::NodeNotRunning);
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a stale socket"));
    let refused = IpcClient::connect(&path).await.expect_err("nobody");
    assert_eq!(refused.code, Code::NodeNotRunning);
}
