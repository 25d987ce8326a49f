//! Where the server and its sockets meet.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::{AbortHandle, JoinSet};
use waymesh_net::turn::server::{
    AllocationId, Answer, Ends, Family, Mark, NoRelay, Now, PortWish, Server, ServerEvent,
    StreamId, ToClient, ToPeer, Via,
};
use waymesh_net::udp::{ReceiveBuffer, Socket};
use waymesh_proto::AgentId;

use super::addresses;
use super::batch::{Batch, Target};
use super::relay_ports::RelayPorts;
use super::relay_socket;
use super::stream::Outgoing;

/// How often the host's own addresses are listed anew: it may get another at any
/// time, and nothing but relays is to be reached there. Chosen: a listing takes a
/// fraction of a millisecond.
pub(super) const OWN_EVERY: Duration = Duration::from_secs(3);

/// What the sockets have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Streams now.
    pub streams: u64,
    /// Streams closed at once: too many, or no room on their way.
    pub streams_refused: u64,
    /// Streams closed because what they held was neither STUN nor ChannelData, or
    /// longer than a request although they had no allocation.
    pub streams_bad: u64,
    /// Streams closed because they had no allocation for too long.
    pub streams_idle: u64,
    /// System calls that sent datagrams.
    pub bursts_sent: u64,
    /// Datagrams dropped because the kernel had no room.
    pub dropped_kernel_full: u64,
    /// Datagrams dropped because the kernel refused them.
    pub dropped_send_error: u64,
    /// Messages dropped because a stream is slow.
    pub dropped_slow_stream: u64,
}

/// The server with its sockets. Tasks borrow it between two awaits, never across one.
pub(super) struct Hub {
    pub(super) server: Server,
    pub(super) counters: SocketCounters,
    /// One for all sockets: a read is worked off before the next begins.
    buffer: Rc<RefCell<ReceiveBuffer>>,
    listeners: Vec<Listener>,
    pub(super) streams: HashMap<StreamId, Rc<Outgoing>>,
    pub(super) tasks: JoinSet<()>,
    batch: Batch,
    relays: HashMap<AllocationId, Relaying>,
    ports: RelayPorts,
    own_at: Instant,
    own_listing: Listing,
    me: Weak<RefCell<Self>>,
}

/// Whether the addresses of this host could be listed the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    Works,
    Fails,
}

/// A UDP port that clients send to, and its address.
pub(super) type Listener = (SocketAddr, Rc<Socket>);

/// The socket of an allocation, and who reads it.
struct Relaying {
    socket: Rc<Socket>,
    relayed: SocketAddr,
    /// The address to send from; unspecified, so that the kernel chooses, behind a 1:1 NAT.
    source: SocketAddr,
    task: AbortHandle,
}

/// What time it is.
pub(super) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        instant: Instant::now(),
        unix: unix.unwrap_or_default(),
    }
}

