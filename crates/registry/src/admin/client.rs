//! The admin's end: a registry that runs, or the data directory of one that is stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use waymesh_net::local;
use waymesh_proto::{Code, Fault};

use super::api::{Answer, Reply, Request};
use super::desk::{Desk, Running};
use super::lines::{Line, Lines};
use crate::data_dir::DataDir;
use crate::engine::{Engine, Opened};
use crate::ice::Ice;
use crate::start_error::StartError;

/// How long a data directory may be in use by somebody who does not answer: a
/// registry that starts or stops, or another admin command. Chosen.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// How often such a directory is tried. Chosen.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Why an admin command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no registry in the directory. Name another one.
    #[error("no registry was ever started in {0}")]
    NoRegistry(PathBuf),
    /// The data directory of a stopped registry cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The registry's socket cannot be used.
    #[error("the registry's admin socket {path} cannot be used: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The registry has closed the connection, perhaps because it stops. Try again.
    #[error("the registry closed the connection")]
    Closed,
    /// What the registry answers cannot be read: it is of another version.
    #[error("the registry's answer cannot be read: {0}")]
    Unreadable(String),
    /// The registry refuses, and says why.
    #[error("{}", .0.message)]
    Refused(Fault),
}

impl AdminError {
    /// The code to tell the user.
    pub const fn code(&self) -> Code {
        match self {
            Self::NoRegistry(_) | Self::Socket { .. } | Self::Closed => Code::RegistryUnreachable,
            Self::Start(error) => error.code(),
            Self::Unreadable(_) => Code::BadRequest,
            Self::Refused(fault) => fault.code,
        }
    }

    /// The error to tell the user.
    pub fn fault(&self) -> Fault {
        let hint = match self {
            Self::Refused(fault) => return fault.clone(),
            Self::Start(error) => return error.fault(),
            Self::NoRegistry(_) => {
                "start one there with `waymesh registry`, or name its folder with --data-dir"
            }
            Self::Socket { .. } => "run the command as the user that runs the registry",
            Self::Closed => "try again, and look at the registry's log",
            Self::Unreadable(_) => "use a registry and a program of the same version",
        };
        Fault::new(self.code(), self.to_string()).with_hint(hint)
    }
}

impl From<AdminError> for Fault {
    fn from(error: AdminError) -> Self {
        error.fault()
    }
}

/// An admin's connection to a registry.
///
/// While it lives on the data directory of a stopped registry, that cannot
/// start: drop it soon, or better [`Client::close`] it.
#[derive(Debug)]
pub struct Client(Way);

#[derive(Debug)]
enum Way {
    /// To a running registry.
    Socket(Lines),
    /// To the rules over the database of a stopped one.
    Inside { desk: Desk, engine: Engine },
}

impl Client {
    /// Finds the registry of a data directory.
    ///
    /// # Errors
    /// An [`AdminError`] when there is none, or it cannot be asked.
    pub async fn open(data_dir: &Path) -> Result<Self, AdminError> {
        let socket = DataDir::admin_socket(data_dir);
        let give_up = Instant::now() + BUSY_MAX;
        loop {
            if let Some(stream) = connect(&socket).await? {
                return Ok(Self(Way::Socket(Lines::new(stream))));
            }
            if !DataDir::was_used(data_dir) {
                return Err(AdminError::NoRegistry(data_dir.to_owned()));
            }
            match DataDir::open(data_dir) {
                Ok(dir) => return inside(dir),
                Err(StartError::InUse(_)) if Instant::now() < give_up => sleep(BUSY_PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks one thing and waits for the answer. Not cancel safe: what was
    /// ordered may be carried out all the same, and the next answer is for it.
    ///
    /// # Errors
    /// [`AdminError::Refused`] with what the registry says, or that it cannot be asked.
    pub async fn ask(&mut self, request: Request) -> Result<Reply, AdminError> {
        match &mut self.0 {
            Way::Socket(lines) => ask(lines, &request).await,
            Way::Inside { desk, .. } => {
                let answered = desk.answer(request).await;
                answered.map_err(AdminError::Refused)
            }
        }
    }

    /// Ends, so that a stopped registry can start again when this returns.
    pub async fn close(self) {
        if let Way::Inside { desk, engine } = self.0 {
            drop(desk);
            engine.stop().await;
        }
    }
}

/// A connection to the socket, or `None` when nobody listens.
async fn connect(socket: &Path) -> Result<Option<UnixStream>, AdminError> {
    match local::connect(socket).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(source) => Err(AdminError::Socket {
            path: socket.to_owned(),
            source,
        }),
    }
}

fn inside(dir: DataDir) -> Result<Client, AdminError> {
    let address = dir.address()?;
    let engine = Engine::start(Opened::read(dir)?, Ice::default())?;
    let (identity, driver) = (engine.identity(), engine.inputs());
    let desk = Desk::new(identity, driver, address, Running::No);
    Ok(Client(Way::Inside { desk, engine }))
}

async fn ask(lines: &mut Lines, request: &Request) -> Result<Reply, AdminError> {
    let unreadable = |why: &str| AdminError::Unreadable(why.to_owned());
    lines.write(request).await.map_err(|_| AdminError::Closed)?;
    match lines.read().await {
        Ok(Line::Whole(line)) => {
            let answer: Answer =
                serde_json::from_slice(&line).map_err(|e| unreadable(&e.to_string()))?;
            Result::from(answer).map_err(AdminError::Refused)
        }
        Ok(Line::TooLong) => Err(unreadable("it is too long")),
        Ok(Line::End) | Err(_) => Err(AdminError::Closed),
    }
}
