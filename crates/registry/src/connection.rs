//! One control connection: bytes in, decoded messages to the driver; what the
//! driver queues, out.
//!
//! What needs keys is checked here ([`entry`]); everything else is for the
//! rules to judge.

mod entry;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use waymesh_core::registry::ConnId;
use waymesh_proto::control::{ClientMessage, MeshKey, ServerMessage};
use waymesh_proto::mailbox::{Assembly, Item};
use waymesh_proto::{Code, Fault};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::Cache;

use crate::carrier::{Incoming, Outgoing, Outlet, Received, Visitor};
use crate::driver::Input;
use crate::outbox::{Queue, outbox};
use entry::Entry;

/// Largest message that is still read, bytes: twice what is allowed, so that
/// most senders of too large ones can be told why and stay connected.
pub(crate) const READ_MAX_BYTES: usize = 2 * waymesh_proto::control::CONTROL_MAX_BYTES;

/// How long one message may take to leave; after it the other side is gone. Chosen.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closing connection may take to read what it was sent last. Chosen.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Posted items that may wait for the driver, KiB of all connections together;
/// whoever has one more waits, and so does its socket. Chosen: as much as may
/// wait for the disk.
const POSTS_TO_DRIVER_MAX_KIB: usize = 64 * 1024;

/// What every connection of one registry shares.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The registry's own key.
    pub(crate) keypair: Keypair,
    /// The mesh that it serves; set at start, or once for ever by
    /// [`crate::admin::Order::Found`].
    pub(crate) mesh: OnceLock<MeshKey>,
    certificates: Mutex<Cache>,
    post_room: Arc<Semaphore>,
}

impl Identity {
    /// The identity of a registry that serves this mesh, or none yet.
    pub(crate) fn new(keypair: Keypair, mesh: Option<MeshKey>) -> Self {
        Self {
            keypair,
            mesh: mesh.map_or_else(OnceLock::new, OnceLock::from),
            certificates: Mutex::default(),
            post_room: Arc::new(Semaphore::new(POSTS_TO_DRIVER_MAX_KIB)),
        }
    }

    /// The memory of verified certificates.
    pub(crate) fn certificates(&self) -> MutexGuard<'_, Cache> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The mesh that the registry serves.
    ///
    /// # Errors
    /// `no_mesh`: none was founded yet.
    pub(crate) fn mesh(&self) -> Result<MeshKey, Fault> {
        self.mesh.get().copied().ok_or_else(|| {
            Fault::new(Code::NoMesh, "this registry belongs to no mesh yet")
                .with_hint("make an invite with waymesh invite where the registry runs")
        })
    }
}

/// Serves one connection until either side ends it, over whatever carries it.
pub(crate) async fn serve(
    mut incoming: impl Incoming,
    mut outlet: impl Outlet,
    visitor: Visitor,
    identity: Arc<Identity>,
    driver: mpsc::Sender<Input>,
) {
    let (conn, address) = (visitor.conn, visitor.address);
    let (outbox, mut queue, cut) = outbox();
    let connected = Input::Connected {
        conn,
        address,
        outbox,
    };
    if driver.send(connected).await.is_err() {
        return;
    }
    let (entry, challenge) = match Entry::new(&visitor, &identity) {
        Ok(entry) => {
            let challenge = ServerMessage::Challenge(entry.challenge()).encode();
            (Some(entry), Some(Outgoing::Text(challenge.into())))
        }
        Err(fault) => {
            let _ = driver.send(Input::Refused { conn, fault }).await;
            (None, None)
        }
    };
    let reader = Reader {
        conn,
        address,
        entry,
        assembly: Assembly::default(),
        identity: &identity,
        driver: &driver,
    };
    let ending = tokio::select! {
        ending = reader.read(&mut incoming) => ending,
        ending = write(&mut outlet, challenge, &mut queue, conn, &driver) => ending,
        Ok(()) = cut => Ending::Gone,
    };
    if ending == Ending::Farewell {
        // Whoever closes with unread bytes resets the connection, and the last
        // message with its reason may be lost: so read to the end.
        let rest = async { while let Some(Ok(_)) = incoming.next().await {} };
        let _ = timeout(CLOSE_TIMEOUT, rest).await;
    }
    let _ = driver.send(Input::Closed { conn }).await;
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The other side is gone, or cut off.
    Gone,
    /// This side has sent its last message and closes.
    Farewell,
}

