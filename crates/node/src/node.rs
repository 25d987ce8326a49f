//! A running node: started from a configuration, stopped by its handle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use waymesh_core::policy::Policy;
use waymesh_core::{Mesh, MeshConfig, Topology};
use waymesh_net::control::{ProofRequest, ProxyEnvironment, Target, TlsTrust};
use waymesh_net::webrtc::{Endpoint, EndpointConfig};
use waymesh_proto::control::{Origin, PeerRules, RULES_MAX};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, Name};
use waymesh_proto::ipc::{Hello, PROTOCOL};
use waymesh_trust::{Keypair, certificate, dpop};

use crate::agent::Agent;
use crate::book::Book;
use crate::client::{Client, Door, entrance, unix_ms};
use crate::driver::{Condition, Driver, NOTHING_DUE};
use crate::examinations::Examinations;
use crate::home::{Home, HomeError};
use crate::ipc::{self, IpcServer};
use crate::linger::Linger;
use crate::marks::MarkBook;
use crate::members::Members;
use crate::membership::{Invitation, Standing, standing};
use crate::metrics::Metrics;
use crate::registry::{self, LinkConfig, PendingJoin};
use crate::sealing_keys::SealingKeys;
use crate::skills::{self, Builtin};

/// Where the names are kept whose identity was learnt.
const PINS_FILE: &str = "pins.json";

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The agent's name, unique in its mesh.
    pub name: Name,
    /// Where the identity is kept; made on first use, locked while the node runs.
    pub data_dir: PathBuf,
    /// What to become a member with. A node that is one already needs none.
    pub invite: Option<Invitation>,
    /// The registry's URL; without it, that of the invite or the membership.
    pub registry: Option<String>,
    /// A file of certificates (PEM) whose holders may vouch for the registry's
    /// TLS key: those of a company that intercepts TLS, or of a private registry.
    pub ca: Option<PathBuf>,
    /// The proxies on the way to the registry; at first those of the environment.
    pub proxies: ProxyEnvironment,
    /// Who may reach the agent.
    pub policy: Policy,
    /// When links are made.
    pub topology: Topology,
    /// The built-in skills to offer.
    pub builtins: BTreeSet<Builtin>,
    /// How the UDP socket is opened, and which STUN and TURN servers are used beside the
    /// registry's. Whom TLS trusts and which proxies there are is taken from `ca` and `proxies`.
    pub endpoint: EndpointConfig,
    /// Whether other processes may attach through `node.sock` in the data directory.
    pub ipc: bool,
}

