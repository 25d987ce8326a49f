//! The thread that the server has for itself.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use waymesh_net::turn::server::{Mark, PeerPolicy, Server, ServerConfig, StreamId};
use waymesh_proto::AgentId;

use super::addresses::{self, Ports};
use super::config::{RelayConfig, RelayError};
use super::hub::{Hub, Listener};
use super::life::Running;
use super::relay_ports::RelayPorts;
use super::{NewStream, RelayCounters, Shared, listener, stream};

/// How often counters are published and old things forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

type Started = Result<Vec<SocketAddr>, RelayError>;

/// A member, and the mark that its credentials must carry.
type Removed = (AgentId, Mark);

/// Starts the thread; gives where it listens.
pub(super) fn start(
    config: RelayConfig,
    removed: Vec<Removed>,
    shared: Arc<Shared>,
    streams: mpsc::Receiver<NewStream>,
) -> Result<(Vec<SocketAddr>, std::thread::JoinHandle<()>), RelayError> {
    config.check()?;
    let (started, outcome) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("waymesh-relay".into())
        .spawn(move || {
            let _running = Running::new(Arc::clone(&shared));
            run(config, &removed, &shared, streams, &started);
        })
        .map_err(RelayError::Thread)?;
    match outcome.recv() {
        Ok(Ok(addresses)) => Ok((addresses, thread)),
        Ok(Err(error)) => Err(error),
        Err(gone) => Err(RelayError::Thread(std::io::Error::other(gone))),
    }
}

fn run(
    config: RelayConfig,
    removed: &[Removed],
    shared: &Shared,
    streams: mpsc::Receiver<NewStream>,
    started: &SyncSender<Started>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(RelayError::Thread(error)));
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async {
        let own = addresses::own().unwrap_or_else(|error| {
            tracing::warn!(%error, "the addresses of this host are unknown");
            Vec::new()
        });
        let opened = addresses::open(&config, &own);
        // The other end waits for exactly one word.
        match opened {
            Ok(ports) => {
                let _ = started.send(Ok(ports.addresses.clone()));
                let (hub, listeners) = hub(config, removed, ports, own);
                serve(&hub, listeners, shared, streams).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
}

fn hub(
    config: RelayConfig,
    removed: &[Removed],
    ports: Ports,
    own: Vec<IpAddr>,
) -> (Rc<RefCell<Hub>>, Vec<Listener>) {
    let mut policy = PeerPolicy {
        allow: config.allow,
        own: own.clone(),
    };
    policy.own.extend_from_slice(&config.relay_ips);
    let server = ServerConfig {
        realm: config.realm,
        secret: config.secret,
        policy,
        limits: config.limits,
        alternate: ports.alternate,
        seed: rand::random(),
    };
    let relay_ports = RelayPorts {
        ips: config.relay_ips,
        own,
        range: config.relay_ports,
        used: std::collections::HashSet::new(),
    };
    let sockets = ports.listeners.into_iter().map(Rc::new);
    let listeners: Vec<_> = ports.addresses.into_iter().zip(sockets).collect();
    let mut server = Server::new(server, Instant::now());
    // Nobody is heard before.
    for (member, mark) in removed {
        server.remove_member(member, *mark);
    }
    let hub = Hub::new(server, listeners.clone(), relay_ports);
    (hub, listeners)
}

/// Takes orders and keeps house until it is to stop, or a UDP port is lost.
async fn serve(
    hub: &Rc<RefCell<Hub>>,
    listeners: Vec<Listener>,
    shared: &Shared,
    mut streams: mpsc::Receiver<NewStream>,
) {
    let mut reading = JoinSet::new();
    for (bound, socket) in listeners {
        reading.spawn_local(listener::run(Rc::downgrade(hub), bound, socket));
    }
    let mut next = 0;
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(new) = streams.recv() => {
                stream::start(hub, StreamId(next), new);
                next += 1;
                continue;
            }
            Some(_) = reading.join_next() => {
                tracing::error!("a UDP port of the relay is lost: nothing is relayed any more");
                return;
            }
            () = shared.wake.notified() => {}
            _ = tick.tick() => {}
        }
        let (stop, removed, refused) = {
            let mut orders = shared.orders();
            #[cfg(test)]
            assert!(!orders.panic, "as a test wants it");
            (
                orders.stop,
                std::mem::take(&mut orders.removed),
                orders.streams_refused,
            )
        };
        let mut hub = hub.borrow_mut();
        hub.keep_house(removed);
        hub.keep_own(Instant::now(), addresses::own);
        reap(&mut hub.tasks);
        let mut sockets = hub.counters;
        sockets.streams_refused += refused;
        let counters = RelayCounters {
            server: hub.server.counters(),
            sockets,
        };
        *shared
            .counters
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = counters;
        if stop {
            return;
        }
    }
}

/// Sees tasks end.
fn reap(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%error, "a task of the relay panicked");
        }
    }
}
