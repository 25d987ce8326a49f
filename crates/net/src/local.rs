//! Unix sockets for the programs of one user: the file, who may open it, and
//! names that are too long.
//!
//! The kernel takes socket paths of at most 107 bytes. On Linux a longer one is
//! reached through its open folder (`/proc/self/fd/N/node.sock`), by the server
//! and by its clients alike.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixStream};
use waymesh_proto::error::{Code, Fault};

/// Longest path of a socket, bytes, without the end mark (`sockaddr_un`: 108 on
/// Linux; 104 elsewhere, where a longer one is refused by the system itself).
const PATH_MAX_BYTES: usize = 107;

/// Connections that the kernel holds before they are accepted. Chosen.
const BACKLOG: i32 = 128;

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else is in its place; move it away.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The system refused; see the cause.
    #[error("cannot listen on {path}: {source}")]
    System {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl From<BindError> for Fault {
    fn from(error: BindError) -> Self {
        Self::new(Code::Bind, error.to_string()).with_hint(match error {
            BindError::NotASocket(_) => "move that file away or choose another --data-dir",
            BindError::System { .. } => {
                "check that the folder exists and is writable, or choose a shorter --data-dir"
            }
        })
    }
}

/// Listens on `path` (mode 0600), in place of a socket that an earlier process
/// left there. The caller holds a lock that says that nobody uses that one.
///
/// # Errors
/// A [`BindError`]; a file that is no socket is left alone.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let system = |source| BindError::System {
        path: path.into(),
        source,
    };
    remove_stale(path)?;
    let short = Short::of(path).map_err(system)?;
    let listener = listen(&short).map_err(system)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(system)?;
    UnixListener::from_std(listener).map_err(system)
}

/// Makes the socket with mode 0600 before it has a name, so that nobody can
/// open it in between; where the system does not take that, the folder's mode
/// and the check of the user id stand.
fn listen(short: &Short) -> io::Result<std::os::unix::net::UnixListener> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let _ = rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR);
    rustix::net::bind(&socket, &SocketAddrUnix::new(&short.path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).map_err(|source| BindError::System {
                path: path.into(),
                source,
            })
        }
        Ok(_) => Err(BindError::NotASocket(path.into())),
        Err(_) => Ok(()),
    }
}

/// Connects to the socket at `path`. Cancel safe.
///
/// # Errors
/// As the system says: `NotFound` without a file, `ConnectionRefused` when nobody listens.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path).await
}

/// Whether the process at the other end may use this one: the same user, or root.
pub fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Whether the other end is closed in both directions, not only done writing.
pub fn is_hung_up(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_err()
        || fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// A path that the kernel takes for a socket.
struct Short {
    path: PathBuf,
    /// Keeps the folder open as long as the path is used.
    _folder: Option<File>,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= PATH_MAX_BYTES || !cfg!(target_os = "linux") {
            return Ok(Self {
                path: path.into(),
                _folder: None,
            });
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
        let mut short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        short.push(name);
        Ok(Self {
            path: short,
            _folder: Some(folder),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET_NAME: &str = "test.sock";

    #[tokio::test]
    async fn a_socket_is_for_its_user_only_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(SOCKET_NAME);
        drop(bind(&path).expect("a first socket"));
        assert!(connect(&path).await.is_err());
        let listener = bind(&path).expect("in place of the stale one");
        let mode = fs::metadata(&path)
            .expect("the socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let _client = connect(&path).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("accepted");
        assert!(is_allowed(&stream));
    }

    #[tokio::test]
    async fn a_path_longer_than_the_kernel_takes_works() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("d".repeat(120)).join("e".repeat(120));
        fs::create_dir_all(&deep).expect("folders");
        let path = deep.join(SOCKET_NAME);
        let listener = bind(&path).expect("a socket");
        let (client, accepted) = tokio::join!(connect(&path), listener.accept());
        client.expect("connected");
        accepted.expect("accepted");
    }

    #[tokio::test]
    async fn a_file_in_its_place_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(SOCKET_NAME);
        fs::write(&path, "precious").expect("written");
        let error = bind(&path).expect_err("refused");
        assert_eq!(Fault::from(error).code, Code::Bind);
        assert!(path.exists());
    }
}
