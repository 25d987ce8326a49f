//! Alice, who calls; bob, who is called; mallory, a member who is on the
//! registry's side; and the registry.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use waymesh_node::metrics::Metrics;
use waymesh_node::{Agent, EndpointConfig, Inbox, Invitation, Node, NodeConfig, Topology};
use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::{Origin, RegistryKey};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::{InviteId, Name, SkillName};
use waymesh_proto::{AgentId, Code, Fault};
use waymesh_trust::Keypair;
use waymesh_trust::invite::{Grant, InviteSecret};

use crate::registry::{Hostile, Malice, registry_keypair, unix_ms};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a call may take that cannot succeed.
pub(crate) const SHORT: Duration = Duration::from_secs(3);

/// What only alice and bob may read.
pub(crate) const SECRET: &str = "\"nobody-but-bob-may-read-this-7f3a\"";

const DAY_MS: u64 = 24 * 3_600_000;

/// The key of the mesh, which no registry has.
pub(crate) fn mesh() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A member and what runs it.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) agent: Agent,
    pub(crate) dir: TempDir,
}

impl Host {
    pub(crate) fn id(&self) -> AgentId {
        self.node.info().agent_id
    }

    /// The key of its directory: what a peer could sign with that were hostile itself.
    pub(crate) fn keypair(&self) -> Keypair {
        let seed = std::fs::read(self.dir.path().join("identity.key")).expect("a key");
        Keypair::from_seed(&seed.try_into().expect("32 bytes"))
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.node.metrics()
    }

    /// Waits until it has counted something.
    pub(crate) async fn until(&self, counted: impl Fn(&Metrics) -> u64) {
        eventually(|| counted(&self.metrics()) > 0).await;
    }
}

/// Waits until something holds that nobody tells when it begins to.
pub(crate) async fn eventually(holds: impl Fn() -> bool) {
    let search = async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while !holds() {
            look.tick().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, search).await;
    found.expect("it holds in time");
}

/// An invite for one node to the mesh.
pub(crate) fn invite(origin: &Origin, key: RegistryKey, pre_approved: bool) -> Invitation {
    let now_ms = unix_ms();
    let grant = Grant {
        invite: InviteId::from_bytes([3; 16]),
        names: None,
        roles: Vec::new(),
        count: NonZeroU32::new(100),
        pre_approved,
        issued_ms: now_ms,
        expires_ms: now_ms + DAY_MS,
        renew_until_ms: now_ms + 8 * DAY_MS,
        registry: key,
    };
    let invite = InviteSecret::make(&mesh(), &grant, origin.clone(), None, [6; 32]);
    Invitation::Invite(Box::new(invite.expect("an invite")))
}

pub(crate) fn config(who: &str, registry: &Hostile, dir: &TempDir) -> NodeConfig {
    NodeConfig {
        invite: Some(invite(
            &registry.origin,
            registry_keypair().registry_key(),
            true,
        )),
        ipc: false,
        endpoint: EndpointConfig {
            loopback_only: true,
            ..EndpointConfig::default()
        },
        ..NodeConfig::new(name(who), dir.path())
    }
}

pub(crate) async fn host(who: &str, registry: &Hostile, topology: Topology) -> Host {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(who, registry, &dir);
    config.topology = topology;
    let mut node = Node::start(config).await.expect("a node");
    node.registered().await.expect("a login");
    let agent = node.agent();
    Host { node, agent, dir }
}

pub(crate) fn whoami() -> SkillName {
    "whoami".parse().expect("a skill name")
}

/// Offers a skill that says who was called.
async fn offer(host: &Host, answer: &'static str, calls: Arc<Mutex<u32>>) {
    let spec = SkillSpec {
        name: whoami(),
        description: None,
        schema: None,
        idempotent: false,
    };
    let handler = move |_| {
        *calls.lock().expect("no test panics inside") += 1;
        async move { Ok(Payload::json(answer)) }
    };
    host.agent.offer(spec, handler).await.expect("the skill");
}

pub(crate) struct Scene {
    pub(crate) alice: Host,
    pub(crate) bob: Host,
    pub(crate) mallory: Host,
    pub(crate) registry: Hostile,
    /// What mallory got that was for others.
    stolen: Arc<Mutex<u32>>,
    mallorys_inbox: Inbox,
}

/// All three are registered, and everybody offers `whoami`.
pub(crate) async fn scene(topology: Topology, malice: Malice) -> Scene {
    let registry = Hostile::start(mesh().mesh_key(), malice).await;
    let bob = host("bob", &registry, topology).await;
    let mallory = host("mallory", &registry, topology).await;
    let alice = host("alice", &registry, topology).await;
    let stolen = Arc::<Mutex<u32>>::default();
    offer(&bob, "\"bob\"", Arc::default()).await;
    offer(&mallory, "\"mallory\"", Arc::clone(&stolen)).await;
    let mallorys_inbox = mallory.agent.inbox().await.expect("the inbox");
    Scene {
        alice,
        bob,
        mallory,
        registry,
        stolen,
        mallorys_inbox,
    }
}

impl Scene {
    /// Alice calls bob with the secret.
    pub(crate) async fn call(&self, limit: Duration) -> Result<(), Fault> {
        let (bob, secret) = (name("bob"), Payload::json(SECRET));
        let answer = self.alice.agent.call(&bob, &whoami(), secret, limit).await;
        answer.map(|answer| assert_eq!(answer.payload, Payload::json("\"bob\"")))
    }

    /// What holds whatever the registry does.
    pub(crate) fn check(&mut self) {
        let secret = SECRET.trim_matches('"').as_bytes();
        assert!(!self.registry.has_seen(secret), "the registry has read it");
        let stolen = *self.stolen.lock().expect("no test panics inside");
        assert_eq!(stolen, 0, "mallory was called instead of bob");
        let letter = has_message(&mut self.mallorys_inbox);
        assert!(!letter, "mallory was written to instead of bob");
    }
}

/// Whether a message is there already.
fn has_message(inbox: &mut Inbox) -> bool {
    use futures_util::FutureExt;
    inbox.next().now_or_never().is_some()
}

/// Alice's call of bob fails with a code, and she has counted why.
pub(crate) async fn refused(malice: Malice, code: Code, counted: fn(&Metrics) -> u64) {
    let mut scene = scene(Topology::OnDemand, malice).await;
    let told = async {
        loop {
            let fault = scene.call(SHORT).await.expect_err("bob cannot be believed");
            if fault.code == code {
                return;
            }
            // On a busy machine the registry has not said anything in time.
            let nothing = [Code::RegistryUnreachable, Code::Timeout];
            assert!(nothing.contains(&fault.code), "{fault}");
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    told.expect("it is told in time");
    scene.alice.until(counted).await;
    scene.check();
}

/// Bob answers alice, and no other; who watches has counted what was tried.
pub(crate) async fn answered(
    topology: Topology,
    malice: Malice,
    witness: fn(&Scene) -> &Host,
    counted: fn(&Metrics) -> u64,
) {
    let mut scene = scene(topology, malice).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    witness(&scene).until(counted).await;
    scene.check();
}

pub(crate) fn alice(scene: &Scene) -> &Host {
    &scene.alice
}

pub(crate) fn mallory(scene: &Scene) -> &Host {
    &scene.mallory
}
