//! Admin commands, on a registry that runs and on one that is stopped.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use support::{House, PATIENCE, config, loopback, mesh_key, order};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use waymesh_proto::Code;
use waymesh_registry::admin::{
    ADMIN_LINE_MAX_BYTES, AdminError, Client, Order, Reply, Request, Status,
};
use waymesh_registry::{Registry, StartError, Tls};
use waymesh_trust::Keypair;

async fn status(data_dir: &Path) -> Status {
    let mut admin = Client::open(data_dir).await.expect("an admin");
    let reply = admin.ask(Request::Status).await.expect("an answer");
    admin.close().await;
    match reply {
        Reply::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

async fn found(data_dir: &Path, seed: u8) -> Result<Reply, AdminError> {
    let mesh = Keypair::from_seed(&[seed; 32]).mesh_key();
    order(data_dir, Order::Found { mesh }).await
}

#[tokio::test]
async fn a_registry_says_where_and_whose_it_is_running_and_stopped() {
    let house = House::with_tls(Some(Tls::SelfSigned)).await;
    let running = status(&house.data_dir()).await;
    assert!(running.running);
    assert_eq!(running.url.as_ref(), Some(house.registry.url()));
    assert_eq!(running.registry, house.registry.key());
    assert_eq!(running.mesh, Some(mesh_key()));
    let pin = house.registry.tls_pin().expect("a pin");
    assert_eq!(running.tls_pin, Some(data_encoding::HEXLOWER.encode(&pin)));
    let data_dir = house.data_dir();
    house.registry.stop().await;
    let stopped = status(&data_dir).await;
    let expected = Status {
        running: false,
        ..running
    };
    assert_eq!(stopped, expected);
}

#[tokio::test]
async fn a_registry_is_given_to_one_mesh_for_ever_running_or_stopped() {
    for is_stopped in [false, true] {
        let house = House::without_mesh(None).await;
        let data_dir = house.data_dir();
        assert_eq!(status(&data_dir).await.mesh, None);
        let mut registry = Some(house.registry);
        if is_stopped && let Some(registry) = registry.take() {
            registry.stop().await;
        }
        let first = found(&data_dir, 1).await.expect("founded");
        assert_eq!(first, Reply::Done);
        let again = found(&data_dir, 1).await.expect("the same mesh");
        assert_eq!(again, Reply::Done);
        let other = found(&data_dir, 2).await.expect_err("another mesh");
        assert_eq!(other.code(), Code::WrongRegistry);
        let mesh = Some(Keypair::from_seed(&[1; 32]).mesh_key());
        assert_eq!(status(&data_dir).await.mesh, mesh);
        if let Some(registry) = registry {
            assert_eq!(registry.mesh(), mesh);
            registry.stop().await;
        }
        let registry = Registry::start(config(&house.dir, loopback(0))).await;
        let registry = registry.expect("a registry");
        assert_eq!(registry.mesh(), mesh);
        registry.stop().await;
    }
}

#[tokio::test]
async fn a_folder_without_a_registry_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = Client::open(dir.path()).await.expect_err("no registry");
    assert!(matches!(error, AdminError::NoRegistry(_)), "{error}");
    assert!(error.fault().hint.is_some());
    let mut left = std::fs::read_dir(dir.path()).expect("a directory");
    assert!(left.next().is_none());
    let nowhere = dir.path().join("nowhere");
    assert!(Client::open(&nowhere).await.is_err());
    assert!(!nowhere.exists());
}

#[tokio::test]
async fn everything_is_for_its_user_only_and_the_socket_goes_with_the_registry() {
    let house = House::start().await;
    let data_dir = house.data_dir();
    let socket = data_dir.join("admin.sock");
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("a file");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode(&socket), mode(&data_dir)), (0o600, 0o700));
    for file in std::fs::read_dir(&data_dir).expect("a directory") {
        let path = file.expect("a file").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    house.registry.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_socket_that_a_killed_registry_left_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Registry::start(config(&dir, loopback(0))).await;
    first.expect("a registry").stop().await;
    let data_dir = dir.path().join("data");
    drop(UnixListener::bind(data_dir.join("admin.sock")).expect("a socket"));
    assert!(!status(&data_dir).await.running);
    let registry = Registry::start(config(&dir, loopback(0))).await;
    let registry = registry.expect("a registry");
    assert!(status(&data_dir).await.running);
    registry.stop().await;
}

