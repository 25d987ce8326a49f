//! The data directory: who may use it, and the secrets in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use waymesh_trust::Keypair;

use crate::admin::Address;
use crate::start_error::StartError;
use crate::tls;

const LOCK_FILE: &str = "registry.lock";
const KEY_FILE: &str = "registry.key";
const TLS_KEY_FILE: &str = "tls.key";
const TURN_SECRET_FILE: &str = "turn.secret";
const DATABASE_FILE: &str = "registry.db";
const ADDRESS_FILE: &str = "address.json";
const ADMIN_SOCKET: &str = "admin.sock";

/// Largest file that is read here, bytes; more is damaged. Chosen: several
/// times a private key.
const FILE_MAX_BYTES: u64 = 4 * 1024;

/// Bytes of the TURN secret. Chosen: nobody guesses them.
const TURN_SECRET_BYTES: usize = 32;

/// The mode of files that only the owner may read.
const OWNER_ONLY: u32 = 0o600;

/// An open data directory. The lock lasts as long as this lives, and ends with
/// the process however that ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if needed (0700) and locks it for this process.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(at(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = owner_only()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(at(&lock_path)(source)),
        }
    }

    /// Where the database is: a file that only its owner can read, and so are
    /// those that SQLite makes beside it.
    pub(crate) fn database(&self) -> Result<PathBuf, StartError> {
        let path = self.path.join(DATABASE_FILE);
        owner_only()
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(OWNER_ONLY)))
            .map_err(at(&path))?;
        Ok(path)
    }

    /// Where admin commands reach the registry that runs in a data directory.
    pub(crate) fn admin_socket(data_dir: &Path) -> PathBuf {
        data_dir.join(ADMIN_SOCKET)
    }

    /// Whether a registry has ever been started in a directory.
    pub(crate) fn was_used(data_dir: &Path) -> bool {
        data_dir.join(DATABASE_FILE).exists()
    }

    /// The registry's key, made of `fresh_seed` at the first start.
    pub(crate) fn keypair(&self, fresh_seed: &[u8; 32]) -> Result<Keypair, StartError> {
        let path = self.path.join(KEY_FILE);
        let seed = self.secret(&path, || Ok(fresh_seed.to_vec()))?;
        let seed: [u8; 32] = seed
            .try_into()
            .map_err(|_| unusable(&path, "it must have 32 bytes"))?;
        Ok(Keypair::from_seed(&seed))
    }

    /// The key of the self-signed certificate, PKCS#8, made at the first start that needs it.
    pub(crate) fn tls_key(&self) -> Result<Vec<u8>, StartError> {
        let path = self.path.join(TLS_KEY_FILE);
        self.secret(&path, || Ok(tls::fresh_key()?))
    }

    /// What the credentials for the registry's TURN server are made of, drawn
    /// at the first start that needs it: those that are out stay good over a restart.
    pub(crate) fn turn_secret(&self) -> Result<Vec<u8>, StartError> {
        let path = self.path.join(TURN_SECRET_FILE);
        let secret = self.secret(&path, || {
            Ok(rand::random::<[u8; TURN_SECRET_BYTES]>().to_vec())
        })?;
        if secret.len() != TURN_SECRET_BYTES {
            return Err(unusable(&path, "it must have 32 bytes"));
        }
        Ok(secret)
    }

    /// How the registry was reached when it ran last.
    pub(crate) fn address(&self) -> Result<Address, StartError> {
        let path = self.path.join(ADDRESS_FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| at(&path)(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Address::default()),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Keeps how the registry is reached, for admin commands while it is stopped.
    pub(crate) fn write_address(&self, address: &Address) -> Result<(), StartError> {
        let path = self.path.join(ADDRESS_FILE);
        let failed = at(&path);
        serde_json::to_vec(address)
            .map_err(io::Error::from)
            .and_then(|bytes| self.write(&path, &bytes))
            .map_err(failed)
    }

    /// What the file holds; made of `fresh` if there is none.
    fn secret(
        &self,
        path: &Path,
        fresh: impl FnOnce() -> Result<Vec<u8>, StartError>,
    ) -> Result<Vec<u8>, StartError> {
        match File::open(path) {
            Ok(file) => read_secret(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = fresh()?;
                self.write(path, &secret).map_err(at(path))?;
                Ok(secret)
            }
            Err(error) => Err(at(path)(error)),
        }
    }

    /// Writes beside the place and moves, so that a crash leaves a whole file or none.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = path.with_added_extension("new");
        let mut file = owner_only().create(true).truncate(true).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.path)?.sync_all()
    }
}

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(OWNER_ONLY);
    options
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::DataDir { path, source }
}

fn unusable(path: &Path, why: &'static str) -> StartError {
    StartError::Key {
        path: path.to_owned(),
        why,
    }
}

fn read_secret(file: File, path: &Path) -> Result<Vec<u8>, StartError> {
    let mode = file.metadata().map_err(at(path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(unusable(path, "others than its owner can read it"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(at(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::Code;

    #[test]
    fn the_key_of_the_first_start_is_kept_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("a data directory");
        let first = data.keypair(&[1; 32]).expect("a key");
        let second = data.keypair(&[2; 32]).expect("a key");
        assert_eq!(first.registry_key(), second.registry_key());
        let path = dir.path().join(KEY_FILE);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
    }

    #[test]
    fn a_key_that_is_damaged_or_open_to_others_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("a data directory");
        data.keypair(&[1; 32]).expect("a key");
        let path = dir.path().join(KEY_FILE);
        fs::write(&path, [0; 31]).expect("a write");
        assert!(matches!(
            data.keypair(&[2; 32]),
            Err(StartError::Key { .. })
        ));
        fs::write(&path, [0; 32]).expect("a write");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        assert!(matches!(
            data.keypair(&[2; 32]),
            Err(StartError::Key { .. })
        ));
    }

    #[test]
    fn the_tls_key_is_kept_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("a data directory");
        let first = data.tls_key().expect("a key");
        assert_eq!(data.tls_key().expect("a key"), first);
        let path = dir.path().join(TLS_KEY_FILE);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
    }

    #[test]
    fn the_turn_secret_is_kept_for_its_owner_alone_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("a data directory");
        let first = data.turn_secret().expect("a secret");
        assert_eq!(data.turn_secret().expect("a secret"), first);
        let path = dir.path().join(TURN_SECRET_FILE);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
        fs::write(&path, [0; 31]).expect("a write");
        assert!(matches!(data.turn_secret(), Err(StartError::Key { .. })));
    }

    #[test]
    fn a_second_registry_in_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DataDir::open(dir.path()).expect("a data directory");
        let second = DataDir::open(dir.path()).map_err(|e| e.code());
        assert_eq!(second.err(), Some(Code::IdentityInUse));
        drop(first);
        assert!(DataDir::open(dir.path()).is_ok());
    }
}
