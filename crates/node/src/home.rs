//! A node's data directory: its key, its incarnations, and what it has learnt.
//!
//! The directory is locked while a node runs. Its files, each readable by the
//! owner only and replaced whole:
//!
//! | file | what is in it |
//! |---|---|
//! | `identity.key` | the seed of the present key |
//! | `identity.next` | while the key is being changed: the seed of the next one |
//! | `incarnation` | the number of this life |
//! | `membership.json` | certificate, mesh key, where the registry is ([`Membership`]) |
//! | `sealing.json` | the private halves of the sealing keys |
//! | `pins.json` | name to agent id |
//! | `rotations.json` | agent id to the keys that it has had |
//! | `lives.json` | agent id to the newest life that was heard of it |
//! | `revocations.json` | members and invites that are revoked |
//! | `marks/AGENT_ID.json` | what applications have consumed of that sender |

mod file;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{AgentId, Incarnation};
use waymesh_trust::keys::Keypair;

use crate::membership::Membership;
use crate::sealing_keys::{self, SealingLook, StoredKey};

pub(crate) use file::{LEFTOVER, replace};
use file::{private_file, read_secret, read_seed, remove_leftover};

const KEY_FILE: &str = "identity.key";
const NEXT_KEY_FILE: &str = "identity.next";
const INCARNATION_FILE: &str = "incarnation";
const MEMBERSHIP_FILE: &str = "membership.json";
const LOCK_FILE: &str = "lock";

/// Files that are replaced whole; marks look after their own.
const REPLACED: [&str; 9] = [
    KEY_FILE,
    NEXT_KEY_FILE,
    INCARNATION_FILE,
    MEMBERSHIP_FILE,
    sealing_keys::FILE,
    "pins.json",
    "rotations.json",
    "lives.json",
    "revocations.json",
];

/// Pause after a write that failed. Chosen: a full disk is not emptied sooner.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// An opened and locked data directory.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    agent_id: AgentId,
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
        for file in REPLACED {
            remove_leftover(&dir.join(file))?;
        }
        let membership: Option<Membership> = load(dir, MEMBERSHIP_FILE)?;
        if let Some(membership) = &membership {
            finish_rotation(dir, &membership.key)?;
        }
        let keypair = load_or_make_key(&dir.join(KEY_FILE))?;
        Ok(Self {
            dir: dir.to_owned(),
            agent_id: identity(dir, &keypair, membership.as_ref())?,
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
        if let Some(membership) = Self::peek_membership(dir)? {
            return Ok(Some(membership.agent_id));
        }
        let key = read_seed(&dir.join(KEY_FILE))?;
        Ok(key.map(|seed| Keypair::from_seed(&seed).agent_id()))
    }

    /// The membership of a data directory, whether a node runs on it or not; `None` when it has none.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn peek_membership(dir: &Path) -> Result<Option<Membership>, HomeError> {
        load(dir, MEMBERSHIP_FILE)
    }

    /// The key that messages to the node of a data directory are sealed with, whether it
    /// runs or not; `None` when it has none.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn peek_sealing(dir: &Path) -> Result<Option<SealingLook>, HomeError> {
        let keys: Option<Vec<StoredKey>> = load_secret(dir, sealing_keys::FILE)?;
        Ok(keys.and_then(|keys| keys.last().map(StoredKey::look)))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The permanent identity: the first public key.
    pub const fn agent_id(&self) -> AgentId {
        self.agent_id
    }

    /// The present key.
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

    /// The mesh that this node is a member of.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn membership(&self) -> Result<Option<Membership>, HomeError> {
        self.load(MEMBERSHIP_FILE)
    }

    /// Keeps the membership.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub fn store_membership(&self, membership: &Membership) -> Result<(), HomeError> {
        self.store(MEMBERSHIP_FILE, membership)
    }

    /// Puts another key in place of the present one, whose private half is
    /// destroyed. A crash in between leaves the one or the other, with the
    /// membership that fits it.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub(crate) fn replace_key(
        &mut self,
        seed: &[u8; 32],
        membership: &Membership,
    ) -> Result<(), HomeError> {
        let next = self.dir.join(NEXT_KEY_FILE);
        replace(&next, seed).map_err(|source| HomeError::Io { path: next, source })?;
        // From here on the new key is the one that counts.
        self.store_membership(membership)?;
        finish_rotation(&self.dir, &membership.key)?;
        self.keypair = Keypair::from_seed(seed);
        Ok(())
    }

    /// Reads a file of the directory; `None` when it is not there.
    pub(crate) fn load<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, HomeError> {
        load(&self.dir, file)
    }

    /// Reads a file of the directory with secrets in it; `None` when it is not
    /// there. One that others may read is refused.
    pub(crate) fn load_secret<T: DeserializeOwned>(
        &self,
        file: &str,
    ) -> Result<Option<T>, HomeError> {
        load_secret(&self.dir, file)
    }

    /// Replaces a file of the directory; it is on disk when this returns.
    pub(crate) fn store<T: Serialize>(&self, file: &str, value: &T) -> Result<(), HomeError> {
        let path = self.dir.join(file);
        let json = serde_json::to_vec(value).map_err(io::Error::from);
        json.and_then(|json| replace(&path, &json))
            .map_err(|source| HomeError::Io { path, source })
    }
}

