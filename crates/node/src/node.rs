//! A running node: started from a configuration, stopped by its handle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use waymesh_core::{Mesh, MeshConfig, Topology};
use waymesh_net::webrtc::{Endpoint, EndpointConfig};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, Name};
use waymesh_proto::ipc::{Hello, PROTOCOL};

use crate::agent::Agent;
use crate::client::{Client, Door, entrance, unix_ms};
use crate::driver::{Condition, Driver, NOTHING_DUE};
use crate::home::{Home, HomeError};
use crate::ipc::{self, IpcServer};
use crate::linger::Linger;
use crate::metrics::Metrics;
use crate::pins::PinBook;
use crate::registry::{self, LinkConfig};
use crate::skills::{self, Builtin};

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The agent's name, unique in its registry.
    pub name: Name,
    /// The registry's URL.
    pub registry: String,
    /// Where the identity is kept; made on first use, locked while the node runs.
    pub data_dir: PathBuf,
    /// When links are made.
    pub topology: Topology,
    /// The built-in skills to offer.
    pub builtins: BTreeSet<Builtin>,
    /// How the UDP socket is opened.
    pub endpoint: EndpointConfig,
    /// Whether other processes may attach through `node.sock` in the data directory.
    pub ipc: bool,
}

impl NodeConfig {
    /// A node that makes links on demand, offers no built-in skill and serves IPC.
    pub fn new(name: Name, registry: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            name,
            registry: registry.into(),
            data_dir: data_dir.into(),
            topology: Topology::default(),
            builtins: BTreeSet::new(),
            endpoint: EndpointConfig::default(),
            ipc: true,
        }
    }
}

/// Who a running node is.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Its name.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The registry's URL.
    pub registry: String,
    /// Its IPC socket.
    pub ipc: Option<PathBuf>,
    /// The program's version.
    pub version: &'static str,
}

/// A node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The UDP socket cannot be opened.
    #[error(transparent)]
    Udp(#[from] waymesh_net::webrtc::BindError),
    /// The IPC socket cannot be opened.
    #[error(transparent)]
    Ipc(#[from] ipc::BindError),
    /// The registry's URL is not one.
    #[error(transparent)]
    Registry(Fault),
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Home(error) => error.into(),
            StartError::Registry(fault) => fault,
            StartError::Udp(error) => Self::new(Code::Bind, error.to_string()),
            StartError::Ipc(error) => error.into(),
        }
    }
}

/// A running node. Dropping it without [`Node::stop`] stops it without waiting.
#[derive(Debug)]
pub struct Node {
    info: NodeInfo,
    door: Door,
    condition: watch::Receiver<Condition>,
    metrics: watch::Receiver<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    driver: JoinHandle<()>,
    servants: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a node on the current tokio runtime. It need not reach its registry yet.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    #[expect(
        clippy::unused_async,
        reason = "its tasks need a runtime: awaiting proves one, and a plain function would panic without"
    )]
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let home = Arc::new(Home::open(&config.data_dir)?);
        let incarnation = home.next_incarnation(unix_ms())?;
        let agent_id = home.keypair().agent_id();
        let endpoint = Endpoint::bind(config.endpoint)?;
        let server = config
            .ipc
            .then(|| IpcServer::bind(home.dir()))
            .transpose()?;
        let link = LinkConfig {
            url: config.registry.clone(),
            keypair: home.keypair().clone(),
            name: config.name.clone(),
            incarnation,
            pinned: home.registry()?,
        };
        let registry = registry::spawn(link).map_err(StartError::Registry)?;
        let info = NodeInfo {
            name: config.name.clone(),
            agent_id,
            incarnation,
            registry: config.registry,
            ipc: server.as_ref().map(|server| server.path().to_owned()),
            version: env!("CARGO_PKG_VERSION"),
        };
        let pins = PinBook::open(Arc::clone(&home))?;
        let mesh = MeshConfig {
            agent_id,
            name: config.name,
            incarnation,
            topology: config.topology,
            pins: pins.known(),
        };
        let (door, hall) = entrance();
        let (condition_in, condition) = watch::channel(Condition::Unregistered);
        let (metrics_in, metrics) = watch::channel(Metrics::default());
        let (stop, stopped) = oneshot::channel();
        let driver = Driver {
            mesh: Mesh::new(mesh, rand::random()),
            endpoint,
            registry,
            hall,
            clients: BTreeMap::new(),
            schemas: BTreeMap::new(),
            home,
            pins,
            condition: condition_in,
            metrics: metrics_in,
            stop: stopped,
            linger: Linger::default(),
            alarm: Box::pin(tokio::time::sleep(NOTHING_DUE)),
        };
        let mut servants = vec![spawn(skills::serve(door.open(), config.builtins))];
        if let Some(server) = server {
            let clients = crate::client::IpcClients(door.clone());
            servants.push(spawn(server.run(
                clients,
                watch::channel(hello(&info)).1,
                ipc::Limits::default(),
            )));
        }
        Ok(Self {
            info,
            door,
            condition,
            metrics,
            stop: Some(stop),
            driver: spawn(driver.run()),
            servants,
        })
    }

    /// Who the node is.
    pub const fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// A new client of the node, as one IPC connection is: the low-level interface.
    pub fn client(&self) -> Client {
        self.door.open()
    }

    /// A new client with an interface for programs.
    pub fn agent(&self) -> Agent {
        Agent::new(self.door.open())
    }

    /// What the node counted up to now.
    pub fn metrics(&self) -> Metrics {
        *self.metrics.borrow()
    }

    /// Waits until the node is logged in to its registry.
    ///
    /// # Errors
    ///
    /// Why the node stopped before.
    pub async fn registered(&mut self) -> Result<(), Fault> {
        let reached = self
            .condition
            .wait_for(|condition| *condition != Condition::Unregistered)
            .await;
        match reached.as_deref() {
            Ok(Condition::Registered) => Ok(()),
            Ok(Condition::Stopped(Some(fault))) => Err(fault.clone()),
            _ => Err(Fault::new(Code::ShuttingDown, "the node has stopped")),
        }
    }

    /// Waits until the node stops by itself; gives why. Cancel safe.
    pub async fn stopped(&mut self) -> Option<Fault> {
        let reached = self
            .condition
            .wait_for(|condition| matches!(condition, Condition::Stopped(_)))
            .await;
        match reached.as_deref() {
            Ok(Condition::Stopped(fault)) => fault.clone(),
            _ => Some(Fault::new(Code::Internal, "the node's driver is gone")),
        }
    }

    /// Says goodbye to the peers and the registry, and ends.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.driver.abort();
        for servant in &self.servants {
            servant.abort();
        }
    }
}

fn hello(info: &NodeInfo) -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent: info.name.clone(),
        agent_id: info.agent_id,
        incarnation: info.incarnation,
        registry: Some(info.registry.clone()),
        mesh: None,
        certificate_expires_ms: None,
        version: info.version.into(),
    }
}

/// Spawns a task whose handle the node keeps.
#[expect(
    clippy::disallowed_methods,
    reason = "the handle is owned and aborted by Node"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}
