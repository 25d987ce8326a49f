//! A running registry: what is started in which order, and stopped again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use waymesh_net::turn::server::RelaySecret;
use waymesh_proto::control::{MeshKey, Origin, RegistryKey};
use waymesh_proto::ice::IceUrl;

use crate::admin::{Address, AdminSocket, Desk, Running};
use crate::config::{Checked, CheckedTls, RegistryConfig};
use crate::data_dir::DataDir;
use crate::engine::{Engine, Opened};
use crate::http::{Front, router};
use crate::ice::{self, CheckedIce, Ice, Own, Past};
use crate::listener::{Port, Room};
use crate::origins::Origins;
use crate::server::{self, Served};
use crate::start_error::StartError;
use crate::tls::{Credentials, OnTop};
use crate::turn::{Relay, RelayError, RelayHandle};

/// A running registry. Dropping it ends it without good-byes; what has been
/// acknowledged is on disk all the same.
#[derive(Debug)]
pub struct Registry {
    url: Origin,
    addr: SocketAddr,
    tls_pin: Option<[u8; 32]>,
    ice_urls: Vec<IceUrl>,
    engine: Engine,
    relay: Option<Relay>,
}

/// Attempts to find a port that is free for TCP and UDP, where any will do. Chosen.
const PORT_TRIES: usize = 16;

impl Registry {
    /// Starts a registry. When this returns, port and admin socket are open.
    ///
    /// # Errors
    /// A [`StartError`]; nothing is left running then. A wrong configuration
    /// is told before a file is made or a port opened.
    pub async fn start(config: RegistryConfig) -> Result<Self, StartError> {
        let Checked { public, tls, ice } = config.check()?;
        let dir = DataDir::open(&config.data_dir)?;
        let credentials = credentials(tls, config.listen, &dir)?;
        let opened = Opened::read(dir)?;
        let past = ice.turn.as_ref().map(|_| past(&opened)).transpose()?;
        let tls_pin = credentials.as_ref().and_then(Credentials::pin);
        let Ports {
            listener,
            addr,
            relay,
            own,
        } = open_ports(config.listen, &ice, past).await?;
        let origins = Origins::new(public, credentials.is_some(), addr);
        let address = Address::new(origins.url(), tls_pin);
        opened.dir().write_address(&address)?;
        let own = own.zip(relay.as_ref().map(Relay::handle));
        let ice = Ice::new(ice, own);
        let socket = AdminSocket::bind(&DataDir::admin_socket(&config.data_dir))?;
        let mut registry = Self {
            url: origins.url(),
            addr,
            tls_pin,
            ice_urls: ice.urls(&origins.url()),
            engine: Engine::start(opened, ice)?,
            relay,
        };
        registry.open_port(listener, origins, credentials.as_ref());
        registry.open_desk(socket, address);
        Ok(registry)
    }

    fn open_port(
        &mut self,
        listener: TcpListener,
        origins: Origins,
        credentials: Option<&Credentials>,
    ) {
        let relay = self.relay.as_ref().map(Relay::handle);
        let on_top = match &relay {
            Some(_) => OnTop::HttpAndTurn,
            None => OnTop::Http,
        };
        let engine = &mut self.engine;
        let (identity, metrics) = (engine.identity(), engine.metrics());
        let front = Front::new(
            relay.clone(),
            identity,
            origins,
            engine.inputs(),
            Arc::clone(&metrics),
            credentials.map(Credentials::key_hash),
            &rand::random(),
        );
        let sessions = Arc::clone(&front.sessions);
        let served = Served {
            router: router(Arc::new(front)),
            tls: credentials.map(|credentials| credentials.acceptor(on_top)),
            relay,
            metrics,
        };
        let port = Port::new(listener, Room::default());
        let stop = engine.stopping();
        engine.spawn(async move {
            server::serve(port, served, stop).await;
            sessions.end().await;
        });
    }

    fn open_desk(&mut self, socket: AdminSocket, address: Address) {
        let engine = &mut self.engine;
        let desk = Desk::new(engine.identity(), engine.inputs(), address, Running::Yes);
        let stop = engine.stopping();
        engine.spawn(socket.serve(desk, stop));
    }