fn load<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Option<T>, HomeError> {
    let path = dir.join(file);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(HomeError::Io { path, source }),
    };
    parse(path, &text).map(Some)
}

fn load_secret<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Option<T>, HomeError> {
    let path = dir.join(file);
    let text = read_secret(&path)?;
    text.map(|text| parse(path, &text)).transpose()
}

fn parse<T: DeserializeOwned>(path: PathBuf, text: &[u8]) -> Result<T, HomeError> {
    serde_json::from_slice(text).map_err(|error| HomeError::Damaged {
        path,
        why: error.to_string(),
    })
}

fn load_or_make_key(path: &Path) -> Result<Keypair, HomeError> {
    if let Some(seed) = read_seed(path)? {
        return Ok(Keypair::from_seed(&seed));
    }
    let seed: [u8; 32] = rand::random();
    replace(path, &seed).map_err(|source| HomeError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Keypair::from_seed(&seed))
}

/// Ends a change of the key that a crash may have cut off: the membership says
/// which of the two keys counts.
fn finish_rotation(dir: &Path, key: &AgentId) -> Result<(), HomeError> {
    let next = dir.join(NEXT_KEY_FILE);
    let Some(seed) = read_seed(&next)? else {
        return Ok(());
    };
    let done = if Keypair::from_seed(&seed).agent_id() == *key {
        fs::rename(&next, dir.join(KEY_FILE))
    } else {
        fs::remove_file(&next)
    };
    done.and_then(|()| file::sync_dir(dir))
        .map_err(|source| HomeError::Io { path: next, source })
}

/// Whose the directory is: without a membership the key itself says it.
fn identity(
    dir: &Path,
    keypair: &Keypair,
    membership: Option<&Membership>,
) -> Result<AgentId, HomeError> {
    let Some(membership) = membership else {
        return Ok(keypair.agent_id());
    };
    if membership.key != keypair.agent_id() {
        return Err(HomeError::Damaged {
            path: dir.join(KEY_FILE),
            why: "it is not the key that membership.json is about".into(),
        });
    }
    Ok(membership.agent_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
    fn what_a_crash_has_left_of_writing_a_file_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let leftover = |file: &str| dir.path().join(file).with_extension(LEFTOVER);
        for file in REPLACED {
            fs::write(leftover(file), b"half").expect("a file");
        }
        let foreign = leftover("something");
        fs::write(&foreign, b"of somebody else").expect("a file");
        let _home = Home::open(dir.path()).expect("a home");
        for file in REPLACED {
            assert!(!leftover(file).exists(), "{file}");
        }
        assert!(foreign.exists());
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
