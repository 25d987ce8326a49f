//! What opens the TURN servers of others: secrets and passwords out of files.

use std::fs;
use std::path::Path;

use waymesh_net::turn::server::RelaySecret;
use waymesh_proto::ice::Credential;

use super::{IceConfigError, TurnAuth};

/// Largest secret or password file, bytes. Chosen.
const SECRET_MAX_BYTES: u64 = 4 * 1024;

/// What opens the TURN servers of others.
#[derive(Debug, Clone)]
pub(crate) enum TurnAccess {
    /// Credentials of each member's own are made of this.
    Secret(Box<RelaySecret>),
    /// The same for all.
    Static {
        username: String,
        password: Credential,
    },
}

impl TurnAuth {
    /// Reads the file.
    ///
    /// # Errors
    /// [`IceConfigError::File`] or [`IceConfigError::Secret`].
    pub(super) fn read(&self) -> Result<TurnAccess, IceConfigError> {
        Ok(match self {
            Self::Secret { file } => {
                TurnAccess::Secret(Box::new(RelaySecret::new(read_secret(file)?.as_bytes())))
            }
            Self::Static {
                username,
                password_file,
            } => TurnAccess::Static {
                username: username.clone(),
                password: Credential::new(read_secret(password_file)?),
            },
        })
    }
}

/// The line that a file holds.
fn read_secret(path: &Path) -> Result<String, IceConfigError> {
    let at = |source| IceConfigError::File {
        path: path.to_owned(),
        source,
    };
    let unusable = || IceConfigError::Secret(path.to_owned());
    if fs::metadata(path).map_err(at)?.len() > SECRET_MAX_BYTES {
        return Err(unusable());
    }
    let bytes = fs::read(path).map_err(at)?;
    let text = String::from_utf8(bytes).map_err(|_| unusable())?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains(['\r', '\n']) {
        return Err(unusable());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_line_of_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secret");
        let read = |text: &str| {
            fs::write(&file, text).expect("a file");
            read_secret(&file)
        };
        assert_eq!(read("north\n").expect("a secret"), "north");
        assert_eq!(read("a b").expect("a secret"), "a b");
        for text in ["", "\n", "a\nb\n", &"x".repeat(4_097)] {
            assert!(matches!(read(text), Err(IceConfigError::Secret(_))));
        }
    }
}
