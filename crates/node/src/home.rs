//! A node's data directory: its key, its incarnations, and whom it has met.
//!
//! The directory is locked while a node runs. Files: `identity.key` (the seed,
//! 0600), `incarnation`, `pins.json` (name to agent id), `registry.json` (the
//! registry's key and mesh, learnt at the first login). Each is replaced whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation, Name};
use waymesh_trust::keys::Keypair;

const KEY_FILE: &str = "identity.key";
const INCARNATION_FILE: &str = "incarnation";
const PINS_FILE: &str = "pins.json";
const REGISTRY_FILE: &str = "registry.json";
const LOCK_FILE: &str = "lock";

/// An opened and locked data directory.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    keypair: Keypair,
    _lock: File,
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process has it open.
    #[error("another process uses the identity in {}", .0.display())]
    InUse(PathBuf),
    /// A file in it is damaged.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<HomeError> for Fault {
    fn from(error: HomeError) -> Self {
        let (code, hint) = match &error {
            HomeError::InUse(_) => (
                Code::IdentityInUse,
                "stop the other process, or give this one a --data-dir of its own",
            ),
            HomeError::Damaged { .. } => (
                Code::Storage,
                "restore the file from a backup; without the key the agent is another one",
            ),
            HomeError::Io { .. } => (
                Code::Storage,
                "name a directory that this user may write with --data-dir",
            ),
        };
        Self::new(code, error.to_string()).with_hint(hint)
    }
}

impl Home {
    /// Opens a directory, making it and an identity on first use.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let failed = |source| HomeError::Io {
            path: dir.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let lock = private_file(&dir.join(LOCK_FILE)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(HomeError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let keypair = load_or_make_key(&dir.join(KEY_FILE))?;
        Ok(Self {
            dir: dir.to_owned(),
            keypair,
            _lock: lock,
        })
    }

    /// The identity of a data directory, whether a node runs on it or not; `None` when it has none.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn peek(dir: &Path) -> Result<Option<AgentId>, HomeError> {
        let path = dir.join(KEY_FILE);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Io { path, source }),
            Ok(_) => load_or_make_key(&path).map(|keypair| Some(keypair.agent_id())),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The identity.
    pub const fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// Begins a new life: its number is on disk before it is used.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn next_incarnation(&self, unix_ms: u64) -> Result<Incarnation, HomeError> {
        let stored: Option<Incarnation> = self.load(INCARNATION_FILE)?;
        let next = Incarnation::next(stored, unix_ms);
        self.store(INCARNATION_FILE, &next)?;
        Ok(next)
    }

    /// The names whose identity was learnt in earlier lives.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn pins(&self) -> Result<Vec<(Name, AgentId)>, HomeError> {
        Ok(self.load(PINS_FILE)?.unwrap_or_default())
    }

    /// Keeps the names whose identity is known.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn store_pins(&self, pins: &[(Name, AgentId)]) -> Result<(), HomeError> {
        self.store(PINS_FILE, &pins)
    }

    /// What was learnt of the registry at the first login.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn registry<T: DeserializeOwned>(&self) -> Result<Option<T>, HomeError> {
        self.load(REGISTRY_FILE)
    }

    /// Keeps what was learnt of the registry.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn store_registry<T: Serialize>(&self, registry: &T) -> Result<(), HomeError> {
        self.store(REGISTRY_FILE, registry)
    }

    fn load<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, HomeError> {
        let path = self.dir.join(file);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(HomeError::Io { path, source }),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| HomeError::Damaged {
                path,
                why: error.to_string(),
            })
    }

    fn store<T: Serialize>(&self, file: &str, value: &T) -> Result<(), HomeError> {
        let path = self.dir.join(file);
        let json = serde_json::to_vec(value).map_err(io::Error::from);
        json.and_then(|json| replace(&path, &json))
            .map_err(|source| HomeError::Io { path, source })
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Writes beside the file and renames, so that a crash leaves the old or the new.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn load_or_make_key(path: &Path) -> Result<Keypair, HomeError> {
    let failed = |source| HomeError::Io {
        path: path.to_owned(),
        source,
    };
    match File::open(path) {
        Ok(mut file) => {
            let mode = file.metadata().map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(HomeError::Damaged {
                    path: path.to_owned(),
                    why: format!(
                        "its mode {:03o} lets others read it; chmod 600 it",
                        mode & 0o777
                    ),
                });
            }
            let mut seed = Vec::new();
            file.read_to_end(&mut seed).map_err(failed)?;
            let seed = <[u8; 32]>::try_from(seed.as_slice()).map_err(|_| HomeError::Damaged {
                path: path.to_owned(),
                why: format!("it has {} bytes instead of 32", seed.len()),
            })?;
            Ok(Keypair::from_seed(&seed))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed: [u8; 32] = rand::random();
            replace(path, &seed).map_err(failed)?;
            Ok(Keypair::from_seed(&seed))
        }
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_outlives_its_process_and_incarnations_grow() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("a home");
        let id = home.keypair().agent_id();
        let first = home.next_incarnation(1_000).expect("an incarnation");
        drop(home);
        let home = Home::open(dir.path()).expect("the home again");
        assert_eq!(home.keypair().agent_id(), id);
        assert!(home.next_incarnation(5).expect("an incarnation") > first);
        let mode = fs::metadata(dir.path().join(KEY_FILE))
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_second_copy_of_a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let _home = Home::open(dir.path()).expect("a home");
        let refused = Home::open(dir.path()).expect_err("in use");
        assert_eq!(Fault::from(refused).code, Code::IdentityInUse);
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        replace(&dir.path().join(KEY_FILE), b"short").expect("a file");
        let refused = Home::open(dir.path()).expect_err("damaged");
        assert!(matches!(refused, HomeError::Damaged { .. }));
        assert_eq!(
            fs::read(dir.path().join(KEY_FILE)).expect("the file"),
            b"short"
        );
    }
}