impl Hub {
    pub(super) fn new(
        server: Server,
        listeners: Vec<Listener>,
        ports: RelayPorts,
    ) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                server,
                counters: SocketCounters::default(),
                buffer: Rc::new(RefCell::new(ReceiveBuffer::new())),
                listeners,
                streams: HashMap::new(),
                tasks: JoinSet::new(),
                batch: Batch::default(),
                relays: HashMap::new(),
                ports,
                own_at: Instant::now() + OWN_EVERY,
                own_listing: Listing::Works,
                me: Weak::clone(me),
            })
        })
    }

    /// Takes one read of a UDP port and does all that follows from it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing waits.
    pub(super) fn read_listener(&mut self, bound: SocketAddr, socket: &Socket) -> io::Result<()> {
        let buffer = Rc::clone(&self.buffer);
        let mut buffer = buffer.borrow_mut();
        let result = socket.receive(&mut buffer);
        if result.is_ok() {
            let now = now();
            for datagram in buffer.datagrams() {
                let ip = datagram.local_ip.unwrap_or(bound.ip());
                let ends = Ends {
                    via: Via::Udp,
                    local: SocketAddr::new(ip, bound.port()),
                    remote: datagram.source,
                };
                self.hear_client(now, &ends, datagram.bytes);
            }
            self.flush();
        }
        result
    }

    /// Takes one read of a relay's socket.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing waits.
    pub(super) fn read_relay(&mut self, id: AllocationId, socket: &Socket) -> io::Result<()> {
        let buffer = Rc::clone(&self.buffer);
        let mut buffer = buffer.borrow_mut();
        let result = socket.receive(&mut buffer);
        if result.is_ok() {
            let now = Instant::now();
            for datagram in buffer.datagrams() {
                let to = self
                    .server
                    .handle_peer(now, id, datagram.source, datagram.bytes);
                if let Some(to) = to {
                    self.send_to_client(&to);
                }
            }
            self.flush();
        }
        result
    }

    /// Takes a datagram, or a message cut out of a stream. [`Hub::flush`] is to follow.
    pub(super) fn hear_client(&mut self, now: Now, ends: &Ends, bytes: &[u8]) {
        match self.server.handle_client(now, ends, bytes) {
            Some(to) => self.send_to_peer(now, &to),
            None => self.carry_out(now),
        }
    }

    fn send_to_peer(&mut self, now: Now, to: &ToPeer<'_>) {
        if let Some(relay) = to.to_relay {
            let to = self
                .server
                .handle_peer(now.instant, relay, to.relayed, to.data);
            if let Some(to) = to {
                self.send_to_client(&to);
            }
            return;
        }
        let Some(relaying) = self.relays.get(&to.from) else {
            return;
        };
        let target = Target {
            socket: Rc::clone(&relaying.socket),
            source: relaying.source,
            destination: to.peer,
        };
        let write = |out: &mut Vec<u8>| out.extend_from_slice(to.data);
        self.batch
            .push(&target, to.data.len(), &mut self.counters, write);
    }

    fn send_to_client(&mut self, to: &ToClient<'_>) {
        match to.to.via {
            Via::Udp => self.datagram(&to.to, to.length(), |out| to.write(out)),
            Via::Stream(stream) => self.message(stream, to.length(), |out| to.write(out)),
        }
    }

    fn datagram(&mut self, to: &Ends, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let exact = self.listeners.iter().find(|(bound, _)| *bound == to.local);
        let covering = |(bound, _): &&Listener| addresses::covers(*bound, to.local);
        let Some((_, socket)) = exact.or_else(|| self.listeners.iter().find(covering)) else {
            self.counters.dropped_send_error += 1;
            return;
        };
        let target = Target {
            socket: Rc::clone(socket),
            source: to.local,
            destination: to.remote,
        };
        self.batch.push(&target, length, &mut self.counters, write);
    }

    fn message(&mut self, to: StreamId, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let taken = self
            .streams
            .get(&to)
            .is_some_and(|stream| stream.push(length, write));
        if !taken {
            self.counters.dropped_slow_stream += 1;
        }
    }

    /// Sends what was gathered; to be called when the datagrams of one read are done.
    pub(super) fn flush(&mut self) {
        self.batch.flush(&mut self.counters);
    }

    /// Does what the server wants done.
    pub(super) fn carry_out(&mut self, now: Now) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Open {
                    allocation,
                    reached,
                    family,
                    port,
                } => {
                    let outcome = self.open(allocation, reached, family, port);
                    self.server.relay_opened(now, allocation, outcome);
                }
                ServerEvent::Close { allocation } => self.close(allocation),
                ServerEvent::Hangup { stream } => {
                    if let Some(stream) = self.streams.get(&stream) {
                        stream.hang_up();
                    }
                }
            }
        }
        while let Some(Answer { to, bytes }) = self.server.poll_transmit() {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&bytes);
            match to.via {
                Via::Udp => self.datagram(&to, bytes.len(), write),
                Via::Stream(stream) => self.message(stream, bytes.len(), write),
            }
        }
    }

    fn open(
        &mut self,
        id: AllocationId,
        reached: IpAddr,
        family: Family,
        port: PortWish,
    ) -> Result<SocketAddr, NoRelay> {
        let ip = addresses::relay_ip(&self.ports.ips, &self.ports.own, reached, family);
        let ip = ip.ok_or(NoRelay::Family)?;
        let (socket, relayed) = self.ports.open(ip, port).map_err(|error| {
            // Counted as 508; one line for every request would fill the log.
            tracing::debug!(%error, "no port for a relay");
            NoRelay::Capacity
        })?;
        let hub = self.me.upgrade().ok_or(NoRelay::Capacity)?;
        let socket = Rc::new(socket);
        let task = relay_socket::run(Rc::downgrade(&hub), id, Rc::clone(&socket));
        let task = self.tasks.spawn_local(task);
        let relaying = Relaying {
            source: socket.local_addr().unwrap_or(relayed),
            socket,
            relayed,
            task,
        };
        self.relays.insert(id, relaying);
        Ok(relayed)
    }

    fn close(&mut self, id: AllocationId) {
        if let Some(relaying) = self.relays.remove(&id) {
            // What was gathered for it still goes.
            self.flush();
            relaying.task.abort();
            self.ports.used.remove(&relaying.relayed);
        }
    }

    /// A stream is over.
    pub(super) fn forget_stream(&mut self, id: StreamId, ends: &Ends) {
        self.streams.remove(&id);
        self.server.handle_stream_closed(ends);
        self.carry_out(now());
    }

    /// The clock, and who was removed.
    pub(super) fn keep_house(&mut self, removed: impl IntoIterator<Item = (AgentId, Mark)>) {
        let now = now();
        for (member, mark) in removed {
            self.server.remove_member(&member, mark);
        }
        self.server.handle_timeout(now);
        self.carry_out(now);
        self.flush();
        self.counters.streams = self.streams.len() as u64;
    }
}

impl Hub {
    /// Lists the addresses of this host again, if it is time; what cannot be listed
    /// stays as it was.
    pub(super) fn keep_own(
        &mut self,
        now: Instant,
        list: impl FnOnce() -> io::Result<Vec<IpAddr>>,
    ) {
        if now < self.own_at {
            return;
        }
        self.own_at = now + OWN_EVERY;
        let listed = list();
        self.tell_listing(&listed);
        match listed {
            Ok(own) if own == self.ports.own => {}
            Ok(own) => {
                let all = own.iter().chain(&self.ports.ips).copied();
                self.server.set_own_addresses(all);
                tracing::debug!(count = own.len(), "this host has other addresses");
                self.ports.own = own;
            }
            Err(_) => {}
        }
    }

    /// Says that the addresses cannot be listed any more, and that they can again.
    fn tell_listing(&mut self, listed: &io::Result<Vec<IpAddr>>) {
        let listing = match listed {
            Ok(_) => Listing::Works,
            Err(_) => Listing::Fails,
        };
        if std::mem::replace(&mut self.own_listing, listing) == listing {
            return;
        }
        match listed {
            Ok(_) => tracing::info!("the addresses of this host can be listed again"),
            Err(error) => {
                tracing::warn!(%error, "the addresses of this host cannot be listed");
            }
        }
    }
}

#[cfg(test)]
impl Hub {
    /// The addresses of this host, as far as they are known.
    pub(super) fn own(&self) -> Vec<IpAddr> {
        self.ports.own.clone()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
