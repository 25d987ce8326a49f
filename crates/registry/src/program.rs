//! A running registry: what is started in which order, and stopped again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use waymesh_core::registry::Registry as Rules;
use waymesh_proto::MeshId;
use waymesh_proto::control::{Origin, RegistryKey};

use crate::config::{RegistryConfig, StartError};
use crate::connection::Identity;
use crate::data_dir::DataDir;
use crate::driver::{CONNECTIONS_TO_DRIVER_CAP, Driver};
use crate::http::{Front, router};
use crate::listener::Port;
use crate::metrics::Metrics;
use crate::server;
use crate::storage::Storage;
use crate::writer::{WRITER_TO_DRIVER_CAP, Writer};

/// A running registry. Dropping it ends it without good-byes; what has been
/// acknowledged is on disk all the same.
#[derive(Debug)]
pub struct Registry {
    url: Origin,
    addr: SocketAddr,
    identity: Arc<Identity>,
    stop: watch::Sender<bool>,
    writer: Writer,
    /// The driver and the server.
    loops: JoinSet<()>,
    /// The writer; it holds the directory's lock until the last byte is out.
    disk: JoinSet<()>,
}

impl Registry {
    /// Starts a registry. When this returns, the port is open.
    ///
    /// # Errors
    /// A [`StartError`]; nothing is left running then.
    pub async fn start(config: RegistryConfig) -> Result<Self, StartError> {
        let public = config.checked_origin()?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let keypair = data_dir.keypair(&rand::random())?;
        let storage = Storage::open(&data_dir.database())?;
        let mesh = storage.mesh(MeshId::from_bytes(rand::random()))?;
        let rules = Rules::new(storage.agents()?);
        let (listener, addr) = bind(config.listen).await?;
        let identity = Arc::new(Identity {
            keypair,
            mesh,
            origins: origins(public.clone(), addr),
        });
        let mut registry = Self {
            url: public.unwrap_or_else(|| Origin::http(addr)),
            addr,
            identity,
            stop: watch::Sender::new(false),
            writer: Writer::default(),
            loops: JoinSet::new(),
            disk: JoinSet::new(),
        };
        registry.spawn(listener, rules, storage, data_dir);
        Ok(registry)
    }

    fn spawn(&mut self, listener: TcpListener, rules: Rules, storage: Storage, dir: DataDir) {
        let metrics = Arc::new(Metrics::default());
        let (inputs, from_connections) = mpsc::channel(CONNECTIONS_TO_DRIVER_CAP);
        let (stored, from_writer) = mpsc::channel(WRITER_TO_DRIVER_CAP);

        let (writer, counts) = (self.writer.clone(), Arc::clone(&metrics));
        self.disk.spawn_blocking(move || {
            writer.run(storage, &stored, &counts);
            drop(dir);
        });

        let driver = Driver::new(rules, self.writer.clone(), Arc::clone(&metrics));
        let stop = self.stop.subscribe();
        self.loops
            .spawn(driver.run(from_connections, from_writer, stop));

        let front = Front {
            identity: Arc::clone(&self.identity),
            driver: inputs,
            metrics,
            next_conn: AtomicU64::new(0),
        };
        let stop = self.stop.subscribe();
        let port = Port::new(listener);
        self.loops.spawn(server::serve(port, router(front), stop));
    }

    /// The URL that nodes connect to: the public one, else that of the listening address.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The address that is listened on, with the port that was taken.
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The registry's public key, which nodes pin at their first login.
    pub fn key(&self) -> RegistryKey {
        self.identity.keypair.registry_key()
    }

    /// The mesh, made at the first start in the data directory.
    pub fn mesh(&self) -> MeshId {
        self.identity.mesh
    }

    /// Returns when a part of the registry has ended by itself, which is a
    /// fault that the log tells; until then it waits. Cancel safe.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.loops.join_next() => {}
            _ = self.disk.join_next() => {}
        }
    }

    /// Stops: says good-bye to every connection, writes what waits, frees port and directory.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.loops.join_next().await.is_some() {}
        self.writer.end();
        while self.disk.join_next().await.is_some() {}
    }
}

impl Drop for Registry {
    /// Lets the writer end, which no abort can.
    fn drop(&mut self) {
        self.writer.end();
    }
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Every origin under which a node may have reached this registry.
fn origins(public: Option<Origin>, addr: SocketAddr) -> Vec<Origin> {
    let own = [Origin::http(addr), Origin::http_localhost(addr.port())];
    public.into_iter().chain(own).collect()
}
