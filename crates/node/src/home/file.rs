//! Files that are replaced whole, and keys that only their owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::HomeError;

/// The ending of a file that is written beside the one that it replaces; a
/// crash may leave it behind.
pub(crate) const LEFTOVER: &str = "new";

/// Opens a file for its owner alone, making it if it is not there.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Writes beside the file and renames, so that a crash of any kind leaves the
/// old or the new; what is written is on disk.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(LEFTOVER);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes renames in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes what a crash has left of writing a file.
pub(super) fn remove_leftover(path: &Path) -> Result<(), HomeError> {
    let path = path.with_extension(LEFTOVER);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HomeError::Io { path, source })
        }
        _ => Ok(()),
    }
}

/// Reads a file with a secret in it; `None` when it is not there.
///
/// # Errors
/// Others may read it.
pub(super) fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    let failed = |source| HomeError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let mode = mode & 0o777;
        let why = format!("its mode {mode:03o} lets others read it; chmod 600 it");
        return Err(HomeError::Damaged {
            path: path.to_owned(),
            why,
        });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Reads the seed of a key; `None` when the file is not there.
///
/// # Errors
/// Others may read it, or it is not a seed.
pub(super) fn read_seed(path: &Path) -> Result<Option<[u8; 32]>, HomeError> {
    let Some(bytes) = read_secret(path)? else {
        return Ok(None);
    };
    let len = bytes.len();
    let seed = bytes.try_into().map_err(|_| HomeError::Damaged {
        path: path.to_owned(),
        why: format!("it has {len} bytes instead of 32"),
    })?;
    Ok(Some(seed))
}