    /// The URL that nodes connect to: the public one, else that of the listening address.
    pub fn url(&self) -> &Origin {
        &self.url
    }

    /// The address that is listened on, with the port that was taken.
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What nodes must know to trust its TLS: the SHA-256 of the certificate's
    /// public key (SPKI). `None` without TLS, or when an authority has signed it.
    pub const fn tls_pin(&self) -> Option<[u8; 32]> {
        self.tls_pin
    }

    /// The STUN and TURN servers that members are told of who come by [`Registry::url`].
    pub fn ice_urls(&self) -> &[IceUrl] {
        &self.ice_urls
    }

    /// The registry's public key, which nodes pin at their first login.
    pub fn key(&self) -> RegistryKey {
        self.engine.identity().keypair.registry_key()
    }

    /// The mesh that it serves; `None` until an admin command has given it to one.
    pub fn mesh(&self) -> Option<MeshKey> {
        self.engine.identity().mesh.get().copied()
    }

    /// Returns when a part of the registry has ended by itself, its STUN and TURN
    /// server among them, which is a fault that the log tells; until then it
    /// waits. Whoever runs it ends it then: half a registry helps nobody. Cancel safe.
    pub async fn failed(&mut self) {
        let relay = self.relay.as_ref().map(Relay::handle);
        tokio::select! {
            () = self.engine.failed() => {}
            () = ended(relay.as_ref()) => tracing::error!("the STUN and TURN server has ended"),
        }
    }

    /// Stops: says good-bye to every connection, writes what waits, frees port and directory.
    pub async fn stop(self) {
        self.engine.stop().await;
    }
}

/// Returns when the relay serves no more; without one, never.
async fn ended(relay: Option<&RelayHandle>) {
    match relay {
        Some(relay) => relay.ended().await,
        None => std::future::pending().await,
    }
}

/// What the registry shows to whoever connects; `None` for plain HTTP.
fn credentials(
    tls: CheckedTls,
    listen: SocketAddr,
    dir: &DataDir,
) -> Result<Option<Credentials>, StartError> {
    match tls {
        CheckedTls::Off => Ok(None),
        CheckedTls::Given(credentials) => Ok(Some(credentials)),
        CheckedTls::SelfSigned => {
            let ip = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
            let names = ip.map(|ip| ip.to_string()).into_iter();
            let names = names.chain(["localhost".to_owned()]).collect();
            Ok(Some(Credentials::self_signed(dir.tls_key()?, names)?))
        }
    }
}

/// What the own STUN and TURN server has of earlier runs.
fn past(opened: &Opened) -> Result<Past, StartError> {
    Ok(Past {
        secret: RelaySecret::new(&opened.dir().turn_secret()?),
        removed: opened.expelled(),
    })
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// What is listened with.
struct Ports {
    listener: TcpListener,
    addr: SocketAddr,
    relay: Option<Relay>,
    own: Option<Own>,
}

/// Opens the TCP port, and UDP ports for the own STUN and TURN server: the same
/// one unless that has another address.
async fn open_ports(
    listen: SocketAddr,
    ice: &CheckedIce,
    past: Option<Past>,
) -> Result<Ports, StartError> {
    let (Some(turn), Some(past)) = (&ice.turn, past) else {
        let (listener, addr) = bind(listen).await?;
        return Ok(Ports {
            listener,
            addr,
            relay: None,
            own: None,
        });
    };
    let mut tries = PORT_TRIES;
    loop {
        let (listener, addr) = bind(listen).await?;
        tries -= 1;
        match ice::start(turn, addr, past.clone(), ice.lifetime) {
            // The system knew only that the port is free for TCP.
            Err(RelayError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse
                    && (listen.port(), turn.listen) == (0, None)
                    && tries > 0 => {}
            Err(error) => return Err(error.into()),
            Ok(relay) => {
                let udp = relay.handle().addresses().first().map(SocketAddr::port);
                let udp_port = udp.filter(|port| *port != addr.port());
                let issuer = relay.handle().issuer();
                let own = Some(Own { issuer, udp_port });
                let relay = Some(relay);
                return Ok(Ports {
                    listener,
                    addr,
                    relay,
                    own,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
