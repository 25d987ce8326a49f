#![allow(dead_code, unused_imports, reason = "no test file uses all of it")]
//! A registry in a temporary directory that serves a mesh, its members, and
//! clients that say exactly what a test wants.

pub(crate) mod http;
pub(crate) mod invite;
pub(crate) mod member;
pub(crate) mod raw;
pub(crate) mod turn;
pub(crate) mod uclient;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::MeshKey;
use waymesh_registry::admin::{AdminError, Client, Order, Reply, Request};
use waymesh_registry::{IceConfig, Registry, RegistryConfig, Tls};
use waymesh_trust::Keypair;

pub(crate) use http::{http, http_with};
pub(crate) use member::Member;
pub(crate) use raw::Raw;

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The mesh key of all tests.
pub(crate) fn mesh() -> Keypair {
    Keypair::from_seed(&[200; 32])
}

/// Its public half.
pub(crate) fn mesh_key() -> MeshKey {
    mesh().mesh_key()
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("a clock").as_millis()).expect("a clock")
}

/// A registry whose directory outlives it.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) registry: Registry,
    tls: Option<Tls>,
    ice: IceConfig,
}

impl House {
    /// A registry that serves the mesh.
    pub(crate) async fn start() -> Self {
        Self::with_tls(None).await
    }

    /// The same with this choice of TLS.
    pub(crate) async fn with_tls(tls: Option<Tls>) -> Self {
        let house = Self::without_mesh(tls).await;
        house.found().await;
        house
    }

    /// A registry that serves no mesh yet.
    pub(crate) async fn without_mesh(tls: Option<Tls>) -> Self {
        Self::with(tls, IceConfig::default()).await
    }

    /// The same with these STUN and TURN servers.
    pub(crate) async fn with(tls: Option<Tls>, ice: IceConfig) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::within(dir, tls, ice).await
    }

    /// The same in this directory, in which something may be already.
    pub(crate) async fn within(dir: TempDir, tls: Option<Tls>, ice: IceConfig) -> Self {
        let registry = start(&dir, loopback(0), tls.clone(), ice.clone()).await;
        Self {
            dir,
            registry,
            tls,
            ice,
        }
    }

    /// Gives the registry to the mesh.
    pub(crate) async fn found(&self) {
        found(&self.dir).await;
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.registry.local_addr()
    }

    /// A member of the mesh that logs in under this name with the key of this seed.
    pub(crate) fn member(&self, name: &str, key: u8) -> Member {
        Member::new(name, key, self.registry.key())
    }

    /// A member that has logged in.
    pub(crate) async fn log_in(&self, name: &str, key: u8, incarnation: u64) -> Raw {
        let member = self.member(name, key);
        Raw::log_in(&self.registry, &member, incarnation).await
    }

    /// Starts a registry again that was stopped here.
    pub(crate) async fn again(dir: TempDir, addr: SocketAddr) -> Self {
        let (tls, ice) = (None, IceConfig::default());
        let registry = start(&dir, addr, None, ice.clone()).await;
        Self {
            dir,
            registry,
            tls,
            ice,
        }
    }

    /// Stops the registry and starts it again in the same place.
    pub(crate) async fn restart(self) -> Self {
        let ice = self.ice.clone();
        self.restart_with(ice).await
    }

    /// The same with other STUN and TURN servers.
    pub(crate) async fn restart_with(self, ice: IceConfig) -> Self {
        let addr = self.addr();
        self.registry.stop().await;
        let registry = start(&self.dir, addr, self.tls.clone(), ice.clone()).await;
        Self {
            registry,
            ice,
            ..self
        }
    }

    /// One number of the relay's metrics, which are some time old, once it is this.
    pub(crate) async fn relay_metric_is(&self, name: &str, expected: u64) {
        let is_it = async { while self.metric(name).await != expected {} };
        let is_it = tokio::time::timeout(PATIENCE, is_it).await;
        is_it.unwrap_or_else(|_| panic!("{name} is not {expected}"));
    }

    /// One number of the metrics.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, body) = http(self.addr(), "GET /metrics").await;
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("a metric").parse().expect("a number")
    }
}

/// Gives the registry in a directory to the mesh.
pub(crate) async fn found(dir: &TempDir) {
    let found = Order::Found { mesh: mesh_key() };
    let done = order(&dir.path().join("data"), found).await;
    assert_eq!(done.expect("founded"), Reply::Done);
}

/// One admin command on the registry of a data directory, running or stopped.
pub(crate) async fn order(data_dir: &Path, order: Order) -> Result<Reply, AdminError> {
    let mut admin = Client::open(data_dir).await?;
    let reply = admin.ask(Request::Order(order)).await;
    admin.close().await;
    reply
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn config(dir: &TempDir, listen: SocketAddr) -> RegistryConfig {
    RegistryConfig {
        listen,
        data_dir: dir.path().join("data"),
        public_url: None,
        tls: None,
        ice: IceConfig::default(),
    }
}

async fn start(dir: &TempDir, listen: SocketAddr, tls: Option<Tls>, ice: IceConfig) -> Registry {
    let config = RegistryConfig {
        tls,
        ice,
        ..config(dir, listen)
    };
    Registry::start(config)
        .await
        .expect("a registry that starts")
}

/// Skills that are nearly as large as one agent's may be, and say this.
pub(crate) fn large_skills(text: &str) -> Vec<SkillSpec> {
    let description = format!("{text}{}", " ".repeat(15_000));
    let skills = (0..16).map(|n| SkillSpec {
        name: format!("skill-{n}").parse().expect("a skill name"),
        description: Some(description.clone()),
        schema: None,
        idempotent: false,
    });
    skills.collect()
}
