//! A node's directory and its link, without the rest of a node.

use std::sync::Arc;

use waymesh_core::policy::Policy;
use waymesh_net::control::{ProxyEnvironment, TlsTrust};
use waymesh_proto::AgentId;
use waymesh_proto::ids::InviteId;
use waymesh_registry::admin::{Client, Order, Reply, Request};
use waymesh_registry::{IceConfig, RegistryConfig, Tls};
use waymesh_trust::Keypair;
use waymesh_trust::invite::{Grant, InviteSecret};

use super::super::*;
use super::*;
use crate::client::unix_ms;
use crate::membership::{Invitation, standing};

const DAY_MS: u64 = 24 * 3_600_000;

/// The key of every mesh here.
pub(super) fn mesh() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

/// A registry that serves the mesh.
pub(super) async fn registry(dir: &TempDir, listen: SocketAddr) -> Registry {
    registry_with(dir, listen, None).await
}

pub(super) async fn registry_with(dir: &TempDir, listen: SocketAddr, tls: Option<Tls>) -> Registry {
    let config = RegistryConfig {
        listen,
        data_dir: dir.path().join("data"),
        public_url: None,
        tls,
        ice: IceConfig::default(),
    };
    let registry = Registry::start(config).await.expect("a registry");
    let mesh = mesh().mesh_key();
    order(dir, Order::Found { mesh }).await;
    registry
}

/// Gives the registry an admin's order.
pub(super) async fn order(dir: &TempDir, order: Order) -> Reply {
    let admin = Client::open(&dir.path().join("data")).await;
    let mut admin = admin.expect("an admin");
    let answer = admin.ask(Request::Order(order)).await;
    answer.expect("an order that is carried out")
}

pub(super) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) async fn fresh() -> (TempDir, Registry) {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry(&dir, any_port()).await;
    (dir, registry)
}

/// What an invite allows, as long as nothing of it is changed.
pub(super) fn grant(registry: &Registry) -> Grant {
    let now_ms = unix_ms();
    Grant {
        invite: InviteId::from_bytes([3; 16]),
        names: None,
        roles: Vec::new(),
        count: None,
        pre_approved: true,
        issued_ms: now_ms,
        expires_ms: now_ms + DAY_MS,
        renew_until_ms: now_ms + 8 * DAY_MS,
        registry: registry.key(),
    }
}

/// An invite of these limits.
pub(super) fn invite(registry: &Registry, grant: &Grant, pin: Option<[u8; 32]>) -> Invitation {
    let url = registry.url().clone();
    let invite = InviteSecret::make(&mesh(), grant, url, pin, [6; 32]);
    Invitation::Invite(Box::new(invite.expect("an invite")))
}

/// A node's directory, and what its links are opened with.
pub(super) struct Seat {
    _dir: TempDir,
    pub(super) home: Arc<Home>,
    pub(super) name: &'static str,
    pub(super) invitation: Option<Invitation>,
    pub(super) registry: Option<String>,
    pub(super) incarnation: u64,
    pub(super) policy: Policy,
    pub(super) members: Arc<Members>,
    pub(super) marks: Arc<MarkBook>,
}

impl Seat {
    /// A newcomer with an invite.
    pub(super) fn new(name: &'static str, registry: &Registry) -> Self {
        Self::with(name, Some(invite(registry, &grant(registry), None)))
    }

    pub(super) fn with(name: &'static str, invitation: Option<Invitation>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        Self {
            members: Arc::new(Members::open(&home).expect("members")),
            marks: Arc::new(MarkBook::open(&home).expect("marks")),
            _dir: dir,
            home,
            name,
            invitation,
            registry: None,
            incarnation: 1,
            policy: Policy::default(),
        }
    }

    pub(super) fn id(&self) -> AgentId {
        self.home.agent_id()
    }

    /// What it starts with.
    pub(super) fn standing(&self) -> Standing {
        let name = self.name.parse().expect("a name");
        let url = self
            .registry
            .as_ref()
            .map(|url| url.parse().expect("a URL"));
        let standing = standing(&self.home, &name, self.invitation.clone(), url, unix_ms());
        standing.expect("a member, or leave to become one")
    }

    /// Opens a link.
    pub(super) fn open(&mut self) -> RegistryLink {
        let standing = self.standing();
        let origin = standing.registry().clone();
        let trust = standing.tls().trust(TlsTrust::default());
        let target = Target::new(origin, &trust, &ProxyEnvironment::default());
        spawn(LinkConfig {
            target: target.expect("a target"),
            authorities: TlsTrust::default(),
            standing,
            home: Arc::clone(&self.home),
            incarnation: Incarnation::new(self.incarnation),
            introduce: true,
            rules: self.policy.peer_rules(),
            sealing: SealingKeys::open(Arc::clone(&self.home), unix_ms()).expect("keys"),
            members: Arc::clone(&self.members),
            marks: Arc::clone(&self.marks),
        })
    }
}

/// Waits for the news that the test is after; the rest is passed over.
pub(super) async fn until<T>(
    link: &mut RegistryLink,
    mut wanted: impl FnMut(News) -> Option<T>,
) -> T {
    let search = async {
        loop {
            if let Some(found) = link.wait().await.and_then(&mut wanted) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("news in time")
}

pub(super) async fn connected(link: &mut RegistryLink) {
    until(link, |news| match news {
        News::Event(RegistryEvent::Connected) => Some(()),
        News::Fatal(fault) => panic!("{fault}"),
        _ => None,
    })
    .await;
}

pub(super) async fn fatal(link: &mut RegistryLink) -> Code {
    until(link, |news| match news {
        News::Fatal(fault) => Some(fault.code),
        _ => None,
    })
    .await
}
