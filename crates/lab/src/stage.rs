//! Real processes of the binary on loopback, in a temporary folder of their own: a registry,
//! nodes that joined by an invite, and programs beside the nodes.
//!
//! Nothing here judges; the programs of the lab do. Everything ends with the [`Stage`].

mod diagnosis;
mod process;
mod program;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

pub(crate) use diagnosis::{Checks, Foreseen, Nat};
pub(crate) use process::Process;
pub(crate) use program::{Ear, Mouth, Program};

/// How a node reaches its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// By mailbox until a link is up, then by link.
    Links,
    /// By mailbox only.
    Mailbox,
}

/// Where the registry's state lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// The registry's data directory.
    pub(crate) registry: PathBuf,
    /// The directory with the mesh key.
    pub(crate) authority: PathBuf,
}

/// A registry and whoever joined its mesh.
#[derive(Debug)]
pub(crate) struct Stage {
    binary: PathBuf,
    folder: TempDir,
    places: Places,
    listen: String,
    invite: String,
    registry: Option<Process>,
}

impl Stage {
    /// Starts a registry and makes an invite for everybody.
    pub(crate) fn set(binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let places = Places {
            registry: folder.path().join("registry"),
            authority: folder.path().join("authority"),
        };
        Self::set_in(binary, folder, places)
    }

    /// The same with the registry's state where the caller wants it.
    pub(crate) fn set_in(binary: &Path, folder: TempDir, places: Places) -> Result<Self> {
        ensure!(
            binary.is_file(),
            "there is no {}: build it, or name it with --waymesh",
            binary.display()
        );
        let mut stage = Self {
            binary: binary.to_owned(),
            folder,
            places,
            listen: "127.0.0.1:0".to_owned(),
            invite: String::new(),
            registry: None,
        };
        stage.start_registry()?;
        stage.invite = stage.make_invite()?;
        Ok(stage)
    }

    fn make_invite(&self) -> Result<String> {
        let Places {
            registry,
            authority,
        } = &self.places;
        let args = ["invite", "--auto-approve", "--reusable", "--data-dir"].map(Into::into);
        let more = [registry.into(), "--authority-dir".into(), authority.into()];
        let mut command = self.spawn("invite", args.into_iter().chain(more))?;
        match command.next()?.invite {
            Some(invite) => Ok(invite),
            None => bail!("`waymesh invite` made none"),
        }
    }

    fn spawn(
        &self,
        name: &str,
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<Process> {
        let log = self.folder.path().join(format!("{name}.log"));
        Process::spawn(name, &self.binary, args, &self.invite, &log)
    }

    /// Starts the registry without waiting for it: where it was, if it was there before.
    pub(crate) fn begin_registry(&mut self) -> Result<()> {
        let args = ["registry", "--listen", &self.listen, "--data-dir"].map(Into::into);
        let dir = [(&self.places.registry).into()];
        let process = self.spawn("registry", args.into_iter().chain(dir))?;
        self.registry = Some(process);
        Ok(())
    }

    /// Starts the registry and waits until it listens.
    pub(crate) fn start_registry(&mut self) -> Result<()> {
        self.begin_registry()?;
        let ready = self.registry()?.told("ready")?;
        if let Some((_, listen)) = ready.url.as_deref().and_then(|url| url.split_once("://")) {
            listen.clone_into(&mut self.listen);
        }
        Ok(())
    }

    /// The running registry.
    pub(crate) fn registry(&mut self) -> Result<&mut Process> {
        self.registry
            .as_mut()
            .context("the registry is not running")
    }

    /// Ends the registry without a word (SIGKILL).
    pub(crate) fn kill_registry(&mut self) -> Result<()> {
        let registry = self.registry.take();
        registry.context("the registry is not running")?.kill()
    }

    /// Starts a node and waits until programs can attach to it.
    pub(crate) fn start_node(&self, name: &str, reach: Reach) -> Result<Process> {
        let topology = match reach {
            Reach::Links => "on_demand",
            Reach::Mailbox => "mailbox_only",
        };
        let args = ["node", "--name", name, "--topology", topology, "--data-dir"].map(Into::into);
        let dir = [self.dir(name).into()];
        let mut node = self.spawn(name, args.into_iter().chain(dir))?;
        node.told("ready")?;
        Ok(node)
    }

    /// The same, and waits until it is registered.
    pub(crate) fn register_node(&self, name: &str, reach: Reach) -> Result<Process> {
        let mut node = self.start_node(name, reach)?;
        node.told("registered")?;
        Ok(node)
    }

    /// A program beside a node.
    pub(crate) fn attach(&self, name: &str) -> Result<Program> {
        Program::attach(&self.dir(name).join("node.sock"))
            .with_context(|| format!("attaching to {name}"))
    }

    /// The invite that everybody may join with.
    pub(crate) fn invite(&self) -> &str {
        &self.invite
    }

    /// The folder of everything.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the registry's state lies.
    pub(crate) const fn places(&self) -> &Places {
        &self.places
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Log lines of all processes that no run may have: panics.
    pub(crate) fn panics(&self) -> Result<Vec<String>> {
        panics_in(self.folder())
    }
}

/// Log lines in a folder that no run may have: panics.
pub(crate) fn panics_in(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in logs_in(folder)? {
        let text = fs::read(&path)?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| line.contains("panicked at"));
        found.extend(lines.map(|line| format!("{}: {line}", path.display())));
    }
    Ok(found)
}

/// The logs of the processes of a folder.
pub(crate) fn logs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            logs.push(path);
        }
    }
    Ok(logs)
}

/// What SQLite finds wrong in the registry's database, on a copy of it: `ok` when nothing.
pub(crate) fn integrity(places: &Places) -> Result<String> {
    let copy = tempfile::tempdir().context("making a temporary folder")?;
    for name in ["registry.db", "registry.db-wal"] {
        let from = places.registry.join(name);
        if from.exists() {
            fs::copy(&from, copy.path().join(name)).context("copying the database")?;
        }
    }
    let database = rusqlite::Connection::open(copy.path().join("registry.db"))?;
    Ok(database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?)
}
