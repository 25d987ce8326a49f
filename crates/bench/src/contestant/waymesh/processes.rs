//! The other processes of a measurement: the registry and the sidecar as users start
//! them, and crowds of embedded nodes.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use tokio::process::Command;
use waymesh_proto::Name;

use super::name;
use crate::child::Child;
use crate::error::BenchError;
use crate::role::{Role, Said, Told, Until, When};
use crate::settings::Settings;

/// Numbers the crowds of this process, so that no name is used twice.
static CROWDS: AtomicU32 = AtomicU32::new(0);

/// A registry, and the folder in which everything of its mesh lives.
pub(crate) struct Registry {
    child: Child,
    url: String,
    invite: String,
    folder: TempDir,
}

impl Registry {
    pub(crate) async fn start(settings: &Settings) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::io("making a folder"))?;
        let mut command = Command::new(&settings.program);
        command
            .args(["--json", "--log", "error", "registry", "--stdin-guard"])
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("registry"));
        let mut child = Child::launch("the registry", command, None)?;
        let url = child.ready().await?;
        let invite = invite(settings, &folder.path().join("registry")).await?;
        Ok(Self {
            child,
            url,
            invite,
            folder,
        })
    }

    /// The invite with which all nodes of the run join.
    pub(crate) fn invite(&self) -> &str {
        &self.invite
    }

    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        self.child.pid()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        self.child.stop().await
    }
}

/// Makes an invite for any number of nodes, as an admin does.
async fn invite(settings: &Settings, data_dir: &Path) -> Result<String, BenchError> {
    let made = Command::new(&settings.program)
        .args(["invite", "--auto-approve", "--reusable", "--data-dir"])
        .arg(data_dir)
        .output()
        .await
        .map_err(BenchError::io("making an invite"))?;
    let text = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    if made.status.success() {
        Ok(text)
    } else {
        Err(BenchError::contestant("waymesh invite", text))
    }
}

/// `waymesh node`, as its users start it.
pub(crate) struct Sidecar {
    child: Child,
    name: Name,
}

impl Sidecar {
    pub(crate) async fn start(
        settings: &Settings,
        registry: &Registry,
    ) -> Result<Self, BenchError> {
        let name = name("sidecar")?;
        let mut command = Command::new(&settings.program);
        command
            .args(["--json", "--log", "error", "node", "--stdin-guard"])
            .args(["--name", name.as_str(), "--registry", registry.url()])
            .arg("--data-dir")
            .arg(registry.folder().join(name.as_str()));
        let mut child = Child::launch("the sidecar", command, Some(registry.invite()))?;
        child.registered().await?;
        Ok(Self { child, name })
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        self.child.pid()
    }

    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        self.child.stop().await
    }
}

/// A process of so many embedded nodes with an `echo`.
pub(crate) struct Crowd {
    child: Child,
    names: Vec<Name>,
}

impl Crowd {
    pub(crate) async fn start(
        settings: &Settings,
        registry: &Registry,
        nodes: u32,
        topology: When,
    ) -> Result<Self, BenchError> {
        let mut crowd = Self::begin(settings, registry, nodes, topology)?;
        crowd.registered().await?;
        Ok(crowd)
    }

    /// Starts the nodes without waiting for them.
    pub(crate) fn begin(
        settings: &Settings,
        registry: &Registry,
        nodes: u32,
        topology: When,
    ) -> Result<Self, BenchError> {
        let crowd = CROWDS.fetch_add(1, Ordering::Relaxed);
        let names = (0..nodes)
            .map(|node| name(&format!("crowd-{crowd}-{node}")))
            .collect::<Result<Vec<_>, _>>()?;
        let role = Role::Nodes {
            registry: registry.url().to_owned(),
            data_dir: registry.folder().join(format!("crowd-{crowd}")),
            names: names.clone(),
            topology,
        };
        let child = Child::spawn(settings, &role, Some(registry.invite()))?;
        Ok(Self { child, names })
    }

    /// Waits until all nodes are registered.
    pub(crate) async fn registered(&mut self) -> Result<(), BenchError> {
        self.child.registered().await
    }

    pub(crate) fn names(&self) -> &[Name] {
        &self.names
    }

    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        self.child.pid()
    }

    /// Has every node make a link to this one, and waits for all.
    pub(crate) async fn connect_to(&mut self, to: &Name) -> Result<(), BenchError> {
        self.child.tell(&Told::Connect { to: to.clone() }).await?;
        self.linked(self.names.len()).await
    }

    /// Waits until so many links have come up.
    pub(crate) async fn linked(&mut self, links: usize) -> Result<(), BenchError> {
        let mut up = 0;
        while up < links {
            match self.child.next().await? {
                Said::Up { .. } => up += 1,
                other => return Err(self.child.unexpected(&other)),
            }
        }
        Ok(())
    }

    /// Has every node send messages and waits until all are where they should be.
    pub(crate) async fn send(
        &mut self,
        to: &Name,
        (size, count): (u32, u32),
        until: Until,
    ) -> Result<(), BenchError> {
        let to = to.clone();
        self.child
            .tell(&Told::Send {
                to,
                size,
                count,
                until,
            })
            .await?;
        let mut done = 0;
        while done < self.names.len() {
            match self.child.next().await? {
                Said::Sent => done += 1,
                Said::Up { .. } => {}
                other => return Err(self.child.unexpected(&other)),
            }
        }
        Ok(())
    }

    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        self.child.stop().await
    }
}
