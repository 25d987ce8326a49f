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
use crate::role::{Role, Said, Told};
use crate::settings::Settings;

/// Numbers the crowds of this process, so that no name is used twice.
static CROWDS: AtomicU32 = AtomicU32::new(0);

/// A registry, and the folder in which everything of its mesh lives.
pub(crate) struct Registry {
    child: Child,
    url: String,
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
        let mut child = Child::launch("the registry", command)?;
        let url = child.ready().await?;
        Ok(Self { child, url, folder })
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
        let mut child = Child::launch("the sidecar", command)?;
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
    ) -> Result<Self, BenchError> {
        let crowd = CROWDS.fetch_add(1, Ordering::Relaxed);
        let names = (0..nodes)
            .map(|node| name(&format!("crowd-{crowd}-{node}")))
            .collect::<Result<Vec<_>, _>>()?;
        let role = Role::Nodes {
            registry: registry.url().to_owned(),
            data_dir: registry.folder().join(format!("crowd-{crowd}")),
            names: names.clone(),
            full_mesh: false,
        };
        let mut child = Child::spawn(settings, &role)?;
        child.registered().await?;
        Ok(Self { child, names })
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

    /// Has the only node send messages and waits until all are delivered.
    pub(crate) async fn send(
        &mut self,
        to: &Name,
        size: u32,
        count: u32,
    ) -> Result<(), BenchError> {
        self.child
            .tell(&Told::Send {
                to: to.clone(),
                size,
                count,
            })
            .await?;
        loop {
            match self.child.next().await? {
                Said::Sent => return Ok(()),
                Said::Up { .. } => {}
                other => return Err(self.child.unexpected(&other)),
            }
        }
    }

    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        self.child.stop().await
    }
}
