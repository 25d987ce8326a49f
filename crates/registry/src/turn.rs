//! The STUN and TURN server of a registry: its sockets, its thread, its counters.
//!
//! ```text
//!  UDP ports ─────────────▶ listener ─┐                     ┌─▶ one UDP socket an allocation ─▶ peers
//!  TCP, TLS ─serve_stream─▶ stream ───┴─▶ hub (the server) ─┴─◀ relay ◀──────────────────────── peers
//! ```
//!
//! [`waymesh_net::turn::server`] decides; here it gets sockets. Everything runs
//! on one thread of its own with its own runtime, so that a flood of datagrams
//! takes nothing from the directory. Nothing is queued for UDP: what the kernel
//! does not take is dropped and counted, as on any network. Each stream has a
//! bounded queue. A task reads a bounded amount before the next has its turn.

mod addresses;
mod batch;
mod config;
mod hub;
mod issuer;
mod life;
mod listener;
mod relay_ports;
mod relay_socket;
mod stream;
mod thread;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use waymesh_net::turn::server::{Counters, Mark};
use waymesh_proto::AgentId;
use waymesh_proto::ice::Credential;

pub use config::{RelayConfig, RelayError};
pub use hub::SocketCounters;
pub(crate) use issuer::Issuer;
use life::Life;
pub use waymesh_net::turn::server::{BadNetwork, Limits, Network};

/// Streams on their way from the listener to the relay's thread. Chosen; a
/// stream that finds the queue full is closed and counted.
const LISTENER_TO_RELAY_CAP: usize = 256;

/// A running STUN and TURN server; dropping it ends its thread and all allocations.
#[derive(Debug)]
pub struct Relay {
    handle: RelayHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Speaks to a running server from any thread.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    shared: Arc<Shared>,
    streams: mpsc::Sender<NewStream>,
    addresses: Arc<[SocketAddr]>,
    issuer: Issuer,
    credential_lifetime: Duration,
}

/// User name and password of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCredentials {
    /// `<expiry>:<agent id>`.
    pub username: String,
    /// The password.
    pub credential: Credential,
    /// How long they are good from now.
    pub lifetime: Duration,
}

/// All that the server counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounters {
    /// Of the protocol.
    pub server: Counters,
    /// Of the sockets.
    pub sockets: SocketCounters,
}

/// The two addresses of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEnds {
    /// The server's address that the client has connected to.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
}

/// A stream of bytes from a client: TCP, or TLS over it.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A stream that is handed to the relay's thread.
struct NewStream {
    stream: Box<dyn ByteStream>,
    ends: StreamEnds,
}

/// What the handle and the thread both touch.
#[derive(Debug, Default)]
struct Shared {
    wake: Notify,
    life: watch::Sender<Life>,
    orders: Mutex<Orders>,
    /// As of the last second.
    counters: Mutex<RelayCounters>,
}

#[derive(Debug, Default)]
struct Orders {
    stop: bool,
    /// No more than the mesh has members.
    removed: HashMap<AgentId, Mark>,
    /// Streams that found no room on their way.
    streams_refused: u64,
    /// The thread is to panic.
    #[cfg(test)]
    panic: bool,
}

impl Relay {
    /// Opens the UDP ports and starts to serve.
    ///
    /// # Errors
    /// [`RelayError`] when the configuration contradicts itself or a port cannot be opened.
    pub fn start(config: RelayConfig) -> Result<Self, RelayError> {
        let (streams, from_listener) = mpsc::channel(LISTENER_TO_RELAY_CAP);
        let shared = Arc::new(Shared::default());
        let issuer = Issuer::new(config.secret.clone(), config.removed.iter().copied());
        let credential_lifetime = config.limits.credential_lifetime;
        let removed = issuer.removed();
        let (addresses, thread) =
            thread::start(config, removed, Arc::clone(&shared), from_listener)?;
        Ok(Self {
            handle: RelayHandle {
                shared,
                streams,
                addresses: addresses.into(),
                issuer,
                credential_lifetime,
            },
            thread: Some(thread),
        })
    }

    /// To speak to it.
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.handle.shared.order(|orders| orders.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the relay's thread had panicked, as was told then");
        }
    }
}

impl RelayHandle {
    /// Where it listens by UDP: as configured, with the ports that the system
    /// has chosen, and for NAT behaviour discovery.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves a client over TCP or TLS until the stream ends. Bytes that were
    /// read already to find out what it is must come out of it again.
    ///
    /// A stream that finds no room is closed and counted.
    pub fn serve_stream<S>(&self, stream: S, ends: StreamEnds)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = Box::new(stream);
        if self.streams.try_send(NewStream { stream, ends }).is_err() {
            let mut orders = self.shared.orders();
            orders.streams_refused += 1;
        }
    }

    /// Ends a member's allocations at once; credentials that were issued up to
    /// now are never taken again. What is issued later is, should the member come
    /// back. It never waits, and may be said of anybody. What a server knew is gone
    /// with its process: [`RelayConfig::removed`] tells it to the next one.
    pub fn remove_member(&self, member: AgentId) {
        let mark = self.issuer.remove(member);
        self.shared.order(|orders| {
            orders.removed.insert(member, mark);
        });
    }

    /// Credentials of a member, from `unix` (since 1970) on for
    /// [`Limits::credential_lifetime`].
    pub fn credentials(&self, member: &AgentId, unix: Duration) -> RelayCredentials {
        let (username, credential) = self.issuer.issue(member, unix + self.credential_lifetime);
        RelayCredentials {
            username,
            credential,
            lifetime: self.credential_lifetime,
        }
    }

    /// Whether it serves. It ends when it is dropped, or by a fault of its own: a
    /// panic, or a UDP port that is lost.
    pub fn is_serving(&self) -> bool {
        *self.shared.life.borrow() == Life::Serving
    }

    /// Returns when it serves no more, for whatever reason. Cancel safe.
    pub async fn ended(&self) {
        let mut life = self.shared.life.subscribe();
        // The sender is in `shared`, which lives as long as this handle.
        let _ = life.wait_for(|life| *life == Life::Over).await;
    }

    /// Makes the credentials of its members.
    pub(crate) fn issuer(&self) -> Issuer {
        self.issuer.clone()
    }

    /// What it has done, as of the last second.
    pub fn counters(&self) -> RelayCounters {
        *self
            .shared
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl RelayHandle {
    /// Has the thread panic.
    pub(crate) fn break_down(&self) {
        self.shared.order(|orders| orders.panic = true);
    }
}

impl Shared {
    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders());
        self.wake.notify_one();
    }
}

/// Whether a socket's error says that nothing is there now.
fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests;
