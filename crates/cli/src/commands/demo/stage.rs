//! The demo's processes and the folder they live in, from start to end.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;
use waymesh_proto::ids::Name;
use waymesh_proto::membership::Invite;
use waymesh_proto::{Code, Fault};

use super::process::Process;
use crate::sidecar::Sidecar;

/// The file that the agents read their invite from.
const INVITE_FILE: &str = "invite";

/// An agent of the demo: its process, and the way to talk to its node.
pub(super) struct Actor {
    pub(super) name: Name,
    pub(super) sidecar: Sidecar,
}

/// A registry and its agents in one folder.
pub(super) struct Stage {
    folder: Folder,
    registry: Option<Process>,
    agents: Vec<(Name, Process)>,
}

/// Where everything is kept.
enum Folder {
    /// Removed when the stage is closed or dropped.
    Temporary(TempDir),
    /// Named by the user, and left as it is.
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

impl Stage {
    /// An empty stage in the folder that the user named, else in a temporary one.
    pub(super) fn new(named: Option<PathBuf>) -> Result<Self, Fault> {
        let folder = match named {
            Some(path) => {
                fs::create_dir_all(&path).map_err(|error| unusable(&path, &error))?;
                Folder::Kept(path)
            }
            None => Folder::Temporary(temporary()?),
        };
        Ok(Self {
            folder,
            registry: None,
            agents: Vec::new(),
        })
    }

    /// Where the registry keeps its state.
    pub(super) fn registry_dir(&self) -> PathBuf {
        self.folder.path().join("registry")
    }

    /// Starts a registry on a free port and gives its URL.
    pub(super) async fn add_registry(&mut self, limit: Duration) -> Result<String, Fault> {
        let mut args = words(&["registry", "--listen", "127.0.0.1:0", "--stdin-guard"]);
        args.extend(["--data-dir".into(), self.registry_dir().into()]);
        let mut process = Process::start("the registry", args)?;
        let line = process.told("ready", limit).await?;
        self.registry = Some(process);
        line.url
            .ok_or_else(|| Fault::new(Code::Internal, "the registry does not say its address"))
    }

    /// Lays the invite down for the agents, in a file that nobody else reads.
    pub(super) fn keep_invite(&self, invite: &Invite) -> Result<(), Fault> {
        let path = self.folder.path().join(INVITE_FILE);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{invite}"));
        written.map_err(|error| unusable(&path, &error))
    }

    /// Starts an agent for each name, all at once, and waits until they are registered.
    pub(super) async fn add_agents(
        &mut self,
        registry: &str,
        names: &[Name],
        limit: Duration,
    ) -> Result<Vec<Actor>, Fault> {
        let first = self.agents.len();
        for name in names {
            let mut invite = OsString::from("@");
            invite.push(self.folder.path().join(INVITE_FILE));
            let mut args = words(&["node", "--skill", "wordcount", "--stdin-guard"]);
            args.extend(words(&["--name", name.as_str(), "--registry", registry]));
            args.extend(["--invite".into(), invite]);
            args.extend(["--data-dir".into(), self.data_dir(name).into()]);
            let process = Process::start(name.as_str(), args)?;
            self.agents.push((name.clone(), process));
        }
        let registered = self.agents[first..]
            .iter_mut()
            .map(|(_, process)| process.told("registered", limit));
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

    /// Lets an agent say goodbye and sees its process end.
    pub(super) async fn stop_agent(&mut self, name: &Name) {
        let (gone, left) = std::mem::take(&mut self.agents)
            .into_iter()
            .partition(|(agent, _)| agent == name);
        self.agents = left;
        let gone: Vec<_> = gone;
        join_all(gone.into_iter().map(|(_, process)| process.stop())).await;
    }

    fn data_dir(&self, name: &Name) -> PathBuf {
        self.folder.path().join(name.as_str())
    }

    /// Ends every process, agents first so that they can say goodbye, and removes the
    /// folder unless the user named it.
    pub(super) async fn close(self) -> Result<(), Fault> {
        join_all(self.agents.into_iter().map(|(_, process)| process.stop())).await;
        join_all(self.registry.into_iter().map(Process::stop)).await;
        match self.folder {
            Folder::Kept(_) => Ok(()),
            Folder::Temporary(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(|error| {
                    let message = format!("{} could not be removed: {error}", path.display());
                    Fault::new(Code::Storage, message)
                })
            }
        }
    }
}

fn temporary() -> Result<TempDir, Fault> {
    tempfile::Builder::new()
        .prefix("waymesh-demo-")
        .tempdir()
        .map_err(|error| {
            Fault::new(
                Code::Storage,
                format!("no temporary folder can be made: {error}"),
            )
            .with_hint("TMPDIR names the folder to make it in")
        })
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Code::Storage,
        format!("{} cannot be used: {error}", path.display()),
    )
    .with_hint("name a folder that this user may write with --data-dir, or none")
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
