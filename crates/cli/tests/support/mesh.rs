//! A registry, its authority, and nodes that joined by an invite, in a temporary folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{Program, Ran, Running};

/// How the registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    /// TLS with a key of the registry's own.
    Tls,
}

/// A registry and nodes in a temporary folder.
pub(crate) struct Mesh {
    pub(crate) folder: TempDir,
    pub(crate) registry: Option<Running>,
    pub(crate) url: String,
    way: Way,
    /// Arguments of the registry beside the usual ones.
    more: Vec<OsString>,
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

impl Mesh {
    /// A mesh that anybody may join who has the invite that [`Mesh::node`] uses.
    pub(crate) fn start() -> Self {
        Self::start_by(Way::Plain)
    }

    pub(crate) fn start_by(way: Way) -> Self {
        Self::start_with(way, &[])
    }

    /// The same, with these arguments for the registry.
    pub(crate) fn start_with(way: Way, more: &[&str]) -> Self {
        let mesh = Self::unfounded_with(way, more);
        let invite = mesh.invite(&["--auto-approve", "--reusable"]);
        fs::write(mesh.invite_file(), invite).expect("a file");
        mesh
    }

    /// A registry that serves no mesh yet.
    pub(crate) fn unfounded(way: Way) -> Self {
        Self::unfounded_with(way, &[])
    }

    fn unfounded_with(way: Way, more: &[&str]) -> Self {
        let mut mesh = Self {
            more: words(more),
            folder: tempfile::tempdir().expect("a folder"),
            registry: None,
            url: "http://127.0.0.1:0".to_owned(),
            way,
        };
        mesh.start_registry();
        mesh
    }

    /// Starts the registry, again at the same address when there was one.
    pub(crate) fn start_registry(&mut self) -> Value {
        let (_, listen) = self.url.split_once("://").expect("a URL");
        let mut args = words(&["registry", "--listen", listen]);
        if self.way == Way::Tls {
            args.push("--tls".into());
        }
        args.extend(self.more.iter().cloned());
        args.extend(["--data-dir".into(), self.data_dir("registry").into()]);
        let registry = Running::start(args);
        let ready = registry.told("ready");
        self.url = ready["url"].as_str().expect("a URL").to_owned();
        self.registry = Some(registry);
        ready
    }

    pub(crate) fn kill_registry(&mut self) {
        self.registry.take().expect("a registry").kill();
    }

    /// Ends the registry as Ctrl-C does.
    pub(crate) fn stop_registry(&mut self) {
        let ran = self.registry.take().expect("a registry").interrupted();
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    pub(crate) fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn invite_file(&self) -> PathBuf {
        self.folder.path().join("invite")
    }

    /// Where [`Mesh::node`] takes its invite from.
    pub(crate) fn invite_source(&self) -> String {
        format!("@{}", self.invite_file().display())
    }

    /// Runs an admin command.
    pub(crate) fn admin(&self, args: &[&str]) -> Ran {
        self.at("registry", args)
    }

    /// Makes an invite.
    pub(crate) fn invite(&self, args: &[&str]) -> String {
        let made = self.admin(&[&["invite"], args].concat());
        made.done()["invite"]
            .as_str()
            .expect("an invite")
            .to_owned()
    }

    /// Starts a node of any settings without waiting for it.
    pub(crate) fn begin_node(&self, data_dir: &Path, args: &[&str]) -> Running {
        let mut all = words(&["node"]);
        all.extend(words(args));
        all.extend(["--data-dir".into(), data_dir.into()]);
        Running::start(all)
    }

    /// Starts a node that joins with this invite, without waiting for it.
    pub(crate) fn joining(&self, name: &str, invite: &str) -> Running {
        let args = ["--name", name, "--invite", invite, "--skill", "echo"];
        self.begin_node(&self.data_dir(name), &args)
    }

    /// Starts a node with the built-in skills without waiting for it.
    pub(crate) fn starting(&self, name: &str, data_dir: &Path) -> Running {
        let mut args = vec!["--name", name];
        let invite = self.invite_source();
        args.extend(["--invite", &invite]);
        for skill in ["echo", "wordcount", "sleep"] {
            args.extend(["--skill", skill]);
        }
        self.begin_node(data_dir, &args)
    }

    /// Starts a node with the built-in skills.
    pub(crate) fn node(&self, name: &str) -> Running {
        let node = self.starting(name, &self.data_dir(name));
        node.told("registered");
        node
    }

    /// A program beside a node.
    pub(crate) fn program(&self, node: &str) -> Program {
        Program::attach(&self.data_dir(node).join("node.sock"))
    }

    /// Runs a command on a data directory.
    pub(crate) fn at(&self, name: &str, args: &[&str]) -> Ran {
        self.begin(name, args).ended()
    }

    /// Starts a command on a data directory.
    pub(crate) fn begin(&self, name: &str, args: &[&str]) -> Running {
        let dir = self.data_dir(name);
        let args = args.iter().map(OsStr::new);
        Running::start(args.chain([OsStr::new("--data-dir"), dir.as_os_str()]))
    }

    /// Asks the registry for an agent by name.
    pub(crate) fn agent(&self, name: &str) -> Value {
        let ran = self.admin(&["agents", "--name", name]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.lines.first().cloned().unwrap_or(Value::Null)
    }

    /// Copies the files of a data directory, whether a node runs on it or not.
    pub(crate) fn copy(&self, from: &str, to: &str) -> PathBuf {
        let (from, to) = (self.data_dir(from), self.data_dir(to));
        fs::create_dir(&to).expect("a folder");
        for file in fs::read_dir(from).expect("a folder") {
            let file = file.expect("a file");
            let is_state = file.file_type().expect("a type").is_file();
            if is_state && file.file_name() != "lock" {
                fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
            }
        }
        to
    }
}
