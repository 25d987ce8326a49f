//! The demo's processes and the folder they live in, from start to end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;
use waymesh_proto::ids::Name;
use waymesh_proto::{Code, Fault};

use super::process::Process;
use crate::sidecar::Sidecar;

/// An agent of the demo: its process, and the way to talk to its node.
pub(super) struct Actor {
    pub(super) name: Name,
    pub(super) sidecar: Sidecar,
}

/// A registry and its agents in a temporary folder.
pub(super) struct Stage {
    folder: TempDir,
    processes: Vec<Process>,
}

impl Stage {
    /// An empty stage; its folder is removed when it is closed or dropped.
    pub(super) fn new() -> Result<Self, Fault> {
        let folder = tempfile::Builder::new()
            .prefix("waymesh-demo-")
            .tempdir()
            .map_err(|error| {
                Fault::new(
                    Code::Storage,
                    format!("no temporary folder can be made: {error}"),
                )
                .with_hint("TMPDIR names the folder to make it in")
            })?;
        Ok(Self {
            folder,
            processes: Vec::new(),
        })
    }

    /// Starts a registry on a free port and gives its URL.
    pub(super) async fn add_registry(&mut self, limit: Duration) -> Result<String, Fault> {
        let dir = self.folder.path().join("registry");
        let mut args = words(&["registry", "--listen", "127.0.0.1:0", "--stdin-guard"]);
        args.extend(["--data-dir".into(), dir.into()]);
        let mut process = Process::start("the registry", args)?;
        let line = process.told("ready", limit).await?;
        self.processes.push(process);
        line.url
            .ok_or_else(|| Fault::new(Code::Internal, "the registry does not say its address"))
    }

    /// Starts an agent for each name, all at once, and waits until they are registered.
    pub(super) async fn add_agents(
        &mut self,
        registry: &str,
        names: &[Name],
        limit: Duration,
    ) -> Result<Vec<Actor>, Fault> {
        let first = self.processes.len();
        for name in names {
            let mut args = words(&["node", "--skill", "wordcount", "--stdin-guard"]);
            args.extend(words(&["--name", name.as_str(), "--registry", registry]));
            args.extend(["--data-dir".into(), self.data_dir(name).into()]);
            self.processes.push(Process::start(name.as_str(), args)?);
        }
        let registered = self.processes[first..]
            .iter_mut()
            .map(|process| process.told("registered", limit));
        try_join_all(registered).await?;
        let mut actors = Vec::new();
        for name in names {
            actors.push(Actor {
                name: name.clone(),
                sidecar: Sidecar::attach(&self.data_dir(name), limit).await?,
            });
        }
        Ok(actors)
    }

    fn data_dir(&self, name: &Name) -> PathBuf {
        self.folder.path().join(name.as_str())
    }

    /// Ends every process, agents first so that they can say goodbye, and removes the
    /// folder.
    pub(super) async fn close(mut self) -> Result<(), Fault> {
        let agents = self.processes.split_off(1.min(self.processes.len()));
        join_all(agents.into_iter().map(Process::stop)).await;
        join_all(self.processes.into_iter().map(Process::stop)).await;
        let path = self.folder.path().to_owned();
        self.folder.close().map_err(|error| {
            Fault::new(
                Code::Storage,
                format!("{} could not be removed: {error}", path.display()),
            )
        })
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