/// The way in.
struct Reader<'a> {
    conn: ConnId,
    address: IpAddr,
    /// `None` when the connection is refused anyway.
    entry: Option<Entry<'a>>,
    assembly: Assembly,
    identity: &'a Identity,
    driver: &'a mpsc::Sender<Input>,
}

impl Reader<'_> {
    async fn read(mut self, incoming: &mut impl Incoming) -> Ending {
        while let Some(received) = incoming.next().await {
            let conn = self.conn;
            let input = match received {
                Ok(Received::Text(text)) => Some(self.hear(text.as_bytes())),
                Ok(Received::Binary(bytes)) => self.assemble(&bytes).await,
                Ok(Received::Alive) => Some(Input::Heard { conn }),
                Err(fault) => Some(Input::Refused { conn, fault }),
            };
            let Some(input) = input else { continue };
            let is_end = matches!(input, Input::Refused { .. });
            if self.driver.send(input).await.is_err() {
                break;
            }
            if is_end {
                // The driver has the reason sent and closes.
                std::future::pending::<()>().await;
            }
        }
        Ending::Gone
    }

    fn hear(&mut self, bytes: &[u8]) -> Input {
        let conn = self.conn;
        let message = match ClientMessage::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                let fault = error.fault();
                return Input::Malformed { conn, fault };
            }
        };
        let Some(entry) = &mut self.entry else {
            return Input::Message { conn, message };
        };
        match message {
            ClientMessage::Login(login) if !entry.is_member() => match entry.log_in(&login) {
                Ok((verified, welcome)) => Input::Login {
                    conn,
                    login: Box::new(verified),
                    welcome: ServerMessage::Welcome(welcome).encode().into(),
                    origin: login.origin,
                },
                Err(fault) => Input::Refused { conn, fault },
            },
            ClientMessage::Join(join) if !entry.is_member() => {
                match entry.ask_to_join(&join, self.address) {
                    Ok(join) => Input::Join {
                        conn,
                        join: Box::new(join),
                    },
                    Err(fault) => Input::Refused { conn, fault },
                }
            }
            ClientMessage::Sealing { statement } if entry.is_member() => {
                match entry.check_sealing(&statement) {
                    Ok(()) => Input::Sealing { conn, statement },
                    Err(fault) => Input::Malformed { conn, fault },
                }
            }
            message => Input::Message { conn, message },
        }
    }

    /// Puts items together; only members may make the registry hold their parts.
    async fn assemble(&mut self, bytes: &Bytes) -> Option<Input> {
        let conn = self.conn;
        if !self.entry.as_ref().is_some_and(Entry::is_member) {
            let fault = Fault::new(Code::Unauthorized, "log in first");
            return Some(Input::Malformed { conn, fault });
        }
        match self.assembly.handle(bytes) {
            Ok(None) => Some(Input::Heard { conn }),
            Ok(Some((None, item))) => self.post(item).await,
            Ok(Some((Some(_), _))) => {
                let fault = Fault::new(Code::BadRequest, "only the registry pushes items");
                Some(Input::Refused { conn, fault })
            }
            Err(error) => {
                let fault = Fault::new(error.code(), error.to_string());
                Some(Input::Refused { conn, fault })
            }
        }
    }

    /// Waits until the item may be held beside those of others.
    async fn post(&self, item: Item) -> Option<Input> {
        let kib = u32::try_from(item.sealed.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.identity.post_room);
        let room = room.acquire_many_owned(kib).await.ok()?;
        Some(Input::Post {
            conn: self.conn,
            item: Arc::new(item),
            room,
        })
    }
}

async fn write(
    outlet: &mut impl Outlet,
    mut next: Option<Outgoing>,
    queue: &mut Queue,
    conn: ConnId,
    driver: &mpsc::Sender<Input>,
) -> Ending {
    loop {
        let out = match next.take() {
            Some(out) => Some(out),
            None => queue.next().await,
        };
        let Some(out) = out else { break };
        if queue.has_awaited_room() && driver.send(Input::Room { conn }).await.is_err() {
            return Ending::Gone;
        }
        match timeout(WRITE_TIMEOUT, outlet.send(out)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ending::Gone,
        }
    }
    match timeout(CLOSE_TIMEOUT, outlet.send(Outgoing::Close)).await {
        Ok(Ok(())) => Ending::Farewell,
        Ok(Err(_)) | Err(_) => Ending::Gone,
    }
}