#[tokio::test]
async fn a_file_in_the_socket_s_place_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Registry::start(config(&dir, loopback(0))).await;
    first.expect("a registry").stop().await;
    let path = dir.path().join("data").join("admin.sock");
    std::fs::write(&path, "precious").expect("a file");
    let error = Registry::start(config(&dir, loopback(0))).await;
    let error = error.expect_err("refused");
    assert!(matches!(error, StartError::AdminSocket(_)), "{error}");
    assert_eq!(error.code(), Code::Bind);
    assert_eq!(std::fs::read(&path).expect("a file"), b"precious");
}

#[tokio::test]
async fn an_admin_command_waits_until_another_one_has_ended() {
    let house = House::start().await;
    let data_dir = house.data_dir();
    house.registry.stop().await;
    let first = Client::open(&data_dir).await.expect("an admin");
    let mut waiting = Box::pin(Client::open(&data_dir));
    let early = futures_util::FutureExt::now_or_never(&mut waiting);
    assert!(early.is_none());
    first.close().await;
    timeout(PATIENCE, waiting)
        .await
        .expect("its turn")
        .expect("an admin");
}

/// A connection that says exactly what a test wants.
struct RawAdmin(BufReader<UnixStream>);

impl RawAdmin {
    async fn connect(house: &House) -> Self {
        let socket = house.data_dir().join("admin.sock");
        let stream = UnixStream::connect(socket).await.expect("a connection");
        Self(BufReader::new(stream))
    }

    async fn ask(&mut self, line: &[u8]) -> serde_json::Value {
        // Whoever refuses a line may not read all of it.
        let _ = self.0.write_all(line).await;
        let _ = self.0.write_all(b"\n").await;
        self.next().await.expect("an answer")
    }

    async fn next(&mut self) -> Option<serde_json::Value> {
        let mut answer = String::new();
        timeout(PATIENCE, self.0.read_line(&mut answer))
            .await
            .expect("an answer")
            .ok()
            .filter(|len| *len > 0)?;
        Some(serde_json::from_str(&answer).expect("JSON"))
    }
}

#[tokio::test]
async fn nonsense_gets_a_code_and_the_connection_lives_on() {
    let house = House::start().await;
    let mut admin = RawAdmin::connect(&house).await;
    for (line, code) in [
        (&b""[..], "bad_request"),
        (b"{", "bad_request"),
        (b"\xff\xfe", "bad_request"),
        (b"[]", "bad_request"),
        (b"{}", "bad_request"),
        (br#"{"type":7}"#, "bad_request"),
        (br#"{"type":"dance"}"#, "unknown_verb"),
        (br#"{"type":"found"}"#, "bad_request"),
        (br#"{"type":"found","mesh":"x"}"#, "bad_request"),
        (
            br#"{"type":"approve","request":"../x","certificate":"y"}"#,
            "bad_request",
        ),
        (br#"{"type":"revoke","revocations":["a b"]}"#, "bad_request"),
        (br#"{"type":"pairing_code","ttl_ms":-1}"#, "bad_request"),
    ] {
        let answer = admin.ask(line).await;
        let text = String::from_utf8_lossy(line).into_owned();
        assert_eq!(answer["error"]["code"], code, "{text}: {answer}");
    }
    let answer = admin.ask(br#"{"type":"status"}"#).await;
    assert_eq!(answer["ok"]["type"], "status");
}

#[tokio::test]
async fn a_line_of_the_largest_size_is_read_and_a_longer_one_ends_the_connection() {
    let house = House::start().await;
    let mut admin = RawAdmin::connect(&house).await;
    let mut line = br#"{"type":"status"}"#.to_vec();
    line.resize(ADMIN_LINE_MAX_BYTES, b' ');
    assert_eq!(admin.ask(&line).await["ok"]["type"], "status");
    line.push(b' ');
    assert_eq!(admin.ask(&line).await["error"]["code"], "line_too_long");
    assert!(admin.next().await.is_none());
}

#[tokio::test]
async fn as_many_connections_as_the_limit_are_served_and_one_more_is_told_so() {
    const CONNECTIONS_MAX: usize = 16;
    let house = House::start().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut admin = RawAdmin::connect(&house).await;
        assert_eq!(
            admin.ask(br#"{"type":"status"}"#).await["ok"]["type"],
            "status"
        );
        open.push(admin);
    }
    let mut refused = RawAdmin::connect(&house).await;
    let answer = refused.next().await.expect("an answer");
    assert_eq!(answer["error"]["code"], "rate_limited");
}
