//! The authority's directory: who may use it, and the mesh key in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use waymesh_trust::Keypair;

use crate::error::AuthorityError;

const LOCK_FILE: &str = "authority.lock";
const KEY_FILE: &str = "mesh.key";

/// The mode of files that only the owner may read.
const OWNER_ONLY: u32 = 0o600;

/// How long an admin command waits for another one to be done. Chosen: an act
/// takes milliseconds, so whoever holds it for longer does not give it back soon.
pub const LOCK_WAIT: Duration = Duration::from_secs(5);

/// A locked directory. The lock lasts as long as this lives, and ends with the
/// process however that ends.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks a directory that has a mesh key.
    pub(crate) fn open(path: &Path) -> Result<Self, AuthorityError> {
        match fs::metadata(path.join(KEY_FILE)) {
            Ok(_) => Self::lock(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(AuthorityError::Missing(path.to_owned()))
            }
            Err(source) => Err(at(path)(source)),
        }
    }

    /// Makes the directory if needed (0700) and locks it.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, AuthorityError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(at(path))?;
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self, AuthorityError> {
        let lock_path = path.join(LOCK_FILE);
        let file = owner_only()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        // The system waits without end, so that is done aside.
        let (done, wait) = sync_channel(1);
        std::thread::spawn(move || {
            let outcome = file.lock().map(|()| file);
            // Nobody waits any more: the file is closed, and the lock with it.
            let _ = done.send(outcome);
        });
        match wait.recv_timeout(LOCK_WAIT) {
            Ok(Ok(lock)) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Ok(Err(source)) => Err(at(&lock_path)(source)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(AuthorityError::InUse(path.to_owned()))
            }
        }
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The mesh key, if there is one.
    pub(crate) fn mesh_key(&self) -> Result<Option<Keypair>, AuthorityError> {
        let path = self.file(KEY_FILE);
        match File::open(&path) {
            Ok(file) => read_key(file, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Keeps a new mesh key.
    pub(crate) fn write_mesh_key(&self, seed: &[u8; 32]) -> Result<Keypair, AuthorityError> {
        let path = self.file(KEY_FILE);
        replace(&path, seed).map_err(at(&path))?;
        Ok(Keypair::from_seed(seed))
    }
}

/// Replaces a file that only the owner can read: after a crash it is the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = owner_only().create(true).truncate(true).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync_parent(path)
}

/// Makes durable that a file is in its directory.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

pub(crate) fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(OWNER_ONLY);
    options
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::Io { path, source }
}

fn read_key(file: File, path: &Path) -> Result<Keypair, AuthorityError> {
    let unusable = |why| AuthorityError::Key {
        path: path.to_owned(),
        why,
    };
    let mode = file.metadata().map_err(at(path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(unusable("others than its owner can read it"));
    }
    let mut bytes = Vec::new();
    file.take(64).read_to_end(&mut bytes).map_err(at(path))?;
    let seed: [u8; 32] = bytes
        .try_into()
        .map_err(|_| unusable("it must have 32 bytes"))?;
    Ok(Keypair::from_seed(&seed))
}