impl NodeConfig {
    /// A node that is a member already, makes links on demand, lets everybody
    /// in, offers no built-in skill and serves IPC.
    pub fn new(name: Name, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            name,
            data_dir: data_dir.into(),
            invite: None,
            registry: None,
            ca: None,
            proxies: ProxyEnvironment::new(|variable| std::env::var(variable).ok()),
            policy: Policy::default(),
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
    /// The node is no member, and what it was given does not make it one.
    #[error(transparent)]
    Membership(Fault),
    /// The registry cannot be reached in the way that was asked for.
    #[error(transparent)]
    Registry(Fault),
    /// The policy is too large.
    #[error(transparent)]
    Policy(Fault),
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Home(error) => error.into(),
            StartError::Membership(fault)
            | StartError::Registry(fault)
            | StartError::Policy(fault) => fault,
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
    registry: Arc<registry::Counters>,
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
        let now_ms = unix_ms();
        let rules = rules(&config.policy)?;
        let url = config.registry.as_deref().map(origin).transpose()?;
        let standing = standing(&home, &config.name, config.invite, url, now_ms)
            .map_err(StartError::Membership)?;
        let authorities = authorities(config.ca.as_deref())?;
        let target = target(&standing, &authorities, &config.proxies, home.keypair())?;
        let incarnation = home.next_incarnation(now_ms)?;
        let agent_id = home.agent_id();
        let sealing = SealingKeys::open(Arc::clone(&home), now_ms)?;
        // TURN servers are reached as the registry is, whose own server is one of them.
        let endpoint = Endpoint::bind(EndpointConfig {
            tls: standing.tls().trust(authorities.clone()),
            proxies: config.proxies.clone(),
            ..config.endpoint
        })?;
        let server = config
            .ipc
            .then(|| IpcServer::bind(home.dir()))
            .transpose()?;
        let info = NodeInfo {
            name: config.name.clone(),
            agent_id,
            incarnation,
            registry: target.origin().to_string(),
            ipc: server.as_ref().map(|server| server.path().to_owned()),
            version: env!("CARGO_PKG_VERSION"),
        };
        let pins: Book<Vec<(Name, AgentId)>> = Book::open(Arc::clone(&home), PINS_FILE)?;
        let members = Arc::new(Members::open(&home)?);
        let marks = Arc::new(MarkBook::open(&home)?);
        let revocations = match &standing {
            Standing::Member(membership) | Standing::Entering(membership) => {
                members.begin(membership.mesh)
            }
            Standing::Applying(_) => Vec::new(),
        };
        // The name of who was revoked may be another's by now.
        let mut pinned = pins.read(Clone::clone);
        pinned.retain(|(_, id)| !members.is_revoked(*id));
        // Whoever makes a link to everybody watches everybody.
        let introduce = config.topology != Topology::FullMesh;
        let mesh = MeshConfig {
            agent_id,
            name: config.name,
            incarnation,
            topology: config.topology,
            pins: pinned,
            policy: config.policy,
            marks: marks.known().to_vec(),
            revocations,
        };
        let hello = hello(&info, &standing, now_ms);
        let registry = registry::spawn(LinkConfig {
            target,
            authorities,
            standing,
            home,
            incarnation,
            introduce,
            rules,
            sealing,
            members: Arc::clone(&members),
            marks: Arc::clone(&marks),
        });
        let (door, hall) = entrance();
        let (condition_in, condition) = watch::channel(Condition::Unregistered(None));
        let (metrics_in, metrics) = watch::channel(Metrics::default());
        let (hello_in, hello) = watch::channel(hello);
        let (stop, stopped) = oneshot::channel();
        let counters = registry.counters();
        let driver = Driver {
            mesh: Mesh::new(mesh, rand::random()),
            endpoint,
            registry,
            hall,
            clients: BTreeMap::new(),
            schemas: BTreeMap::new(),
            pins,
            members,
            marks,
            condition: condition_in,
            hello: hello_in,
            metrics: metrics_in,
            stop: stopped,
            examinations: Examinations::default(),
            linger: Linger::default(),
            alarm: Box::pin(tokio::time::sleep(NOTHING_DUE)),
        };
        let mut servants = vec![spawn(skills::serve(door.open(), config.builtins))];
        if let Some(server) = server {
            let clients = crate::client::IpcClients(door.clone());
            servants.push(spawn(server.run(clients, hello, ipc::Limits::default())));
        }
        Ok(Self {
            info,
            door,
            condition,
            metrics,
            registry: counters,
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
        Metrics {
            registry: self.registry.snapshot(),
            ..*self.metrics.borrow()
        }
    }

    /// How the node is doing, now and from now on.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }

    /// Waits until the node is logged in to its registry, however long an
    /// admin takes. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why the node stopped before.
    pub async fn registered(&mut self) -> Result<(), Fault> {
        while self.admitted().await?.is_some() {
            let waits = |condition: &Condition| matches!(condition, Condition::Pending(_));
            let _ = self.condition.wait_for(|condition| !waits(condition)).await;
        }
        Ok(())
    }

    /// Waits until the node is logged in to its registry, or until an admin
    /// has to agree to what this gives. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why the node stopped before.
    pub async fn admitted(&mut self) -> Result<Option<PendingJoin>, Fault> {
        let reached = self
            .condition
            .wait_for(|condition| !matches!(condition, Condition::Unregistered(_)))
            .await;
        match reached.as_deref() {
            Ok(Condition::Registered) => Ok(None),
            Ok(Condition::Pending(request)) => Ok(Some(request.clone())),
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

/// The part of the policy that the registry is told.
fn rules(policy: &Policy) -> Result<PeerRules, StartError> {
    let rules = policy.peer_rules();
    let count = rules.deny_names.len()
        + rules.deny_roles.len()
        + rules.allow_names.as_ref().map_or(0, Vec::len)
        + rules.allow_roles.len();
    if count > RULES_MAX {
        let message = format!("a policy of {count} names and roles is larger than {RULES_MAX}");
        let fault = Fault::new(Code::TooLarge, message);
        return Err(StartError::Policy(
            fault.with_hint("give roles to many peers instead of naming each"),
        ));
    }
    Ok(rules)
}

fn origin(url: &str) -> Result<Origin, StartError> {
    url.parse().map_err(|error| {
        let fault = Fault::new(Code::Usage, format!("{url:?} is {error}"));
        StartError::Registry(fault.with_hint(
            "give the URL that the registry prints at its start, such as http://127.0.0.1:7700",
        ))
    })
}

/// Whom TLS trusts to vouch for the registry.
fn authorities(ca: Option<&Path>) -> Result<TlsTrust, StartError> {
    let Some(path) = ca else {
        return Ok(TlsTrust::default());
    };
    let pem = fs::read(path).map_err(|error| {
        let message = format!("{} cannot be read: {error}", path.display());
        StartError::Registry(Fault::new(Code::Storage, message))
    })?;
    let trust = TlsTrust::default().with_ca_pem(&pem);
    trust.map_err(|error| StartError::Registry(error.fault()))
}

/// Where the registry is, and whom to believe that it is there.
pub(crate) fn target(
    standing: &Standing,
    authorities: &TlsTrust,
    proxies: &ProxyEnvironment,
    keypair: &Keypair,
) -> Result<Target, StartError> {
    let trust = standing.tls().trust(authorities.clone());
    let target = Target::new(standing.registry().clone(), &trust, proxies);
    let target = target.map_err(|error| StartError::Registry(error.fault()))?;
    let keypair = keypair.clone();
    Ok(target.with_prover(Arc::new(move |request| prove(&keypair, request))))
}

fn prove(keypair: &Keypair, request: ProofRequest<'_>) -> String {
    let proved = dpop::Request {
        method: request.method,
        url: request.url,
        certificate: None,
    };
    dpop::prove(keypair, proved, request.nonce, rand::random(), unix_ms())
}

/// What clients are greeted with before the node has been logged in.
fn hello(info: &NodeInfo, standing: &Standing, now_ms: u64) -> Hello {
    let own = match standing {
        Standing::Member(own) => {
            certificate::verify_renewable(&own.certificate, &own.mesh, now_ms).ok()
        }
        Standing::Entering(_) | Standing::Applying(_) => None,
    };
    Hello {
        protocol: PROTOCOL,
        agent: info.name.clone(),
        agent_id: info.agent_id,
        incarnation: info.incarnation,
        registry: Some(info.registry.clone()),
        mesh: own.as_ref().map(|own| own.mesh),
        certificate_expires_ms: own.as_ref().map(|own| own.expires_ms),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_as_many_names_as_the_limit_is_told_and_of_one_more_is_too_large() {
        let policy = |count: usize| Policy {
            deny: (0..count)
                .map(|n| format!("name-{n}").parse().expect("a rule"))
                .collect(),
            ..Policy::default()
        };
        assert!(rules(&policy(RULES_MAX)).is_ok());
        let refused = rules(&policy(RULES_MAX + 1)).expect_err("too large");
        assert_eq!(Fault::from(refused).code, Code::TooLarge);
    }
}
